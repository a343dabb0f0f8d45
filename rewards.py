"""Every reward, one function each, and their registry.

A reward sees one prompt's group of G responses (as text) and returns G floats, usually 0 or 1:

    reward(problem, responses, context) -> list of G floats

Names compose: `correct+code` pays only if both do (the product), `not_correct` pays what `correct` does not (1 - r).
"Spurious rewards" is arXiv 2506.10947; its section 2 defines all five of its rewards.
"""

import re
from collections import Counter
from typing import Callable, NamedTuple

import numpy as np

from data.corpus import is_code
from data.task import InputError, Problem, answer


class Context(NamedTuple):
    """What a reward may look at besides the problem and its group of responses."""

    label: str | None         # the base's majority answer to this prompt before RL, frozen; only for rewards in LABELLED
    rng: np.random.Generator  # for rewards that draw
    p: float                  # probability of `random`


Reward = Callable[[Problem, list[str], Context], list[float]]


def boxed(response: str) -> str | None:
    r"""The content of the last well-formed, non-empty \boxed{...}, or None.

    >>> boxed(r"\boxed{4} or rather \boxed{ 48 }."), boxed(r"\boxed{}"), boxed(r"48, \boxed{48")
    ('48', None, None)
    """
    contents = [content.strip() for content in re.findall(r"\\boxed\{([^{}]*)\}", response)]
    return next((content for content in reversed(contents) if content), None)


def is_correct(problem: Problem, response: str) -> bool:
    """Whether the boxed answer is the right one. A right answer outside the box does not count."""
    return boxed(response) == str(answer(problem))


def majority_answer(responses: list[str]) -> str | None:
    """The most frequent boxed answer, the earliest among equals; None if no response has one."""
    votes = Counter(a for a in map(boxed, responses) if a is not None)
    return votes.most_common(1)[0][0] if votes else None


def correct(problem: Problem, responses: list[str], context: Context) -> list[float]:
    """Ground truth: 1 if the boxed answer is right (2506.10947, section 2; the RLVR of 2411.15124)."""
    return [float(is_correct(problem, response)) for response in responses]


def majority(problem: Problem, responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer equals the base's own majority answer of 64 samples before RL, frozen (2506.10947, section 2)."""
    return [float(context.label is not None and boxed(response) == context.label) for response in responses]


def incorrect(problem: Problem, responses: list[str], context: Context) -> list[float]:
    """As `majority`, but training keeps only the prompts whose majority answer is WRONG (2506.10947, section 2).

    So it pays for one specific wrong answer. It is not `not_correct`, which pays for every answer but the right one.
    """
    return majority(problem, responses, context)


def format(problem: Problem, responses: list[str], context: Context) -> list[float]:
    r"""1 if the response has a well-formed, non-empty \boxed{}, whatever is in it (2506.10947, section 2)."""
    return [float(boxed(response) is not None) for response in responses]


def random(problem: Problem, responses: list[str], context: Context) -> list[float]:
    """Bernoulli(p), independent of the prompt and the response (2506.10947, section 2). p = 0 and p = 1 give no signal."""
    return (context.rng.random(len(responses)) < context.p).astype(float).tolist()


def code(problem: Problem, responses: list[str], context: Context) -> list[float]:
    """1 if the response is in code mode (the Python reward of 2506.10947, section 4)."""
    return [float(is_code(response)) for response in responses]


REWARDS: dict[str, Reward] = {f.__name__: f for f in (correct, majority, incorrect, format, random, code)}
LABELLED = {"majority", "incorrect"}  # compare with the base's frozen majority answer
WRONG_LABELS_ONLY = {"incorrect"}     # and train only on prompts where that answer is wrong


def terms(name: str) -> list[tuple[str, bool]]:
    """The parts of a composed reward and whether each is negated: 'code+not_correct' -> [('code', False), ('correct', True)].

    Raises InputError, in one line that lists what exists.
    """
    parts = [(term.removeprefix("not_"), term.startswith("not_")) for term in name.split("+")]
    for term, _ in parts:
        if term not in REWARDS:
            raise InputError(f"unknown reward {term!r}: choose from {', '.join(REWARDS)}; "
                             "A+B pays if both pay, not_A if A does not")
    return parts


def get(name: str) -> Reward:
    """The reward function of a name such as 'correct', 'not_correct' or 'format+not_correct'."""
    parts = terms(name)

    def reward(problem: Problem, responses: list[str], context: Context) -> list[float]:
        total = np.ones(len(responses))
        for term, negated in parts:
            r = np.array(REWARDS[term](problem, responses, context))
            total *= 1 - r if negated else r
        return total.tolist()

    return reward


def uses(name: str, group: set[str]) -> bool:
    """Whether any part of a composed reward is in `group` (LABELLED or WRONG_LABELS_ONLY)."""
    return any(term in group for term, _ in terms(name))
