"""Does a third outcome, I do not know, buy honesty?

On two of six bases, with GRPO's std: the first invents an answer to 1.1% of the problems that it
cannot solve, from 89%, and is as right elsewhere as under the binary reward (5 seeds). On the four
others nothing is learnt (1 to 3 seeds), nor on any by the binary reward; without the std in 1 of 12
runs. About 45 minutes on 2 cores.
"""

from statistics import mean
from textwrap import fill
from typing import Iterable

from lessons.chance import chance
from lessons.doubt import ALL, RECIPE, find_rows
from lessons.grid import base_grid, grid, scale_seeds
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    add_bounds,
    align,
    draw_mean,
    group_runs,
    open_canvas,
    select_runs,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary

BASES = (base_grid(base=["humble-code"]) | base_grid(base=["humble-code"], doubt=["flat"])
         | base_grid(base=["humble-code"], seed=[1, 7, 2, 3, 4]))
LENGTH, FLAT, *AGAIN = BASES   # doubt in the corpus grows with length, or does not; and five more
BASE_SEEDS = {base: base.removeprefix("humble-code-").replace("seed", "seed ") for base in AGAIN}
CURVES = ("accuracy_easy", "hallucination_easy", "hallucination_hard")

# `correct` is the same run as in lesson calibration.
REWARDS = {"correct": {"reward": "correct"}, "ternary": {"reward": "ternary"},
           "dr_grpo": {"reward": "ternary", "loss": "dr_grpo"},
           "random": {"reward": "random"}}
VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0)   # of an abstention
CONTROLS = ("correct", "dr_grpo")      # beside three outcomes, on every base


def price(value: float) -> dict:
    return {"reward": "ternary"} | ({"abstain_reward": value} if value else {})


def pay_bases(bases: list[str], names: Iterable[str]) -> list[dict]:
    """The cells of some rewards on some bases: their flags, without a seed."""
    return [{"base": base} | RECIPE | REWARDS[name] for base in bases for name in names]


def list_cells() -> dict[int, list[dict]]:
    """The cells by how many seeds they have: few on the other bases, of which there are many."""
    second, third, *late = AGAIN
    values = [{"base": LENGTH} | RECIPE | price(value) for value in VALUES if value]
    return {5: pay_bases([LENGTH], REWARDS) + pay_bases([FLAT], ["ternary"]),
            3: values + pay_bases([second, third], ["ternary"]),
            2: pay_bases([second, third], CONTROLS),
            1: pay_bases(late, ["ternary", *CONTROLS])}


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return [cell | {"seed": 1} for cell in pay_bases([LENGTH], ["correct", "ternary"])]
    return [run for count, cells in list_cells().items() for cell in cells
            for run in grid(**cell, seed=range(1, 1 + scale_seeds(count, seeds)))]


def tabulate_honesty(head: str, rows: list[tuple[str, str, list]]) -> str:
    """Percent of the responses to a kind of problems; truthfulness of both kinds together."""
    columns = {"easy: right": "accuracy_easy", "abstains": "abstain_share_easy",
               "invents": "hallucination_easy", "hard: right": "accuracy_hard",
               "abstains ": "abstain_share_hard", "invents ": "hallucination_hard",
               "truthful": "truthfulness"}
    lines = [[head, *columns]]
    for name, when, cell in rows:
        lines.append([name, *(show_seeds([100 * run[f"{when}_{column}"] for run in cell], 1,
                                         "+" if column == "truthfulness" else "")
                              for column in columns.values())])
    return align(lines)


def tabulate_lengths(results: Results, base: str, cells: dict[str, dict]) -> str:
    """The share that abstains, by the number of operations."""
    lines = [["abstains", *(f"k = {k}" for k in ALL)]]
    for name, when, cell in find_rows(results, base, cells):
        means = [mean(run[f"{when}_abstain_by_length_{k}"] for run in cell) for k in ALL]
        lines.append([name, *(f"{share:.3f}" for share in means)])
    return align(lines)


def tabulate_bases(results: Results, cells: dict[str, dict]) -> str:
    """How much more a base doubts hard problems than easy ones, and what a reward makes of it."""
    lines = [["before", "easy", "hard", "hard / easy", *(f"after {name}" for name in cells)]]
    for base, name in {LENGTH: "first", **BASE_SEEDS}.items():
        rows = find_rows(results, base, cells)
        if rows:
            easy, hard = (100 * rows[0][2][0][f"before_abstain_share_{kind}"]
                          for kind in ("easy", "hard"))
            after = {cell: [100 * run["after_abstain_share_hard"] for run in found]
                     for cell, _, found in rows[1:]}
            lines.append([name, f"{easy:.1f}", f"{hard:.1f}", f"{hard / easy:.2f}",
                          *(show_seeds(after[cell], 1, "") if cell in after else ""
                            for cell in cells)])
    return align(lines)


def table(results: Results) -> str:
    """Rewards; abstention by length; what an abstention is worth; flat corpus; other bases."""
    parts = {"Answers to easy and to hard problems in percent, by reward, on the first base":
             tabulate_honesty("", find_rows(results, LENGTH, REWARDS)),
             "Share of answers that abstain, by k, the number of operations, on the first base":
             tabulate_lengths(results, LENGTH, REWARDS)}
    if any(run["base"] == FLAT for run in results.runs):
        values = {f"{value:+g}": price(value) for value in VALUES}
        flat = {"ternary": REWARDS["ternary"]}
        parts |= {
            "Answers in percent, by what an abstention is paid, on the first base":
                tabulate_honesty("worth", find_rows(results, LENGTH, values)),
            "Answers in percent, on the base whose corpus doubts alike at every length":
                tabulate_honesty("flat corpus", find_rows(results, FLAT, flat)),
            "Share of answers that abstain, by number of operations, on that base":
                tabulate_lengths(results, FLAT, flat)}
        three = {name: REWARDS[name] for name in ("ternary", *CONTROLS)}
        parts |= {f"Answers in percent, on the base of pretraining {name}":
                  tabulate_honesty(name, find_rows(results, base, three))
                  for base, name in BASE_SEEDS.items()}
        parts["Percent that abstains, by base: before training, and after it on hard problems"] = (
            tabulate_bases(results, three))
    return add_bounds(title_tables(parts))


# --- the page

SAID = {"correct": "right or wrong", "ternary": "three outcomes",
        "dr_grpo": "three outcomes, no std"}
# The rows of a way to pay: bases that end alike share one.
GROUPS = {"correct": {f"all {1 + len(AGAIN)}": [LENGTH, *AGAIN]},
          "ternary": {"first": [LENGTH], "second": AGAIN[:1],
                      f"{len(AGAIN) - 1} others": AGAIN[1:]},
          "dr_grpo": {"first": [LENGTH], f"{len(AGAIN)} others": AGAIN}}
LEARNT = 0.5   # of the answers to hard problems abstain: then a run has learnt it


def find_reward(results: Results, name: str, bases: list[str]) -> list[dict]:
    """The runs of a reward on some bases."""
    return [run for base in bases
            for run in select_runs(results.runs, {"base": base} | RECIPE | REWARDS[name])]


def count_learners(found: list[dict]) -> tuple[int, int]:
    """Of how many bases more than half of the runs abstain from most hard problems; (those, all).
    """
    bases = group_runs(found, "base").values()
    shares = [mean(run["after_abstain_share_hard"] > LEARNT for run in cell) for cell in bases]
    return sum(share > 0.5 for share in shares), len(shares)


def show_percents(found: list[dict], column: str) -> str:
    """'89 -> 1.1 ± 0.3': the base, the mean over bases if several, and the runs."""
    before = [100 * cell[0][f"before_{column}"] for cell in group_runs(found, "base").values()]
    after = show_seeds([100 * run[f"after_{column}"] for run in found], 1, "")
    return f"{mean(before):.0f} -> {after}"


def summary(results: Results) -> Summary:
    """What becomes of easy and hard problems, by reward and by bases that end alike."""
    rows = [["paid by", "bases", "runs", "easy: right", "hard: abstains", "hard: invents"]]
    cells = [(name, *pair) for name, groups in GROUPS.items() for pair in groups.items()]
    for name, group, bases in cells:
        found = find_reward(results, name, bases)
        if found:
            group = "first" if {run["base"] for run in found} == {LENGTH} else group
            rows.append([SAID[name], group, str(len(found)),
                         *(show_percents(found, column) for column in
                           ("accuracy_easy", "abstain_share_hard", "hallucination_hard"))])
    return Summary("Percent of the answers to a kind of problems, before and after training", rows,
                   say_learners(results))


def say_learners(results: Results) -> str:
    """On how many bases a run learns to abstain: of three outcomes, and of the controls."""
    said = []
    for name in ("ternary", *CONTROLS):
        found = find_reward(results, name, [LENGTH, *AGAIN])
        if found:
            k, n = count_learners(found)
            bounds = " ({:.0%} to {:.0%})".format(*chance(k, n)) if n > 1 else ""
            said.append(f"{k} of {n}{bounds} paid by {SAID[name]}")
    seeds = len(find_reward(results, "ternary", [LENGTH]))
    few = " One seed: enough to see it, not to claim it." if seeds == 1 else ""
    what = " (in brackets: exact 95% intervals)" if any("(" in words for words in said) else ""
    return fill(f"Bases that learn to abstain from most hard problems{what}: "
                f"{'; '.join(said) or 'none was run'}.{few}", 96)


# --- the figures

def draw_doubt(axis, found: list[dict], title: str) -> None:
    """Abstention by length: before training, and a line a run."""
    for cell in group_runs(found, "base").values():
        axis.plot(ALL, [cell[0][f"before_abstain_by_length_{k}"] for k in ALL], color=GREY,
                  linewidth=1.5)
    for run in found:
        learnt = run["after_abstain_share_hard"] > LEARNT
        axis.plot(ALL, [run[f"after_abstain_by_length_{k}"] for k in ALL], linewidth=1,
                  color=BLUE if learnt else RED, alpha=0.7)
    axis.axvspan(5.5, 7, color="0.93", linewidth=0)
    axis.set(title=title, xlabel="operations of a problem", xlim=(1, 7), ylim=(-0.09, 1.05),
             xticks=ALL)


def figure(results: Results):
    """The share that abstains by length, under both rewards, on all bases that have them."""
    both = {name: find_reward(results, name, [LENGTH, *AGAIN]) for name in ("correct", "ternary")}
    canvas, axes = open_canvas(1, 2, figsize=(8, 3.4), sharey=True)
    for axis, (name, found) in zip(axes, both.items()):
        learners, bases = count_learners(found)
        draw_doubt(axis, found, f"paid by {SAID[name]}: {learners} of {bases} "
                                f"base{'s' * (bases > 1)} learn{'s' * (bases == 1)} it")
        axis.text(6.25, 0.5, "hard", color=GREY, fontsize=9, ha="center")
    axes[0].set_ylabel('share of "I do not know"')
    axes[0].text(4, 0.14, "before training", color=GREY, fontsize=9, ha="center")
    axes[0].text(1.2, -0.075, "after: not learnt", color=RED, fontsize=9)
    if count_learners(both["ternary"])[0]:
        axes[1].text(5.2, 0.8, "after: learnt", color=BLUE, fontsize=9, ha="right")
    k, n = count_learners(both["ternary"])
    canvas.suptitle(f"Paid for three outcomes, {k} of {n} bases learn to doubt, and only where it "
                    "is due")
    return canvas


def draw_outcomes(axis, rows: list[tuple[str, str, list]], kind: str) -> None:
    """A bar a row: right, abstains, invents; means over seeds."""
    outcomes = {f"accuracy_{kind}": BLUE, f"abstain_share_{kind}": GREY,
                f"hallucination_{kind}": RED}
    for y, (_, when, cell) in enumerate(rows):
        left = 0.0
        for column, color in outcomes.items():
            share = mean(run[f"{when}_{column}"] for run in cell)
            axis.barh(y, share, left=left, color=color, height=0.62, alpha=0.75)
            left += share
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.invert_yaxis()
    axis.set(title=f"{kind} problems", xlabel="share of responses", xlim=(0, 1))


def draw_lengths(axis, rows: list[tuple[str, str, list]]) -> None:
    """Abstention by length: a thin line a seed, the mean thick."""
    colors = {"(base)": GREY, "ternary": ORANGE, "dr_grpo": BLUE}
    for name, when, cell in rows:
        if name in colors:
            lines = [[run[f"{when}_abstain_by_length_{k}"] for k in ALL] for run in cell]
            draw_mean(axis, ALL, lines, colors[name])
            last = mean(line[-1] for line in lines)
            axis.text(7.1, last, name, color=colors[name], fontsize=9, va="center")
    axis.set(title="share that abstains", xlabel="operations (6, 7: never seen)", xlim=(1, 9.6),
             ylim=(-0.02, 1.02), xticks=ALL)


def record_figure(results: Results):
    """What becomes of easy and hard problems under each reward; abstention by length."""
    rows = find_rows(results, LENGTH, REWARDS)
    canvas, axes = open_canvas(1, 3, figsize=(12, 3.2))
    for axis, kind in zip(axes, ("easy", "hard")):
        draw_outcomes(axis, rows, kind)
    axes[1].set_yticks([])
    names = [name for name, _, _ in rows]
    for axis, name, text in ((axes[0], "correct", "right"), (axes[1], "correct", "invents"),
                             (axes[1], "ternary", "abstains")):
        axis.text(0.5, names.index(name), text, color="white", ha="center", va="center")
    draw_lengths(axes[2], rows)
    return canvas
