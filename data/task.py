"""The task: clock arithmetic.

A problem is a start number 0..99 and k operations (+, - or * with an operand 2..9), applied left to
right, every result taken modulo 100:

>>> problem = parse_problem("37 *4 +5 -2")
>>> compute_values(problem)          # 37*4 = 148 -> 48, then 53, then 51
[48, 53, 51]
>>> solve(problem)
51
>>> render_problem(problem)
'37 *4 +5 -2'

Every problem belongs to exactly one split (training, evaluation or probe), decided by a hash of the
problem itself. So the splits are disjoint by construction: whatever the seed, a training problem is
never drawn for evaluation.
"""

import re
import zlib
from typing import NamedTuple

import numpy as np

from data.plumbing import InputError

MODULUS = 100
OPERATORS = "+-*"
OPERANDS = range(2, 10)
EASY = (1, 2, 3, 4, 5)  # numbers of operations k that pretraining sees
HARD = (6, 7)           # held out of pretraining: the base's majority answer is usually wrong here
SPLITS = ("training", "evaluation", "probe")


class Problem(NamedTuple):
    start: int                          # 0..99
    ops: tuple[tuple[str, int], ...]    # (("*", 4), ("+", 5), ...), applied left to right


def apply_operation(value: int, operator: str, operand: int) -> int:
    """One step on the clock: `value operator operand`, modulo 100."""
    if operator == "+":
        return (value + operand) % MODULUS
    if operator == "-":
        return (value - operand) % MODULUS
    return (value * operand) % MODULUS


def compute_values(problem: Problem) -> list[int]:
    """The value after each operation, (k,); the last one is the answer."""
    values, value = [], problem.start
    for operator, operand in problem.ops:
        value = apply_operation(value, operator, operand)
        values.append(value)
    return values


def solve(problem: Problem) -> int:
    return compute_values(problem)[-1]


def render_problem(problem: Problem) -> str:
    """The problem as the model reads it, '37 *4 +5 -2'."""
    operations = [f"{operator}{operand}" for operator, operand in problem.ops]
    return " ".join([str(problem.start), *operations])


def parse_problem(text: str) -> Problem:
    """The inverse of `render_problem`; InputError, in one line that says what a problem is."""
    if not re.fullmatch(r"(0|[1-9][0-9]?)( [-+*][2-9])+", text, re.ASCII):
        raise InputError(f"not a problem: {text!r} (expected a start number 0..99, then operations "
                         "+ - * with an operand 2..9, each after one space: '37 *4 +5 -2')")
    start, *ops = text.split(" ")
    if len(ops) > HARD[-1]:
        raise InputError(f"not a problem: {len(ops)} operations (at most {HARD[-1]})")
    return Problem(int(start), tuple((op[0], int(op[1])) for op in ops))


def split_of(problem: Problem) -> str:
    """80% of all problems are for training (of bases, then by RL), 10% evaluation, 10% probe."""
    bucket = zlib.crc32(render_problem(problem).encode()) % 10
    return "evaluation" if bucket == 0 else "probe" if bucket == 1 else "training"


def draw_problems(n: int, split: str, num_ops: tuple[int, ...], rng: np.random.Generator,
                  distinct: bool = True) -> list[Problem]:
    """Draw n problems of one split; the i-th has num_ops[i % len(num_ops)] operations.

    So k is balanced exactly. Raises InputError if `distinct` and the split has too few problems of
    that size (k = 1 has 2,400 in all).
    """
    problems, seen, rejected = [], set(), 0  # in a row: rare luck, unless there is nothing left
    while len(problems) < n:
        k = num_ops[len(problems) % len(num_ops)]
        start, *picks = rng.integers(0, (MODULUS, *(len(OPERATORS) * len(OPERANDS),) * k)).tolist()
        problem = Problem(start, tuple((OPERATORS[p % 3], OPERANDS[p // 3]) for p in picks))
        if split_of(problem) != split or (distinct and problem in seen):
            rejected += 1
            if rejected > 20_000:
                raise InputError(f"the {split} split has fewer than {n} distinct problems with {k} "
                                 f"operations among {list(num_ops)}: ask for fewer problems")
            continue
        problems.append(problem)
        seen.add(problem)
        rejected = 0
    return problems
