"""Pretraining against reward against volume: one corpus, read for longer and longer.

On each of these bases a coin and the correct reward, for as many batches as the longest volume.
"""

from statistics import mean

from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    Results,
    align,
    gains,
    greedy_gains,
    show_seeds,
)
from pretrain import PretrainConfig

BASES = base_grid(base=["good-code"], steps=[100, 200, 400, 800]) | base_grid(base=["good-code"])
VOLUMES = (20, 40, 80)   # rollout batches


def runs(seeds: int) -> list[dict]:
    return grid(base=list(BASES), reward=["random", "correct"], steps=max(VOLUMES),
                seed=range(1, seeds + 1))


def is_long(run: dict) -> bool:
    """Whether a run is one of the volumes."""
    return run["steps"] == max(VOLUMES)


def follow_gains(results: Results, base: str, reward: str) -> list[list[float]]:
    """Points gained at T = 1 after each of VOLUMES, a list a seed, on training prompts.

    A row of a curve is the mean over four batches: the last four before a volume is reached.
    """
    found = []
    for i, run in enumerate(results.runs):
        if (run["base"], run["reward"]) == (base, reward) and is_long(run):
            accuracy = {row["step"] + 1: row["accuracy"] for row in results.curves[i]}
            found.append([100 * (accuracy[volume] - run["before_accuracy"]) for volume in VOLUMES])
    return found


def tabulate_volumes(results: Results, reward: str) -> str:
    """A row for each length of pretraining. `evaluated`: at the end, on the evaluation problems."""
    lines = [[f"{reward}: steps", "T = 1", "greedy", *(f"{volume} batches" for volume in VOLUMES),
              "evaluated", "greedy gain"]]
    for base, flags in BASES.items():
        cell = [run for run in results.runs
                if (run["base"], run["reward"]) == (base, reward) and is_long(run)]
        if cell:
            followed = zip(*follow_gains(results, base, reward))
            lines.append([str(flags.get("steps", PretrainConfig.steps)),
                          *(f"{mean(run[f'before_{name}'] for run in cell):.3f}"
                            for name in ("accuracy", "greedy_accuracy")),
                          *(show_seeds(list(values)) for values in followed),
                          show_seeds(gains(cell)), show_seeds(greedy_gains(cell))])
    return align(lines)


def draw_volumes(axis, results: Results) -> None:
    """Gains against the length of pretraining: dashed after the fewest batches, solid the most."""
    steps = {base: flags.get("steps", PretrainConfig.steps) for base, flags in BASES.items()}
    names = {"random": "a coin", "correct": "correct"}
    for reward, color, named in (("correct", BLUE, 1), ("random", ORANGE, -2)):
        followed = {base: follow_gains(results, base, reward) for base in BASES}
        for at, style in ((0, "--"), (-1, "-")):
            points = [(steps[base], mean(seed[at] for seed in seeds))
                      for base, seeds in followed.items() if seeds]
            axis.plot(*zip(*points), style, color=color)
            axis.annotate(f"{names[reward]}, {VOLUMES[at]}", points[named % len(points)],
                          (-58, 2), color=color, fontsize=9, textcoords="offset points")
        for base, seeds in followed.items():
            axis.plot([steps[base]] * len(seeds), [seed[-1] for seed in seeds], "o", color=color,
                      markersize=3)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xticks(list(steps.values()), map(str, steps.values()))
    axis.minorticks_off()
    axis.set(title="reward, and rollout batches", xlabel="pretraining steps",
             ylabel="gain in accuracy (points)")
