"""Do spurious rewards work?

Decoded greedily a coin flip lifts 31 of 36 seeds on bases whose habit is accurate, from 0.77 to
0.92 in the mean, lowers 29 of 36 where it is wrong, and moves none by more than 3.7 points where
there is none (bases of this kind made anew fall by up to 6.2). Sampled it gains 23.5 ± 3.8 points
(20 seeds), the correct reward 30.5. About 120 minutes on 2 cores.
"""

from statistics import mean, median

from lessons.chance import bound_mean, chance
from lessons.elicit import elicit_bases
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
    greedy_gains,
    group_runs,
    show_change,
    show_spread,
    title_tables,
)
from lessons.spurious import trio
from lessons.spurious.habit import measure_habits
from lessons.spurious.headline import draw_headline, summarize
from lessons.summary import Summary

MAIN = base_grid(base=["good-code", "no-code", "bad-code"])
BASES = MAIN | trio.BASES
SAYS = {"good-code": "the habit is right", "no-code": "no such mode",
        "bad-code": "the habit is wrong"}
REWARDS = ["correct", "majority", "incorrect", "random", "format"]


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    """The coin is what varies, and what the claim is about: it has four times as many seeds.

    On the mixed bases, where a run ends in one of two ways, it has 12 for 5 on each base.
    """
    if quick:
        return trio.quick_runs()
    plan = grid(base=list(MAIN), reward=REWARDS, seed=range(1, 4 * seeds + 1))
    main = [run for run in plan if run["reward"] == "random" or run["seed"] <= seeds]
    return main + trio.runs(seeds)


def measure(runs: list[dict]) -> list[dict]:
    """What each base gives without training; of the mixed ones, what the bandit expects too.

    And how likely the habit of mixed-none is, before a coin and after.
    """
    bases = list(dict.fromkeys(run["base"] for run in runs))
    return (elicit_bases([base for base in bases if base in MAIN]) + trio.measure()
            + measure_habits(runs))


def select_main(runs: list[dict]) -> list[dict]:
    """The runs on the three bases of the paper's question."""
    return [run for run in runs if run["base"] in MAIN]


def tabulate_gains(runs: list[dict]) -> str:
    lines = [["base", "reward", "seeds", "accuracy", "gain", "greedy gain", "code share", "paper"]]
    for (base, reward), cell in group_runs(select_main(runs), "base", "reward").items():
        paper = f"{PAPER[reward]:+.1f}" if base == "good-code" else ""
        lines.append([base, reward, str(len(cell)), show_change(cell, "accuracy", 3),
                      show_spread(gains(cell)), show_spread(greedy_gains(cell)),
                      show_change(cell, "code_share"), paper])
    return align(lines)


def tabulate_switches(runs: list[dict]) -> str:
    """What answers that changed their mode so contribute to the gain, and their share of all."""
    moves = ["text->code", "code->code", "text->text", "code->text"]
    lines = [["base", "reward", *moves, "switch", "within"]]
    for (base, reward), cell in group_runs(select_main(runs), "base", "reward").items():
        parts = []
        for move in moves:
            share, points = (100 * mean(run[f"switches_{move}_{what}"] for run in cell)
                             for what in ("share", "points"))
            parts.append(f"{share:.0f}%: {points:+.1f}")
        switch, within = (f"{mean(gains(cell, part)):+.1f}" for part in ("switch", "within"))
        lines.append([base, reward, *parts, switch, within])
    return align(lines)


def select_coin(runs: list[dict]) -> dict[tuple, list[dict]]:
    """The runs of the coin on each of the three bases."""
    return group_runs([run for run in select_main(runs) if run["reward"] == "random"], "base")


def tabulate_coin(runs: list[dict]) -> str:
    """What the seeds of the coin say of its mean gain, and of the share of seeds that gain."""
    lines = [["the coin on", "mean", "95% interval", "median", "least", "most", "seeds up",
              "95% interval"]]
    for (base,), cell in select_coin(runs).items():
        points = gains(cell)
        bounds = bound_mean(points)
        up, n = sum(point > 0 for point in points), len(points)
        lines.append([base, f"{mean(points):+.1f}",
                      "{:+.1f} to {:+.1f}".format(*bounds) if bounds else "",
                      *(f"{number:+.1f}" for number in (median(points), min(points), max(points))),
                      f"{up} of {n}", "{:.0%} to {:.0%}".format(*chance(up, n))])
    return align(lines)


def tabulate_boxes(runs: list[dict]) -> str:
    """Where the coin's gain is made and lost: inside code, by boxes, inside boxes.

    An answer is right only in a box, so what is right of boxed answers is accuracy / boxed.
    """
    lines = [["the coin on", "right in code", "least after", "boxed", "right if boxed"]]
    for (base,), cell in select_coin(runs).items():
        inside = [run["after_accuracy_code"] for run in cell]
        known = None not in inside
        boxed = [mean(run[f"{when}_accuracy"] / run[f"{when}_format_rate"] for run in cell)
                 for when in ("before", "after")]
        lines.append([base, show_change(cell, "accuracy_code", 3) if known else "none",
                      f"{min(inside):.2f}" if known else "", show_change(cell, "format_rate"),
                      "{:.3f} -> {:.3f}".format(*boxed)])
    return align(lines)


def tabulate_elicited(results: Results) -> str:
    """Points over sampling at T = 1 of each way of drawing the habit out, beside the coin flip."""
    coin = select_coin(results.runs)
    rows = {(row["base"], row["way"]): 100 * row["accuracy"] for row in results.evidence
            if row.get("way") and (row["base"],) in coin}
    bases, ways = (list(dict.fromkeys(name[i] for name in rows)) for i in (0, 1))
    lines = [["without training", *bases]]
    for way in ways[1:]:
        lines.append([way, *(f"{rows[base, way] - rows[base, ways[0]]:+.1f}" for base in bases)])
    lines.append(["random reward", *(show_spread(gains(coin[base,])) for base in bases)])
    return align(lines)


def table(results: Results) -> str:
    """Gains at T = 1 and greedily; the coin; what changes of mode contribute; without training.

    Then the bases with greedy headroom, on which each prompt has a rival of its own.
    """
    parts = {
        "Rewards on three bases: accuracy and share of code before -> after, gains in points":
            tabulate_gains(results.runs),
        "The coin: its gain in points over seeds, and the share of seeds that gain":
            tabulate_coin(results.runs),
        "The coin: accuracy inside code, share of answers with a box, and accuracy of those":
            tabulate_boxes(results.runs),
        "Answers before -> after by mode: their share of all, and the points of the gain they give":
            tabulate_switches(results.runs)}
    if results.evidence:
        parts["Without training: points over sampling at T = 1, by base"] = tabulate_elicited(
            results)
    return "\n\n".join(title_tables(parts | trio.tabulate(results)))


def draw_base(axis, base: str, of_base: list[dict], rewards: list[str]) -> None:
    """A bar for each reward, a dot for each seed; greedy as a diamond, the paper's as a line."""
    for (reward,), cell in group_runs(of_base, "reward").items():
        y = rewards.index(reward)
        draw_seeds(axis, y, gains(cell), ORANGE if reward == "random" else BLUE)
        axis.plot([mean(greedy_gains(cell))], [y], "D", color="black", fillstyle="none")
        if base == "good-code":
            axis.plot([PAPER[reward]] * 2, [y - 0.35, y + 0.35], color="black", linewidth=2)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_title(f"{base}: {SAYS.get(base, '')}", loc="left")
    axis.set_xlabel("gain in accuracy (points)")


def summary(results: Results) -> Summary:
    """The mixed bases alone: on them greedy accuracy, which the paper measures, can move."""
    return summarize(results)


def figure(results: Results):
    """The coin on the mixed bases, batch by batch."""
    return draw_headline(results)


def draw_bases(part, main: list[dict]) -> None:
    """A panel for each base of the paper's question, a row for each reward."""
    bases, cells = group_runs(main, "base"), group_runs(main, "reward")
    rewards = [reward for reward, in cells]
    axes = part.subplots(1, len(bases), sharey=True, sharex=True, squeeze=False)[0]
    for axis, ((base,), of_base) in zip(axes, bases.items()):
        draw_base(axis, base, of_base, rewards)
    axes[0].set_yticks(range(len(rewards)),
                       [f"{reward} ({len({run['seed'] for run in cell})})"
                        for (reward,), cell in cells.items()])
    axes[0].invert_yaxis()
    note = ("reward (seeds); bar: mean at T = 1, dot: a seed, diamond: mean decoded greedily\n"
            "black line: Qwen2.5-Math-7B on MATH-500, decoded greedily (2506.10947)")
    part.supxlabel(note, fontsize=9, color=GREY)


def record_figure(results: Results):
    """The three bases of the paper's question, then the greedy accuracy on the mixed ones."""
    from matplotlib.figure import Figure

    main, mixed = select_main(results.runs), sum(trio.sort_cells(results.runs).values(), [])
    rows = len(group_runs(mixed, "base", "reward", "flags"))
    parts = [(3.2, draw_bases, main),
             (1.2 + 0.26 * rows, lambda part, runs: trio.draw_outcomes(part.subplots(), runs),
              mixed)]
    parts = [part for part in parts if part[2]]
    heights = [height for height, _, _ in parts]
    canvas = Figure(figsize=(9.6, sum(heights)), layout="constrained")
    figures = canvas.subfigures(len(parts), 1, squeeze=False, height_ratios=heights).flat
    for part, (_, draw, runs) in zip(figures, parts):
        draw(part, runs)
    return canvas
