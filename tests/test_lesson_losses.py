"""The lesson on losses: its grid, its tables and its figure, from rows made by hand."""

import re
from collections import Counter
from statistics import mean, stdev

import numpy as np
import pytest

from lessons.losses import cells, lesson, matched
from lessons.losses.cells import Cell, find_cell, group_cells, parse_flags, raised
from lessons.report import Results, describe_flags, read_results
from losses import LOSSES, clipped
from plumbing.messages import InputError
from tests.helpers import ROOT, split_titled

FOLDER = ROOT / "lessons/losses"
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
HARD = "--pool 1280 --num-ops 1 2 3 4 5 6 7"


def make_row(base, loss, flags, seed, before, after, **more) -> dict:
    """A row of runs.csv; before and after: pass@k for KS."""
    row = {"base": base, "reward": "correct", "loss": loss, "flags": flags, "seed": float(seed)}
    for when, values in (("before", before), ("after", after)):
        row |= {f"{when}_pass_at_k_{k}": value for k, value in zip(KS, values)}
        row[f"{when}_accuracy"] = values[0]
        row |= {f"{when}_{name}": float(more.get(f"{when}_{name}", 0.5))
                for name in ("entropy", "distinct_answers")}
    return row | {"gain_total": after[0] - before[0]}


def spread(values, digits=1) -> str:
    """Mean and standard deviation, written independently of the lesson."""
    text = f"{sum(values) / len(values):+.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def split_table(block: str) -> list[list[str]]:
    """Lines of a block as cells, by the columns of its head."""
    head, *lines = block.splitlines()
    starts = [match.start() for match in re.finditer(r"(?:(?<=  )|^)\S", head)] + [None]
    return [[line[a:b].strip() for a, b in zip(starts, starts[1:])] for line in [head, *lines]]


BEFORE = {"good-code": np.linspace(0.40, 0.70, 9), "tenths-code": np.linspace(0.30, 0.80, 9),
          "good-code-seed3": np.linspace(0.41, 0.71, 9)}
STEPS = {0.0005: " --lr 0.0005", 0.0015: " --lr 0.0015", 0.005: " --lr 0.005", 0.015: ""}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Easy and mixed runs on two bases each, no two numbers alike, in no order."""
    rng, made = np.random.default_rng(0), []

    def add(base, loss, flags, seed, low, high):
        after = np.sort(rng.uniform(low, high, 9))
        numbers = {f"{when}_{name}": rng.uniform(0, 20) for when in ("before", "after")
                   for name in ("entropy", "distinct_answers")}
        made.append(make_row(base, loss, flags, seed, BEFORE[base], after, **numbers))

    for base in ("good-code", "good-code-seed3"):
        for loss, seeds in (("nsr", 3), ("grpo", 3), ("rloo", 5)):
            for seed in range(1, seeds + 1):
                add(base, loss, "--eval-samples 64", seed, 0.5, 0.9)
    for base in ("tenths-code", "good-code"):
        for loss, steps, weight in (("psr", (0.0005, 0.0015, 0.015), ""),
                                    ("nsr", (0.0005, 0.0015), ""), ("grpo", (0.0015, 0.005), ""),
                                    ("w_reinforce", (0.0015,), ""),
                                    ("w_reinforce", (0.0015,), " --psr-weight 1")):
            for step in steps:
                for seed in (1, 2, 3):
                    add(base, loss, HARD + STEPS[step] + weight, seed, 0.25, 0.9)
    order = rng.permutation(len(made))
    return [made[i] for i in order]


def pick(rows, base, loss, hard, step=None, weight=False) -> list[dict]:
    """The rows of a cell, found by the text of its flags."""
    return [row for row in rows
            if (row["base"], row["loss"], "--num-ops" in row["flags"]) == (base, loss, hard)
            and (step is None or row["flags"].replace(" --psr-weight 1", "")
                 == HARD + STEPS[step])
            and ("--psr-weight" in row["flags"]) == weight]


def gained(rows, k) -> list[float]:
    return [100 * (row[f"after_pass_at_k_{k}"] - row[f"before_pass_at_k_{k}"]) for row in rows]


# --- cells

def test_flags_are_parsed():
    """A flag with several values, one with a negative exponent, none at all."""
    assert parse_flags("") == {}
    assert parse_flags("--num-ops 6 7 --lr 2e-05 --eval-num-ops 1 2") == {
        "num_ops": "6 7", "lr": "2e-05", "eval_num_ops": "1 2"}


@pytest.mark.parametrize("loss, flags, cell", [
    ("nsr", "--eval-samples 64", ("b", False, "nsr", 0.015)),
    ("nsr", HARD, ("b", True, "nsr", 0.015)),
    ("psr", HARD + " --lr 0.0002 --eval-num-ops 1 2", ("b", True, "psr", 0.0002)),
    ("w_reinforce", HARD + " --lr 0.005", ("b", True, "w_reinforce", 0.005)),
    ("w_reinforce", HARD + " --lr 0.005 --psr-weight 1", ("b", True, "psr+nsr", 0.005)),
    ("w_reinforce", "--psr-weight 0.5", ("b", False, "w_reinforce-0.5", 0.015)),
    ("nsr", HARD + " --eps-low 1e+09 --eps-high 1e+09", ("b", True, "nsr, no clip", 0.015)),
    ("nsr", "--steps 640 --prompts 2 --updates 1 --lr 0.1", ("b", False, "nsr, fresh", 0.1)),
    ("psr", "--aggregate signal", ("b", False, "psr, kept", 0.015)),
    ("grpo", "--eval-num-ops 6 7", ("b", False, "grpo", 0.015))])
def test_cell_of_a_row(loss, flags, cell):
    """A step size that is not in the flags is the default; only --num-ops makes problems mixed."""
    assert find_cell({"base": "b", "loss": loss, "flags": flags}) == Cell(*cell)


def test_cells_are_chosen_and_sorted(rows):
    """No row is lost or in two cells; good-code first, losses in one order, steps rising."""
    all_cells = group_cells(rows)
    assert sum(map(len, all_cells.values())) == len(rows)
    chosen = list(group_cells(rows, mixed=True))
    assert [cell.base for cell in chosen] == ["good-code"] * 9 + ["tenths-code"] * 9
    assert [(cell.loss, cell.step) for cell in chosen[:9]] == [
        ("grpo", 0.0015), ("grpo", 0.005), ("psr", 0.0005), ("psr", 0.0015), ("psr", 0.015),
        ("nsr", 0.0005), ("nsr", 0.0015), ("w_reinforce", 0.0015), ("psr+nsr", 0.0015)]
    (cell, of_cell), = group_cells(rows, base="tenths-code", loss="psr+nsr").items()
    assert cell == Cell("tenths-code", True, "psr+nsr", 0.0015)
    assert of_cell == pick(rows, "tenths-code", "w_reinforce", True, 0.0015, True)
    assert raised(of_cell, 64) == pytest.approx(gained(of_cell, 64))


# --- the grid

def test_the_grid_is_that_of_the_stored_results():
    """Every run of runs.csv, its flags included, and no other; each base has its flags."""
    made = Counter((run["base"], run["loss"], describe_flags(run), run["seed"])
                   for run in lesson.runs())
    stored = Counter((row["base"], row["loss"], row["flags"], row["seed"])
                     for row in read_results(FOLDER).runs)
    assert made == stored and sum(made.values()) == 185 and set(made.values()) == {1}
    assert {run["base"] for run in lesson.runs()} == set(lesson.BASES)
    assert lesson.BASES == {"good-code": {"base": "good-code"},
                            "tenths-code": {"base": "tenths-code", "steps": 2600},
                            "good-code-seed3": {"base": "good-code", "seed": 3},
                            "good-code-seed4": {"base": "good-code", "seed": 4}}


def test_more_seeds_and_the_quick_grid():
    """Seeds scale every cell, those of the further bases by 3 or 2 for 5; quick needs one base."""
    counts = Counter(find_cell(run | {"flags": describe_flags(run)}) for run in lesson.runs(5))
    assert Counter(counts.values()) == {5: 8 + 21 + 4, 3: 2 * 2, 2: 2 * 2}
    assert {cell.base for cell in counts if counts[cell] < 5} == set(lesson.AGAIN)
    assert len(lesson.runs(1)) == len(counts)
    variants = {cell.loss: cell.step for cell in counts if ", " in cell.loss}
    assert variants == {"nsr, no clip": 0.0015, "nsr, fresh": 0.0015, "nsr, kept": 0.01,
                        "psr, kept": 0.01}
    quick = lesson.runs(quick=True)
    assert len(quick) == 12 and {(run["base"], run["seed"]) for run in quick} == {("good-code", 1)}
    assert [(run["loss"], run["lr"]) for run in quick if "lr" in run] == [
        ("psr", 0.0005), ("psr", 0.0015), ("nsr", 0.0005), ("nsr", 0.0015)]


# --- the tables

@pytest.fixture(scope="module")
def blocks(rows) -> list[list[list[str]]]:
    return list(map(split_table, split_titled(lesson.table(Results(rows, {}))).values()))


def test_easy_block(rows, blocks):
    """A row for each base and loss, over all seeds that it has; least and short."""
    expected = [["base", "loss", "seeds", "gain", "least", "short"]]
    for base in ("good-code", "good-code-seed3"):
        for loss, seeds in (("grpo", 3), ("rloo", 5), ("nsr", 3)):
            points = [100 * row["gain_total"] for row in pick(rows, base, loss, False)]
            expected.append([base, loss, str(seeds), spread(points), f"{min(points):+.1f}",
                             str(sum(p < 25 for p in points))])
    assert blocks[0] == expected and len({line[5] for line in expected[1:]}) > 1


@pytest.mark.parametrize("i, base", [(1, "good-code"), (2, "tenths-code")])
def test_mixed_block(rows, blocks, i, base):
    """Of one step size only: what the base has in percent, what each loss gains, what it leaves."""
    lines = [[base, "pass@1", "pass@4", "pass@16", "pass@64", "pass@256", "entropy", "answers"]]
    first = pick(rows, base, "grpo", True, 0.0015)[0]
    percent = [f"{100 * BEFORE[base][KS.index(k)]:.1f}%" for k in (1, 4, 16, 64, 256)]
    lines.append(["(before)", *percent, f"{first['before_entropy']:.3f}",
                  f"{first['before_distinct_answers']:.1f}"])
    for loss, weight in (("grpo", False), ("psr", False), ("nsr", False), ("w_reinforce", False),
                         ("w_reinforce", True)):
        of_cell = pick(rows, base, loss, True, 0.0015, weight)
        after = [sum(row[f"after_{name}"] for row in of_cell) / 3
                 for name in ("entropy", "distinct_answers")]
        lines.append(["psr+nsr" if weight else loss,
                      *(spread(gained(of_cell, k)) for k in (1, 4, 16, 64, 256)),
                      f"{after[0]:.3f}", f"{after[1]:.1f}"])
    assert blocks[i] == lines


@pytest.mark.parametrize("i, base", [(3, "good-code"), (4, "tenths-code")])
def test_steps_block(rows, blocks, i, base):
    """pass@1 under its step size, and how many runs ended below the base."""
    head, *lines = blocks[i]
    assert head == [f"{base}, pass@1", "step 0.0005", "step 0.0015", "step 0.005", "step 0.015"]
    assert [line[0] for line in lines] == ["grpo", "psr", "nsr", "w_reinforce", "psr+nsr"]
    for name, *shown in lines:
        weight, loss = name == "psr+nsr", "w_reinforce" if name == "psr+nsr" else name
        for step, text in zip((0.0005, 0.0015, 0.005, 0.015), shown):
            of_cell = pick(rows, base, loss, True, step, weight)
            fallen = sum(points < 0 for points in gained(of_cell, 1))
            tail = f" ({fallen})" if fallen else ""
            assert text == (spread(gained(of_cell, 1)) + tail if of_cell else "")
    assert any("(" in text for line in blocks[3] + blocks[4] for text in line)


def test_ahead_block():
    """By hand: PSR's curve is 40 -> 60, 50 -> 56, 60 -> 40 (pass@1 -> pass@16, in percent).

    NSR at 45 has 58 + 3 and at 55 has 48 - 5: -1.0 over two seeds; its third seed is beyond the
    end, as are two of GRPO's. Of all other ks the numbers are different ones.
    """
    def curve_row(loss, step, seed, one, sixteen):
        after = np.full(9, 0.99)
        after[0], after[4] = one, sixteen
        before = np.full(9, 0.2)
        before[0], before[4] = 0.40, 0.60
        return make_row("b", loss, HARD + STEPS[step], seed, before, after)

    made = [curve_row("psr", 0.015, 1, 0.60, 0.40), curve_row("psr", 0.0005, 1, 0.52, 0.55),
            curve_row("psr", 0.0005, 2, 0.48, 0.57), curve_row("nsr", 0.005, 1, 0.45, 0.61),
            curve_row("nsr", 0.005, 2, 0.55, 0.43), curve_row("nsr", 0.005, 3, 0.61, 0.40),
            curve_row("grpo", 0.0005, 1, 0.39, 0.60), curve_row("grpo", 0.0005, 2, 0.45, 0.58),
            curve_row("grpo", 0.015, 1, 0.60, 0.41), curve_row("grpo", 0.015, 2, 0.40, 0.60)]
    *_, (title, text) = split_titled(lesson.table(Results(made, {}))).items()
    assert title == "Mixed problems, b: points of pass@16 above PSR at the same pass@1"
    assert split_table(text) == [
        ["b, ahead", "step 0.0005", "step 0.005", "step 0.015"],
        ["grpo", "beyond (1/2)", "", "+0.5 ± 0.7"],
        ["nsr", "", "-1.0 ± 5.7 (2/3)", ""]]
    assert matched.count_inside(matched.match_cells(made)[2]) == "2 of 3"


def test_only_what_was_run_is_in_the_table(rows):
    """Without easy, or without mixed runs, the others' blocks are all there is."""
    for hard, count in ((True, 6), (False, 1)):
        some = [row for row in rows if ("--num-ops" in row["flags"]) == hard]
        assert lesson.table(Results(some, {})).count("\n\n") == count - 1


# --- at the same pass@1

CURVE = [{1: 0.4, 64: 0.8}, {1: 0.5, 64: 0.7}, {1: 0.6, 64: 0.4}]


def at(one, many) -> dict:
    return {"after_pass_at_k_1": one, "after_pass_at_k_64": many}


def test_ahead_is_measured_at_the_same_pass_at_1():
    """Between two points of the curve by hand; on the curve it is 0, wherever on it."""
    assert matched.measure_ahead(at(0.45, 0.78), CURVE, 64) == pytest.approx(3.0)
    assert matched.measure_ahead(at(0.55, 0.50), CURVE, 64) == pytest.approx(-5.0)
    for point in CURVE:
        assert matched.measure_ahead(at(point[1], point[64]), CURVE, 64) == pytest.approx(0)


def test_beyond_the_ends_nothing_is_compared():
    """np.interp would give the end's value there: a destroyed run would look far below PSR."""
    assert [matched.is_beyond(at(one, 0.5), CURVE) for one in (0.39, 0.4, 0.5, 0.6, 0.61)] == [
        True, False, False, False, True]


def test_the_curve_rises_and_begins_at_the_base(rows):
    """The base and PSR's mean at each step size, sorted by pass@1, the other ks beside it."""
    base = "tenths-code"
    curve = matched.draw_curve(group_cells(rows, mixed=True, base=base))
    expected = [[BEFORE[base][KS.index(k)] for k in (1, 16, 64, 256)]]
    for step in (0.0005, 0.0015, 0.015):
        of_cell = pick(rows, base, "psr", True, step)
        expected.append([mean(row[f"after_pass_at_k_{k}"] for row in of_cell)
                         for k in (1, 16, 64, 256)])
    assert [list(point.values()) for point in curve] == [pytest.approx(p) for p in sorted(expected)]


def test_every_other_cell_is_matched(rows):
    """Each against its own base's curve, over its own seeds; the full table has a line for each."""
    matches = {match.cell: match for match in matched.match_cells(rows)}
    assert set(matches) == {cell for cell in group_cells(rows, mixed=True) if cell.loss != "psr"}
    for cell, match in matches.items():
        weight, loss = cell.loss == "psr+nsr", cell.loss.replace("psr+nsr", "w_reinforce")
        of_cell = pick(rows, cell.base, loss, True, cell.step, weight)
        assert match.gains == pytest.approx(gained(of_cell, 1))
        curve = matched.draw_curve(group_cells(rows, mixed=True, base=cell.base))
        inside = [row for row in of_cell
                  if curve[0][1] <= row["after_pass_at_k_1"] <= curve[-1][1]]
        for k in (16, 64, 256):
            points = [100 * (row[f"after_pass_at_k_{k}"] - np.interp(
                row["after_pass_at_k_1"], [p[1] for p in curve], [p[k] for p in curve]))
                for row in inside]
            assert match.ahead[k] == pytest.approx(points)
    lines = split_table(matched.tabulate_matches(list(matches.values())))
    assert lines[0] == ["base", "loss", "step", "pass@1", "inside", "pass@16", "pass@64",
                        "pass@256"]
    for line, (cell, match) in zip(lines[1:], matches.items(), strict=True):
        few = 2 * len(match.ahead[16]) <= 3
        assert line == [cell.base, cell.loss, f"{cell.step:g}", spread(match.gains),
                        f"{len(match.ahead[16])} of 3",
                        *("beyond" if few else spread(match.ahead[k]) for k in (16, 64, 256))]


def test_no_curve_no_comparison(rows):
    some = [row for row in rows if row["base"] != "tenths-code" or row["loss"] != "psr"]
    with pytest.raises(InputError, match="no runs of psr on tenths-code"):
        matched.match_cells(some)


def test_one_step_size_is_no_curve(rows):
    """No comparison on that base, and no table of step sizes of which there is one."""
    some = [row for row in rows if row["base"] != "tenths-code" or STEPS[0.0015] in row["flags"]]
    assert {match.cell.base for match in matched.match_cells(some)} == {"good-code"}
    titles = list(split_titled(lesson.table(Results(some, {}))))
    assert [title.split(",")[1].split(":")[0].strip() for title in titles[1:]] == [
        "good-code", "tenths-code", "good-code", "good-code"]


def test_matched_command(capsys, tmp_path, monkeypatch):
    """From any folder: the stored results by default; one line and exit code 2 for bad input."""
    monkeypatch.chdir(tmp_path)
    assert matched.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 20
    (tmp_path / "runs.csv").write_text("base,loss,flags\ngood-code,nsr,--eval-samples 64\n",
                                       encoding="utf-8")
    for arguments, message in ((["nowhere"], "no runs.csv"), (["."], "no runs with --num-ops"),
                               (["--loss"], "unrecognized")):
        try:
            code = matched.main(arguments)
        except SystemExit as exit:
            code = exit.code
        out, error = capsys.readouterr()
        assert code == 2 and not out and message in error and error.count("\n") == 1


# --- what the page shows first

def test_summary_shows_before_and_after(rows):
    """pass@k in percent, in the order of SHOWN, without cells that have not been run.

    Over bases that differ in their pretraining seed alone the mean is that of their means.
    """
    found = lesson.summary(Results(rows, {}))
    head, *lines = found.rows
    assert head == ["kind of base", "operations", "loss", "step size", "bases", "runs", "pass@1",
                    "pass@16", "pass@256"]
    assert [line[:6] for line in lines] == [
        *(["good-code", "1 to 5", loss, "0.015", "2", "6"] for loss in ("GRPO", "NSR")),
        *([base, "1 to 7", loss, "0.0015", "1", "3"] for base in ("good-code", "tenths-code")
          for loss in ("PSR", "NSR"))]
    of_cell = pick(rows, "tenths-code", "nsr", True, 0.0015)
    for k, shown in zip((1, 16, 256), lines[-1][6:]):
        ends = [100 * mean(row[f"{when}_pass_at_k_{k}"] for row in of_cell)
                for when in ("before", "after")]
        assert shown == "{:.1f} -> {:.1f}".format(*ends)
    alike = [pick(rows, base, "nsr", False) for base in ("good-code", "good-code-seed3")]
    ends = [mean(mean(100 * row[f"{when}_pass_at_k_1"] for row in of_base) for of_base in alike)
            for when in ("before", "after")]
    assert lines[1][6] == "{:.1f} -> {:.1f}".format(*ends)
    points = gained(of_cell, 256)
    half = 4.303 * stdev(points) / 3 ** 0.5
    assert f"tenths-code  {mean(points):+.1f} ± {half:.1f} under NSR, " in found.sentence
    assert "over 3 seeds" in found.sentence


def test_summary_of_a_quick_grid(rows):
    """One seed and one base: no interval, and it says so. What was not measured is empty."""
    some = [row for row in rows if row["base"] == "good-code" and row["seed"] == 1]
    some = [{name: value for name, value in row.items() if HARD in row["flags"]
             or not name.endswith("_256")} for row in some]
    found = lesson.summary(Results(some, {}))
    assert "±" not in found.sentence and "one seed" in found.sentence
    assert [line[-1] == "" for line in found.rows[1:]] == [True, True, False, False]
    easy = [row for row in some if HARD not in row["flags"]]
    assert lesson.summary(Results(easy, {})).sentence.startswith("There are no runs")


# --- the figures

def test_figure_draws_coverage(rows):
    """A panel a base: means at STEP, a dot a seed, and pass@1 in words."""
    pytest.importorskip("matplotlib")
    canvas = lesson.figure(Results(rows, {}))
    for axis, base in zip(canvas.axes, ("good-code", "tenths-code"), strict=True):
        thick = [line for line in axis.lines if line.get_linewidth() == 2]
        for line, loss in zip(thick, ("nsr", "psr"), strict=True):
            of_cell = pick(rows, base, loss, True, 0.0015)
            assert line.get_ydata() == pytest.approx(
                [mean(gained(of_cell, k)) for k in (4, 8, 16, 32, 64, 128, 256)])
            label = f"{loss.upper()}\n(k = 1: {mean(gained(of_cell, 1)):+.1f})"
            assert label in [text.get_text() for text in axis.texts]


def test_figure_draws_further_bases_thin(rows):
    """Their mean alone, beside the base of the same corpus."""
    pytest.importorskip("matplotlib")
    more = [row | {"base": "good-code-seed3", "after_pass_at_k_16": 0.5}
            for row in pick(rows, "good-code", "nsr", True, 0.0015)]
    first, second = lesson.figure(Results(rows + more, {})).axes
    thin, = [line for line in first.lines if line.get_linewidth() == 0.8]
    assert thin.get_ydata()[2] == pytest.approx(mean(gained(more, 16)))
    assert thin.get_color() == lesson.RED
    assert not [line for line in second.lines if line.get_linewidth() == 0.8]


def test_bases_are_counted_by_their_interval(rows):
    """Below 0 as a whole, for several seeds; of one seed its number decides."""
    def row(base, loss, seed, change):
        return make_row(base, loss, HARD + STEPS[0.0015], seed, [0.5] * 9, [0.5 + change] * 9)

    made = [row(base, "nsr", seed, change) for base, changes in
            {"a": (-0.10, -0.11, -0.12), "b": (-0.01, -0.20, -0.01), "c": (0.1, 0.1, 0.1),
             "d": (-0.01,)}.items() for seed, change in enumerate(changes)]
    cells = group_cells([*made, row("b", "psr", 1, -0.1)])
    assert lesson.count_fallen(cells, "nsr") == (2, 4)
    assert lesson.count_fallen(cells, "psr") == (1, 1)


def test_record_figure_draws_pass_at_k(rows):
    """PSR and NSR at two step sizes: means, seeds and labels, on the panel of their base."""
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    canvas = lesson.record_figure(Results(rows, {}))
    drawn = (4, 8, 16, 32, 64, 128, 256)
    assert [axis.get_title(loc="left") or axis.get_title() for axis in canvas.axes] == [
        "good-code", "tenths-code", "good-code, step 0.0015"]
    for axis, base in zip(canvas.axes, ("good-code", "tenths-code")):
        means = {(line.get_color(), line.get_linestyle()): line for line in axis.lines
                 if len(line.get_xdata()) == 7 and line.get_linestyle() != "None"}
        dots = [line for line in axis.lines if line.get_linestyle() == "None"]
        texts = [text.get_text() for text in axis.texts]
        assert len(means) == 4 and len(dots) == 4 * 3
        for loss, color in (("psr", lesson.BLUE), ("nsr", lesson.RED)):
            for step, shape in ((0.0005, "--"), (0.0015, "-")):
                of_cell = pick(rows, base, loss, True, step)
                line = means[color, shape]
                expected = [mean(gained(of_cell, k)) for k in drawn]
                assert list(line.get_xdata()) == list(drawn)
                assert line.get_ydata() == pytest.approx(expected)
                for row in of_cell:
                    points = [gained([row], k)[0] for k in drawn]
                    assert any(np.allclose(dot.get_ydata(), points) for dot in dots)
                label = f"{loss.upper()}, step {step:g}\npass@1 {mean(gained(of_cell, 1)):+.1f}"
                note, = [text for text in axis.texts if text.get_text() == label]
                assert note.get_color() == color and note.xy == (256, pytest.approx(expected[-1]))
        miss = 0.99 if base == "good-code" else 0.999
        assert f"guessing passes {100 * (1 - miss ** 64):.0f}%\nat k = 64, " \
            f"{100 * (1 - miss ** 256):.0f}% at 256" in "".join(texts)
    plt.close(canvas)


def test_figure_draws_the_lambda_curve():
    """pass@1 and pass@16 against lambda, from NSR (0) over W-REINFORCE to PSR; means and seeds."""
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    rng, made = np.random.default_rng(1), {}
    for name, loss, weight in (("0", "nsr", ""), ("0.03", "w_reinforce", " --psr-weight 0.03"),
                               ("0.1", "w_reinforce", ""), ("1", "w_reinforce", " --psr-weight 1"),
                               ("PSR", "psr", "")):
        made[name] = [make_row("good-code", loss, HARD + STEPS[0.0015] + weight, seed,
                               BEFORE["good-code"], np.sort(rng.uniform(0.3, 0.9, 9)))
                      for seed in (1, 2)]
    cells = group_cells([row for some in made.values() for row in some])
    assert lesson.list_lambdas(cells) == made
    figure, axis = plt.subplots()
    lesson.draw_lambdas(axis, cells)
    assert [label.get_text() for label in axis.get_xticklabels()] == list(made)
    lines = [line for line in axis.lines if line.get_linestyle() == "-"][:2]
    for line, k in zip(lines, (1, 16)):
        assert line.get_ydata() == pytest.approx([mean(gained(some, k)) for some in made.values()])
    dots = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert len(dots) == 10 and dots[1].get_ydata() == pytest.approx(gained(made["0.03"], 1))
    plt.close(figure)


def test_labels_do_not_overlap():
    """In the order of their lines, apart by the least distance, and not moved if they are."""
    assert lesson.space_out([3.0, 1.0, 9.0], 1.5) == pytest.approx([3.0, 1.0, 9.0])
    spaced = lesson.space_out([0.0, 0.1, -0.1, 0.05], 1.4)
    assert np.argsort(spaced).tolist() == [2, 0, 3, 1]
    assert np.diff(sorted(spaced)) == pytest.approx([1.4] * 3) and mean(spaced) == pytest.approx(
        mean([0.0, 0.1, -0.1, 0.05]))


# --- the page

PAGE = (FOLDER / "RESULTS.md").read_text("utf-8")


def test_the_page_shows_the_stored_results():
    """Both tables, whole, at most 100 characters wide and 8 columns."""
    results = read_results(FOLDER)
    shown = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    full = matched.tabulate_matches(matched.match_cells(results.runs))
    assert shown == [lesson.table(results), full]
    assert all(len(line) <= 100 for block in shown for line in block.splitlines())
    parts = [*split_titled(shown[0]).values(), full]
    assert all(len(split_table(part)[0]) <= 8 for part in parts)


def test_what_the_page_says_of_the_stored_results():
    """Counts and rows that its text rests on; who stores other results rewrites that text."""
    runs = read_results(FOLDER).runs
    easy = group_cells(runs, mixed=False, base="good-code")
    ends = {cell.loss: round(mean(raised(of_cell, 1)), 1) for cell, of_cell in easy.items()}
    assert ends["nsr"] == min(ends.values()) == 29.6 and max(ends.values()) == 30.0
    assert min(gain for of_cell in easy.values() for gain in raised(of_cell, 1)) > 29.5
    matches = {match.cell: match for match in matched.match_cells(runs)}
    beyond = [len(match.gains) - len(match.ahead[16]) for match in matches.values()]
    numbers = [match for match in matches.values() if matched.show_ahead(match, 16) != "beyond"]
    assert (len(matches), sum(beyond), len(numbers)) == (20, 9, 19)
    ahead = {(match.cell.base, match.cell.loss, match.cell.step, k) for match in numbers
             for k in matched.KS if mean(match.ahead[k]) > stdev(match.ahead[k])}
    assert ahead == {("good-code", "nsr", 0.0015, 64), ("good-code", "psr, kept", 0.01, 256),
                     ("tenths-code", "nsr", 0.0005, 256), ("tenths-code", "nsr", 0.0015, 256)}
    behind = [match for match in numbers if -mean(match.ahead[16]) > stdev(match.ahead[16])]
    assert len(behind) == 5
    assert min(behind, key=lambda match: mean(match.ahead[16])).cell.loss == "w_reinforce-0.03"
    destroyed = matches["good-code", True, "nsr", 0.015]
    assert all(gain < 0 for gain in destroyed.gains)
    assert matched.show_spread(destroyed.gains) == "-46.5 ± 4.0"


def test_the_page_lists_the_losses():
    """Each with the policy loss that it has in the registry, so that neither can be swapped."""
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| (clipped|−A log π) \| .*\|$", PAGE, re.M))
    assert set(listed) == set(cells.FAMILY) <= set(LOSSES)
    for name, shown in listed.items():
        assert (shown == "clipped") == (LOSSES[name].policy_loss is clipped), name
