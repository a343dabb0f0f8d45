"""Why does a coin flip help?

At p = 0.5 and with SGD the clip's upper bound does it: alone it gains 24.5 ± 3.4 points, as much
as both bounds. Without a clip, as far from the base, it is -7.1 ± 28.9 (8 seeds each). About 20
minutes on 2 cores.
"""

from statistics import mean

from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    Results,
    align,
    describe_flags,
    draw_seeds,
    gains,
    group_runs,
    show_spread,
)

BASES = base_grid(base=["good-code"])
NO_CLIP = {"eps_low": 1e9, "eps_high": 1e9}
FRESH = {"steps": 640, "prompts": 2, "updates": 1}   # an update sees only its own 32 rollouts
# What is varied: {name of the cell: its flags}
CELLS = {
    "width of the clip": {"eps 0.4, the default": {},
                          **{f"eps {eps}": {"eps_low": eps, "eps_high": eps}
                             for eps in (0.2, 0.1, 0.05)}},
    "one bound": {"upper bound only": {"eps_low": 1e9}, "lower bound only": {"eps_high": 1e9}},
    "no clip": {f"no clip, lr {lr}": NO_CLIP | ({} if lr == 0.015 else {"lr": lr})
                for lr in (0.015, 0.006, 0.003)},
    "fresh rollouts": {"fresh, lr 0.015": FRESH, "fresh, lr 0.004": FRESH | {"lr": 0.004}},
    "how often the coin pays": {f"p {p}": {"p": p} for p in (0.9, 0.1, 0.001, 0)},
    "optimizer": {f"adamw, lr {lr}": {"optimizer": "adamw", "lr": lr} for lr in (0.0003, 0.0001)},
}
QUICK = ("eps 0.4, the default", "upper bound only", "lower bound only", "no clip, lr 0.006")


def runs(seeds: int = 8, quick: bool = False) -> list[dict]:
    """Every cell on the same seeds; p = 0 once, since all its seeds are the base itself."""
    planned = []
    for name, flags in list_cells().items():
        if quick and name not in QUICK:
            continue
        count = 1 if flags.get("p") == 0 else 3 if quick else seeds
        planned += grid(base="good-code", reward="random", **flags, seed=range(1, count + 1))
    return planned


def list_cells() -> dict[str, dict]:
    """{name: flags} of all groups."""
    return {name: flags for group in CELLS.values() for name, flags in group.items()}


def sort_cells(runs: list[dict]) -> dict[str, list[dict]]:
    """{name: its runs} in the order of CELLS; KeyError for a run of no cell."""
    names = {describe_flags({"reward": "random", "loss": "grpo"} | flags): name
             for name, flags in list_cells().items()}
    found = {names[flags]: cell for (flags,), cell in group_runs(runs, "flags").items()}
    return {name: found[name] for name in names.values() if name in found}


def show_mean(runs: list[dict], name: str, digits: int = 2) -> str:
    return f"{mean(run[name] for run in runs):.{digits}f}"


def show_range(values: list[float], style: str) -> str:
    """'-60.3 .. +14.3', over seeds; nothing for a single one."""
    return f"{min(values):{style}} .. {max(values):{style}}" if len(values) > 1 else ""


def count_destroyed(runs: list[dict]) -> int:
    """Seeds whose accuracy fell below half of what it was."""
    return sum(run["after_accuracy"] < run["before_accuracy"] / 2 for run in runs)


def tabulate_gains(runs: list[dict]) -> str:
    """KL: nats per response from the base."""
    lines = [["", "seeds", "gain", "min .. max", "accuracy", "code share", "KL", "destroyed"],
             ["before", "", "", "", show_mean(runs, "before_accuracy", 3),
              show_mean(runs, "before_code_share"), "", ""]]
    for name, cell in sort_cells(runs).items():
        lines.append([name, str(len(cell)), show_spread(gains(cell)),
                      show_range(gains(cell), "+.1f"), show_mean(cell, "after_accuracy", 3),
                      show_mean(cell, "after_code_share"), show_mean(cell, "after_kl_to_base"),
                      f"{count_destroyed(cell)} of {len(cell)}"])
    return align(lines)


def tabulate_causes(runs: list[dict]) -> str:
    """`right in code` is the accuracy inside code mode; the clips are shares of all tokens."""
    lines = [["", "switch", "within", "right in code", "clip high", "clip low", "entropy",
              "token prob."],
             ["before", "", "", show_mean(runs, "before_accuracy_code"), "", "",
              show_mean(runs, "before_entropy", 3), show_mean(runs, "before_mean_token_prob", 3)]]
    for name, cell in sort_cells(runs).items():
        parts = [f"{mean(gains(cell, part)):+.1f}" for part in ("switch", "within")]
        in_code = [run["after_accuracy_code"] for run in cell]
        clips = [f"{mean(run[f'clip_{side}'] for run in cell):.3%}" for side in ("high", "low")]
        lines.append([name, *parts, show_range(in_code, ".2f"), *clips,
                      show_mean(cell, "after_entropy", 3),
                      show_mean(cell, "after_mean_token_prob", 3)])
    return align(lines)


def table(results: Results) -> str:
    """What was gained, and how; means over seeds, ± their standard deviation."""
    return f"{tabulate_gains(results.runs)}\n\n{tabulate_causes(results.runs)}"


def label_rows(axis, cells: dict[str, list[dict]]) -> dict[str, int]:
    """Name the rows and their groups on the left; {name of a cell: its row}."""
    labels = []
    for group, names in CELLS.items():
        present = [name for name in names if name in cells]
        labels += [(group, True), *((name, False) for name in present)] if present else []
    axis.set_yticks(range(len(labels)), [label for label, _ in labels])
    for tick, (_, is_group) in zip(axis.get_yticklabels(), labels):
        tick.set_fontweight("bold" if is_group else "normal")
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    return {label: y for y, (label, is_group) in enumerate(labels) if not is_group}


def figure(results: Results):
    """A row for each cell: bar and dots; lines for no gain and for what the default gains."""
    import matplotlib.pyplot as plt

    cells = sort_cells(results.runs)
    canvas, axis = plt.subplots(figsize=(8, 1.1 + 0.26 * (len(cells) + len(CELLS))),
                                layout="constrained")
    for name, y in label_rows(axis, cells).items():
        values = gains(cells[name])
        up = sum(value > 0 for value in values)
        draw_seeds(axis, y, values, BLUE if up == len(values) else GREY)
        axis.text(1.02, y, f"{show_spread(values)},  {up} of {len(values)} up", va="center",
                  fontsize=9, transform=axis.get_yaxis_transform())
    axis.axvline(0, color="black", linewidth=0.8)
    default = cells.get("eps 0.4, the default")
    if default:
        axis.axvline(mean(gains(default)), color=BLUE, linewidth=0.8, linestyle="--")
        axis.text(mean(gains(default)), -0.75, "the default's mean", color=BLUE, ha="center",
                  fontsize=8)
    axis.set(xlabel="gain in accuracy under a coin flip (points); bar: mean, dot: a seed, "
                    "blue: every seed rose")
    return canvas
