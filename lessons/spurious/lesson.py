"""Do spurious rewards work?

A coin flip gains 23.5 ± 3.8 points (20 seeds) where the habit is the accurate mode, where the
correct reward gains 30.5. It changes -0.2 ± 1.0 where there is no such mode, and a bad habit loses
19.6 ± 2.7. About 25 minutes on 2 cores.
"""

from statistics import mean

from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    PAPER,
    Results,
    align,
    draw_seeds,
    gains,
    group_runs,
    show_change,
    show_spread,
)
from lessons.spurious.elicit import elicit_bases

BASES = base_grid(base=["good-code", "no-code", "bad-code"])
REWARDS = ["correct", "majority", "incorrect", "random", "format"]


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    """The coin is what varies, and what the claim is about: it has four times as many seeds."""
    if quick:
        return grid(base=["good-code", "no-code"], reward=REWARDS, seed=[1])
    plan = grid(base=list(BASES), reward=REWARDS, seed=range(1, 4 * seeds + 1))
    return [run for run in plan if run["reward"] == "random" or run["seed"] <= seeds]


def measure(runs: list[dict]) -> list[dict]:
    """What each base gives without training."""
    return elicit_bases(list(dict.fromkeys(run["base"] for run in runs)))


def greedy_gains(runs: list[dict]) -> list[float]:
    return [100 * (run["after_greedy_accuracy"] - run["before_greedy_accuracy"]) for run in runs]


def tabulate_gains(runs: list[dict]) -> str:
    lines = [["base", "reward", "seeds", "accuracy", "gain", "greedy gain", "code share", "paper"]]
    for (base, reward), cell in group_runs(runs, "base", "reward").items():
        paper = f"{PAPER[reward]:+.1f}" if base == "good-code" else ""
        lines.append([base, reward, str(len(cell)), show_change(cell, "accuracy", 3),
                      show_spread(gains(cell)), show_spread(greedy_gains(cell)),
                      show_change(cell, "code_share"), paper])
    return align(lines)


def tabulate_switches(runs: list[dict]) -> str:
    """What answers that changed their mode so contribute to the gain, and their share of all."""
    moves = ["text->code", "code->code", "text->text", "code->text"]
    lines = [["base", "reward", *moves, "switch", "within"]]
    for (base, reward), cell in group_runs(runs, "base", "reward").items():
        parts = []
        for move in moves:
            share, points = (100 * mean(run[f"switches_{move}_{what}"] for run in cell)
                             for what in ("share", "points"))
            parts.append(f"{share:.0f}%: {points:+.1f}")
        switch, within = (f"{mean(gains(cell, part)):+.1f}" for part in ("switch", "within"))
        lines.append([base, reward, *parts, switch, within])
    return align(lines)


def tabulate_elicited(results: Results) -> str:
    """Points over sampling at T = 1 of each way of drawing the habit out, beside the coin flip."""
    rows = {(row["base"], row["way"]): 100 * row["accuracy"] for row in results.evidence}
    bases, ways = (list(dict.fromkeys(name[i] for name in rows)) for i in (0, 1))
    lines = [["without training", *bases]]
    for way in ways[1:]:
        lines.append([way, *(f"{rows[base, way] - rows[base, ways[0]]:+.1f}" for base in bases)])
    coin = group_runs([run for run in results.runs if run["reward"] == "random"], "base")
    lines.append(["random reward", *(show_spread(gains(coin[base,])) for base in bases)])
    return align(lines)


def table(results: Results) -> str:
    """Gains at T = 1 and greedily; what changes of mode contribute; the same without training."""
    parts = [tabulate_gains(results.runs), tabulate_switches(results.runs)]
    if results.evidence:
        parts.append(tabulate_elicited(results))
    return "\n\n".join(parts)


def figure(results: Results):
    """A panel for each base: a bar for each reward, a dot for each seed, the paper's as a line."""
    import matplotlib.pyplot as plt

    says = {"good-code": "the habit is right", "no-code": "no such mode",
            "bad-code": "the habit is wrong"}
    bases = group_runs(results.runs, "base")
    cells = group_runs(results.runs, "reward")
    rewards = [reward for reward, in cells]
    canvas, axes = plt.subplots(1, len(bases), figsize=(3.2 * len(bases), 3.2), sharey=True,
                                sharex=True, squeeze=False, layout="constrained")
    for axis, ((base,), of_base) in zip(axes[0], bases.items()):
        for (reward,), cell in group_runs(of_base, "reward").items():
            y = rewards.index(reward)
            draw_seeds(axis, y, gains(cell), ORANGE if reward == "random" else BLUE)
            axis.plot([mean(greedy_gains(cell))], [y], "D", color="black", fillstyle="none")
            if base == "good-code":
                axis.plot([PAPER[reward]] * 2, [y - 0.35, y + 0.35], color="black", linewidth=2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(f"{base}: {says.get(base, '')}", loc="left")
        axis.set_xlabel("gain in accuracy (points)")
    labels = [f"{reward} ({len({run['seed'] for run in cell})})"
              for (reward,), cell in cells.items()]
    axes[0, 0].set_yticks(range(len(rewards)), labels)
    axes[0, 0].invert_yaxis()
    note = ("reward (seeds); bar: mean at T = 1, dot: a seed, diamond: mean decoded greedily\n"
            "black line: Qwen2.5-Math-7B on MATH-500, decoded greedily (2506.10947)")
    canvas.supxlabel(note, fontsize=9, color=GREY)
    return canvas
