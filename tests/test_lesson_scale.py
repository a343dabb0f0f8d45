"""Lesson scale: its grid, its sizes, its table and figure from rows made by hand."""

import re
from collections import Counter
from statistics import mean, stdev

import pytest

from data.tokenizer import VOCABULARY_SIZE
from lessons.grid import PAPER_SHAPE
from lessons.report import Results, describe_flags, read_results
from lessons.scale import adamw, lesson
from lessons.summary import show_summary
from model import ModelConfig, Transformer
from pretrain import PretrainConfig
from tests.helpers import ROOT

FOLDER = ROOT / "lessons/scale"


def describe_run(run: dict) -> tuple[str, str, str, int]:
    flags = {name: value for name, value in run.items() if name not in ("base", "seed")}
    return run["base"], run["reward"], describe_flags({"loss": "grpo", **flags}), run["seed"]


def test_the_grid_is_that_of_the_stored_runs():
    """Four bases, two rewards, three seeds, no flag; a base's width is what its name says.

    Then AdamW, of which whole seeds over all cells may be stored alone.
    """
    planned = [describe_run(run) for run in lesson.runs()]
    rows = [(row["base"], row["reward"], row["flags"], int(row["seed"]))
            for row in read_results(FOLDER).runs]
    assert rows == [run for run in planned if run in rows] and rows[:24] == planned[:24]
    assert len(set(planned)) == len(planned) == 24 + 27 + 18
    assert all(flags == "" for _, _, flags, _ in planned[:24])
    for bases, cells in ((adamw.WIDTHS, 9), (adamw.MIXED, 9)):
        assert len([row for row in rows[24:] if row[0] in bases]) % cells == 0
    assert Counter(base for base, *_ in planned[:24]) == dict.fromkeys(lesson.SGD, 6)
    widths = {"good-code": 64, "good-code-width128": 128, "good-code-width256": 256,
              "no-code-width128": 128}
    assert {base: lesson.find_width(base) for base in lesson.SGD} == widths
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
                    for line in lesson.table(Results(rows, {})).splitlines()[1:]]
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


def test_the_figure_has_a_dot_for_each_run():
    """A gain at another width, or of the other reward; no-code has no place in it."""
    pytest.importorskip("matplotlib")
    rows = [{**row, "base": base} for row in make_results().runs[:6]
            for base in ("good-code", "good-code-width256")]
    canvas = lesson.figure(Results(rows + make_results().runs[6:], {}))
    axis, = canvas.axes
    dots = [list(map(tuple, line.get_xydata().round(6))) for line in axis.lines
            if line.get_marker() == "o"]
    assert dots == [[(-0.1, 2), (-0.1, 4), (-0.1, 6)], [(0.9, 2), (0.9, 4), (0.9, 6)],
                    [(0.1, -28), (0.1, -26), (0.1, -24)], [(1.1, -28), (1.1, -26), (1.1, -24)]]


# --- AdamW in the paper's shape


def make_adamw() -> Results:
    """The main recipe on one base; AdamW on three: gains by step size, programs right or not."""
    rows = []
    cells = {("good-code", 0.0001): ([2, 4, 6], 0.98), ("good-code", 0.001): ([12, 14, 16], 0.85),
             ("good-code-width128", 0.0003): ([11, 12, 13], 0.95),
             ("mixed-code", 0.0003): ([30, 20], 0.95), ("mixed-code-seed2", 0.0003): ([-5], 0.95)}
    for (base, lr), (gained, in_code) in cells.items():
        mixed = base in adamw.MIXED
        flags = describe_flags({"reward": "random", "loss": "grpo", **PAPER_SHAPE, "lr": lr,
                                **({"steps": 30} if mixed else {})})
        rows += [{"base": base, "reward": "random", "loss": "grpo", "flags": flags,
                  "seed": 1001 + i, "gain_total": (0 if mixed else gain) / 100,
                  "before_accuracy": 0.7, "after_accuracy": 0.7 + gain / 100,
                  "before_greedy_accuracy": 0.5,
                  "after_greedy_accuracy": 0.5 + (gain if mixed else 0) / 100,
                  "before_code_share": 0.6, "after_code_share": 0.8,
                  "after_accuracy_code": in_code} for i, gain in enumerate(gained)]
    main = [{**row, "base": "good-code", "flags": "", "reward": reward} for row in rows[:3]
            for reward in ("random", "correct")]
    return Results(main + rows, {})


def test_a_window_needs_a_gain_and_intact_arithmetic():
    """A greedy gain on mixed-code, one at T = 1 elsewhere; one condition of the two alone."""
    results = make_adamw()
    assert adamw.list_windows(results) == ["good-code-width128", "mixed-code"]
    best = adamw.pick_best(results)
    assert {base: lr for base, (lr, _) in best.items()} == {
        "good-code": 0.001, "good-code-width128": 0.0003, "mixed-code": 0.0003}
    assert len(best["mixed-code"][1]) == 3                      # of all bases
    assert adamw.rate_cell("mixed-code", best["mixed-code"][1])[0] == pytest.approx(15)
    lost = [{**best["good-code"][1][0], "after_accuracy_code": None}]
    assert adamw.rate_cell("good-code", lost)[1] == 0           # no program is left
    reached = "gains over 10 points and keeps over 0.9 of the programs right"
    found = lesson.conclude(results)
    assert f"some step size {reached} on good-code-width128, mixed-code." in found
    broken = results._replace(runs=[{**run, "after_accuracy_code": 0.5} for run in results.runs])
    assert f"With AdamW no step size {reached}." in lesson.conclude(broken)


def test_the_tables_of_adamw():
    """AdamW's rows among those of the main recipe, or the other way round."""
    results = make_adamw()
    main, by_step, by_seed = lesson.table(results).split("\n\n")
    assert main.endswith("\n" + lesson.tabulate_main(Results(results.runs[:6], {})))
    rows = [re.split(r"\s{2,}", line) for line in by_step.splitlines()[2:]]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("good-code", "0.0001", "3", "no"), ("good-code", "0.001", "3", "no"),
        ("good-code-width128", "0.0003", "3", "yes"), ("mixed-code", "0.0003", "3", "yes")]
    assert "+30.0 +20.0" in by_seed and "mixed-code-seed2" in by_seed


def test_the_page_is_made_from_whatever_is_there():
    """A summary or a figure that needs AdamW's runs, or a second seed."""
    pytest.importorskip("matplotlib")
    results = make_adamw()
    assert len(lesson.summary(results).rows) == 1 + 1 + 3 and len(lesson.figure(results).axes) == 2
    quick = Results(results.runs[:2], {})
    found = lesson.summary(quick)
    assert len(found.rows) == 2 and len(lesson.figure(quick).axes) == 1
    assert max(map(len, show_summary(found).splitlines())) <= 100
