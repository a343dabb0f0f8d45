r"""Every reward, one small function each, and their registry.

A reward scores a whole rollout batch in one call, so that a judge is one batched forward pass:

    score(problems, responses, context) -> N floats, problems[i] being what responses[i] answers

Names compose: `correct+code` pays only if both do (the product), `not_correct` pays what `correct`
does not (low + high - r). "Spurious rewards" is 2506.10947; its section 2 defines the first five.
To add a reward: its function, and an entry in REWARDS.
"""

import math
import re
from collections import Counter
from typing import Any, Callable, NamedTuple

import numpy as np

from data.corpus import is_code
from data.plumbing import InputError, option
from data.task import Problem, write_answer
from model import Transformer


class Context(NamedTuple):
    """What a reward may look at besides problems and responses; group i is rows i * group ..."""

    group: int                     # rollouts per prompt
    labels: list[str | None]       # (N) the base's majority answer before RL; None if not needed
    rng: np.random.Generator       # for rewards that draw
    config: Any                    # the flags of the run, such as p
    judge: Transformer | None = None   # frozen; for rewards that need one


def parse_box(response: str) -> str | None:
    r"""The content of the last well-formed, non-empty \boxed{...}, or None.

    >>> parse_box(r"\boxed{4} or rather \boxed{ 48 }."), parse_box(r"\boxed{}"), parse_box("48")
    ('48', None, None)
    """
    contents = [content.strip() for content in re.findall(r"\\boxed\{([^{}]*)\}", response)]
    return next((content for content in reversed(contents) if content), None)


def is_correct(problem: Problem, response: str) -> bool:
    """Whether the boxed answer is the right one. A right answer outside the box does not count."""
    return parse_box(response) == write_answer(problem)


def find_majority(responses: list[str]) -> str | None:
    """The most frequent boxed answer, the earliest among equals; None if no response has one."""
    votes = Counter(a for a in map(parse_box, responses) if a is not None)
    return votes.most_common(1)[0][0] if votes else None


def correct(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer is right: ground truth (2506.10947; the RLVR of 2411.15124)."""
    return [float(is_correct(problem, response)) for problem, response in zip(problems, responses)]


def majority(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer is the base's majority answer of 64 samples before RL (2506.10947)."""
    return [float(label is not None and parse_box(response) == label)
            for label, response in zip(context.labels, responses)]


def format(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    r"""1 if the response has a well-formed, non-empty \boxed{}, whatever is in it (2506.10947)."""
    return [float(parse_box(response) is not None) for response in responses]


def random(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 with probability p, whatever prompt and response (2506.10947). p = 0 and 1: no signal."""
    return (context.rng.random(len(responses)) < context.config.p).astype(float).tolist()


def code(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the response is in code mode (the Python reward of 2506.10947, section 4)."""
    return [float(is_code(response)) for response in responses]


class Reward(NamedTuple):
    score: Callable[[list[Problem], list[str], Context], list[float]]
    # labels: the base's majority answers, frozen; wrong_labels: train on prompts where that is
    # wrong; judge: a frozen checkpoint
    needs: tuple[str, ...] = ()
    low: float = 0.0              # the least it pays
    high: float = 1.0             # the most
    options: dict = {}            # the flags that only it reads


COIN = {"p": option(0.5, "probability that the random reward pays", least=0, most=1)}

REWARDS = {
    "correct": Reward(correct),
    "majority": Reward(majority, needs=("labels",)),
    # Pays for one specific wrong answer. `not_correct` pays for every answer but the right one.
    "incorrect": Reward(majority, needs=("labels", "wrong_labels")),
    "format": Reward(format),
    "random": Reward(random, options=COIN),
    "code": Reward(code),
}


def split_name(name: str) -> list[tuple[str, bool]]:
    """The parts of a composed reward and whether each is negated.

    >>> split_name("code+not_correct")
    [('code', False), ('correct', True)]

    Raises InputError, in one line that lists what exists.
    """
    parts = [(term.removeprefix("not_"), term.startswith("not_")) for term in name.split("+")]
    for term, _ in parts:
        if term not in REWARDS:
            raise InputError(f"unknown reward {term!r}: choose from {', '.join(REWARDS)}; "
                             "A+B pays if both pay, not_A if A does not")
    return parts


def build_reward(name: str) -> Reward:
    """The reward of a name such as 'correct', 'not_correct' or 'format+not_correct'."""
    parts = split_name(name)
    entries = [REWARDS[term] for term, _ in parts]

    def score(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
        product = np.ones(len(responses))
        for entry, (_, negated) in zip(entries, parts):
            paid = np.array(entry.score(problems, responses, context))
            if paid.shape != product.shape:
                raise ValueError(f"a reward of {name} pays {paid.shape}, not {product.shape}")
            product *= entry.low + entry.high - paid if negated else paid
        return product.tolist()

    if len(entries) == 1:
        low, high = entries[0].low, entries[0].high
    elif min(entry.low for entry in entries) < 0:
        raise InputError(f"reward {name}: a product of penalties would pay")
    else:
        low, high = (math.prod(bounds) for bounds in zip(*((e.low, e.high) for e in entries)))
    needs = tuple({need for entry in entries for need in entry.needs})
    options = {flag: opt for entry in entries for flag, opt in entry.options.items()}
    return Reward(score, needs, low, high, options)
