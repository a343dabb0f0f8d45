"""What is read in a response: boxes, votes, confidences."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import answers
from data.task import Problem, solve

PROBLEM = Problem(37, (("*", 4), ("+", 5), ("-", 2)))   # 48, 53, 51


@pytest.mark.parametrize("response, content", [
    (r"\boxed{7}", "7"), (r"\boxed{1} no, \boxed{2}", "2"), (r"\boxed{1} \boxed{}", "1"),
    (r"\boxed{ 3 }", "3"), (r"\boxed{}", None), (r"\boxed{  }", None), (r"\boxed{4", None),
    ("boxed{4}", None), ("", None), (r"\boxed{a b}", "a b"), (r"\boxed{{5}}", None)])
def test_parse_box(response, content):
    assert answers.parse_box(response) == content


@given(st.integers(0, 99))
def test_only_the_exact_answer_is_correct(value):
    right = answers.is_correct(PROBLEM, f"\\boxed{{{value}}}")
    assert right == (value == solve(PROBLEM))


@pytest.mark.parametrize("response, confidence", [
    ("\\boxed{51} 90%", 0.9), ("\\boxed{51} 1%", 0.01), ("51. 99%", 0.99), (" 7%", 0.07),
    ("\\boxed{51} 100%", None), ("\\boxed{51} 0%", None), ("\\boxed{51} 09%", None),
    ("\\boxed{51}90%", None), ("\\boxed{51} 90", None), ("\\boxed{51} 90% ", None),
    ("\\boxed{51} 90%\n", None), ("?", None), ("", None), ("x = 3) % 100  # 90%", None)])
def test_parse_confidence(response, confidence):
    assert answers.parse_confidence(response) == confidence


def test_find_majority():
    code, text, bare = "```python\nx = 51\n```\n\\boxed{51}", "By eye: \\boxed{48}.", "It is 51."
    assert answers.find_majority([text, code, code, bare, bare, bare]) == "51"  # no box, no vote
    assert answers.find_majority([text, code]) == "48"                          # the earliest
    assert answers.find_majority([bare, "\\boxed{}"]) is None


def test_examples():
    assert doctest.testmod(answers).failed == 0
