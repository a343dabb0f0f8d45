"""Lesson 1, bases on which each prompt has a rival of its own: grid, tables, figure by hand."""

import math
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import rlvr
from data.task import EASY, render_problem
from data.tokenizer import encode
from evaluation import draw_evaluation
from lessons import report
from lessons.context import Outcome
from lessons.grid import locate_run, write_pretrain_command, write_train_command
from lessons.report import Results
from lessons.spurious import habit, lesson, race, trio
from plumbing.flags import list_values
from tests.helpers import tiny

ROOT = Path(rlvr.__file__).parent


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def flags_of(run: dict) -> dict:
    """What a run's own command sets, by name, the reward's and the loss's included."""
    args = vars(rlvr.build_parser().parse_args(write_train_command(run).split()[2:]))
    del args["command"]
    values = list_values(rlvr.make_config(**args))
    return {name: value for name, value in values.items() if name != "out"}


def test_no_two_runs_share_their_seed():
    """So no two share their coins, prompts or samples, on whatever base."""
    for seeds in (1, 5, 15):
        planned = trio.runs(seeds)
        assert len({run["seed"] for run in planned}) == len(planned)
        assert len({locate_run(run) for run in planned}) == len(planned)
    others = {run["seed"] for run in lesson.select_main(lesson.runs())}
    assert not others & {run["seed"] for run in trio.runs(5)}


def test_how_many_runs_a_cell_has():
    """Twelve coins on each of three bases of each kind; 6 of a reward, 12 of a control."""
    found = {name: len(sum(trio.list_cell(i, cell, 5), []))
             for i, (name, cell) in enumerate(trio.CELLS.items())}
    assert sum(found.values()) == len(trio.runs(5)) and len(found) == 21
    assert all(found[name] == 36 for name in trio.COINS) and len(trio.COINS) == 3
    assert all(found[name] == 6 for name in trio.PAID) and len(trio.PAID) == 12
    assert all(found[name] == 12 for name in trio.CELLS if name not in trio.COINS | trio.PAID)


def test_wherever_it_stops_what_is_done_is_balanced():
    """Over kinds and bases: none has two coins more than another; the other cells come after."""
    planned = trio.runs(5)
    bases = [run["base"] for run in planned[:108]]
    for done in range(0, 109, 5):
        counts = Counter(bases[:done])
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
    assert len(set(bases)) == 9 == len(set(bases[:9]))
    assert all(set(run) == {"base", "reward", "steps", "seed"} and run["reward"] == "random"
               for run in planned[:108])


def test_a_control_differs_in_what_its_name_says():
    """From the coin on mixed-code, by the flags that its command sets; and no other cell does."""
    first = {name: trio.list_cell(i, cell, 5)[0][0]
             for i, (name, cell) in enumerate(trio.CELLS.items())}
    plain, found = flags_of(first["mixed-code"]), {}
    assert plain["lr"] == rlvr.TrainConfig.lr and plain["steps"] == 30
    for name, run in first.items():
        found[name] = {flag: value for flag, value in flags_of(run).items()
                       if flag != "seed" and plain.get(flag) != value}
    assert found["lr 0.01, 40 batches"] == {"lr": 0.01, "steps": 40}
    assert found["one rival for all"] == {"base": "mixed-code-shared"}
    wide = {"eps_low": 1e9, "eps_high": 1e9}
    assert found["no PPO clip"] == wide
    assert found["no PPO clip, lr 0.006"] == wide | {"lr": 0.006}
    assert (found["p 0.1"], found["p 0.9"]) == ({"p": 0.1}, {"p": 0.9})
    assert all(set(found[name]) == {"base"} for name in ("mixed-none", "mixed-bad"))
    assert all({"reward"} <= set(found[name]) <= {"base", "reward", "votes", "num_ops"}
               for name in trio.PAID if name.startswith("mixed-code"))


def test_the_bases_are_three_of_each_kind():
    """Named by what makes them; the shared rival is the one thing that the control's differ in."""
    commands = {name: write_pretrain_command(name, flags) for name, flags in trio.BASES.items()}
    assert len(commands) == 12
    for kind in trio.KINDS:
        assert commands[kind] == (f"python rlvr.py pretrain --base {kind} "
                                  f"--out runs/bases/{kind}.pt")
    assert commands["mixed-code-shared-seed2"] == (
        "python rlvr.py pretrain --base mixed-code --rival shared --seed 2 "
        "--out runs/bases/mixed-code-shared-seed2.pt")


# --- tables, from rows made by hand


def make_row(name: str, i: int, seed: int, greedy: float) -> dict:
    """A row of a cell, on its i-th base; before RL greedy decoding has 0.5."""
    cell = trio.CELLS[name]
    base = list(cell.bases)[i]
    config = {"reward": cell.reward, "loss": "grpo", "steps": 30} | cell.flags
    row = {"base": base, "reward": cell.reward, "loss": "grpo", "seed": seed,
           "flags": report.describe_flags(config)}
    for when, value in (("before", 0.5), ("after", greedy)):
        row |= {f"{when}_greedy_accuracy": value, f"{when}_accuracy": value - 0.1,
                f"{when}_code_share": value / 2, f"{when}_greedy_code_share": value / 4,
                f"{when}_code_share_sums": 0.8, f"{when}_code_share_products": value / 5,
                f"{when}_accuracy_code": 0.99}
    return row | {"after_code_share_sums": 0.9}


def make_results() -> Results:
    """Of two bases of mixed-code: up, just not up, down; up. One that rises by votes; others."""
    runs = [make_row("mixed-code", 0, 1, 0.9), make_row("mixed-bad", 1, 1, 0.3),
            make_row("mixed-code", 0, 2, 0.599), make_row("mixed-code", 1, 3, 0.8),
            make_row("mixed-code", 0, 4, 0.2), make_row("p 0.9", 2, 5, 0.55),
            make_row("lr 0.01, 40 batches", 0, 6, 0.95),
            {"base": "good-code", "reward": "random", "loss": "grpo", "flags": ""},
            {"base": "mixed-code", "reward": "random", "loss": "grpo", "flags": ""}]
    evidence = [{"base": "mixed-code", "way": "T = 1", "accuracy": 0.4},
                {"base": "mixed-code", "way": "greedy", "accuracy": 0.5},
                {"base": "mixed-code-seed1", "way": "T = 1", "accuracy": 0.4},
                {"base": "mixed-code-seed1", "way": "greedy", "accuracy": 0.7},
                {"base": "mixed-code", "cell": "mixed-code", "up": 0.9, "down": 0.0},
                {"base": "mixed-code-seed1", "cell": "mixed-code", "up": 0.8, "down": 0.1},
                {"base": "mixed-code", "cell": "lr 0.01, 40 batches", "up": 0.97, "down": 0.0}]
    return Results(runs, {i: CURVE for i in range(len(runs))}, evidence)


CURVE = [{"code_share_sums": 0.8, "code_share_products": 0.25},
         {"code_share_sums": 0.85, "code_share_products": 0.2}]


def test_table_of_the_coins():
    """By hand: each base and all of a kind; Clopper and Pearson's interval; what was predicted."""
    lines = [cells(line) for line in trio.tabulate_coins(make_results()).splitlines()]
    assert [line[0] for line in lines[1:]] == [
        "mixed-code, 0", "mixed-code, 1", "mixed-code, all", "mixed-bad, 1", "mixed-bad, all"]
    assert lines[1][1:] == ["0.400 -> 0.466", "0.500 -> 0.566", "1/1/1", "1% to 91%",
                            "90%/0%"]
    assert lines[3][3:] == ["2/1/1", "7% to 93%", "85%/5%"]
    assert lines[4][3:] == ["0/0/1", "0% to 98%"]


def test_other_tables_by_hand():
    """Controls pooled over bases; every seed; the habit by kind of prompt; without training."""
    results = make_results()
    lines = [cells(line) for line in trio.tabulate_others(results).splitlines()]
    assert [line[0] for line in lines[1:]] == ["p 0.9", "lr 0.01, 40 batches"]
    assert "0/1/0" in lines[1] and lines[2][-1] == "97%/0%"
    seeds = dict(cells(line) for line in trio.tabulate_seeds(results).splitlines())
    assert seeds["mixed-code, 0"] == "0.200 0.599 0.900" and seeds["mixed-bad, 1"] == "0.300"
    lines = [cells(line) for line in trio.tabulate_habits(results).splitlines()]
    assert lines[2] == ["mixed-bad", "0.25 -> 0.15", "0.12 -> 0.07", "0.80 -> 0.90",
                        "0.10 -> 0.06", "0.990 -> 0.990"]
    assert cells(trio.tabulate_ways(results).splitlines()[1]) == ["greedy", "+20.0"]


def test_what_is_of_no_cell_is_left_out():
    """The same base without the flags of a cell; other bases. Without runs there is no table."""
    results = make_results()
    found = trio.sort_cells(results.runs)
    assert {name: len(cell) for name, cell in found.items()} == {
        "mixed-code": 4, "mixed-bad": 1, "p 0.9": 1, "lr 0.01, 40 batches": 1}
    assert trio.tabulate(results._replace(runs=results.runs[-2:])) == {}
    parts = report.title_tables(trio.tabulate(results))
    assert len(parts) == 6 and all(len(line) <= 100 for part in parts for line in part.split("\n"))


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_how_a_run_is_followed():
    """The likelier kind first, whichever it is; to the first share outside, that one included."""
    row = make_row("mixed-code", 0, 1, 0.9) | {"after_code_share_products": 0.5}
    steps = race.follow_kinds(CURVE, row)
    first = [logit(0.85) - logit(0.8), logit(0.2) - logit(0.25)]
    assert np.allclose(steps, [first, [logit(0.9) - logit(0.85), logit(0.5) - logit(0.2)]])
    left = [CURVE[0], CURVE[1] | {"code_share_sums": 0.99}]
    assert np.allclose(race.follow_kinds(left, row), [[logit(0.99) - logit(0.8), first[1]]])
    swapped = row | {"before_code_share_sums": 0.2, "before_code_share_products": 0.8}
    assert np.allclose(race.follow_kinds(CURVE, swapped)[0], first[::-1])


def test_table_of_the_race():
    """Apart and together: all that was moved by all batches, two standard errors; by hand."""
    ends = 0.5, 0.6, 0.3, 0.2
    runs = [make_row("mixed-code", 0, i, 0.9) | {"after_code_share_products": end}
            for i, end in enumerate(ends)]
    curves = {i: [CURVE[0], CURVE[1] | {"code_share_products": 0.2 + 0.01 * i}]
              for i in range(4)}
    curves[2][1] |= {"code_share_sums": 0.99}
    found = [race.follow_kinds(curves[i], run) for i, run in enumerate(runs)]
    head, row = map(cells, race.tabulate_race(Results(runs, curves), {"a": runs}).splitlines())
    assert head[1:] == ["seeds", "apart", "together", "shake", "correlation"]
    steps, n = np.concatenate(found), np.array(list(map(len, found)))
    assert row[:2] == ["a", "4"] and n.sum() == 7
    for shown, weights in zip(row[2:4], ((1, -1), (0.5, 0.5))):
        moved = np.array([(weights[0] * m[:, 0] + weights[1] * m[:, 1]).sum() for m in found])
        drift = moved.sum() / 7
        error = math.sqrt(((moved - drift * n) ** 2).sum() * 4 / 3) / 7
        assert shown == f"{drift:+.3f} ± {2 * error:.3f}"
    assert row[4] == f"{((steps[:, 0] + steps[:, 1]) / 2).std():.2f}"
    assert row[5] == f"{np.corrcoef(steps[:, 0], steps[:, 1])[0, 1]:+.2f}"


def test_figure_has_a_dot_for_each_seed():
    """A row for each base of a coin and for each other cell; colours say up, flat, down."""
    figure, axis = plt.subplots()
    trio.draw_outcomes(axis, make_results().runs)
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "mixed-code, base 0 (3)", "mixed-code, base 1 (1)", "mixed-bad, base 1 (1)",
        "p 0.9 (1)", "lr 0.01, 40 batches (1)"]
    dots = [(line.get_xdata()[0], line.get_color()) for line in axis.lines
            if line.get_marker() == "o"]
    colors = [trio.RED, trio.GREY, trio.BLUE, trio.BLUE, trio.RED, trio.GREY, trio.BLUE]
    assert dots == list(zip([0.2, 0.599, 0.9, 0.8, 0.3, 0.55, 0.95], colors))
    plt.close(figure)


def test_what_is_measured(monkeypatch):
    """Each base of the three kinds without training; each coin's cell on each of its bases."""
    seen = []
    monkeypatch.setattr(trio, "elicit_bases", lambda bases: [{"base": base, "way": "T = 1"}
                                                             for base in bases])
    monkeypatch.setattr(trio, "measure_context", lambda base: base)
    monkeypatch.setattr(trio, "predict", lambda context, **flags: seen.append(
        (context, flags)) or Outcome(np.array([[0.5, 0.5], [0.7, 0.55]]),
                                     np.array([[0.4, 0.4], [0.6, 0.7]]), np.zeros((2, 2))))
    rows = trio.measure()
    assert [row["base"] for row in rows[:9]] == [
        base for kind in trio.KINDS for base in trio.COINS[kind].bases]
    assert rows[9] == {"base": "mixed-code", "cell": "mixed-code", "up": 0.5, "down": 0.0,
                       "before_greedy": 0.5, "after_greedy": pytest.approx(0.625),
                       "before_sampled": 0.4, "after_sampled": pytest.approx(0.65)}
    assert seen[0] == ("mixed-code", {"steps": 30}) and len(seen) == 3 * 9
    assert ("mixed-code-seed2", {"steps": 40, "lr": 0.01}) in seen
    assert ("mixed-code-shared-seed1", {"steps": 30}) in seen
    assert not [row for row in rows if row.get("cell") in trio.PAID]


def test_the_page_says_how_many_runs_there_are():
    """In all, of them the ones that are not stored yet; and the rule's seeds."""
    text = " ".join((ROOT / "lessons/spurious/RESULTS.md").read_text("utf-8").split())
    assert f"# {len(lesson.runs())} runs" in text
    stored = report.read_results(ROOT / "lessons/spurious").runs
    if not trio.sort_cells(stored):
        assert f"The other {len(trio.runs(5))} runs of the command are not stored yet." in text
    coins = sum(trio.list_cell(0, trio.COINS["mixed-code"], 5), [])
    assert f"at least 32 of {len(coins)} seeds are up" in text and coins[0]["steps"] == 30


# --- the habit of a base without programs

def test_the_probability_of_an_opener():
    """The mean over problems of the softmax at the newline behind each; catches another token."""
    model, problems = tiny(), draw_evaluation(3, "evaluation", EASY)
    expected = []
    for problem in problems:
        ids = torch.tensor([encode(render_problem(problem) + "\n")])
        expected.append(model.head(model(ids))[0, -1].double().softmax(-1)[encode("I get ")[0]])
    assert habit.measure_opener(model, problems, "I get ") == pytest.approx(
        sum(expected).item() / 3, rel=1e-5)


def test_the_habit_is_measured_of_coins_on_the_base_without_programs(monkeypatch):
    """Before and after, a row a run; no other base, and no other reward."""
    loaded = []
    monkeypatch.setattr(habit, "load_checkpoint", lambda path, _: (loaded.append(path), {}))
    monkeypatch.setattr(habit, "measure_opener", lambda *_: 0.25 * len(loaded))
    run = {"base": "mixed-none", "reward": "random", "seed": 3}
    rows = habit.measure_habits([run, run | {"base": "mixed-code"}, run | {"reward": "correct"}])
    assert [path.name for path in loaded] == ["base.pt", "model.pt"]
    assert rows == [{"base": "mixed-none", "habit_of_seed": 3, "before_habit": 0.25,
                     "after_habit": 0.5}]
    lines = habit.tabulate_habit(report.Results([], {}, rows)).splitlines()
    assert lines[1].split()[2:] == ["0", "0.25", "0.50", "1", "of", "1", "0.50"]
