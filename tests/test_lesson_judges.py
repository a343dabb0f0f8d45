"""Lesson judges: what is measured of a judge by hand; its grid, table and figure from made rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import corpus, task
from lessons.grid import locate_run
from lessons.judges import lesson, measure
from rewards import parse_box
from tests.test_task import problems


@given(problems, st.integers(0, 10 ** 6))
def test_candidates_are_what_they_are_called(problem, seed):
    """The right one is right, all others wrong or left out; each is made as its name says."""
    found = measure.list_candidates(problem, np.random.default_rng(seed))
    value = task.solve(problem)
    assert found["right"] == str(value) and list(found.values()).count(str(value)) == 1
    assert set(found) <= {"right", *measure.WRONG, "not a number"}
    assert (int(found["near miss"]) - value) % 100 in (90, 98, 99, 1, 2, 10)
    bug = parse_box(corpus.write_bad_code(problem, False))
    assert found.get("habit's bug", str(value)) == bug
    by_eye = {parse_box(corpus.write_text(problem, opener, False)) for opener in range(1, 8)}
    assert found.get("text guess", str(value)) in by_eye
    assert not found["not a number"].isdigit() and 0 <= int(found["random"]) < 100


def test_claims_and_their_weights():
    """One of each kind a problem; of the splits that are named; half the weight to right ones."""
    for split in ("training", "evaluation"):
        claims, kinds = measure.draw_claims(split, 0)
        assert len(claims) == len(kinds) > 5 * measure.PROBLEMS
        assert {task.split_of(problem) for problem, _ in claims} == {split}
        assert all(len(problem.ops) == k for (problem, _), (_, k) in zip(claims, kinds))
        weights = measure.balance(kinds)
        names = np.array([name for name, _ in kinds])
        assert weights.sum() == pytest.approx(1)
        assert weights[names == "right"].sum() == pytest.approx(0.5)
        for kind in measure.WRONG:
            assert weights[names == kind].sum() == pytest.approx(0.125)
        assert not weights[names == "not a number"].any()


ACCEPTED = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
RIGHT = np.array([True, True, False, False])
EVEN = np.full(4, 0.25)


def test_votes_by_hand():
    """A tie is half right; the mean looks at probabilities; the threshold at the share of yes."""
    chance = np.array([[0.9, 0.9, 0.9, 0.4], [0.6, 0.1, 0.1, 0.1], [0.2] * 4, [0.7, 0.1, 0.1, 0.1]])

    def score(k, threshold=0.5):
        return measure.score_votes_of_judge(ACCEPTED, chance, RIGHT, EVEN, k, threshold)

    assert score(1) == {"majority": 1.0, "mean": 0.75, "tuned": 1.0}
    assert score(2) == {"majority": (1 + 0.5 + 1 + 1) / 4, "mean": 0.75, "tuned": 1.0}
    assert score(4)["majority"] == (0.5 + 0 + 0.5 + 1) / 4
    assert score(4, 0.2)["tuned"] == 3 / 4 and score(4, 0.6)["tuned"] == 2 / 4


def test_the_threshold_that_is_right_most_often():
    """Of a judge that only ever errs by saying no, one yes of many is enough; lowest of equals."""
    strict = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert measure.tune_threshold(strict, RIGHT, EVEN, 4) == 0.125
    assert measure.tune_threshold(~strict[::-1], RIGHT, EVEN, 4) == 0.875
    assert measure.tune_threshold(strict, RIGHT, np.array([0, 0, 0.5, 0.5]), 4) == 0.125


def test_two_more_verdicts_only_where_they_differ():
    tokens = np.arange(16).reshape(4, 4) + 1
    accuracy, spent = measure.score_adaptive(ACCEPTED, tokens, RIGHT, EVEN)
    assert accuracy == (1 + 0 + 1 + 1) / 4          # the second: 1 of 4
    assert spent == ((1 + 2) + (5 + 6 + 7 + 8) + (9 + 10) + (13 + 14)) / 4


def test_the_grid():
    """Judges are paid by their kind; every run has a folder of its own; judges >= 3 and >= 6 new.
    """
    runs = lesson.runs()
    assert len({locate_run(run) for run in runs}) == len(runs)
    for run in runs:
        if "judge" in run:
            kind = lesson.BASES[run["judge"]]["base"]
            assert run["reward"] == {"judge-direct": "judge",
                                     "judge-reasoning": "reasoning_judge"}[kind]
    new = {run["judge"] for run in runs if run.get("judge", "") in
           {name for judges in lesson.NEW.values() for name in judges}}
    assert len(new) >= 6 and not new & {name for judges in lesson.FIRST.values()
                                        for name in judges}
    assert all(len(lesson.FIRST[kind]) == 3 for kind in list(lesson.FIRST)[:3])
    commands = lesson.evidence_commands(runs)
    assert len(commands) == len({run["judge"] for run in runs if "judge" in run})
    assert len(lesson.runs(quick=True)) == 2
