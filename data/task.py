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

With three digits a number has a decimal, and there are 1,000 of them:

>>> write_answer(parse_problem("43.7 *4 +5"))     # 174.8 -> 74.8, then 79.8
'79.8'

Every problem belongs to exactly one split (training, evaluation or probe), decided by a hash of the
problem itself. So the splits are disjoint by construction: whatever the seed, a training problem is
never drawn for evaluation.
"""

import re
import zlib
from typing import NamedTuple

import numpy as np

from plumbing.messages import InputError

OPERATORS = "+-*"
OPERANDS = range(2, 10)
EASY = (1, 2, 3, 4, 5)  # numbers of operations k that pretraining sees
HARD = (6, 7)           # held out of pretraining: the base's majority answer is usually wrong here
SPLITS = ("training", "evaluation", "probe")


class Problem(NamedTuple):
    start: int                          # 0..99; with 3 digits 0..999, in tenths
    ops: tuple[tuple[str, int], ...]    # (("*", 4), ("+", 5), ...), applied left to right
    digits: int = 2


def apply_operation(value: int, operator: str, operand: int, digits: int = 2) -> int:
    """One step on the clock: `value operator operand`, modulo 100, in units of the last digit."""
    one = 10 ** (digits - 2)
    if operator == "+":
        return (value + operand * one) % (100 * one)
    if operator == "-":
        return (value - operand * one) % (100 * one)
    return (value * operand) % (100 * one)


def write_number(value: int, digits: int) -> str:
    """48 as '48', or in tenths as '4.8'."""
    return str(value) if digits == 2 else f"{value // 10}.{value % 10}"


def compute_values(problem: Problem) -> list[int]:
    """The value after each operation, (k,); the last one is the answer."""
    values, value = [], problem.start
    for operator, operand in problem.ops:
        value = apply_operation(value, operator, operand, problem.digits)
        values.append(value)
    return values


def solve(problem: Problem) -> int:
    return compute_values(problem)[-1]


def write_answer(problem: Problem) -> str:
    return write_number(solve(problem), problem.digits)


def render_problem(problem: Problem) -> str:
    """The problem as the model reads it, '37 *4 +5 -2'."""
    operations = [f"{operator}{operand}" for operator, operand in problem.ops]
    return " ".join([write_number(problem.start, problem.digits), *operations])


def parse_problem(text: str) -> Problem:
    """The inverse of `render_problem`; InputError, in one line that says what a problem is."""
    if not re.fullmatch(r"(0|[1-9][0-9]?)(\.[0-9])?( [-+*][2-9])+", text, re.ASCII):
        raise InputError(f"not a problem: {text!r} (expected a start number 0..99, then operations "
                         "+ - * with an operand 2..9, each after one space: '37 *4 +5 -2')")
    start, *ops = text.split(" ")
    if len(ops) > HARD[-1]:
        raise InputError(f"not a problem: {len(ops)} operations (at most {HARD[-1]})")
    return Problem(int(start.replace(".", "")), tuple((op[0], int(op[1])) for op in ops),
                   3 if "." in start else 2)


def split_of(problem: Problem) -> str:
    """80% of all problems are for training (of bases, then by RL), 10% evaluation, 10% probe."""
    bucket = zlib.crc32(render_problem(problem).encode()) % 10
    return "evaluation" if bucket == 0 else "probe" if bucket == 1 else "training"


def draw_problems(n: int, split: str, num_ops: tuple[int, ...], rng: np.random.Generator,
                  distinct: bool = True, digits: int = 2) -> list[Problem]:
    """Draw n problems of one split; the i-th has num_ops[i % len(num_ops)] operations.

    So k is balanced exactly. Raises InputError if `distinct` and the split has too few problems of
    that size (k = 1 has 2,400 in all).
    """
    problems, seen, rejected = [], set(), 0  # in a row: rare luck, unless there is nothing left
    while len(problems) < n:
        k = num_ops[len(problems) % len(num_ops)]
        most = 10 ** digits, *(len(OPERATORS) * len(OPERANDS),) * k
        start, *picks = rng.integers(0, most).tolist()
        ops = tuple((OPERATORS[p % 3], OPERANDS[p // 3]) for p in picks)
        problem = Problem(start, ops, digits)
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
