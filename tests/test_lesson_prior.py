"""Lesson 3: its grid, its tables and figure from rows made by hand."""

import re
from statistics import mean, stdev

import numpy as np
import pytest

import rlvr
from lessons.grid import locate_run
from lessons.prior import lesson
from lessons.report import Results, read_results
from plumbing.flags import read_config
from pretrain import PretrainConfig
from tests.helpers import ROOT

FOLDER = ROOT / "lessons/prior"
PRIORS = {7: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1: [0.2, 0.4, 0.5, 0.6, 0.7, 0.8]}


@pytest.fixture(scope="module")
def stored() -> Results:
    return read_results(FOLDER)


# --- the grid


def test_the_grid_is_that_of_the_stored_runs(stored):
    """A base left out, named otherwise, or run with another reward, seed or flag."""
    made = [(run["base"], run["reward"], run.get("steps", 20), run["seed"])
            for run in lesson.runs()]
    kept = [(run["base"], run["reward"], int(run["steps"]), int(run["seed"]))
            for run in stored.runs]
    assert sorted(made) == sorted(kept) and len(set(made)) == 150 == 20 * 5 + 5 * 2 * 5
    assert all(set(run) <= {"base", "reward", "steps", "seed"} for run in lesson.runs())
    assert all(run["flags"] == ("" if run["steps"] == 20 else "--steps 80")
               and run["loss"] == "grpo" for run in stored.runs)
    commands = [re.search(r"--base (\S+) --reward (\S+) .*?--seed (\d)", run["command"])
                for run in stored.runs]
    assert [found.groups() for found in commands] == [
        (base, reward, str(seed)) for base, reward, _, seed in kept]
    assert len({locate_run(run) for run in lesson.runs()}) == 150


def test_the_bases_are_six_priors_on_seven_openers_and_six_on_one():
    """A base whose flags are not what its name says; three bases where the switch is."""
    for openers, priors in PRIORS.items():
        for prior in priors:
            name, flags = f"good-code-prior{prior}", {"base": "good-code", "code_prior": prior}
            if openers == 1:
                name, flags = f"{name}-openers1", flags | {"text_openers": 1}
            assert lesson.BASES[name] == flags
            assert lesson.describe_base(name) == (openers, prior)
            more = {f"{name}-seed{seed}": flags | {"seed": seed} for seed in (1, 2)}
            near = (openers, prior) in ((7, 0.3), (7, 0.4), (1, 0.5), (1, 0.6))
            assert all((other in lesson.BASES) == near for other in more)
            assert not near or all(lesson.HABITS[other] == more[other] for other in more)
    assert len(lesson.HABITS) == 12 + 8 and len(lesson.BASES) == 20 + 5
    assert [read_config(PretrainConfig, flags).steps for flags in lesson.YOUNG.values()] == [
        100, 200, 400, 800, 1700]


def test_fewer_seeds_and_the_quick_grid():
    """--seeds that is not heard, or a quick grid without one kind of text or one side."""
    assert sorted({run["seed"] for run in lesson.runs(seeds=3)}) == [1, 2, 3]
    assert len(lesson.runs(seeds=3)) == 20 * 3 + 5 * 2 * 3
    quick = lesson.runs(quick=True)
    assert {(*lesson.describe_base(run["base"]), run["seed"]) for run in quick} == {
        (7, 0.2, 1), (7, 0.6, 1), (1, 0.2, 1), (1, 0.8, 1)} and len(quick) == 4


# --- the bandit's predictions


def test_the_bandit_has_an_arm_for_code_and_one_for_each_opener(monkeypatch):
    """Arms that are not the shares; eps, batches, samples or updates swapped or not RL's own."""
    asked = []

    def first_arm(arms, eps, batches=100, samples=512, updates=8):
        asked.append((arms, eps, batches, samples, updates))
        return np.array([[9.0, 9.0], [arms[0], len(arms)]]) / 100

    monkeypatch.setattr(lesson, "first_arm", first_arm)
    bases = ["good-code-prior0.3-seed1", "good-code-prior0.3", "good-code-steps100",
             "good-code-prior0.8-openers1"]
    rows = lesson.measure([{"base": base} for base in bases])
    assert [row["base"] for row in rows] == [bases[0], bases[3]]       # once a share and kind
    seven, one = (0.3, *[pytest.approx(0.1)] * 7), (0.8, pytest.approx(0.2))
    c = rlvr.make_config()
    rl = (c.flags["eps_high"], c.steps, c.prompts * c.group, c.updates)
    assert rl == (0.4, 20, 1024, 32)
    assert asked == [(seven, 0.2, 100, 512, 8), (seven, *rl), (one, 0.2, 100, 512, 8), (one, *rl)]
    assert rows[0]["bandit"] == rows[0]["as RL"] == pytest.approx((0.3 + 8) / 200)
    assert rows[1]["bandit"] == pytest.approx((0.8 + 2) / 200)


def test_the_stored_predictions_are_the_bandits(stored):
    """evidence.csv of another bandit; a base missing there."""
    assert [row["base"] for row in stored.evidence] == list(lesson.HABITS)[:12]
    base = "good-code-prior0.4-openers1"
    again, = lesson.measure([{"base": base}])
    kept, = (row for row in stored.evidence if row["base"] == base)
    assert kept == {name: value if name == "base" else pytest.approx(value, abs=1e-5)
                    for name, value in again.items()}


# --- the table, from rows made by hand

# base: (openers, prior, before: code share, accuracy; after: code shares; accuracies; gains)
CELLS = {
    "good-code-prior0.2": (7, 0.2, 0.21, 0.31, [0.96, 0.5, 0.03], [0.9, 0.4, 0.25],
                           [0.59, 0.09, -0.06]),
    "good-code-prior0.5-openers1": (1, 0.5, 0.52, 0.61, [0.99, 0.07], [0.97, 0.23],
                                    [0.36, -0.38]),
    "good-code-prior0.6-openers1": (1, 0.6, 0.63, 0.66, [0.98, 0.94], [0.95, 0.93], [0.29, 0.27]),
    "good-code-prior0.1": (7, 0.1, 0.12, 0.19, [0.44], [0.27], [0.08]),
}
TWICE = "good-code-prior0.5-openers1"    # its second run is of a second base
PREDICTED = {"good-code-prior0.2": (0.35, 0.29), "good-code-prior0.5-openers1": (0.47, 0.58),
             "good-code-prior0.6-openers1": (0.71, 0.77)}


def make_results(evidence: bool = True) -> Results:
    rows = []
    for base, (_, _, share, accuracy, shares, accuracies, gained) in CELLS.items():
        for seed, values in enumerate(zip(shares, accuracies, gained)):
            after = dict(zip(("after_code_share", "after_accuracy", "gain_total"), values))
            second = base == TWICE and seed == 1
            rows.append({"base": f"{base}-seed1" if second else base, "reward": "random",
                         "loss": "grpo", "flags": "", "steps": 20.0, "seed": seed,
                         "before_code_share": share, "before_accuracy": accuracy,
                         "gain_switch": 7.0, "gain_within": -7.0, **after})
    predicted = [{"base": base, "bandit": bandit, "as RL": rl}
                 for base, (bandit, rl) in PREDICTED.items()]
    return Results(rows, {}, predicted if evidence else [])


def parse(block: str) -> list[dict]:
    """A table's rows; its columns are where the words of its head begin."""
    head, *lines = block.splitlines()
    names = list(re.finditer(r"\S+(?: \S+)*", head))
    ends = [name.start() for name in names[1:]] + [None]
    return [{name[0]: line[name.start():end].strip() for name, end in zip(names, ends)}
            for line in lines]


def spread(values, digits, sign):
    text = f"{np.mean(values):{sign}.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def show_miss(after, share):
    """(mean - share) / its standard error."""
    return f"{(mean(after) - share) / (stdev(after) / len(after) ** 0.5):+.1f}"


def test_the_table_of_shares():
    """A wrong column, minimum for maximum, predictions of another base, 'above' as 'at least'."""
    shares, _, _, _ = map(parse, lesson.table(make_results()).split("\n\n"))
    assert len(shares) == len(CELLS)                     # a second base is no row of its own
    for row, (base, (openers, prior, before, _, after, *_)) in zip(shares, CELLS.items()):
        bandit, rl = [f"{value:.2f}" for value in PREDICTED.get(base, ())] or ("", "")
        above = f"{len([share for share in after if share > 0.5])} of {len(after)}"
        above += " (1 + 0)" if base == TWICE else ""     # which base they are on
        assert row == {"openers": str(openers), "prior": str(prior),
                       "code share": f"{before:.2f} -> {mean(after):.2f}",
                       "bases": "2" if base == TWICE else "1",
                       "above 1/2": above, "bandit": bandit, "as RL": rl,
                       "missed by": show_miss(after, PREDICTED[base][0]) if bandit else ""}
    assert shares[0]["above 1/2"] == "1 of 3"            # 0.5 is not above


def test_the_table_of_gains():
    """Switch or within for the gain, a sign, points for shares, the two kinds of text swapped."""
    _, gained, _, _ = map(parse, lesson.table(make_results()).split("\n\n"))
    assert [row["prior"] for row in gained] == ["0.1", "0.2", "0.5", "0.6"]
    expected = {(openers, str(prior)): (f"{before:.2f} -> {mean(after):.2f}",
                                        spread([100 * gain for gain in gains], 1, "+"))
                for openers, prior, _, before, _, after, gains in CELLS.values()}
    expected[7, "0.2"] = ("0.31 -> split", "1 of 3 > +50")    # 59 points, 9 and -6: no mean
    for row in gained:
        for openers, name in ((7, "7 openers"), (1, "1 opener")):
            wanted = expected.get((openers, row["prior"]), ("", ""))
            assert (row[f"accuracy, {name}"], row[f"gain, {name}"]) == wanted


def test_the_table_of_misses():
    """A miss that is signed, of another base or of the share before; a tie that counts as won."""
    _, _, misses, _ = map(parse, lesson.table(make_results()).split("\n\n"))
    after = {base: mean(cell[4]) for base, cell in CELLS.items()}
    rules = {"bandit": {base: pair[0] for base, pair in PREDICTED.items()},
             "as RL": {base: pair[1] for base, pair in PREDICTED.items()},
             "no change": {base: cell[2] for base, cell in CELLS.items()},
             "largest wins": dict(zip(CELLS, [1.0, 0.5, 1.0, 0.0]))}
    assert len(misses) == 4

    def in_errors(base, share):
        after = CELLS[base][4]
        return 0.0 if len(after) == 1 else float(show_miss(after, share))
    for row, (name, predicted) in zip(misses, rules.items()):
        far = [abs(predicted[base] - after[base]) for base in predicted]
        errors = [in_errors(base, share) for base, share in predicted.items()]
        rms = float(row.pop("rms in s.e."))
        assert rms == pytest.approx(mean(e ** 2 for e in errors) ** 0.5, abs=0.1)
        assert row == {"prediction": name, "rows": str(len(far)),
                       "mean miss": f"{mean(far):.2f}", "largest miss": f"{max(far):.2f}",
                       "above 2 s.e.": str(sum(abs(e) > 2 for e in errors))}


def test_the_table_without_predictions():
    """--quick measures nothing beside the runs: no column of the bandits, no row, no crash."""
    shares, _, misses, _ = map(parse, lesson.table(make_results(evidence=False)).split("\n\n"))
    assert not {"bandit", "as RL", "missed by"} & set(shares[0]) and len(shares) == 4
    assert [row["prediction"] for row in misses] == ["no change", "largest wins"]


def test_the_page_shows_the_stored_table(stored):
    """A page behind its results; a table too wide. And what the page says of the switch."""
    table = lesson.table(stored)
    page = (FOLDER / "RESULTS.md").read_text("utf-8")
    assert re.search(r"## Table\n.*?```text\n(.*?)\n```", page, re.DOTALL)[1] == table
    assert max(map(len, table.splitlines())) <= 100


# --- the figure


def test_the_figure_draws_every_run():
    """A dot lost or at another prior, a mean of the accuracy, panels swapped, no bandit."""
    plt = pytest.importorskip("matplotlib.pyplot")
    results = make_results()
    results.evidence.append({"base": "good-code-prior0.1", "bandit": 0.08, "as RL": 0.09})
    canvas = lesson.figure(results)
    bandit = {row["base"]: row["bandit"] for row in results.evidence}
    assert len(canvas.axes) == 2
    for axis, openers in zip(canvas.axes, (7, 1)):
        cells = {base: cell for base, cell in CELLS.items() if cell[0] == openers}
        lines = axis.get_lines()
        dots = {tuple(map(float, dot)) for line in lines if line.get_marker() == "o"
                for dot in line.get_xydata()}
        assert dots == {(cell[1], share) for cell in cells.values() for share in cell[4]}
        for style, color, wanted in (
                (":", lesson.RED, [(cell[1], bandit[base]) for base, cell in cells.items()]),
                ("-", lesson.BLUE, [(cell[1], mean(cell[4])) for cell in cells.values()])):
            curve, = (line for line in lines if line.get_linestyle() == style
                      and line.get_color() == color and line.get_marker() != "o")
            assert sorted(map(tuple, curve.get_xydata())) == sorted(wanted)
        vertical, = (line for line in lines if line.get_linestyle() == "--")
        assert list(vertical.get_xdata()) == [1 / (1 + openers)] * 2
        assert f"{openers} opener" in axis.get_title(loc="left") + axis.get_title()
        assert {"bandit", "mean of the runs", "no change"} <= {t.get_text() for t in axis.texts}
    plt.close("all")


def test_the_figure_without_predictions():
    """--quick draws no bandit and says none."""
    plt = pytest.importorskip("matplotlib.pyplot")
    canvas = lesson.figure(make_results(evidence=False))
    for axis in canvas.axes:
        assert ":" not in [line.get_linestyle() for line in axis.get_lines()]
        assert "bandit" not in [text.get_text() for text in axis.texts]
    plt.close("all")


# --- pretraining, reward and volume


def make_volumes() -> Results:
    """Two lengths of pretraining; a curve has 20 rows of four batches each."""
    rows, curves = [], {}
    for base, reward, seed, before in (("good-code", "random", 1, 0.5),
                                       ("good-code-steps200", "random", 1, 0.2),
                                       ("good-code", "correct", 1, 0.5),
                                       ("good-code", "random", 2, 0.5)):
        i = len(rows)
        curves[i] = [{"step": 4 * j + 3, "accuracy": before + 0.01 * j * (i + 1) / 4}
                     for j in range(20)]
        rows.append({"base": base, "reward": reward, "loss": "grpo", "flags": "--steps 80",
                     "steps": 80.0, "seed": seed, "before_accuracy": before,
                     "before_greedy_accuracy": 0.9, "after_greedy_accuracy": 0.95 + 0.01 * i,
                     "gain_total": 0.1 * (i + 1), "before_code_share": 0.6})
    return Results(rows, curves, [])


def test_the_table_of_volumes():
    """Of another row of the curve, of the other reward or base; the shortest pretraining first."""
    found = lesson.tabulate_volumes(make_volumes(), "random")
    one, two = parse(found)
    assert one == {"random: steps": "200", "T = 1": "0.200", "greedy": "0.900",
                   "20 batches": "+2.0", "40 batches": "+4.5", "80 batches": "+9.5",
                   "evaluated": "+20.0", "greedy gain": "+6.0"}
    # seeds 1 and 2: rows 4, 9, 19 of steps of 0.25 and 1 point
    assert two == {"random: steps": "1700", "T = 1": "0.500", "greedy": "0.900",
                   "20 batches": spread([1, 4], 1, "+"), "40 batches": spread([2.25, 9], 1, "+"),
                   "80 batches": spread([4.75, 19], 1, "+"), "evaluated": spread([10, 40], 1, "+"),
                   "greedy gain": spread([5, 8], 1, "+")}
    assert len(parse(lesson.tabulate_volumes(make_volumes(), "correct"))) == 1


def test_runs_of_another_volume_stay_out_of_the_switch():
    """They are in no row of the first three tables, and have two and a panel of their own."""
    plt = pytest.importorskip("matplotlib.pyplot")
    habits, volumes = make_results(), make_volumes()
    habits.evidence.append({"base": "good-code-prior0.1", "bandit": 0.08, "as RL": 0.09})
    shift = len(habits.runs)
    both = Results(habits.runs + volumes.runs, {i + shift: curve for i, curve
                                                in volumes.curves.items()}, habits.evidence)
    parts = lesson.table(both).split("\n\n")
    assert parts[:3] == lesson.table(habits).split("\n\n")[:3] and len(parts) == 6
    *_, axis = lesson.figure(both).axes
    dots = {(*dot,) for line in axis.lines if line.get_marker() == "o"
            for dot in line.get_xydata().round(6)}
    assert dots == {(1700, 4.75), (1700, 19), (1700, 14.25), (200, 9.5)}
    plt.close("all")
