"""What the lesson's page shows first: the coin and the correct reward on three kinds of bases."""

import re
from statistics import mean
from textwrap import fill

import numpy as np

from lessons.chance import chance
from lessons.report import (
    BLUE,
    GREY,
    Results,
    curves_of,
    describe_flags,
    draw_mean,
    open_canvas,
    show_change,
)
from lessons.spurious.trio import CELLS, COINS, KINDS, count_outcomes
from lessons.summary import Summary

SHOWN = {"mixed-code": "coin", "mixed-code, correct": "correct", "mixed-none": "coin",
         "mixed-none, correct": "correct", "mixed-bad": "coin", "mixed-bad, correct": "correct",
         "no PPO clip": "coin, no PPO clip", "no PPO clip, lr 0.006": "that, with lr 0.006"}
HEAD = ["base", "reward", "runs", "greedy accuracy", "sampled", "programs",
        "up", "down"]
FEW = 5    # runs of the coin on a kind: fewer do not say how often
FINDING = ("A coin strengthens the habit: accuracy rises if it beats its rivals, "
           "falls if it does worse")


def drop_steps(flags: str) -> str:
    """Flags of a row but for the number of batches, which a quick grid may choose."""
    return re.sub(r"--steps \d+ ?", "", flags).strip()


def find_cell(name: str, runs: list[dict]) -> list[dict]:
    """The runs of one cell of the mixed bases, whatever their seeds and number of batches."""
    cell = CELLS[name]
    flags = drop_steps(describe_flags({"reward": cell.reward, "loss": "grpo"} | cell.flags))
    return [run for run in runs if run["base"] in cell.bases and run["reward"] == cell.reward
            and run["loss"] == "grpo" and drop_steps(run["flags"]) == flags]


def show_cell(name: str, cell: list[dict]) -> list[str]:
    """A row: seeds and bases; accuracy greedily and sampled, programs; seeds up and down."""
    shares = [mean(run[f"{when}_code_share"] for run in cell) for when in ("before", "after")]
    up, _, down = count_outcomes(cell)
    return [CELLS[name].kind, SHOWN[name], str(len(cell)),
            show_change(cell, "greedy_accuracy"), show_change(cell, "accuracy"),
            "{:.0%} -> {:.0%}".format(*shares) if max(shares) > 0.005 else "none",
            str(up), str(down)]


def say_outcomes(coins: dict[str, list[dict]]) -> str:
    """How many seeds the coin moves on each kind, with the exact interval; and if they are few."""
    if not coins:
        return "No coin was thrown on a mixed base."
    said = []
    for name, cell in coins.items():
        up, _, down = count_outcomes(cell)
        bounds = " (95% interval {:.0%} to {:.0%})".format(*chance(up, len(cell)))
        said.append(f"on {name} it lifts {up} of {len(cell)}"
                    f"{bounds if len(cell) >= FEW else ''} and lowers {down}")
    few = ("" if min(map(len, coins.values())) >= FEW else
           " So few runs show what can happen, not how often it does.")
    return ("The coin moves greedy accuracy by more than 10 points as follows: "
            f"{'; '.join(said)}.{say_programs(coins)}{few}")


def say_programs(coins: dict[str, list[dict]]) -> str:
    """Whether it was the choice of programs that moved, or what they are worth."""
    cell = coins.get("mixed-code", [])
    if not cell or any(run.get("after_accuracy_code") is None for run in cell):
        return ""
    numbers = [f"{mean(run[f'{when}_{name}'] for run in cell):.0%}"
               for name in ("code_share", "accuracy_code") for when in ("before", "after")]
    return (" On mixed-code programs go from {} to {} of the answers, and from {} to {} of the "
            "programs are right.").format(*numbers)


def summarize(results: Results) -> Summary:
    """Eight rows at most, of what there is; the sentence is about the coin."""
    cells = {name: find_cell(name, results.runs) for name in SHOWN}
    cells = {name: cell for name, cell in cells.items() if cell}
    steps = sorted({int(run["steps"]) for cell in cells.values() for run in cell})
    title = (f"Accuracy on 400 unseen problems before and after {' or '.join(map(str, steps))} "
             "batches; runs up, down by over 10 points")
    coins = {name: cells[name] for name in COINS if name in cells}
    return Summary(title, [HEAD, *(show_cell(*item) for item in cells.items())],
                   fill(say_outcomes(coins), 100))


# --- figure

SAYS = {"mixed-code": "the habit is right", "mixed-none": "every answer is a guess",
        "mixed-bad": "the habit is wrong"}


def even_out(curve: list[dict], column: str) -> tuple[list[float], list[float]]:
    """A column over the batches trained on before, all points being means over as many batches.

    A row of a curve is a batch or the mean over some; rows of fewer are taken together.
    """
    ends = [row["step"] for row in curve]
    starts = [0, *(end + 1 for end in ends[:-1])]
    most = max(end - start + 1 for start, end in zip(starts, ends))
    points = {}
    for row, start, end in zip(curve, starts, ends):
        points.setdefault(end // most, []).append(((start + end) / 2, row[column]))
    x, y = zip(*(map(mean, zip(*of_point)) for of_point in points.values()))
    return list(x), list(y)


def draw_panel(axis, kind: str, cell: list[dict], curves: list[list[dict]]) -> None:
    """Blue: answers sampled in training; black: greedy, unseen problems; grey: the mean reward."""
    axis.set_title(f"{kind}: {SAYS[kind]}", loc="left")
    if not cell:
        return
    steps = max(run["steps"] for run in cell)
    axis.set(xlim=(-0.04 * steps, 1.2 * steps), ylim=(0, 1.02), xticks=np.arange(0, steps + 1, 10))
    x, _ = even_out(curves[0], "reward")
    paid, right = ([even_out(curve, name)[1] for curve in curves]
                   for name in ("reward", "accuracy"))
    axis.plot(x, [mean(values) for values in zip(*paid)], color=GREY, linewidth=2)
    draw_mean(axis, x, right, BLUE)
    axis.plot(0, mean(run["before_greedy_accuracy"] for run in cell), "o", color="black",
              fillstyle="none", markersize=8, markeredgewidth=1.5, zorder=5)
    after = sorted(run["after_greedy_accuracy"] for run in cell)
    axis.plot(steps * (1.04 + 0.04 * (np.arange(len(after)) % 4)), after, "o", color="black",
              markersize=3.5, alpha=0.55, markeredgewidth=0)
    up, _, down = count_outcomes(cell)
    axis.text(0, 0.02, f"up by > 10 points: {up} of {len(cell)}; down: {down}", fontsize=9)


def name_lines(axis, high: float) -> None:
    """Where there is room: what is blue, grey and, from `high` on, black in all panels."""
    black = "ring, dots: greedy accuracy before\nand after, unseen; a dot a run"
    blue = "accuracy in training, sampled:\na line a run; thick: their mean"
    for y, text, color in ((high, black, "black"), (0.525, "what the coin pays", GREY),
                           (0.285, blue, BLUE)):
        axis.text(0.04, y, text, color=color, fontsize=9, transform=axis.transAxes)


def draw_headline(results: Results):
    """A panel for each kind of base: what the coin pays stays, accuracy goes with the habit."""
    cells = {kind: find_cell(kind, results.runs) for kind in KINDS}
    enough = min(map(len, cells.values())) >= FEW
    shown = {kind: cell for kind, cell in cells.items() if cell} or cells
    canvas, axes = open_canvas(1, len(shown), figsize=(3 * max(2, len(shown)), 3.6), sharey=True,
                               squeeze=False)
    for axis, (kind, cell) in zip(axes[0], shown.items()):
        draw_panel(axis, kind, cell, curves_of(results, cell))
    # On mixed-none the upper half of the panel is empty.
    name_lines(axes[0, len(shown) // 2], 0.84 if "mixed-none" in shown else 0.1)
    axes[0, 0].set_ylabel("accuracy; mean reward")
    axes[0, len(shown) // 2].set_xlabel("batches of training on a coin")
    canvas.suptitle(FINDING if enough else "What a coin does to accuracy, in few runs",
                    x=0.01, ha="left", fontsize=11, fontweight="bold")
    return canvas
