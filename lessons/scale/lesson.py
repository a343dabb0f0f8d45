"""Does the effect survive a larger model?

Yes, to 14 times the parameters: a coin gains 26.0, 27.6 and 28.0 points at widths 64, 128 and 256
(3 seeds each), the correct reward 30.5. About 20 minutes on 2 cores.
"""

from statistics import mean

from data.tokenizer import VOCABULARY_SIZE
from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    Results,
    align,
    draw_seeds,
    gains,
    greedy_gains,
    group_runs,
    open_canvas,
    show_change,
    show_spread,
)

BASES = (base_grid(base=["good-code"]) | base_grid(base=["good-code"], width=[128, 256])
         | base_grid(base=["no-code"], width=[128]))
WIDTH = 64   # of a base that says nothing else


def runs(seeds: int = 3, quick: bool = False) -> list[dict]:
    """The recipe stays as it is; what varies is the width, by which the parameters grow 4 times."""
    if quick:
        return grid(base="good-code", reward=["random", "correct"], seed=[1])
    return grid(base=list(BASES), reward=["random", "correct"], seed=range(1, seeds + 1))


def find_width(base: str) -> int:
    return BASES[base].get("width", WIDTH)


def count_parameters(width: int) -> int:
    """Three blocks of 12 C^2 and two gains of C each; a last gain; embedding and head."""
    return 3 * (12 * width ** 2 + 2 * width) + width + 2 * VOCABULARY_SIZE * width


def table(results: Results) -> str:
    """A row for each base and reward; means over seeds, ± their standard deviation."""
    lines = [["base", "reward", "size", "accuracy", "gain", "greedy gain", "code share",
              "in code"]]
    for (base, reward), cell in group_runs(results.runs, "base", "reward").items():
        in_code = [run["after_accuracy_code"] for run in cell]
        millions = count_parameters(find_width(base)) / 1e6
        lines.append([base, reward, f"{millions:.2f}M", show_change(cell, "accuracy", 3),
                      show_spread(gains(cell)), show_spread(greedy_gains(cell)),
                      show_change(cell, "code_share"),
                      "" if None in in_code or base.startswith("no-code")
                      else f"{mean(in_code):.3f}"])
    return align(lines)


def figure(results: Results):
    """A row for each base and reward: bar and dots."""
    cells = group_runs(results.runs, "base", "reward")
    canvas, axis = open_canvas(figsize=(8, 1.0 + 0.32 * len(cells)))
    for y, ((_, reward), cell) in enumerate(cells.items()):
        draw_seeds(axis, y, gains(cell), ORANGE if reward == "random" else BLUE)
        axis.text(1.02, y, show_spread(gains(cell)), va="center", fontsize=9,
                  transform=axis.get_yaxis_transform())
    names = [f"{base.split('-width')[0]}, width {find_width(base)}: {reward}"
             for base, reward in cells]
    axis.set_yticks(range(len(cells)), names)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(xlabel="gain in accuracy (points); bar: mean, dot: a seed")
    canvas.suptitle("the same recipe at every width", fontsize=9, color=GREY)
    return canvas
