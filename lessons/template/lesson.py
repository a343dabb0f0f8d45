"""What does a reward for code do?

One sentence that answers it, with its number, once there is one. About 2 minutes on 2 cores.
"""

from lessons.grid import base_grid, grid
from lessons.report import (
    Results,
    align,
    draw_gains,
    gains,
    group_runs,
    show_change,
    show_spread,
    title_tables,
)
from lessons.summary import Summary

BASES = base_grid(base=["good-code"])  # {name: flags of pretrain}


def runs(seeds: int = 2, quick: bool = False) -> list[dict]:
    """The grid; the control that could kill the claim stands beside it."""
    seeds = 1 if quick else seeds
    return grid(base="good-code", reward=["code", "not_code"], seed=range(1, seeds + 1))


def table(results: Results) -> str:
    """Titled, at most 8 columns and 100 characters; means, spread and number of seeds."""
    lines = [["reward", "seeds", "accuracy", "gain", "code share"]]
    for (reward,), cell in group_runs(results.runs, "reward").items():
        lines.append([reward, str(len(cell)), show_change(cell, "accuracy", 3),
                      show_spread(gains(cell)), show_change(cell, "code_share")])
    return "\n\n".join(title_tables({"Gain in points by reward": align(lines)}))


def summary(results: Results) -> Summary:
    """What the page shows: at most eight rows, and one sentence with its uncertainty."""
    rows = [["reward", "accuracy"], *([reward, show_change(cell, "accuracy")] for (reward,), cell in
                                      group_runs(results.runs, "reward").items())]
    return Summary("accuracy on 400 unseen problems, before -> after", rows, "A sentence.")


def figure(results: Results):
    """What a reader sees in five seconds; draw_gains will do for a start."""
    return draw_gains(results)
