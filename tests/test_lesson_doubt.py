"""Lessons calibration and honesty: their grids, tables and figures from rows made by hand."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rewards
from data import task
from lessons import report
from lessons.calibration import lesson as calibration
from lessons.grid import locate_run
from lessons.honesty import lesson as honesty
from lessons.report import Results
from tests import adapters
from tests.helpers import ROOT, f64, split_titled
from tests.test_lesson_consistency import check_stored_grid, make_row, split_lines

LESSONS = {"calibration": calibration, "honesty": honesty}


@pytest.mark.parametrize("name", LESSONS)
def test_the_grid_is_that_of_the_stored_runs(name):
    lesson = LESSONS[name]
    runs = lesson.runs()
    assert len({locate_run(run) for run in runs}) == len(runs)
    check_stored_grid(lesson, ROOT / "lessons" / name)
    assert len(lesson.runs(quick=True)) == 2


def make_stated(when: str, kind: str, shares: dict[int, float], right: float) -> dict:
    row = {}
    for value, share in shares.items():
        row[f"{when}_stated_{kind}_{value}_share"] = share
        row[f"{when}_stated_{kind}_{value}_accuracy"] = right
    return row


def calibration_results() -> Results:
    """Two seeds of two rewards on the full base."""
    rows, curves = [], {}
    names = ("accuracy_easy", "ece", "ece_easy", "ece_hard", "brier", "auroc", "stated_share",
             "own_ece", "own_ece_easy", "own_ece_hard", "own_auroc", "auroc_easy", "auroc_hard")
    for i, name in enumerate(("correct", "brier")):
        flags = {"base": calibration.FULL} | calibration.RECIPE | calibration.REWARDS[name]
        for seed in (1, 2):
            numbers = {f"before_{column}": 0.01 * j for j, column in enumerate(names)}
            numbers |= {f"after_{column}": 0.01 * j + 0.1 * i + 0.02 * seed
                        for j, column in enumerate(names)}
            if i:
                numbers["after_auroc_hard"] = None
            for kind in ("easy", "hard"):
                numbers |= make_stated("before", kind, {10: 0.2, 90: 0.6}, 0.5)
                numbers |= make_stated("after", kind, {1: 0.1, 60: 0.2, 99: 0.5 + 0.1 * seed}, 0.9)
            curves[len(rows)] = [{"step": step, "ece_easy": 0.1, "ece_hard": 0.5 / (step + seed)}
                                 for step in (0, 10)]
            rows.append(make_row(flags, seed, **numbers))
    return Results(rows, curves)


def test_calibration_table():
    """Base, then each reward: mean and spread; what none can say is a dash; shares of all."""
    first, own, stated = split_titled(calibration.table(calibration_results())).values()
    head, base, correct, brier = split_lines(first)
    assert head == ["humble-code", "easy accuracy", "ECE", "easy", "hard", "Brier", "AUROC",
                    "stated"]
    assert base == ["(base)", "0.000", "0.010", "0.020", "0.030", "0.04", "0.05", "0.06"]
    assert correct[:3] == ["correct", "0.030 ± 0.014", "0.040 ± 0.014"]
    assert brier[4] == "0.160 ± 0.014" and correct[5:] == ["0.07", "0.08", "0.09"]
    assert split_lines(own)[3][-1] == "-" and split_lines(own)[2][-1] != "-"
    lines = split_lines(stated)
    assert lines[1] == ["(base)", "easy", "0.20", "0.00", "0.00", "0.60", "0.00"]
    assert lines[3] == ["correct", "easy", "0.30 ± 0.00", *["0.00 ± 0.00"] * 3, "0.65 ± 0.07"]


def outside_results() -> Results:
    """One reward on the trained lengths; two rewards beyond them, on two bases of three seeds."""
    rows = calibration_results().runs[:2]
    for shift, base in enumerate((calibration.FULL, calibration.AGAIN[0])):
        for i, name in enumerate(("correct", "brier")):
            flags = {"base": base} | calibration.RECIPE | calibration.BEYOND
            for seed in (1, 2, 3):
                numbers = {f"{when}_{column}": value for column in
                           ("accuracy_easy", "ece", "ece_easy", "ece_hard", "confidence_easy",
                            "confidence_hard")
                           for when, value in (("before", 0.5 + 0.1 * shift),
                                               ("after", 0.5 + 0.1 * i + 0.01 * seed))}
                rows.append(make_row(flags | calibration.REWARDS[name], seed, **numbers))
    return Results(rows, {})


def test_calibration_beyond():
    """A block of its own: each base before, then each reward."""
    head, *rows = split_lines(calibration.tabulate_beyond(outside_results()))
    assert head[:3] == ["base", "reward", "easy accuracy"]
    assert [row[0] for row in rows] == ["first", "", "", "second", "", ""]
    assert rows[0][1:3] == ["(base)", "0.500"] and rows[2][1:3] == ["brier", "0.620 ± 0.010"]
    assert calibration.tabulate_beyond(calibration_results()) == ""


def test_what_the_page_says_of_lengths_not_trained_on():
    """The rule that was written before the runs, on the stored ones; and the counts of runs."""
    results = report.read_results(ROOT / "lessons/calibration")
    bases = [cells for (trained, _), cells in calibration.select_outside(results).items()
             if trained == "easy"]
    moved = {name: [[run["after_ece_hard"] - run["before_ece_hard"] for run in cells[name]]
                    for cells in bases] for name in calibration.OUTSIDE}
    assert [len(runs) for runs in moved["correct"]] == [3, 3, 3]
    assert all(abs(sum(runs) / 3) < 0.1 for runs in moved["correct"])
    assert [sum(value > 0 for runs in moved["correct"] for value in runs),
            sum(abs(value) > 0.1 for runs in moved["correct"] for value in runs)] == [7, 1]
    for name in ("brier", "brier, segments"):
        assert all(sum(other) / 3 - sum(binary) / 3 > 0.1
                   for other, binary in zip(moved[name], moved["correct"]))


def test_calibration_summary():
    """Easy, then hard; the trained lengths first; how far each base has moved, a seed's spread."""
    found = calibration.summary(outside_results())
    assert [row[:5] for row in found.rows[4:]] == [
        ["6, 7", "1 to 7", "first", "2", "0.03"], ["6, 7", "1 to 5", "first", "3", "0.50"],
        ["6, 7", "1 to 5", "second", "3", "0.60"]]
    assert found.rows[6][5:] == ["0.52 ± 0.01", "0.62 ± 0.01", ""]
    # 4.303 * 0.01 / sqrt(3)
    assert "+0.02 ± 0.02, -0.08 ± 0.02" in found.sentence
    assert "+0.12 ± 0.02, +0.02 ± 0.02" in found.sentence
    inside = calibration.summary(calibration_results())
    assert len(inside.rows) == 3 and inside.sentence.startswith("No run has been asked")


def test_calibration_figure():
    """A panel for each way of training, a dot a run: bases above each other in a row."""
    pytest.importorskip("matplotlib")
    left, right = calibration.figure(outside_results()).axes
    assert [list(line.get_xdata()) for line in left.lines] == [[0.03], pytest.approx([0.05, 0.07])]
    assert [list(line.get_xdata()) for line in right.lines] == [
        [0.5], pytest.approx([0.51, 0.52, 0.53]), pytest.approx([0.61, 0.62, 0.63]),
        [0.6], pytest.approx([0.51, 0.52, 0.53]), pytest.approx([0.61, 0.62, 0.63])]
    assert {line.get_marker() for line in right.lines} == {"o", "s"}
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["before", "binary"]


def test_calibration_record_figure():
    """Reliability of base and two rewards, a curve of each reward that was run."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    *panels, curves = calibration.record_figure(calibration_results()).axes
    assert len(panels) == 3
    dots = panels[1].collections[0].get_offsets().tolist()
    assert dots == [[1, 0.9], [60, 0.9], [99, 0.9]]
    assert {text.get_text() for text in curves.texts} == {"correct"}     # brier: of 80 batches
    thick = [line for line in curves.lines if line.get_linewidth() == 2]
    assert list(thick[0].get_ydata()) == pytest.approx([0.375, (0.5 / 11 + 0.5 / 12) / 2])


def honesty_results() -> Results:
    rows = []
    for i, name in enumerate(("correct", "ternary")):
        flags = {"base": honesty.LENGTH} | honesty.RECIPE | honesty.REWARDS[name]
        for seed in (1, 2):
            numbers = {}
            for when, more in (("before", 0.0), ("after", 0.1 * i + 0.02 * seed)):
                for kind in ("easy", "hard"):
                    numbers |= {f"{when}_accuracy_{kind}": 0.3 + more,
                                f"{when}_abstain_share_{kind}": 0.2,
                                f"{when}_hallucination_{kind}": 0.5 - more}
                numbers[f"{when}_truthfulness"] = -0.2 + 2 * more
                numbers |= {f"{when}_abstain_by_length_{k}": more + k / 10 for k in honesty.ALL}
            rows.append(make_row(flags, seed, **numbers))
    return Results(rows, {})


def test_honesty_table():
    first, lengths = split_titled(honesty.table(honesty_results())).values()
    head, base, correct, ternary = [re.split(r"\s{2,}", line) for line in first.splitlines()]
    assert base == ["(base)", "30.0", "20.0", "50.0", "30.0", "20.0", "50.0", "-20.0"]
    kind = ["43.0 ± 1.4", "20.0 ± 0.0", "37.0 ± 1.4"]
    assert ternary == ["ternary", *kind, *kind, "+6.0 ± 2.8"]
    assert split_lines(lengths)[3] == ["ternary", *(f"{0.13 + k / 10:.3f}" for k in range(1, 8))]


def test_honesty_values():
    """What an abstention pays is a column of cells of its own; 0 is the default."""
    assert honesty.price(0.0) == {"reward": "ternary"}
    assert honesty.price(-0.5) == {"reward": "ternary", "abstain_reward": -0.5}
    worth = [run["abstain_reward"] for run in honesty.runs() if "abstain_reward" in run]
    assert worth == [value for value in (-1.0, -0.5, 0.5, 1.0) for _ in range(3)]


def test_honesty_bases():
    """Six bases have three outcomes and both controls; the first has more seeds of them."""
    seeds = {}
    for run in honesty.runs():
        if run["base"] != honesty.FLAT and "abstain_reward" not in run:
            name = run.get("loss", run["reward"])
            seeds.setdefault(name, {}).setdefault(run["base"], []).append(run["seed"])
    bases = ["humble-code", *(f"humble-code-seed{seed}" for seed in (1, 7, 2, 3, 4))]
    assert [list(seeds[name]) for name in ("ternary", "correct", "dr_grpo")] == [bases] * 3
    assert [max(of_base) for of_base in seeds["ternary"].values()] == [5, 3, 3, 1, 1, 1]
    assert [max(of_base) for of_base in seeds["dr_grpo"].values()] == [5, 2, 2, 1, 1, 1]
    assert list(seeds["random"]) == [honesty.LENGTH]


def test_honesty_table_of_bases():
    """The ratio of doubts before training; after it in percent, empty where nothing was run."""
    results = honesty_results()
    results.runs[0] |= {"before_abstain_share_easy": 0.08, "before_abstain_share_hard": 0.1}
    for run in results.runs[2:]:
        run["after_abstain_share_hard"] = 0.9 + 0.01 * run["seed"]
    cells = {name: honesty.REWARDS[name] for name in ("correct", "ternary", "dr_grpo")}
    text, = honesty.tabulate_bases(results, cells).splitlines()[1:]
    assert re.split(r"\s{2,}", text) == ["first", "8.0", "10.0", "1.25", "20.0 ± 0.0",
                                         "91.5 ± 0.7"]


def test_honesty_summary():
    """Before and after by reward; a base counts if most of its runs abstain where it is hard."""
    found = honesty.summary(honesty_results())
    assert [row[:3] for row in found.rows[1:]] == [["right or wrong", "first", "2"],
                                                   ["three outcomes", "first", "2"]]
    assert found.rows[2][3:] == ["30 -> 43.0 ± 1.4", "20 -> 20.0 ± 0.0", "50 -> 37.0 ± 1.4"]
    assert "0 of 1 paid by three outcomes" in " ".join(found.sentence.split())
    one = [row for row in honesty_results().runs if row["seed"] == 1]
    assert honesty.summary(Results(one, {})).sentence.endswith("not to claim it.")
    assert honesty.summary(Results([], {})).sentence.endswith("none was run.")


def test_bases_are_counted_by_most_of_their_runs():
    shares = {"a": (0.9, 0.99, 0.1), "b": (0.9, 0.1), "c": (0.0,)}
    found = [{"base": base, "after_abstain_share_hard": share} for base, cell in shares.items()
             for share in cell]
    assert honesty.count_learners(found) == (1, 3)


def test_honesty_figure():
    """A panel a reward; a grey line a base, and a line a run, blue if it has learnt."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    results = honesty_results()
    results.runs[2]["after_abstain_share_hard"] = 0.9
    left, right = honesty.figure(results).axes
    assert [len(axis.lines) for axis in (left, right)] == [3, 3]
    assert [line.get_color() for line in right.lines] == [report.GREY, report.BLUE, report.RED]
    assert list(right.lines[1].get_ydata()) == pytest.approx([0.12 + k / 10 for k in honesty.ALL])


def test_honesty_record_figure():
    """Bars of a row add up to 1: right, abstains, invents."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    easy, hard, lengths = honesty.record_figure(honesty_results()).axes
    for axis in (easy, hard):
        widths = [bar.get_width() for bar in axis.patches]
        assert len(widths) == 9
        assert [sum(widths[i:i + 3]) for i in (0, 3, 6)] == pytest.approx([1, 1, 1])
        starts = [bar.get_x() for bar in axis.patches]
        assert starts[:3] == pytest.approx([0, widths[0], widths[0] + widths[1]])
    assert [label.get_text() for label in easy.get_yticklabels()] == ["(base)", "correct",
                                                                      "ternary"]
    assert {text.get_text() for text in lengths.texts} == {"(base)", "ternary"}


# --- what the pages derive

TERNARY = st.lists(st.sampled_from(["right", "wrong", "?"]), min_size=4, max_size=4)


def advantages_of(outcomes: list[str], a: float, loss: str = "grpo") -> list[float]:
    paid = {"right": 1.0, "wrong": -1.0, "?": a}
    rewards = torch.tensor([[paid[outcome] for outcome in outcomes]], **f64)
    return adapters.advantages(loss, rewards, (-1.0, 1.0))[0].tolist()


@given(TERNARY, st.floats(-0.99, 1))
def test_without_a_right_answer_the_price_does_not_matter(outcomes, a):
    """GRPO's std cancels it: any abstention worth more than an error gets the same push."""
    outcomes = ["wrong" if outcome == "right" else outcome for outcome in outcomes]
    assert advantages_of(outcomes, a) == pytest.approx(advantages_of(outcomes, 0.0), abs=1e-6)


@given(TERNARY)
def test_an_abstention_worth_an_error_is_the_binary_reward(outcomes):
    binary = [1.0 if outcome == "right" else 0.0 for outcome in outcomes]
    expected = adapters.advantages("grpo", torch.tensor([binary], **f64))[0].tolist()
    assert advantages_of(outcomes, -1.0) == pytest.approx(expected, abs=1e-6)


def test_one_abstainer_among_sixteen():
    """The numbers on the page: what the std makes of it on a hard prompt, and on an easy one."""
    outcomes = ["?"] + ["wrong"] * 15
    assert advantages_of(outcomes, 0.0)[0] == pytest.approx(15 ** 0.5)        # 3.87
    assert advantages_of(outcomes, 0.0, "dr_grpo")[0] == pytest.approx(15 / 16)
    easy = ["?"] + ["wrong"] * 4 + ["right"] * 11
    assert advantages_of(easy, 0.0)[0] == pytest.approx(-7 / 191 ** 0.5)      # -0.51
    assert advantages_of(easy, 0.0, "dr_grpo")[0] == pytest.approx(-7 / 16)
    assert advantages_of(["?"] + ["right"] * 15, 0.0)[0] == pytest.approx(-15 ** 0.5)


def test_doubt_has_grown_before_easy_problems_are_solved():
    """On the first base, in the fourth to sixth batch: with the std in every run, without in none.
    """
    results = report.read_results(ROOT / "lessons/honesty")
    early = {name: [curve[1] for curve in report.curves_of(results, honesty.find_reward(
        results, name, [honesty.LENGTH]))] for name in ("ternary", "dr_grpo")}
    assert all(row["step"] == 5 for rows in early.values() for row in rows)
    doubts = {name: sorted(round(100 * row["abstain_share_hard"]) for row in rows)
              for name, rows in early.items()}
    assert {name: (found[0], found[-1], len(found)) for name, found in doubts.items()} == {
        "ternary": (13, 68, 5), "dr_grpo": (1, 7, 5)}
    assert all(row["accuracy_easy"] > 0.9 for rows in early.values() for row in rows)


def test_the_std_magnifies_what_hardly_differs():
    """All right, half at 90% and half at 99%: rewards .0099 apart, advantages 1 and -1."""
    paid = rewards.build_reward("brier").score
    problem = task.parse_problem("3 +4")
    responses = ["\\boxed{7} 90%"] * 8 + ["\\boxed{7} 99%"] * 8
    context = rewards.Context(16, [None] * 16, None, None)
    scores = torch.tensor([paid([problem] * 16, responses, context)], **f64)
    assert scores[0, -1] - scores[0, 0] == pytest.approx(0.0099)
    found = adapters.advantages("grpo", scores)[0]
    assert found[0].item() == pytest.approx(-1) and found[-1].item() == pytest.approx(1)
    assert adapters.advantages("dr_grpo", scores)[0].abs().max().item() < 0.005
