"""Lesson judges: what is measured of a judge by hand; its grid, table and figure from made rows."""

import json
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companions.judges import Verdicts
from data import corpus, task
from data.answers import parse_box
from lessons import report
from lessons.grid import locate_run
from lessons.judges import lesson, measure, policies
from lessons.report import Results, read_results
from tests.helpers import ROOT
from tests.test_lesson_consistency import check_stored_grid, make_row, split_lines
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
    others = {(run["judge"], run["base"]) for run in runs
              if "judge" in run and run["base"] in policies.BASES}
    assert len(commands) == len({run["judge"] for run in runs if "judge" in run}) + len(others)
    assert len(others) == 6 and len({path for _, path, _ in commands}) == len(commands)
    assert len(lesson.runs(quick=True)) == 2


# --- tables and figure


FOLDER = ROOT / "lessons/judges"


def test_the_grid_is_that_of_the_stored_runs():
    check_stored_grid(lesson, FOLDER)


def make_results() -> Results:
    """Two judges and an oracle on bad-code: what they promise, and what came."""
    rows, evidence, curves = [], [], {}
    for kind, edge, ends in (("direct", -0.05, (0.2, 0.95)), ("reasoning", 0.6, (0.99, 1.0))):
        judge = next(iter(lesson.FIRST[kind]))
        numbers = {"text right": 0.9, "text wrong": 0.0, "code right": 0.2, "code wrong": 0.8}
        evidence.append({"judge": judge, "what": "belief", "gap": edge + 0.1, "edge": edge,
                         "tokens": 2.0, "accuracy": 0.5 + abs(edge), "auroc": 0.5,
                         "accuracy at k = 1": 0.5, "accuracy at k = 5": 0.5,
                         "accepts of all 100": 0.4, "accepts even": 0.5, "accepts odd": 0.3,
                         **numbers,
                         **{f"accepts {name}": 0.25 for name in lesson.KINDS}})
        for seed, end in enumerate(ends, 1):
            curves[len(rows)] = [{"step": i, "reward": 0.3 + i / 10, "reward_right": 0.9,
                                  "reward_wrong": None if i else 0.1} for i in (0, 5)]
            rows.append(make_row({"base": "bad-code"} | lesson.pay_by(judge), seed,
                                 before_accuracy=0.45, after_accuracy=end))
    flags = {"base": "bad-code"} | lesson.list_oracles()[0]
    curves[len(rows)] = [{"step": 0, "reward": 0.5, "reward_right": 0.5, "reward_wrong": 0.5}]
    rows.append(make_row(flags, 1, before_accuracy=0.45, after_accuracy=0.3))
    return Results(rows, curves, evidence)


def test_what_the_edge_promised():
    """Its sign against what came, run by run; the edge of an oracle from the policy's shares."""
    results = make_results()
    payers = lesson.list_payers(results, lesson.FIRST)
    assert [payer["edge"] for payer in payers] == [-0.05, 0.6]
    assert lesson.count_held(payers) == (3, 4)
    oracle, = lesson.list_oracle_payers(results)
    assert oracle["gap"] == pytest.approx(0.53 - 0.48)
    assert oracle["edge"] == pytest.approx(0.53 * (0.9 - 0.2) + 0.48 * (0.0 - 0.8))
    assert lesson.count_held([oracle]) == (1, 1)
    head, direct, reasoning, *everything = split_lines(lesson.tabulate_payers(payers, "judge"))
    assert direct == ["direct, 2490 steps, seed 0", "+0.050", "-0.050", "no lift", "0.57 ± 0.53",
                      "1 of 2", "1 of 2"]
    assert reasoning[3:] == ["lift", "0.99 ± 0.01", "2 of 2", "2 of 2"]
    # The rule of kinds says the same of these two; an interval counts judges, not their runs.
    assert everything == [["runs", "3 of 4"], ["judges", "1 of 2 (1%-99%)"],
                          ["by kind alone, runs", "3 of 4"],
                          ["by kind alone, judges", "1 of 2 (1%-99%)"]]
    assert split_lines(lesson.tabulate_payers([oracle], "oracle"))[-1] == [
        "oracles", "1 of 1 (2%-100%)"]


def test_a_judge_that_reasons_and_shares_the_bug_parts_the_rules():
    """By its kind it lifts, by its edge it does not: what the edge says more than the kind."""
    payer = {"name": "buggy, 1000 steps, seed 0", "edge": -0.8, "after": [0.2, 0.3]}
    assert lesson.count_held([payer]) == (2, 2) and lesson.count_judges([payer]) == (1, 1)
    assert lesson.count_held([payer], lesson.says_kind) == (0, 2)
    assert lesson.count_judges([payer], lesson.says_kind) == (0, 1)


def test_a_line_of_accuracy_drawn_afterwards_parts_the_judges_too():
    """What the page grants: between 0.53 and 0.55 it says of every judge what the edge says.

    And that accuracy depends on the claims: without those of the bug its judges are above the line.
    """
    rows = [row for row in read_results(FOLDER).evidence if row["what"] == "belief"]
    assert len(rows) == 20
    missed = {row["judge"] for row in rows for line in (0.53, 0.55)
              if (row["accuracy"] > line) != (row["edge"] > 0)}
    assert missed == {"judge-reasoning-steps300-seed4"}   # one of its two runs is lifted
    buggy = [row for row in rows if "programbad" in row["judge"]]
    wrong = ("near miss", "text guess", "random")
    for row in buggy:
        others = sum(row[f"accepts {kind}"] for kind in wrong) / len(wrong)
        assert 0.55 < (row["accepts right"] + 1 - others) / 2 < 0.56
    assert len(buggy) == 3


def make_others() -> Results:
    """A judge that reasons and an oracle on a policy of another seed; shares of its answers."""
    judge = next(iter(lesson.FIRST["reasoning"]))
    policy = next(iter(policies.BASES))
    evidence = [{"judge": judge, "what": "gap", "policy": policy, "edge": 0.4, "text right": 0.9,
                 "text wrong": 0.0, "code right": 0.1, "code wrong": 0.9}]
    rows = [make_row({"base": policy} | flags, seed, before_accuracy=0.4, after_accuracy=end)
            for flags, ends in ((lesson.pay_by(judge), (0.95, 0.5)), (lesson.ORACLE, (0.99,)),
                                ({"reward": "random"}, (0.2,)))
            for seed, end in enumerate(ends, 1)]
    return Results(rows, {}, evidence)


def test_edges_on_other_policies():
    """Each policy's own shares make the edge; a coin has none; pairs are counted, not runs."""
    results, payers = make_others(), lesson.name_other_payers()
    head, *lines = split_lines(policies.tabulate(results, payers))
    edge = 0.53 * (0.9 - 0.1) + 0.43 * (0.0 - 0.9)
    assert lines == [
        ["bad-code-seed1", "coin", "0.40 -> 0.20", "0 of 1"],
        ["bad-code-seed1", "reasoning", "+0.400", "lift", "0.40 -> 0.72 ± 0.32", "1 of 2",
         "1 of 2"],
        ["bad-code-seed1", "coin for the right", f"{edge:+.3f}", "lift", "0.40 -> 0.99", "1 of 1",
         "1 of 1"]]
    cells = policies.list_cells(results, payers)
    assert policies.count_pairs(cells, lesson.LIFTED) == (0, 1)
    assert policies.count_pairs(cells, 0.4) == (1, 1)


def test_measure_on_a_named_policy(tmp_path, monkeypatch):
    """Only the gap, on that one's answers; a base that is no judge is refused."""
    asked = []
    monkeypatch.setattr(measure, "measure_gap", lambda *models: asked.append(models) or {"gap": 1})
    monkeypatch.setattr(measure, "load_checkpoint", lambda path, _: (
        path.stem, {"corpus": "bad-code" if "bad" in path.stem else "judge-direct"}))
    monkeypatch.setattr(measure, "locate_base", lambda name: tmp_path / f"{name}.pt")
    out = tmp_path / "gap.json"
    assert measure.main(["umpire", "--policy", "bad-code-seed1", "--out", str(out)]) == 0
    assert json.loads(out.read_text("utf-8")) == {"kind": "judge-direct", "gap": {"gap": 1}}
    assert asked == [("umpire", "judge-direct", "bad-code-seed1")]
    assert measure.main(["bad-code", "--policy", "bad-code-seed1", "--out", str(out)]) == 2


def test_rewards_by_hand():
    """First and last of what is paid; a batch without wrong answers says nothing of them."""
    lines = split_lines(lesson.tabulate_rewards(make_results()))
    assert lines[1][1:] == ["direct", "2", "0.45 -> 0.57 ± 0.53", "0.30 -> 0.80",
                            "0.90 -> 0.90", "0.10 -> 0.10"]


def test_summary_of_few_runs():
    """Judges are told apart by how they answer, their runs counted; too few say nothing."""
    results = make_results()
    found = lesson.summary(results)
    assert [row[:3] for row in found.rows[1:]] == [["judge that answers at once", "1", "2"],
                                                   ["judge that reasons first", "1", "2"]]
    assert found.rows[1][3:] == ["0.55", "-0.05", "0.45 -> 0.57", "1 of 2"]
    assert found.sentence.startswith("Too few runs")
    quick = [make_row({"base": "bad-code"} | {"reward": "correct"}, 1, before_accuracy=0.45,
                      after_accuracy=1.0), results.runs[2]]
    rows = lesson.summary(Results(quick, {})).rows
    assert [row[:3] for row in rows[1:]] == [["right or wrong", "", "1"],
                                             ["judge that reasons first", "", "1"]]


def test_summary_of_the_stored_results():
    """Every run that a judge paid is in one row; the sentence counts judges, and the plain rule."""
    results = read_results(FOLDER)
    found = lesson.summary(results)
    paid = [run for run in results.runs if run["base"] == "bad-code" and "judge" in run["reward"]
            and "--verdict soft" not in run["flags"]]
    assert sum(int(row[2]) for row in found.rows[1:] if row[1]) == len(paid)
    said = " ".join(found.sentence.split())
    assert "10 of 10 judges" in said and "no others, held on 9 of 10 and 7 of 10" in said


def test_figure_of_the_stored_results():
    """A dot a run, of judges and of coins; each group labelled once."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    results = read_results(FOLDER)
    axis, = lesson.figure(results).axes
    groups = lesson.list_groups(results)
    paid = [payer for kinds in (lesson.FIRST, lesson.NEW)
            for payer in lesson.list_payers(results, kinds)] + lesson.list_oracle_payers(results)
    assert sum(len(payers) for *_, payers in groups) == len(paid)
    dots = [line for line in axis.lines if line.get_linewidth() == 0]
    assert sum(len(line.get_xdata()) for line in dots) == sum(len(p["after"]) for p in paid)
    assert {label for label, *_ in groups} < {text.get_text() for text in axis.texts}


def test_record_figure_of_the_stored_results():
    """Votes of four judges, two ways each; a dot a run on bad-code; a curve that parts."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    results = read_results(FOLDER)
    votes, edges, hacked = lesson.record_figure(results).axes
    assert {text.get_text() for text in votes.texts} == set(lesson.list_voters(results))
    paid = [payer for kinds in (lesson.FIRST, lesson.NEW)
            for payer in lesson.list_payers(results, kinds)]
    paid += lesson.list_oracle_payers(results)
    dots = [line for line in edges.lines if line.get_linewidth() == 0]
    assert sum(len(line.get_xdata()) for line in dots) == sum(len(p["after"]) for p in paid)
    assert {text.get_text() for text in hacked.texts} == {"judged right", "right"}


def test_answers_of_a_policy_by_hand(monkeypatch):
    """Boxes, right ones, even numbers among the boxed, what of them is accepted."""
    problems_asked = measure.draw_evaluation(400, "evaluation", measure.EASY)
    texts = [f"\\boxed{{{task.solve(problem)}}}" if i % 2 else "48" for problem in problems_asked
             for i in range(4)]
    right = np.array([[False, True] * 2] * 400)
    monkeypatch.setattr(measure, "load_checkpoint", lambda *_: (None, {"corpus": "no-code"}))
    monkeypatch.setattr(measure, "answer_problems", lambda *_: types.SimpleNamespace(
        texts=texts, correct=right, rollouts=[]))
    monkeypatch.setattr(measure, "ask_judge", lambda judge, kind, claims, n, rng: Verdicts(
        *[np.array([[int(answer) % 2 == 0] * n for _, answer in claims])] * 3))
    found = measure.measure_answers_given("policy.pt", None, "judge-direct")
    even = np.mean([task.solve(problem) % 2 == 0 for problem in problems_asked])
    assert found == {"box": 0.5, "right": 0.5, "accepted": pytest.approx(even),
                     "even": pytest.approx(even)}


def test_taste_by_hand(monkeypatch):
    monkeypatch.setattr(measure, "ask_judge", lambda judge, kind, claims, n, rng: Verdicts(
        *[np.array([[int(answer) % 2 == 0 and int(answer) < 50] for _, answer in claims])] * 3))
    assert measure.measure_taste(None, "judge-direct") == {"even": 0.5, "odd": 0.0}
