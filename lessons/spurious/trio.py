"""The paper's own protocol, greedy decoding, on bases that have no one rival for all prompts.

On each of three bases the habit is the likeliest way to begin on two thirds of the prompts. On the
others, which begin with *, something else is, and what that is depends on the prompt (corpus.py:
own_opener). Greedy decoding follows the habit on the former alone, so RL can change it.

PPO's walls act on each prompt, but all prompts share their parameters: where the habit is the
favourite it gains, this carries over to where it is not, and the rivals, being seven, cannot join
forces. lessons/context.py is the bandit that says so, and predicts the runs below.
"""

from statistics import mean
from typing import NamedTuple

import numpy as np

from lessons.bandit import OFF
from lessons.chance import chance
from lessons.context import BATCHES, MOVED, measure_context, predict
from lessons.elicit import elicit_bases
from lessons.grid import PAPER_SHAPE, grid, name_base, own_seeds, scale_seeds
from lessons.report import (
    BLUE,
    GREY,
    RED,
    Results,
    align,
    describe_flags,
    group_runs,
    show_change,
)
from lessons.spurious.habit import tabulate_habit
from lessons.spurious.race import tabulate_race

BASE_SEEDS = 0, 1, 2        # of pretraining
KINDS = {"mixed-code": "the habit is right", "mixed-none": "no such mode",
         "mixed-bad": "the habit is wrong"}
REWARDS = "correct", "majority", "incorrect", "format"
NO_PPO = {"eps_low": OFF, "eps_high": OFF}
PAPER = PAPER_SHAPE | {"lr": 0.0003}   # which gained most in a first look (lesson scale)


class Cell(NamedTuple):
    """Runs that differ by their seeds alone, and by the pretraining seed of their base."""

    kind: str
    seeds: int                  # on each of the bases, where the lesson has 5
    reward: str = "random"
    flags: dict = {}
    base_flags: dict = {}       # beside the kind and the seed

    @property
    def bases(self) -> dict[str, dict]:
        """{name: flags of pretrain}, by pretraining seed."""
        flags = [{"base": self.kind, **self.base_flags, **({"seed": seed} if seed else {})}
                 for seed in BASE_SEEDS]
        return {name_base(each): each for each in flags}


# The coin on three bases of three kinds first; the other rewards; what could kill the claim.
COINS = {kind: Cell(kind, 12) for kind in KINDS}
PAID = {f"{kind}, {reward}": Cell(kind, 2, reward) for kind in KINDS for reward in REWARDS}
CELLS = COINS | PAID | {
    "one rival for all": Cell("mixed-code", 4, base_flags={"rival": "shared"}),
    "no PPO clip": Cell("mixed-code", 4, flags=NO_PPO),
    "no PPO clip, lr 0.006": Cell("mixed-code", 4, flags={"lr": 0.006, **NO_PPO}),
    "p 0.1": Cell("mixed-code", 4, flags={"p": 0.1}),
    "p 0.9": Cell("mixed-code", 4, flags={"p": 0.9}),
    "lr 0.01, 40 batches": Cell("mixed-code", 4, flags={"lr": 0.01, "steps": 40}),
    "AdamW": Cell("mixed-code", 8, flags=PAPER),
    "AdamW, no PPO clip": Cell("mixed-code", 8, flags=PAPER | NO_PPO)}
BASES = {name: flags for cell in CELLS.values() for name, flags in cell.bases.items()}
# Of the quick door: {cell: how many runs}, the first ones of the full grid on the first base.
QUICK = {"mixed-code": 3, "mixed-code, correct": 1}
FIRST_SEED = 10   # of own_seeds: no cell of the lesson's other bases comes so far


def list_cell(index: int, cell: Cell, seeds: int) -> list[list[dict]]:
    """A cell's runs: a list for each base, on seeds that no other base and no other cell has."""
    count = scale_seeds(cell.seeds, seeds)
    return [grid(base=base, reward=cell.reward, **{"steps": BATCHES} | cell.flags,
                 seed=own_seeds(FIRST_SEED + len(BASE_SEEDS) * index + i, count))
            for i, base in enumerate(cell.bases)]


def runs(seeds: int) -> list[dict]:
    """Seed by seed over the bases, so that what has been done is balanced wherever it stops.

    The coins on the three kinds first, then the other cells one by one.
    """
    listed = [list_cell(i, cell, seeds) for i, cell in enumerate(CELLS.values())]
    coins = [of_kind[i] for i in range(len(BASE_SEEDS)) for of_kind in listed[:len(COINS)]]
    return [run for cell in (coins, *listed[len(COINS):]) for of_seed in zip(*cell)
            for run in of_seed]


def quick_runs() -> list[dict]:
    """The first runs of some cells of the full grid, which need not be made again for that.

    So their seeds were fixed before any result: 1001 to 1003, 1901. The two other kinds of bases
    would double the time, and one seed of each would teach little.
    """
    cells = list(CELLS)
    return [run for name, count in QUICK.items()
            for run in list_cell(cells.index(name), CELLS[name], 5)[0][:count]]


def sort_cells(runs: list[dict]) -> dict[str, list[dict]]:
    """{name: its runs, of all bases}, in the order of CELLS; what is of no cell is left out."""
    names = {(base, cell.reward, describe_flags({"reward": cell.reward, "loss": "grpo",
                                                 "steps": BATCHES} | cell.flags)): name
             for name, cell in CELLS.items() for base in cell.bases}
    found = {}
    for key, group in group_runs(runs, "base", "reward", "flags").items():
        if key in names:
            found.setdefault(names[key], []).extend(group)
    return {name: found[name] for name in CELLS if name in found}


def measure() -> list[dict]:
    """Rows of each base of the coins: what it gives without training, and what the bandit expects.

    The bandit's have a `cell`: of every cell that trains this base with the coin.
    """
    bases = [base for cell in COINS.values() for base in cell.bases]
    rows, told = elicit_bases(bases), {}     # what the bandit is told of a base takes a minute
    for name, cell in CELLS.items():
        # The bandit does not know AdamW.
        for base in cell.bases if cell.reward == "random" and "optimizer" not in cell.flags else []:
            told[base] = told.get(base) or measure_context(base)
            found = predict(told[base], **{"steps": BATCHES} | cell.flags)
            up, down = found.count()
            rows.append({"base": base, "cell": name, "up": up, "down": down,
                         **{f"{when}_{what}": getattr(found, what)[i].mean().item()
                            for what in ("greedy", "sampled") for i, when in
                            enumerate(("before", "after"))}})
    return rows


# --- tables and figure


def count_outcomes(cell: list[dict]) -> tuple[int, int, int]:
    """Seeds whose greedy accuracy went up by more than 10 points, did not, went down by more."""
    moves = [run["after_greedy_accuracy"] - run["before_greedy_accuracy"] for run in cell]
    up, down = sum(move > MOVED for move in moves), sum(move < -MOVED for move in moves)
    return up, len(cell) - up - down, down


def show_outcome(name: str, cell: list[dict], expected: list[dict]) -> list[str]:
    """A line: accuracy sampled and greedily; seeds up, flat, down; the interval of up; bandit."""
    up, flat, down = count_outcomes(cell)
    predicted = "/".join(f"{mean(row[what] for row in expected):.0%}" for what in ("up", "down")
                           if expected)
    return [name, show_change(cell, "accuracy", 3), show_change(cell, "greedy_accuracy", 3),
            f"{up}/{flat}/{down}", "{:.0%} to {:.0%}".format(*chance(up, len(cell))), predicted]


HEAD = ["sampled", "greedy", "up/flat/down", "95% of up", "bandit up/down"]


def select_predictions(results: Results, name: str, base: str | None = None) -> list[dict]:
    """The bandit's rows of a cell, of one of its bases or of all."""
    return [row for row in results.evidence if row.get("cell") == name
            and base in (None, row["base"])]


def tabulate_coins(results: Results) -> str:
    """The coin on each base, and on all bases of a kind together."""
    lines = [["the coin on, base", *HEAD]]
    for name, cell in sort_cells(results.runs).items():
        if name in COINS:
            of_bases = group_runs(cell, "base")
            for base in COINS[name].bases:
                if (base,) in of_bases:
                    seed = COINS[name].bases[base].get("seed", 0)
                    lines.append(show_outcome(f"{name}, {seed}", of_bases[base,],
                                              select_predictions(results, name, base)))
            lines.append(show_outcome(f"{name}, all", cell, select_predictions(results, name)))
    return align(lines)


def tabulate_others(results: Results) -> str:
    """The other rewards and the controls, over all bases of a kind."""
    lines = [["others", *HEAD]]
    for name, cell in sort_cells(results.runs).items():
        if name not in COINS:
            lines.append(show_outcome(name, cell, select_predictions(results, name)))
    return align(lines)


def tabulate_habits(results: Results) -> str:
    """What became of the habit: its share sampled, greedily and by kind of prompt; inside code."""
    lines = [["code, of the coin on", "sampled", "greedy", "first + or -", "first *",
              "right in code"]]
    for name, cell in sort_cells(results.runs).items():
        if name in COINS and name != "mixed-none":
            lines.append([name, *(show_change(cell, column) for column in (
                "code_share", "greedy_code_share", "code_share_sums", "code_share_products")),
                show_change(cell, "accuracy_code", 3)])
    return align(lines)


def tabulate_seeds(results: Results) -> str:
    """The greedy accuracy of every seed of the coin, lowest first."""
    lines = [["the coin on, base", "greedy accuracy of each seed, lowest first"]]
    for name, cell in sort_cells(results.runs).items():
        if name in COINS:
            for (base,), of_base in group_runs(cell, "base").items():
                after = sorted(run["after_greedy_accuracy"] for run in of_base)
                lines.append([f"{name}, {COINS[name].bases[base].get('seed', 0)}",
                              " ".join(f"{value:.3f}" for value in after)])
    return align(lines)


def tabulate_ways(results: Results) -> str:
    """Points over sampling at T = 1 without training, in the mean over a kind's bases."""
    rows = {(row["base"], row["way"]): 100 * row["accuracy"] for row in results.evidence
            if row.get("way") and row["base"] in BASES}
    ways = list(dict.fromkeys(way for _, way in rows))
    lines = [["without training", *KINDS]]
    for way in ways[1:]:
        gains = [[rows[base, way] - rows[base, ways[0]] for base in COINS[kind].bases
                  if (base, way) in rows] for kind in KINDS]
        lines.append([way, *(f"{mean(of_kind):+.1f}" if of_kind else "" for of_kind in gains)])
    return align(lines)


def tabulate(results: Results) -> dict[str, str]:
    """{title: table} of what there is; none without runs."""
    if not sort_cells(results.runs):
        return {}
    racing = {name: cell for name, cell in sort_cells(results.runs).items()
              if CELLS[name].kind == "mixed-code" and CELLS[name].reward == "random"}
    return {
        "The coin on mixed bases: accuracy before -> after, and how many seeds go up or down":
            tabulate_coins(results),
        "The coin on mixed bases: greedy accuracy of every seed after RL":
            tabulate_seeds(results),
        "The coin on mixed bases: share of code before -> after, and accuracy inside code":
            tabulate_habits(results),
        "The coin on mixed-none: probability that an answer begins as the habit does":
            tabulate_habit(results),
        "Other rewards and controls on mixed bases: the same columns as of the coin":
            tabulate_others(results),
        "Without training: points over sampling at T = 1, by kind of mixed base":
            tabulate_ways(results),
        "Drift of the log-odds of code in a rollout batch, by cell":
            tabulate_race(results, racing)}


def draw_outcomes(axis, runs: list[dict]) -> None:
    """A row for each base of the coins, and for each other cell: greedy accuracy, a dot a seed.

    Blue: up by more than 10 points; red: down by more; a line: before.
    """
    rows = {}
    for name, cell in sort_cells(runs).items():
        if name not in COINS:
            rows[name] = cell
            continue
        for (base,), of_base in group_runs(cell, "base").items():
            rows[f"{name}, base {COINS[name].bases[base].get('seed', 0)}"] = of_base
    for y, cell in enumerate(rows.values()):
        cell = sorted(cell, key=lambda run: run["after_greedy_accuracy"])
        for run, offset in zip(cell, np.linspace(-0.25, 0.25, len(cell))):
            up, _, down = count_outcomes([run])
            axis.plot(run["after_greedy_accuracy"], y + offset, "o", markersize=4,
                      color=BLUE if up else RED if down else GREY)
        before = mean(run["before_greedy_accuracy"] for run in cell)
        axis.plot([before, before], [y - 0.4, y + 0.4], color="black", linewidth=1.5)
    axis.set_yticks(range(len(rows)), [f"{name} ({len(cell)})" for name, cell in rows.items()])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set(xlim=(0, 1.03), xlabel="greedy accuracy after RL (dot: a seed; line: before)",
             title="Greedily a coin lifts a right habit (blue: by more than 10 points)\n"
                   "and lowers a wrong one (red: by more than 10)")
