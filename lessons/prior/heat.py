"""Pretraining, reward or volume? Each cell at its best of three step sizes.

What is best is chosen on training prompts, on the other seeds of the cell, so that luck is not
chosen.
"""

from statistics import mean

import numpy as np

from lessons.grid import base_grid, grid, own_seeds, scale_seeds
from lessons.report import Results, align, describe_flags, show_spread
from pretrain import PretrainConfig

BASES = (base_grid(base=["good-code"], steps=[400, 800]) | base_grid(base=["good-code"]))
REWARDS = "random", "format", "majority", "correct"
LRS = 0.005, 0.01, 0.015
VOLUMES = 10, 20, 40   # rollout batches
LAST = 4               # batches over which accuracy on training prompts is averaged
FIRST_SEED = 30        # of own_seeds: no other cell of the lesson has these

Gains = dict[float, dict[float, list[float]]]   # by step size and seed: after each volume, on new


def runs(seeds: int) -> list[dict]:
    """Seed by seed over all cells, so that what has been done is balanced wherever it stops.

    The three step sizes of a cell share their seeds.
    """
    count = scale_seeds(2, seeds)
    cells = [(base, reward) for base in BASES for reward in REWARDS]
    listed = [grid(base=base, reward=reward, lr=[lr], steps=max(VOLUMES),
                   seed=own_seeds(FIRST_SEED + i, count))
              for i, (base, reward) in enumerate(cells) for lr in LRS]
    return [run for of_seed in zip(*listed) for run in of_seed]


def follow_run(run: dict, curve: list[dict]) -> list[float]:
    """Points gained on training prompts after each volume, then on new problems at the end."""
    found = []
    for volume in VOLUMES:
        last = [row["accuracy"] for row in curve if volume - LAST < row["step"] + 1 <= volume]
        found.append(100 * (mean(last) - run["before_accuracy"]))
    return [*found, 100 * run["gain_total"]]


def follow_cells(results: Results) -> dict[tuple[str, str], Gains]:
    """{(base, reward): gains} of the runs of this grid; others are left out."""
    words = {describe_flags({"reward": "random", "loss": "grpo", "lr": lr,
                             "steps": max(VOLUMES)}): lr for lr in LRS}
    found = {}
    for i, run in enumerate(results.runs):
        if run["base"] in BASES and run["flags"] in words:
            cell = found.setdefault((run["base"], run["reward"]), {})
            of_lr = cell.setdefault(words[run["flags"]], {})
            of_lr[run["seed"]] = follow_run(run, results.curves[i])
    return found


def choose_lr(cell: Gains, column: int, left_out: float) -> float:
    """The step size with the largest mean gain over all seeds but one; if it is alone, its own."""
    def rate(lr: float) -> float:
        others = [gained[column] for seed, gained in cell[lr].items() if seed != left_out]
        return mean(others or [gained[column] for gained in cell[lr].values()])
    return max(cell, key=rate)


def pick_best(cell: Gains) -> list[list[tuple[float, float]]]:
    """For each volume, and for new problems at the last: (gain, step size) of each seed."""
    columns = [*range(len(VOLUMES)), len(VOLUMES)]
    found = []
    for column in columns:
        chosen_on = min(column, len(VOLUMES) - 1)
        seeds = sorted(set.intersection(*(set(of_lr) for of_lr in cell.values())))
        picked = [(seed, choose_lr(cell, chosen_on, seed)) for seed in seeds]
        found.append([(cell[lr][seed][column], lr) for seed, lr in picked])
    return found


def find_best(results: Results) -> dict[tuple[str, str], list[list[tuple[float, float]]]]:
    """`pick_best` of each cell, in the order of the grid."""
    cells = follow_cells(results)
    return {(base, reward): pick_best(cells[base, reward]) for base in BASES for reward in REWARDS
            if (base, reward) in cells}


def find_steps(base: str) -> int:
    return BASES[base].get("steps", PretrainConfig.steps)


def tabulate_best(results: Results) -> str:
    """A row for each base and reward. `step size`: of each seed at the last volume."""
    lines = [["steps", "reward", *(f"{volume} batches" for volume in VOLUMES), "new problems",
              "step size"]]
    for (base, reward), columns in find_best(results).items():
        lines.append([str(find_steps(base)), reward,
                      *(show_spread([gain for gain, _ in column]) for column in columns),
                      ", ".join(f"{lr:g}" for _, lr in columns[-1])])
    return "Gain in points, each cell at its best of three step sizes\n" + align(lines)


def split_squares(values: np.ndarray) -> list[float]:
    """Shares of the sum of squares about the mean: each factor's main effect, then the rest."""
    total = ((values - values.mean()) ** 2).sum()
    shares = []
    for axis in range(values.ndim):
        others = tuple(i for i in range(values.ndim) if i != axis)
        marginal = values.mean(axis=others)
        shares.append(values.size / len(marginal) * ((marginal - values.mean()) ** 2).sum() / total)
    return [*shares, 1 - sum(shares)]


def split_effects(means: np.ndarray) -> dict[str, list[float]]:
    """Of means (bases, rewards, columns): shares of pretraining, reward, volume, and the rest."""
    pretraining, reward, rest = split_squares(means[:, :, -1])
    return {"training prompts": split_squares(means[:, :, :-1]),
            "new problems": [pretraining, reward, float("nan"), rest]}


def list_effects(results: Results) -> dict[str, list[float]]:
    """{'training prompts': shares, 'new problems': ...}, and both without the youngest base.

    Nothing while a cell is missing.
    """
    best = find_best(results)
    if len(best) < len(BASES) * len(REWARDS):
        return {}
    means = np.array([[[mean(gain for gain, _ in column) for column in best[base, reward]]
                       for reward in REWARDS] for base in BASES])    # (bases, rewards, columns)
    youngest = find_steps(next(iter(BASES)))
    older = {f"{name}, not {youngest} steps": shares
             for name, shares in split_effects(means[1:]).items()}
    return split_effects(means) | older


def tabulate_effects(results: Results) -> str:
    """How much of the spread of the cells above each factor explains alone."""
    lines = [["cells", "pretraining", "reward", "volume", "rest"]]
    for name, shares in list_effects(results).items():
        lines.append([name, *("" if np.isnan(share) else f"{share:.0%}" for share in shares)])
    return "Shares of the sum of squares\n" + align(lines) if lines[1:] else ""


def tabulate_lrs(results: Results) -> str:
    """The gain on new problems after the last batch at each step size, mean over seeds."""
    lines = [["steps", "reward", *(f"lr {lr}" for lr in LRS)]]
    for (base, reward), cell in follow_cells(results).items():
        lines.append([str(find_steps(base)), reward,
                      *(show_spread([gained[-1] for gained in cell[lr].values()])
                        if lr in cell else "" for lr in LRS)])
    return f"Gain on new problems after {max(VOLUMES)} batches, by step size\n" + align(lines)


def tabulate(results: Results) -> list[str]:
    """All tables, if there are such runs."""
    if not follow_cells(results):
        return []
    parts = [tabulate_best(results), tabulate_lrs(results), tabulate_effects(results)]
    return [part for part in parts if part]


def draw_heat(axis, results: Results) -> None:
    """Gains: a row a length of pretraining, a block a reward; volumes, then new problems."""
    best, width = find_best(results), len(VOLUMES) + 2       # a block, and a gap behind it
    for (base, reward), columns in best.items():
        y, left = list(BASES).index(base), width * REWARDS.index(reward)
        values = [mean(gain for gain, _ in column) for column in columns]
        axis.imshow([values], cmap="RdBu", vmin=-45, vmax=45, aspect="auto",
                    extent=(left, left + len(values), y + 0.5, y - 0.5))
        for i, value in enumerate(values):
            axis.text(left + i + 0.5, y, f"{value:+.0f}", ha="center", va="center", fontsize=8,
                      color="white" if abs(value) > 28 else "black")
    names = {"random": "coin"}
    for i, reward in enumerate(REWARDS):
        axis.text(width * i + width / 2 - 0.5, -0.55, names.get(reward, reward), ha="center",
                  va="bottom")
    ticks = [width * i + j + 0.5 for i in range(len(REWARDS)) for j in range(width - 1)]
    axis.set_xticks(ticks, [*map(str, VOLUMES), "new"] * len(REWARDS), fontsize=8)
    axis.set_yticks(range(len(BASES)), [f"{find_steps(base):,}" for base in BASES])
    axis.set(xlim=(0, width * len(REWARDS) - 1), ylim=(len(BASES) - 0.5, -0.5),
             xlabel="batches; new: unseen problems at the end", ylabel="steps of pretraining")
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
