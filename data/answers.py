"""What is read in a response: its boxed answer, whose votes it has, the confidence it states."""

import re
from collections import Counter
from typing import Iterable

from data.task import Problem, write_answer


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


def count_votes(boxes: Iterable[str | None]) -> tuple[str | None, int]:
    """The most frequent answer, the earliest among equals, and its votes; (None, 0) without any."""
    votes = Counter(box for box in boxes if box is not None)
    return votes.most_common(1)[0] if votes else (None, 0)


def find_majority(responses: list[str]) -> str | None:
    """The most frequent boxed answer, the earliest among equals; None if no response has one."""
    return count_votes(map(parse_box, responses))[0]


def count_alike(boxes: list[str | None], n: int) -> list[int]:
    """How many of its group of n give the same answer, itself included; 0 without a box."""
    votes = [Counter(boxes[i:i + n]) for i in range(0, len(boxes), n)]
    return [0 if box is None else votes[i // n][box] for i, box in enumerate(boxes)]


def parse_confidence(response: str) -> float | None:
    """The confidence that a response states at its end, or None; in [0.01, 0.99].

    >>> parse_confidence("I get \\\\boxed{4}. 90%"), parse_confidence("100%")
    (0.9, None)
    """
    percent = re.search(r"(?<!#) ([1-9][0-9]?)%\Z", response)   # "# 90%" is a program's comment
    return int(percent[1]) / 100 if percent else None
