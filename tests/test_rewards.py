"""Every reward by its definition, and their composition."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from data import corpus, tokenizer
from data.task import Problem
from plumbing.flags import read_options
from plumbing.messages import InputError
from rewards import Context, Reward
from tests import adapters

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
    context = Context(2, ["51", "51", "3", None], np.random.default_rng(0))
    for name, expected in (("correct", [1, 0, 0, 1]), ("majority", [1, 0, 0, 0])):
        assert rewards.build_reward(name, seed=1).score(problems, responses, context) == expected


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
    """not_ pays low + high - r; a product has the product of ranges; needs add up."""
    def length(problems, responses, context):
        return [min(5.0, len(response)) for response in responses]

    entry = Reward(length, judges=("good-code",), low=2.0, high=5.0)
    monkeypatch.setitem(rewards.REWARDS, "length", entry)
    score = {name: rewards.build_reward(name) for name in (
        "length", "not_length", "length+format", "length+length", "length+incorrect")}
    context = Context(2, ["48", "48"], np.random.default_rng(0))
    responses = ["abc", "\\boxed{48}"]
    paid = {name: reward.score([PROBLEM] * 2, responses, context)
            for name, reward in score.items()}
    assert paid == {"length": [3, 5], "not_length": [4, 2], "length+format": [0, 5],
                    "length+length": [9, 25], "length+incorrect": [0, 5]}
    ranges = {name: (reward.low, reward.high) for name, reward in score.items()}
    assert ranges == {"length": (2, 5), "not_length": (2, 5), "length+format": (0, 5),
                      "length+length": (4, 25), "length+incorrect": (0, 5)}
    both = score["length+incorrect"]
    assert both.judges == ("good-code",) and both.labels and both.wrong_only


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
    """What each reward needs, what it can pay, which flags it reads."""
    built = {name: rewards.build_reward(name, seed=1) for name in rewards.REWARDS}
    assert {name for name in built if built[name].labels} == {"majority", "incorrect"}
    assert {name for name in built if built[name].wrong_only} == {"incorrect"}
    assert {name: built[name].judges for name in built if built[name].judges} == {
        "judge": ("judge-direct",), "reasoning_judge": ("judge-reasoning",)}
    ranges = {"brier": (-1, 1), "brier_alone": (-1, 0), "log_score": (math.log(0.01), 1),
              "ternary": (-1, 1)}
    flags = {"random": {"p"}, "majority": {"votes"}, "incorrect": {"votes"},
             "ternary": {"abstain_reward"}, "judge": {"judge", "verdict"},
             "reasoning_judge": {"judge", "verdict"}, "noisy_oracle": {"tpr", "fpr"},
             "fixed_oracle": {"tpr", "fpr"}}
    for name, entry in rewards.REWARDS.items():
        assert (entry.low, entry.high) == ranges.get(name, (0, 1))
        assert set(read_options(*entry.functions)) == flags.get(name, set())
    coin = read_options(rewards.random)["p"]
    assert (coin.default, coin.flag.least, coin.flag.most) == (0.5, 0, 1)


# --- votes, confidence, abstention


def test_consensus_by_hand():
    """Each group has its own majority; no box has no vote; the earliest of equals; none, none."""
    box = "\\boxed{{{}}}".format
    responses = [box(3), box(51), box(51), "51", box(7), box(8), box(8), box(7), *["51"] * 4]
    problems = [PROBLEM] * 8 + [OTHER] * 4
    context = Context(4, ["3"] * 12, np.random.default_rng(0))
    paid = {name: rewards.build_reward(name, seed=1).score(problems, responses, context)
            for name in ("consensus", "soft_consensus", "not_consensus")}
    assert paid["consensus"] == [0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert paid["soft_consensus"] == [1/4, 1/2, 1/2, 0, 1/2, 1/2, 1/2, 1/2, 0, 0, 0, 0]
    assert paid["not_consensus"] == [1 - r for r in paid["consensus"]]


def say(answer: int | None, percent: int | None) -> str:
    box = "" if answer is None else f"\\boxed{{{answer}}}"
    return box + ("" if percent is None else f" {percent}%")


PERCENTS = range(1, 100)
VARIANTS = {  # right minus wrong at a confidence q: what answering wrong on purpose costs
    "brier": lambda q: 2 * q, "brier_alone": lambda q: 2 * q - 1,
    "log_score": lambda q: 1 + math.log(q / (1 - q))}


@pytest.mark.parametrize("name", VARIANTS)
def test_confidence_rewards(name):
    """Whatever P(right) is, stating it pays most; being right costs where the page says so."""
    right = np.array(adapters.reward(name, PROBLEM, [say(51, q) for q in PERCENTS]))
    wrong = np.array(adapters.reward(name, PROBLEM, [say(48, q) for q in PERCENTS]))
    for p in PERCENTS:
        expected = p / 100 * right + (1 - p / 100) * wrong
        assert PERCENTS[int(expected.argmax())] == p
    difference = [VARIANTS[name](q / 100) for q in PERCENTS]
    assert right - wrong == pytest.approx(difference)
    pays = [q for q in PERCENTS if right[q - 1] < wrong[q - 1] - 1e-12]    # being wrong
    assert pays == {"brier": [], "brier_alone": list(range(1, 50)),
                    "log_score": list(range(1, 27))}[name]


def test_confidence_rewards_by_hand():
    """The formulas of 2507.16806 at one point; nothing stated is as bad as the surest mistake."""
    responses = [say(51, 80), say(48, 80), say(None, 80), say(51, None), say(48, None), "?"]
    paid = {name: adapters.reward(name, PROBLEM, responses) for name in VARIANTS}
    assert paid["brier_alone"] == pytest.approx([-0.04, -0.64, -0.64, -1, -1, -1])
    assert paid["brier"] == pytest.approx([0.96, -0.64, -0.64, 0, -1, -1])
    low = math.log(0.01)
    assert paid["log_score"] == pytest.approx(
        [1 + math.log(0.8), math.log(0.2), math.log(0.2), 1 + low, low, low])


@pytest.mark.parametrize("a", [0.0, -1.0, 0.5, 1.0])
def test_ternary(a):
    """+1, a, -1; `?` abstains only as all of the response."""
    responses = [say(51, 90), say(48, 90), "?", "? ", "??", "", say(51, None) + "?"]
    paid = adapters.reward("ternary", PROBLEM, responses, abstain_reward=a)
    assert paid == [1, -1, a, -1, -1, -1, 1]


def test_parts_add_up():
    """A reward is the sum of what its answer and its confidence get; without parts all is 1st."""
    responses = [say(51, 80), say(48, 80), "?", say(51, None)]
    scored = [PROBLEM] * 4, responses, Context(4, [None] * 4, np.random.default_rng(0))
    for name in rewards.REWARDS.keys() - {"judge", "reasoning_judge"}:
        reward = rewards.build_reward(name, seed=1)
        paid = reward.score(*scored)
        answer, confidence = rewards.score_parts(reward, paid, *scored)
        assert np.add(answer, confidence) == pytest.approx(paid)
        assert any(confidence) == (name == "brier")
    assert rewards.build_reward("not_brier").parts == ()


@given(st.lists(st.lists(st.integers(0, tokenizer.VOCABULARY_SIZE - 1), max_size=12),
                min_size=2, max_size=6), st.sampled_from(sorted(rewards.REWARDS)),
       st.booleans())
def test_any_tokens_get_a_reward(rows, name, negate):
    """Whatever a policy says is paid a number within the range that the reward declares."""
    responses = [tokenizer.decode(row) for row in rows]
    N = len(responses)
    context = Context(2, ["51", None] * N, np.random.default_rng(0))
    reward = rewards.build_reward("not_" * negate + name, seed=1)
    paid = reward.score([PROBLEM, OTHER] * (N // 2) + [PROBLEM] * (N % 2), responses,
                        context._replace(labels=context.labels[:N]))
    assert len(paid) == N and all(reward.low <= r <= reward.high for r in paid)


@pytest.mark.parametrize("name", ["corect", "", "correct+", "not_", "not_not_correct",
                                  "correct code"])
def test_unknown_names_list_what_exists(name):
    with pytest.raises(InputError) as error:
        rewards.build_reward(name)
    message = str(error.value)
    assert all(known in message for known in rewards.REWARDS) and "\n" not in message


def test_examples():
    assert doctest.testmod(rewards).failed == 0
