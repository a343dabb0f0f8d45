"""Lesson 1, what its page shows first: eight rows, one sentence, one figure; by hand."""

import matplotlib.pyplot as plt
import pytest

from lessons import runner, summary
from lessons.report import Results, describe_flags, read_results
from lessons.spurious import headline, lesson, trio
from tests.helpers import ROOT


def make_run(name: str, seed: int, greedy: float, base: int = 0, steps: int = 30) -> dict:
    """A row of a cell on one of its bases; greedily 0.5 before, and 60% programs."""
    cell = trio.CELLS[name]
    flags = {"reward": cell.reward, "loss": "grpo", "steps": steps} | cell.flags
    code = 0.0 if cell.kind == "mixed-none" else 0.6
    return {"base": list(cell.bases)[base], "reward": cell.reward, "loss": "grpo", "seed": seed,
            "flags": describe_flags(flags), "steps": float(steps), "before_accuracy": 0.4,
            "after_accuracy": greedy - 0.1, "before_greedy_accuracy": 0.5,
            "after_greedy_accuracy": greedy, "before_code_share": code,
            "after_code_share": 1.5 * code}


def make_results(runs: list[dict], curve: list[dict]) -> Results:
    return Results(runs, {i: curve for i in range(len(runs))})


CURVE = [{"step": 1.0, "accuracy": 0.4, "reward": 0.5}, {"step": 2.0, "accuracy": 0.5,
                                                         "reward": 0.4},
         {"step": 3.0, "accuracy": 0.7, "reward": 0.6}]
QUICK = [make_run("mixed-code", 1, 0.9), make_run("mixed-code", 2, 0.58),
         make_run("mixed-code, correct", 3, 1.0), make_run("mixed-bad", 4, 0.2)]


def test_rows_of_a_small_grid():
    """What is missing is left out; other cells of the same bases do not slip in."""
    others = [make_run("p 0.9", 9, 0.1), make_run("lr 0.01, 40 batches", 9, 0.1)]
    found = lesson.summary(make_results(QUICK + others, CURVE))
    assert found.rows[1:] == [
        ["mixed-code", "coin", "2", "0.50 -> 0.74", "0.40 -> 0.64", "60% -> 90%", "1",
         "0"],
        ["mixed-code", "correct", "1", "0.50 -> 1.00", "0.40 -> 0.90", "60% -> 90%", "1",
         "0"],
        ["mixed-bad", "coin", "1", "0.50 -> 0.20", "0.40 -> 0.10", "60% -> 90%", "0",
         "1"]]
    said = " ".join(found.sentence.split())
    assert "on mixed-code it lifts 1 of 2 and lowers 0" in said
    assert "on mixed-bad it lifts 0 of 1 and lowers 1" in said
    assert said.endswith("not how often it does.")


def test_a_grid_of_other_length_counts_as_well():
    """The title has the batches of the runs; no program is said so."""
    runs = [make_run("mixed-none", seed, 0.5, seed % 2, steps=12) for seed in range(6)]
    found = lesson.summary(make_results(runs, CURVE))
    assert "12 batches" in found.title and found.rows[1][2] == "6"
    assert found.rows[1][5] == "none" and "few" not in found.sentence
    assert max(map(len, summary.show_summary(found).splitlines())) <= 100


def test_nothing_of_the_mixed_bases_is_no_crash():
    found = lesson.summary(Results([{"base": "good-code", "reward": "random", "loss": "grpo",
                                     "flags": ""}], {}))
    assert found.rows == [headline.HEAD] and found.sentence.endswith(".")


def test_points_are_means_over_as_many_batches():
    """Rows of single batches are taken together where another row is a mean over two."""
    x, y = headline.even_out(CURVE, "accuracy")
    assert x == [0.5, 2.5] and y == pytest.approx([0.4, 0.6])
    single = [{"step": i, "reward": i / 10} for i in range(3)]
    assert headline.even_out(single, "reward") == ([0, 1, 2], [0, 0.1, 0.2])


def test_figure_has_a_line_and_a_dot_for_each_seed():
    """And a ring before; a title that claims nothing over a few runs, the finding over many."""
    figure = lesson.figure(make_results(QUICK, CURVE))
    axis, bad = figure.axes
    lines = {width: [line for line in axis.lines if line.get_linewidth() == width]
             for width in (0.5, 2)}
    assert len(lines[0.5]) == 2 and [line.get_color() for line in lines[2]] == [
        headline.GREY, headline.BLUE]
    assert list(lines[2][0].get_ydata()) == pytest.approx([0.5, 0.5])
    ring, dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0, 0.5)
    assert list(dots.get_ydata()) == [0.58, 0.9]
    assert bad.get_title(loc="left") == "mixed-bad: the habit is wrong"
    assert "in few runs" in figure.get_suptitle()
    record, = lesson.record_figure(make_results(QUICK, CURVE)).axes    # no base of the first tables
    assert [text.get_text() for text in record.get_yticklabels()] == [
        "mixed-code, base 0 (2)", "mixed-bad, base 0 (1)", "mixed-code, correct (1)"]
    results = read_results(ROOT / "lessons/spurious")
    assert lesson.figure(results).get_suptitle() == headline.FINDING
    plt.close("all")


def test_the_page_has_the_sentence_of_the_command():
    """And the finding of the figure's title holds in the stored rows."""
    results = read_results(ROOT / "lessons/spurious")
    assert runner.load_lesson("spurious") is lesson
    page = (ROOT / "lessons/spurious/README.md").read_text("utf-8")
    assert lesson.summary(results).sentence in page
    moved = {kind: trio.count_outcomes(headline.find_cell(kind, results.runs))
             for kind in trio.KINDS}
    assert moved["mixed-code"][0] > 18 > moved["mixed-code"][2]
    assert moved["mixed-bad"][2] > 18 > moved["mixed-bad"][0]
    assert moved["mixed-none"] == (0, 36, 0)
