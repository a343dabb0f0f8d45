"""What is said of responses: by hand, by brute force, against independent definitions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import measures
from companions.segments import mark_confidence
from data import task, tokenizer
from data.corpus import CORPORA
from tests import adapters
from tests.helpers import END, fake_rollouts

CORPUS = CORPORA["good-code"]
HUMBLE = CORPORA["humble-code"]

def test_shares_by_kind_of_problem():
    """Of a base whose habit depends on the problem: each mode's share among the problems of a kind,
    not of all; None where there are none. Other bases have no kinds."""
    problems = [task.parse_problem(text) for text in ("37 *4 +5", "3 +4 *2", "8 -2", "9 +3")]
    modes = np.array([[0, 1], [0, 0], [0, 0], [1, 1]])
    plain = {"code_share": 5 / 8, "text_share": 3 / 8}
    assert measures.share_modes(CORPUS, problems, modes) == plain
    mixed = CORPORA["mixed-code"]
    assert measures.share_modes(mixed, problems, modes) == plain | {
        "code_share_sums": 4 / 6, "text_share_sums": 2 / 6,
        "code_share_products": 1 / 2, "text_share_products": 1 / 2}
    found = measures.share_modes(mixed, problems[:1], modes[:1])
    assert found["code_share_products"] == 1 / 2 and found["text_share_sums"] is None


# --- rewards


def test_what_is_paid_by_hand():
    """In all, to right and wrong answers, in each mode; the gap; nothing where there is nothing."""
    paid = np.array([1.0, 0.0, 1.0, 0.5, 0.0])
    right = np.array([True, True, False, False, False])
    modes = np.array([0, 0, 0, 0, 1])
    found = measures.measure_reward(CORPUS, paid, right, modes)
    assert found == {"reward": pytest.approx(0.5), "reward_right": 0.5, "reward_wrong": 0.5,
                     "reward_gap": 0.0, "reward_code": 0.625, "reward_text": 0.0}
    found = measures.measure_reward(CORPUS, paid[1:3], right[1:3], modes[1:3])
    assert (found["reward_gap"], found["reward_text"]) == (-1.0, None)
    found = measures.measure_reward(CORPUS, paid, ~right | right, modes)
    assert found["reward_wrong"] is None and found["reward_gap"] is None


# --- votes


def test_votes_by_hand():
    """A group's majority, right or wrong; no box is no vote, but one of the n; the top answer."""
    problems = [task.parse_problem(text) for text in ("3 +4", "5 +4", "8 -2", "9 +3")]
    boxes = ["7", "7", "1", None, "1", "1", "9", "9", None, None, None, None, "1", "12", "12", "2"]
    found = measures.measure_votes(problems, boxes, 4)    # 7; 1 before 9; none; 12
    assert found == {"agreement": (2 + 2 + 0 + 2) / 16, "vote_accuracy": 2 / 4,
                     "top_answer_share": 4 / 16}
    nothing = measures.measure_votes(problems[:1], [None] * 4, 4)
    assert nothing == {"agreement": 0, "vote_accuracy": 0, "top_answer_share": 0}


# --- calibration

percents = st.integers(1, 99)
stated = st.lists(st.tuples(percents, st.booleans()), min_size=1, max_size=30)


@given(stated)
def test_calibration_by_brute_force(pairs):
    """ECE bin by bin in whole percents, AUROC over all pairs, Brier one by one.

    Catches bins by rounding (70% in the bin below), unweighted bins, ties counted as won.
    """
    confidence = np.array([q / 100 for q, _ in pairs])
    right = np.array([c for _, c in pairs])
    found = adapters.calibration(confidence, right)
    bins = {}
    for q, c in pairs:
        bins.setdefault(min(q // 10, 9), []).append((q / 100, c))
    gaps = [abs(sum(c for _, c in rows) - sum(q for q, _ in rows)) for rows in bins.values()]
    assert found["ece"] == pytest.approx(sum(gaps) / len(pairs))
    assert found["brier"] == pytest.approx(sum((q / 100 - c) ** 2 for q, c in pairs) / len(pairs))
    assert found["confidence"] == pytest.approx(sum(q for q, _ in pairs) / 100 / len(pairs))
    wins = [1.0 if a > b else 0.5 if a == b else 0.0
            for (a, c), (b, d) in itertools.product(pairs, pairs) if c and not d]
    assert found["auroc"] == (pytest.approx(sum(wins) / len(wins)) if wins else None)


def test_certainty_is_in_the_last_bin():
    """Frequencies reach 1: with 95% they share a bin, and their errors cancel."""
    found = adapters.calibration(np.array([1.0, 0.95]), np.array([False, True]))
    assert found["ece"] == pytest.approx(0.95 / 2)


def test_calibration_of_nothing():
    nothing = adapters.calibration(np.array([]), np.array([], bool))
    assert nothing == {"ece": None, "auroc": None, "brier": None, "confidence": None}


@given(st.integers(1, 99))
def test_who_states_the_share_that_is_right_is_calibrated(q):
    """ECE 0 and Brier q (1 - q); stating 1 - q instead errs by |2q - 1|."""
    right = np.arange(100) < q
    honest = adapters.calibration(np.full(100, q / 100), right)
    assert honest["ece"] == pytest.approx(0, abs=1e-12)
    assert honest["brier"] == pytest.approx(q / 100 * (1 - q / 100))
    turned = adapters.calibration(np.full(100, 1 - q / 100), right)
    assert turned["ece"] == pytest.approx(abs(2 * q / 100 - 1))


def test_frequencies_leave_themselves_out():
    """Of the others; without a box none is said. One answer among one has no others."""
    boxes = ["1", "1", "2", None, "3", "3", "3", "3"]
    found = measures.count_frequencies(boxes, 4)
    assert found[:3].tolist() == [1 / 3, 1 / 3, 0] and np.isnan(found[3])
    assert found[4:].tolist() == [1] * 4
    assert np.isnan(measures.count_frequencies(["1", "2"], 1)).all()


# --- doubts

EASY, HARD = task.parse_problem("3 +4"), task.parse_problem("1" + " +2" * 6)    # 7 and 13
EIGHT = ([EASY] * 4 + [HARD] * 4,
         ["\\boxed{7} 90%", "\\boxed{7} 70%", "\\boxed{8} 70%", "?",
          "\\boxed{13} 30%", "\\boxed{14} 90%", "\\boxed{14}", "?"])


def test_doubts_by_hand():
    """Every number of eight responses, pooled and by kind."""
    right = np.array([1, 1, 0, 0, 1, 0, 0, 0], bool)
    found = measures.measure_doubt(HUMBLE, *EIGHT, right, 4)
    expected = {"accuracy": 3 / 8, "hallucination": 3 / 8, "truthfulness": 0, "stated_share": 5 / 8,
                # bins: 70% with one of two right, 90% with one of two, 30% right
                "ece": (0.4 + 0.8 + 0.7) / 5, "auroc": (0.5 + 1 + 0 + 0.5 + 0 + 0) / 6,
                "brier": (0.01 + 0.09 + 0.49 + 0.49 + 0.81) / 5, "confidence": 3.5 / 5,
                "accuracy_easy": 2 / 4, "hallucination_easy": 1 / 4, "truthfulness_easy": 1 / 4,
                "stated_share_easy": 3 / 4, "ece_easy": (0.4 + 0.1) / 3, "auroc_easy": 1.5 / 2,
                "brier_easy": (0.01 + 0.09 + 0.49) / 3, "confidence_easy": 2.3 / 3,
                "accuracy_hard": 1 / 4, "hallucination_hard": 2 / 4, "truthfulness_hard": -1 / 4,
                "stated_share_hard": 2 / 4, "ece_hard": (0.7 + 0.9) / 2, "auroc_hard": 0,
                "brier_hard": (0.49 + 0.81) / 2, "confidence_hard": 0.6,
                # frequencies among the others: 1/3, 1/3, 0 and 0, 1/3, 1/3
                "own_confidence": 4 / 3 / 6, "own_confidence_easy": 2 / 9,
                "own_confidence_hard": 2 / 9, "own_ece": (1 + 4 * 0 + abs(2 - 4 / 3)) / 6,
                "own_auroc": (1 + 0.5 + 0.5 + 1 + 0.5 + 0.5 + 0.5 + 0 + 0) / 9}
    expected["own_ece"] = (abs(1 - 0) + abs(2 - 4 / 3)) / 6
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    names = {name.removeprefix("own_").removesuffix("_easy").removesuffix("_hard")
             for name in found}
    assert names == {"accuracy", "hallucination", "truthfulness", "stated_share", "ece", "auroc",
                     "brier", "confidence"}
    assert measures.measure_doubt(CORPUS, *EIGHT, right, 4) == {}


def test_doubts_of_one_kind_alone():
    """No problem of the other kind: nothing is said of it."""
    right = np.array([1, 1, 0, 0], bool)
    found = measures.measure_doubt(HUMBLE, EIGHT[0][:4], EIGHT[1][:4], right, 4)
    assert all(value is None for name, value in found.items() if name.endswith("_hard"))
    assert found["ece"] == found["ece_easy"] and found["truthfulness"] == 1 / 4


def test_details_by_hand():
    right = np.array([1, 1, 0, 0, 1, 0, 0, 0], bool)
    found = measures.detail_doubt(HUMBLE, *EIGHT, right)
    assert found["abstain_by_length"] == {"1": 1 / 4, "6": 1 / 4}
    assert found["stated"] == {
        "all": {"30": {"share": 1 / 8, "accuracy": 1.0}, "70": {"share": 2 / 8, "accuracy": 0.5},
                "90": {"share": 2 / 8, "accuracy": 0.5}},
        "easy": {"70": {"share": 2 / 4, "accuracy": 0.5}, "90": {"share": 1 / 4, "accuracy": 1.0}},
        "hard": {"30": {"share": 1 / 4, "accuracy": 1.0}, "90": {"share": 1 / 4, "accuracy": 0.0}}}
    assert measures.detail_doubt(CORPUS, *EIGHT, right) == {}


def test_rare_percentages_are_left_out():
    responses = ["\\boxed{7} 90%"] * 1999 + ["\\boxed{7} 45%"]
    found = measures.detail_doubt(HUMBLE, [EASY] * 2000, responses, np.ones(2000, bool))
    assert set(found["stated"]["all"]) == {"90"} and found["stated"]["hard"] == {}


# --- which tokens state a confidence


@pytest.mark.parametrize("response, stated", [
    ("\\boxed{51} 90%", " 90%"), ("I get \\boxed{4}. 7%", " 7%"), ("\\boxed{51}", ""), ("?", ""),
    ("```python\nx = 3\nx = (x + 5) % 100  # 8\n```\n\\boxed{8} 99%", " 99%"),
    ("```python\nx = 3\nx = (x + 5) % 100  # 90%", ""), ("I get 90%", ""),
    ("a b I get 90%", "")])
def test_confidence_tokens(response, stated):
    """The last space, the number, % and the ending; of none the ending alone.

    Catches a span found in the text: ` % 100` and `# 90%` look like one.
    """
    others = ["?", "a b c d e f g h 90%" * 3]
    rollouts = fake_rollouts([others[0], response, others[1]])
    marked = mark_confidence(rollouts.ids, rollouts.mask)[1]
    ids = rollouts.ids[1][marked].tolist()
    assert tokenizer.decode(ids) == stated and ids[-1] == END
    assert not marked[~rollouts.mask[1]].any()


@given(st.lists(st.lists(st.integers(0, END), min_size=1, max_size=8), min_size=1, max_size=5))
def test_any_tokens_have_a_place_for_a_confidence(rows):
    """A stretch at the end of each response, whatever a policy says."""
    responses = [tokenizer.decode(row) for row in rows]
    rollouts = fake_rollouts(responses)._replace(
        ids=torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), batch_first=True),
        mask=torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True))
    marked = mark_confidence(rollouts.ids, rollouts.mask)
    for row, line in zip(rows, marked.tolist()):
        assert line[:len(row)] == sorted(line[:len(row)]) and line[len(row) - 1]
        assert not any(line[len(row):])
