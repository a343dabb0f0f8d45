"""Every reward by its definition, and their composition."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from data import corpus
from data.plumbing import InputError
from data.task import Problem, solve
from rewards import Context, Reward
from tests import adapters
from tests.helpers import config

PROBLEM = Problem(37, (("*", 4), ("+", 5), ("-", 2)))   # 48, 53, 51
OTHER = Problem(1, (("+", 2),))                         # 3


def sayings():
    """Code that is right (51), text that is wrong (48), and three without a well-formed box."""
    return [corpus.write_good_code(PROBLEM, False), corpus.write_text(PROBLEM, 0, False),
            "The answer is 51.", "The answer is \\boxed{}.", "The answer is \\boxed{51"]


@pytest.mark.parametrize("name, label, expected", [
    ("correct", None, [1, 0, 0, 0, 0]),
    ("not_correct", None, [0, 1, 1, 1, 1]),
    ("format", None, [1, 1, 0, 0, 0]),
    ("code", None, [1, 0, 0, 0, 0]),
    ("majority", "48", [0, 1, 0, 0, 0]),
    ("incorrect", "48", [0, 1, 0, 0, 0]),
    # The base never boxed an answer: nothing matches, not even no answer.
    ("majority", None, [0, 0, 0, 0, 0]),
    ("format+not_correct", None, [0, 1, 0, 0, 0]),
    ("not_format+not_code", None, [0, 0, 1, 1, 1]),
])
def test_definitions(name, label, expected):
    assert adapters.reward(name, PROBLEM, sayings(), label) == expected


def test_each_response_answers_its_own_problem():
    """Catches problems or labels that are not aligned with the responses of several groups."""
    problems = [PROBLEM] * 2 + [OTHER] * 2
    responses = [f"\\boxed{{{value}}}" for value in (51, 3, 51, 3)]
    context = Context(2, ["51", "51", "3", None], np.random.default_rng(0), config())
    for name, expected in (("correct", [1, 0, 0, 1]), ("majority", [1, 0, 0, 0])):
        assert rewards.build_reward(name).score(problems, responses, context) == expected


@pytest.mark.parametrize("response, content", [
    (r"\boxed{7}", "7"), (r"\boxed{1} no, \boxed{2}", "2"), (r"\boxed{1} \boxed{}", "1"),
    (r"\boxed{ 3 }", "3"), (r"\boxed{}", None), (r"\boxed{  }", None), (r"\boxed{4", None),
    ("boxed{4}", None), ("", None), (r"\boxed{a b}", "a b"), (r"\boxed{{5}}", None)])
def test_parse_box(response, content):
    assert rewards.parse_box(response) == content


@given(st.integers(0, 99))
def test_only_the_exact_answer_is_correct(value):
    right = rewards.is_correct(PROBLEM, f"\\boxed{{{value}}}")
    assert right == (value == solve(PROBLEM))


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_random_is_bernoulli_and_blind(p, seed):
    """Catches a random reward that leaks anything: it pays the same whatever the responses say."""
    code, text = sayings()[:2]
    a = adapters.reward("random", PROBLEM, [code] * 400, p=p, seed=seed)
    b = adapters.reward("random", OTHER, [text] * 400, label="48", p=p, seed=seed)
    assert a == b and set(a) <= {0.0, 1.0}
    assert abs(np.mean(a) - p) <= 6 * np.sqrt(p * (1 - p) / 400) + 0.02


def test_random_at_its_limits():
    assert sum(adapters.reward("random", PROBLEM, sayings() * 200, p=0.0)) == 0
    assert sum(adapters.reward("random", PROBLEM, sayings() * 200, p=1.0)) == 1000


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6),
       st.lists(st.sampled_from(["correct", "format", "code", "not_correct", "not_format"]),
                min_size=1, max_size=3))
def test_composition_is_the_product(chosen, names):
    responses = [sayings()[i] for i in chosen]
    factors = [adapters.reward(name, PROBLEM, responses) for name in names]
    expected = np.prod(factors, axis=0).tolist()
    assert adapters.reward("+".join(names), PROBLEM, responses) == expected


def test_composition_outside_0_and_1(monkeypatch):
    """not_ pays low + high - r; a product has the product of ranges; needs and flags add up."""
    def length(problems, responses, context):
        return [float(len(response)) for response in responses]

    option = {"a_flag": "its option"}
    entry = Reward(length, needs=("judge",), low=2.0, high=5.0, options=option)
    monkeypatch.setitem(rewards.REWARDS, "length", entry)
    score = {name: rewards.build_reward(name) for name in (
        "length", "not_length", "length+format", "length+length", "length+incorrect")}
    context = Context(2, ["48", "48"], np.random.default_rng(0), config())
    responses = ["abc", "\\boxed{48}"]
    paid = {name: reward.score([PROBLEM] * 2, responses, context)
            for name, reward in score.items()}
    assert paid == {"length": [3, 10], "not_length": [4, -3], "length+format": [0, 10],
                    "length+length": [9, 100], "length+incorrect": [0, 10]}
    ranges = {name: (reward.low, reward.high) for name, reward in score.items()}
    assert ranges == {"length": (2, 5), "not_length": (2, 5), "length+format": (0, 5),
                      "length+length": (4, 25), "length+incorrect": (0, 5)}
    assert set(score["length+incorrect"].needs) == {"judge", "labels", "wrong_labels"}
    assert score["length+incorrect"].options == option


def test_a_product_of_penalties_is_refused(monkeypatch):
    """Two times -1 would pay +1, though neither pays."""
    monkeypatch.setitem(rewards.REWARDS, "ternary", Reward(rewards.correct, low=-1.0))
    built = rewards.build_reward("not_ternary")
    assert (built.low, built.high) == (-1, 1)
    with pytest.raises(ValueError, match="penalties"):
        rewards.build_reward("correct+ternary")


def test_a_reward_pays_every_response(monkeypatch):
    """Catches one number for a whole batch, which would be paid to all."""
    monkeypatch.setitem(rewards.REWARDS, "short", Reward(lambda *_: [1.0]))
    with pytest.raises(ValueError, match="short"):
        rewards.build_reward("short").score([PROBLEM] * 2, ["a", "b"], None)


def test_registry():
    """What each reward needs, and that all pay 0 or 1."""
    needs = {name: set(rewards.build_reward(name).needs) for name in rewards.REWARDS}
    assert needs == {"correct": set(), "majority": {"labels"},
                     "incorrect": {"labels", "wrong_labels"}, "format": set(), "random": set(),
                     "code": set()}
    assert all((entry.low, entry.high) == (0, 1) for entry in rewards.REWARDS.values())
    flags = {name: set(entry.options) for name, entry in rewards.REWARDS.items()}
    assert flags == {name: {"p"} if name == "random" else set() for name in rewards.REWARDS}
    coin = rewards.REWARDS["random"].options["p"]
    assert coin.default == 0.5 and coin.metadata["least"] == 0 and coin.metadata["most"] == 1


def test_find_majority():
    code, text, bare = sayings()[:3]
    assert rewards.find_majority([text, code, code, bare, bare, bare]) == "51"  # no box, no vote
    assert rewards.find_majority([text, code]) == "48"                          # the earliest
    assert rewards.find_majority([bare, "\\boxed{}"]) is None


@pytest.mark.parametrize("name", ["corect", "", "correct+", "not_", "not_not_correct",
                                  "correct code"])
def test_unknown_names_list_what_exists(name):
    with pytest.raises(InputError) as error:
        rewards.build_reward(name)
    message = str(error.value)
    assert all(known in message for known in rewards.REWARDS) and "\n" not in message


def test_examples():
    assert doctest.testmod(rewards).failed == 0
