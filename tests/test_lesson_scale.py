"""Lesson scale: its grid, its sizes, its table and figure from rows made by hand."""

import re
from collections import Counter
from statistics import mean, stdev

import pytest

from data.tokenizer import VOCABULARY_SIZE
from lessons import report
from lessons.report import Results, read_results
from lessons.scale import lesson
from model import ModelConfig, Transformer
from pretrain import PretrainConfig
from tests.helpers import ROOT

FOLDER = ROOT / "lessons/scale"


def test_the_grid_is_that_of_the_stored_runs():
    """Four bases, two rewards, three seeds, no flag; a base's width is what its name says."""
    planned = [(run["base"], run["reward"], run["seed"]) for run in lesson.runs()]
    rows = read_results(FOLDER).runs
    assert planned == [(row["base"], row["reward"], int(row["seed"])) for row in rows]
    assert len(planned) == 24 and all(row["flags"] == "" for row in rows)
    assert Counter(base for base, *_ in planned) == dict.fromkeys(lesson.BASES, 6)
    widths = {"good-code": 64, "good-code-width128": 128, "good-code-width256": 256,
              "no-code-width128": 128}
    assert {base: lesson.find_width(base) for base in lesson.BASES} == widths
    assert PretrainConfig().width == lesson.WIDTH
    assert [run["seed"] for run in lesson.runs(quick=True)] == [1, 1]


@pytest.mark.parametrize("width", [64, 128])
def test_parameters(width):
    """The count by formula is that of the transformer."""
    model = Transformer(ModelConfig(VOCABULARY_SIZE, width=width))
    assert lesson.count_parameters(width) == sum(p.numel() for p in model.parameters())


def make_results() -> Results:
    rows = []
    for i, base in enumerate(("good-code-width256", "no-code-width128")):
        for j, reward in enumerate(("random", "correct")):
            rows += [{"base": base, "reward": reward, "seed": seed, "gain_total": 0.1 * i + 0.02 *
                      seed - 0.3 * j, "before_accuracy": 0.5 + 0.1 * i, "before_code_share": 0.6,
                      "after_accuracy": 0.7 + 0.01 * seed + 0.05 * j, "after_code_share": 0.8,
                      "before_greedy_accuracy": 0.9,
                      "after_greedy_accuracy": 0.91 + 0.02 * seed + 0.1 * i - 0.3 * j,
                      "after_accuracy_code": 0.9 + 0.01 * seed - 0.1 * j} for seed in (1, 2, 3)]
    return Results(rows, {})


def test_every_number_of_the_table():
    rows = make_results().runs
    head, *lines = [re.split(r"\s{2,}", line)
                    for line in lesson.table(Results(rows, {})).splitlines()]
    assert head == ["base", "reward", "size", "accuracy", "gain", "greedy gain", "code share",
                    "in code"]
    for line, start in zip(lines, range(0, 12, 3)):
        cell = rows[start:start + 3]
        gained = [100 * row["gain_total"] for row in cell]
        base, after = cell[0]["base"], mean(row["after_accuracy"] for row in cell)
        size = "2.47M" if "256" in base else "0.65M"
        greedy = [100 * (row["after_greedy_accuracy"] - 0.9) for row in cell]
        expected = [base, cell[0]["reward"], size,
                    f"{cell[0]['before_accuracy']:.3f} -> {after:.3f}",
                    f"{mean(gained):+.1f} ± {stdev(gained):.1f}",
                    f"{mean(greedy):+.1f} ± {stdev(greedy):.1f}", "0.60 -> 0.80"]
        if base.startswith("good"):
            expected.append(f"{mean(row['after_accuracy_code'] for row in cell):.3f}")
        assert line == expected
    assert len(lines) == 4


def test_the_figure_has_a_row_for_each_cell():
    """Dots are the gains, the label says base, width and reward."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    axis, = lesson.figure(make_results()).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "good-code, width 256: random", "good-code, width 256: correct",
        "no-code, width 128: random", "no-code, width 128: correct"]
    dots = [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"]
    assert dots[0] == pytest.approx([2, 4, 6]) and dots[3] == pytest.approx([-18, -16, -14])
