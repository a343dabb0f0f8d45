"""AdamW in the paper's shape: does a wider model leave a step size at which a coin gains?

8 updates a batch, clips at 1 ± 0.2 and a largest norm of 1. The question is whether there is a step
that moves the habit before noise breaks the arithmetic.
"""

from statistics import mean

from lessons.grid import PAPER_SHAPE, base_grid, grid
from lessons.report import (
    BLUE,
    ORANGE,
    RED,
    Results,
    align,
    describe_flags,
    gains,
    greedy_gains,
    group_runs,
    show_change,
    show_seeds,
)

LRS = 0.0001, 0.0003, 0.001
WIDTHS = base_grid(base=["good-code"]) | base_grid(base=["good-code"], width=[128, 256])
MIXED = base_grid(base=["mixed-code"]) | base_grid(base=["mixed-code"], seed=[1, 2])
MIXED_STEPS = 30
FIRST_SEED = 1001
GAIN, INTACT = 10, 0.9   # points that a window needs, and accuracy inside code
COLORS = dict(zip(LRS, (BLUE, ORANGE, RED)))


def runs(seeds: int) -> list[dict]:
    """Seed by seed over all cells, so that what has been done is balanced wherever it stops."""
    mixed = max(1, 2 * seeds // 3)
    return [run for bases, more, count in ((WIDTHS, {}, seeds), (MIXED, {"steps": MIXED_STEPS},
                                                                 mixed))
            for seed in range(FIRST_SEED, FIRST_SEED + count) for base in bases
            for run in grid(base=base, reward="random", **PAPER_SHAPE | {"lr": list(LRS)}, **more,
                            seed=[seed])]


def sort_cells(runs: list[dict]) -> dict[tuple[str, float], list[dict]]:
    """{(base or mixed-code, step size): rows}; the three bases of mixed-code are one cell."""
    coin = {"reward": "random", "loss": "grpo"} | PAPER_SHAPE
    words = {describe_flags(coin | {"lr": lr} | more): lr
             for lr in LRS for more in ({}, {"steps": MIXED_STEPS})}
    found = {}
    for run in runs:
        if run.get("flags") in words:
            base = "mixed-code" if run["base"] in MIXED else run["base"]
            found.setdefault((base, words[run["flags"]]), []).append(run)
    return dict(sorted(found.items(), key=lambda item: (
        [*WIDTHS, "mixed-code"].index(item[0][0]), item[0][1])))


def rate_cell(base: str, cell: list[dict]) -> tuple[float, float]:
    """The mean gain by which a window is judged, greedy on mixed-code; accuracy inside code.

    A run without a program left counts as 0 there.
    """
    gained = greedy_gains(cell) if base in MIXED else gains(cell)
    return mean(gained), mean(run["after_accuracy_code"] or 0.0 for run in cell)


def is_window(base: str, cell: list[dict]) -> bool:
    gained, in_code = rate_cell(base, cell)
    return gained > GAIN and in_code > INTACT


def tabulate_adamw(results: Results) -> str:
    """A row for each base and step size. `window`: by the rule that was written before the runs."""
    lines = [["base", "lr", "n", "gain", "greedy gain", "code share", "in code", "window"]]
    for (base, lr), cell in sort_cells(results.runs).items():
        lines.append([base, f"{lr:g}", str(len(cell)), show_seeds(gains(cell)),
                      show_seeds(greedy_gains(cell)), show_change(cell, "code_share"),
                      f"{rate_cell(base, cell)[1]:.3f}",
                      "yes" if is_window(base, cell) else "no"])
    return "A coin with AdamW, 8 updates a batch, clips at 1 ± 0.2\n" + align(lines)


def tabulate_spread(results: Results) -> str:
    """The gain of each seed by base and step size; on mixed-code the greedy one."""
    lines = [["base", *(f"lr {lr:g}" for lr in LRS)]]
    cells = sort_cells(results.runs)
    for (base,), rows in group_runs([run for cell in cells.values() for run in cell],
                                    "base").items():
        line = [base]
        for lr in LRS:
            cell = [run for run in cells.get(("mixed-code" if base in MIXED else base, lr), [])
                    if run in rows]
            gained = greedy_gains(cell) if base in MIXED else gains(cell)
            line.append(" ".join(f"{gain:+.1f}" for gain in gained))
        lines.append(line)
    return "The gain of each seed, greedy on mixed-code\n" + align(lines)


def tabulate(results: Results) -> list[str]:
    """Both tables, if there are such runs."""
    return [tabulate_adamw(results), tabulate_spread(results)] if sort_cells(results.runs) else []


def pick_best(results: Results) -> dict[str, tuple[float, list[dict]]]:
    """{base or mixed-code: (step size with the largest mean gain, its rows)}."""
    best = {}
    for (base, lr), cell in sort_cells(results.runs).items():
        if base not in best or rate_cell(base, cell)[0] > rate_cell(base, best[base][1])[0]:
            best[base] = lr, cell
    return best


def list_windows(results: Results) -> list[str]:
    """Of which bases some step size gains and leaves the arithmetic intact."""
    return list(dict.fromkeys(base for (base, _), cell in sort_cells(results.runs).items()
                              if is_window(base, cell)))


def draw_adamw(axis, results: Results) -> None:
    """The gain of each seed by width and step size; hollow: its programs are wrong too often."""
    for (base, lr), cell in sort_cells(results.runs).items():
        if base in WIDTHS:
            x = list(WIDTHS).index(base) + 0.22 * (LRS.index(lr) - 1)
            for run, offset in zip(cell, (-0.04, 0, 0.04, 0.08, -0.08)):
                intact = (run["after_accuracy_code"] or 0.0) > INTACT
                axis.plot(x + offset, gains([run])[0], "o", color=COLORS[lr], markersize=5,
                          markerfacecolor=COLORS[lr] if intact else "white")
    for i, lr in enumerate(LRS):
        axis.text(0.98, 0.93 - 0.07 * i, f"step size {lr:g}", color=COLORS[lr], ha="right",
                  transform=axis.transAxes)
