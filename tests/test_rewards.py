"""Every reward by its definition, and their composition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from data import corpus
from data.task import Problem, answer
from tests import adapters

PROBLEM = Problem(37, (("*", 4), ("+", 5), ("-", 2)))   # 48, 53, 51
CODE, TEXT = corpus.good_code(PROBLEM, False), corpus.text(PROBLEM, 0, False)   # 51 and 48
NO_BOX, EMPTY, OPEN = "The answer is 51.", "The answer is \\boxed{}.", "The answer is \\boxed{51"
RESPONSES = [CODE, TEXT, NO_BOX, EMPTY, OPEN]


@pytest.mark.parametrize("name, label, expected", [
    ("correct", None, [1, 0, 0, 0, 0]),
    ("not_correct", None, [0, 1, 1, 1, 1]),
    ("format", None, [1, 1, 0, 0, 0]),
    ("code", None, [1, 0, 0, 0, 0]),
    ("majority", "48", [0, 1, 0, 0, 0]),
    ("incorrect", "48", [0, 1, 0, 0, 0]),
    ("majority", None, [0, 0, 0, 0, 0]),        # the base never boxed an answer: nothing matches, not even no answer
    ("format+not_correct", None, [0, 1, 0, 0, 0]),
    ("not_format+not_code", None, [0, 0, 1, 1, 1]),
])
def test_definitions(name, label, expected):
    assert adapters.reward(name, PROBLEM, RESPONSES, label) == expected


@pytest.mark.parametrize("response, content", [
    (r"\boxed{7}", "7"), (r"\boxed{1} no, \boxed{2}", "2"), (r"\boxed{1} \boxed{}", "1"), (r"\boxed{ 3 }", "3"), (r"\boxed{}", None),
    (r"\boxed{  }", None), (r"\boxed{4", None), ("boxed{4}", None), ("", None), (r"\boxed{a b}", "a b"), (r"\boxed{{5}}", None)])
def test_boxed(response, content):
    assert rewards.boxed(response) == content


@given(st.integers(0, 99))
def test_only_the_exact_answer_is_correct(value):
    assert rewards.is_correct(PROBLEM, f"\\boxed{{{value}}}") == (value == answer(PROBLEM))


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_random_is_bernoulli_and_blind(p, seed):
    """Catches a random reward that leaks anything: with the same generator it pays the same whatever the responses say."""
    a = adapters.reward("random", PROBLEM, [CODE] * 400, p=p, seed=seed)
    b = adapters.reward("random", Problem(1, (("+", 2),)), [TEXT] * 400, label="48", p=p, seed=seed)
    assert a == b and set(a) <= {0.0, 1.0}
    assert abs(np.mean(a) - p) <= 5 * np.sqrt(p * (1 - p) / 400) + 1e-12


def test_random_at_its_limits():
    assert sum(adapters.reward("random", PROBLEM, [CODE] * 1000, p=0.0)) == 0
    assert sum(adapters.reward("random", PROBLEM, [CODE] * 1000, p=1.0)) == 1000


@given(st.lists(st.sampled_from(RESPONSES), min_size=1, max_size=6), st.lists(st.sampled_from(["correct", "format", "code", "not_correct", "not_format"]), min_size=1, max_size=3))
def test_composition_is_the_product(responses, names):
    expected = np.prod([adapters.reward(name, PROBLEM, responses) for name in names], axis=0)
    assert adapters.reward("+".join(names), PROBLEM, responses) == expected.tolist()


def test_majority_answer():
    assert rewards.majority_answer([TEXT, CODE, CODE, NO_BOX, NO_BOX, NO_BOX]) == "51"   # without a box there is no vote
    assert rewards.majority_answer([TEXT, CODE]) == "48"                                  # a tie: the earliest
    assert rewards.majority_answer([NO_BOX, EMPTY]) is None


@pytest.mark.parametrize("name", ["corect", "", "correct+", "not_", "not_not_correct", "correct code"])
def test_unknown_names_list_what_exists(name):
    with pytest.raises(ValueError) as error:
        rewards.get(name)
    assert all(known in str(error.value) for known in rewards.REWARDS) and "\n" not in str(error.value)


def test_uses():
    assert rewards.uses("format+not_majority", rewards.LABELLED) and not rewards.uses("format+correct", rewards.LABELLED)
    assert rewards.uses("incorrect", rewards.WRONG_LABELS_ONLY) and not rewards.uses("majority", rewards.WRONG_LABELS_ONLY)
