"""Lesson consistency: its grid, its table and figure from rows made by hand, votes by recount."""

import re
from statistics import mean, stdev

import pytest

from data import task
from lessons import report
from lessons.consistency import lesson, vote
from lessons.grid import locate_run
from lessons.report import Results, read_results
from model import save_checkpoint
from tests.helpers import ROOT, fake_rollouts, split_titled, tiny

FOLDER = ROOT / "lessons/consistency"


def make_row(flags: dict, seed: int, **numbers) -> dict:
    """A row of runs.csv of a run with these flags."""
    config = {"reward": "random", "loss": "grpo"} | flags
    return {"base": flags["base"], "reward": config["reward"], "loss": config["loss"],
            "flags": report.describe_flags(config), "seed": seed, **numbers}


def check_stored_grid(lesson, folder) -> None:
    """The runs that are stored are those that the lesson plans."""
    planned = [make_row(run, run["seed"]) for run in lesson.runs()]
    rows = read_results(folder).runs
    keys = "base", "reward", "loss", "flags", "seed"
    stored = {tuple(row[key] for key in keys) for row in rows}
    assert {tuple(row[key] for key in keys) for row in planned} == stored
    assert len(planned) == len(rows)


def test_the_grid_is_that_of_the_stored_runs():
    check_stored_grid(lesson, FOLDER)


def test_cells():
    """Half competent bases have every label with all seeds; others three; no run is there twice."""
    runs = lesson.runs()
    assert len({locate_run(run) for run in runs}) == len(runs)
    for base in lesson.HALVES:
        for flags in lesson.LABELS.values():
            cell = [run for run in runs if run == {"base": base} | lesson.RECIPE | flags | {
                "seed": run["seed"]}]
            assert [run["seed"] for run in cell] == [1, 2, 3, 4, 5]
    for base in lesson.YOUNG:
        for lr in lesson.STEPS:
            flags = lesson.phase_cell(base, lr)
            assert len([run for run in runs if flags | {"seed": run["seed"]} == run]) >= 3
    quick = lesson.runs(quick=True)
    assert [run["reward"] for run in quick] == ["consensus", "majority", "correct", "random"]
    # each prompt once
    assert lesson.RECIPE["steps"] * lesson.RECIPE["prompts"] == lesson.RECIPE["pool"]


def make_curve(start: float) -> list[dict]:
    """Four rows: accuracy rises, then falls; agreement rises."""
    return [{"step": 10 * i, "accuracy": start + change, "vote_accuracy": start + 2 * change,
             "agreement": start + i / 10, "top_answer_share": i / 20}
            for i, change in enumerate((0.0, 0.1, 0.05, -0.1))]


def make_results() -> Results:
    rows, curves = [], {}
    for flags in lesson.LABELS.values():
        for seed in (1, 2):
            curves[len(rows)] = make_curve(0.3 + seed / 50)
            rows.append(make_row({"base": lesson.HALF} | lesson.RECIPE | flags, seed,
                                 gain_total=-0.1 * seed, before_accuracy=0.3))
    return Results(rows, curves)


def split_lines(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in table.splitlines()]


def test_every_number_of_a_row():
    """First, best and last of three rows, mean and spread over seeds; the gain in points."""
    shown, = split_titled(lesson.table(make_results())).values()
    head, *lines = split_lines(shown)
    assert head[0] == "steps550" and [line[0] for line in lines] == list(lesson.LABELS)
    last = [0.3 + seed / 50 + (0.1 + 0.05 - 0.1) / 3 for seed in (1, 2)]
    first, best = mean((0.32, 0.34)), mean((0.42, 0.44))
    expected = f"{first:.2f} -> {best:.2f} -> {mean(last):.2f} ± {stdev(last):.2f}"
    assert lines[0][1] == expected
    agreement = [0.3 + seed / 50 + 0.2 for seed in (1, 2)]
    assert lines[0][3] == f"{first:.2f} -> {mean(agreement):.2f}"
    assert lines[0][5] == "-15.0 ± 7.1"


def test_phases_and_votes():
    """The gain of each step size, with the seeds that lost; what a vote gives beside training."""
    flags = lesson.phase_cell("good-code", 0.02)
    rows = [make_row(flags, seed, gain_total=gain, before_accuracy=0.69)
            for seed, gain in ((1, 0.1), (2, -0.2), (3, -0.3))]
    head, line = split_lines(lesson.tabulate_phases(Results(rows, {})))
    assert head == ["base", "T = 1", "step 0.02"]
    assert line == ["good-code", "0.69", "1 of 3 > +0 (2)"]
    results = make_results()
    votes = [{"base": lesson.HALF, "votes": n, "accuracy": n / 100} for n in (1, 16, 64)]
    head, line = split_lines(lesson.tabulate_votes(results._replace(evidence=votes)))
    assert line[:4] == [lesson.HALF, "0.010", "0.160", "0.640"]
    assert line[4] == "0.43" and line[6] == f"{0.33 + 0.2:.2f}"


def make_ends() -> Results:
    """As `make_results`, with what the evaluation has found before and after."""
    results = make_results()
    for row in results.runs:
        for name in ("accuracy", "agreement", "code_share", "accuracy_code"):
            row |= {f"before_{name}": 0.3, f"after_{name}": 0.4 + row["seed"] / 10}
    return results


def test_summary_shows_before_and_after():
    """Means over seeds, a row a label; the gains with Student's interval; one seed says so."""
    results = make_ends()
    found = lesson.summary(results)
    assert [row[:3] for row in found.rows[1:]] == [
        [paid, "first", "2"] for paid in lesson.PAID.values()]
    assert all(row[3:] == ["0.30 -> 0.55"] * 4 for row in found.rows[1:])
    assert "first base: votes now -15.0 ± 63.5" in found.sentence   # 12.706 * 7.07 / sqrt(2)
    one = [row for row in results.runs if row["seed"] == 1]
    found = lesson.summary(Results(one, {}))
    assert "one seed" in found.sentence and "±" not in found.sentence


def test_summary_of_two_bases():
    """Votes have a row a base; the other labels one of all runs, before and after; a line a base.
    """
    results = make_ends()
    second = [row | {"base": "good-code-steps550-seed1", "before_accuracy": 0.5,
                     "after_accuracy": 0.65, "gain_total": 0.4} for row in results.runs]
    found = lesson.summary(Results(results.runs + second, {}))
    now, frozen, right, coin = lesson.PAID.values()
    assert [row[:4] for row in found.rows[1:]] == [
        *([paid, base, "2", accuracy] for paid in (now, frozen)
          for base, accuracy in (("first", "0.30 -> 0.55"), ("second", "0.50 -> 0.65"))),
        *([paid, "all 2", "4", "0.40 -> 0.60"] for paid in (right, coin))]
    assert "second base: votes now +40.0 ± 0.0" in found.sentence


def test_summary_counts_seeds_that_end_far_apart():
    rows = [make_row({"base": "b"}, seed, before_code_share=0.6, after_code_share=share)
            for seed, share in ((1, 0.1), (2, 0.9), (3, 0.95))]
    assert lesson.show_ends(rows, "code_share") == "0.60 -> 2 of 3 > 0.8"


def test_the_figure():
    """Votes that move, and frozen ones: thick the means, a ring where the base was."""
    pytest.importorskip("matplotlib")
    axes = lesson.figure(make_ends()).axes
    assert len(axes) == 2
    for axis in axes:
        thick = [line for line in axis.lines if line.get_linewidth() == 2]
        assert [list(line.get_ydata()) for line in thick] == [
            pytest.approx([0.33, 0.53, 0.43, 0.13]), pytest.approx([0.33, 0.43, 0.53, 0.63]),
            pytest.approx([0.33, 0.43, 0.38, 0.23])]
        ring, = [line for line in axis.lines if list(line.get_xdata()) == [0]]
        assert list(ring.get_ydata()) == [0.3]


def test_the_record_figure():
    """A panel a reward; in each, thick, the means of its four quantities."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    axes = lesson.record_figure(make_results()).axes
    assert len(axes) == len(lesson.LABELS)
    for axis in axes:
        thick = [line for line in axis.lines if line.get_linewidth() == 2]
        assert len(thick) == 4 and len(axis.lines) == 12
        assert list(thick[1].get_ydata()) == pytest.approx([0.33, 0.43, 0.38, 0.23])
    assert {text.get_text() for text in axes[0].texts} == set(lesson.COLUMNS)


def test_votes_of_a_base(tmp_path, monkeypatch):
    """Recounted: 3 problems, 4 samples, cut into votes of 1, 2 and 4; the earliest of equals."""
    monkeypatch.setattr(vote, "PROBLEMS", 3)
    monkeypatch.setattr(vote, "SAMPLES", 4)
    problems = vote.draw_evaluation(3, "evaluation", task.EASY)
    right = [task.write_answer(problem) for problem in problems]
    wrong = [str((int(answer) + 1) % 100) for answer in right]
    said = [[right[0], wrong[0], wrong[0], right[0]], [wrong[1], right[1], right[1], right[1]],
            [wrong[2], wrong[2], right[2], right[2]]]
    texts = [f"\\boxed{{{answer}}}" for group in said for answer in group]
    monkeypatch.setattr("evaluation.sample_responses", lambda *args, **more: fake_rollouts(texts))
    save_checkpoint(tmp_path / "base.pt", tiny().float(), corpus="good-code")
    monkeypatch.setattr(vote, "load_checkpoint", lambda *args: (tiny(), {"corpus": "good-code"}))
    found = vote.measure_vote(tmp_path / "base.pt", (1, 2, 4))
    assert found == {1: 7 / 12, 2: 3 / 6, 4: 2 / 3}
