"""How much of a habit does it take?

Against seven rival openers all 5 seeds end in code from a share of 50% on, against one rival from
70% on (one base a share); below that chance decides, or text wins. A bandit that knows only the
shares is 0.07 off on average. A coin gains on no base of shorter pretraining. About 85 minutes on 2
cores.
"""

from math import sqrt
from statistics import mean, stdev

import numpy as np

from data.corpus import OPENERS
from lessons.bandit import EPS, first_arm
from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    add_bounds,
    align,
    gains,
    greedy_gains,
    group_runs,
    is_split,
    open_canvas,
    show_change,
    show_seeds,
)
from pretrain import PretrainConfig
from rlvr import make_config

# Shares of code in the corpus: from where text should win to where code should, in either kind.
# Near the switch of each there are three bases, by their seed.
HABITS = (base_grid(base=["good-code"], code_prior=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
          | base_grid(base=["good-code"], code_prior=[0.2, 0.4, 0.5, 0.6, 0.7, 0.8],
                      text_openers=[1])
          | base_grid(base=["good-code"], code_prior=[0.3, 0.4], seed=[1, 2])
          | base_grid(base=["good-code"], code_prior=[0.5, 0.6], text_openers=[1], seed=[1, 2]))
# The same corpus, read for longer and longer.
YOUNG = (base_grid(base=["good-code"], steps=[100, 200, 400, 800]) | base_grid(base=["good-code"]))
BASES = HABITS | YOUNG
VOLUMES = (20, 40, 80)   # rollout batches
QUICK = ["good-code-prior0.2", "good-code-prior0.6",
         "good-code-prior0.2-openers1", "good-code-prior0.8-openers1"]

# What the bandit gets beside its arms: eps, batches, samples, updates.
RL = make_config()
BANDITS = {"bandit": (EPS,),
           "as RL": (RL.flags["eps_high"], RL.steps, RL.prompts * RL.group, RL.updates)}

Cells = dict[tuple[int, float], list[dict]]  # rows by (openers of the text, prior)


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return grid(base=QUICK, reward="random", seed=[1])
    return (grid(base=list(HABITS), reward="random", seed=range(1, seeds + 1))
            + grid(base=list(YOUNG), reward=["random", "correct"], steps=max(VOLUMES),
                   seed=range(1, seeds + 1)))


def predict_share(openers: int, prior: float, *settings: float) -> float:
    """The bandit's mean final share of code: an arm for code, one for each opener of the text."""
    arms = (prior, *[(1 - prior) / openers] * openers)
    return first_arm(arms, *settings)[-1].mean().item()


def describe_base(base: str) -> tuple[int, float]:
    """(openers of its text, share of code in its corpus)."""
    return HABITS[base].get("text_openers", OPENERS), HABITS[base]["code_prior"]


def measure(runs: list[dict]) -> list[dict]:
    """What both bandits predict for each share and kind of text."""
    asked = {}
    for run in runs:
        if run["base"] in HABITS:
            asked.setdefault(describe_base(run["base"]), run["base"])
    return [{"base": base, **{name: predict_share(*key, *settings)
                              for name, settings in BANDITS.items()}}
            for key, base in asked.items()]


def group_cells(rows: list[dict]) -> Cells:
    """The rows of all bases with one share and kind of text; bases of another kind are left out."""
    cells = {}
    for (base,), cell in group_runs(rows, "base").items():
        if base in HABITS:
            cells.setdefault(describe_base(base), []).extend(cell)
    return cells


def average_share(cell: list[dict], when: str) -> float:
    return mean(run[f"{when}_code_share"] for run in cell)


def predict_all(cells: Cells, predicted: Cells) -> dict[str, dict[tuple[int, float], float]]:
    """{prediction: {cell: mean final share of code}}: the bandits', and two simpler rules."""
    rivals = {(openers, prior): (1 - prior) / openers for openers, prior in cells}
    rules = {name: {key: predicted[key][0][name] for key in cells if key in predicted}
             for name in BANDITS}
    rules["no change"] = {key: average_share(cell, "before") for key, cell in cells.items()}
    rules["largest wins"] = {key: (1 + np.sign(key[1] - rival)) / 2
                             for key, rival in rivals.items()}
    return rules


def tabulate_shares(cells: Cells, rules: dict) -> str:
    """The share of code before and after, how many runs end in code, and what the bandits say.

    `missed by`: how far the mean of the runs is from `bandit`, in standard errors of that mean.
    """
    lines = [["openers", "prior", "bases", "code share", "above 1/2", *BANDITS, "missed by"]]
    for key, cell in cells.items():
        after = [run["after_code_share"] for run in cell]
        known = key in rules["bandit"]
        lines.append([*map(str, key), str(len({run["base"] for run in cell})),
                      f"{average_share(cell, 'before'):.2f} -> {mean(after):.2f}",
                      count_above(cell),
                      *(f"{rules[name][key]:.2f}" if known else "" for name in BANDITS),
                      f"{measure_miss(cell, rules['bandit'][key]):+.1f}" if known else ""])
    return align(lines)


def count_above(cell: list[dict]) -> str:
    """'7 of 15 (3 + 1 + 3)': how many runs end in more code than text, and on which base."""
    counts = [sum(run["after_code_share"] > 0.5 for run in of_base)
              for of_base in group_runs(cell, "base").values()]
    parts = f" ({' + '.join(map(str, counts))})" if len(counts) > 1 else ""
    return f"{sum(counts)} of {len(cell)}{parts}"


def measure_miss(cell: list[dict], share: float) -> float:
    """How far the mean final share of code is above `share`, in its standard errors."""
    after = [run["after_code_share"] for run in cell]
    if len(after) < 2 or not stdev(after):
        return 0.0
    return (mean(after) - share) / (stdev(after) / sqrt(len(after)))


def name_text(openers: int) -> str:
    return "1 opener" if openers == 1 else f"{openers} openers"


def show_accuracies(cell: list[dict]) -> str:
    """'0.57 -> 0.90'; of runs that are split there is no mean afterwards."""
    if is_split(gains(cell), 100):
        return f"{mean(run['before_accuracy'] for run in cell):.2f} -> split"
    return show_change(cell, "accuracy")


def tabulate_gains(cells: Cells) -> str:
    """A row for each prior, the two kinds of text side by side."""
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    lines = [["prior", *(f"{what}, {name_text(openers)}"
                         for openers in kinds for what in ("accuracy", "gain"))]]
    for prior in sorted({prior for _, prior in cells}):
        line = [str(prior)]
        for openers in kinds:
            cell = cells.get((openers, prior))
            line += [show_accuracies(cell), show_seeds(gains(cell))] if cell else ["", ""]
        lines.append(line)
    return align(lines)


def tabulate_misses(cells: Cells, rules: dict) -> str:
    """How far each prediction is from the mean final share of code, over the rows above.

    `rms`: the root mean square in standard errors, 1 if only chance were in it; `above 2`: of them.
    """
    lines = [["prediction", "rows", "mean miss", "largest miss", "rms in s.e.", "above 2 s.e."]]
    for name, shares in rules.items():
        misses = [abs(share - average_share(cells[key], "after")) for key, share in shares.items()]
        if misses:
            errors = [measure_miss(cells[key], share) for key, share in shares.items()]
            lines.append([name, str(len(misses)), f"{mean(misses):.2f}", f"{max(misses):.2f}",
                          f"{sqrt(mean(error ** 2 for error in errors)):.1f}",
                          str(sum(abs(error) > 2 for error in errors))])
    return align(lines)


# --- pretraining, reward and volume

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
    for base, flags in YOUNG.items():
        cell = [run for run in results.runs if (run["base"], run["reward"]) == (base, reward)]
        if cell:
            followed = zip(*follow_gains(results, base, reward))
            lines.append([str(flags.get("steps", PretrainConfig.steps)),
                          *(f"{mean(run[f'before_{name}'] for run in cell):.3f}"
                            for name in ("accuracy", "greedy_accuracy")),
                          *(show_seeds(list(values)) for values in followed),
                          show_seeds(gains(cell)), show_seeds(greedy_gains(cell))])
    return align(lines)


def table(results: Results) -> str:
    """Shares of code and what the bandits say; accuracy and gain; how far predictions miss.

    Then what lengths of pretraining, rewards and numbers of batches gain.
    """
    cells = group_cells(results.runs)
    rules = predict_all(cells, group_cells(results.evidence))
    parts = [tabulate_shares(cells, rules), tabulate_gains(cells), tabulate_misses(cells, rules)]
    if any(map(is_long, results.runs)):
        parts += [tabulate_volumes(results, reward) for reward in ("random", "correct")]
    return add_bounds(parts, r"(\d+) of (\d+)")


def label_curve(axis, priors: list[float], shares: list[float], text: str, side: str,
                color: str) -> None:
    """A curve's name beside the place where it first reaches 0.6."""
    x = np.interp(0.6, np.maximum.accumulate(shares), priors)
    axis.annotate(text, (x, 0.6), (8 if side == "left" else -8, 0), color=color, ha=side,
                  va="center", textcoords="offset points",
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 1})


def draw_panel(axis, openers: int, cells: Cells, predicted: dict) -> None:
    """A dot for each run, their mean, the bandit's mean, and where code is as large as a rival."""
    priors = [prior for other, prior in cells if other == openers]
    means = [average_share(cells[openers, prior], "after") for prior in priors]
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axis.text(0.73, 0.69, "no change", color=GREY)
    axis.axvline(1 / (1 + openers), color=GREY, linewidth=0.8, linestyle="--")
    axis.text(1 / (1 + openers) - 0.01, 0.82, "code = each rival", color=GREY, fontsize=8,
              rotation=90, ha="right", va="center")
    if predicted:
        shares = [predicted[openers, prior] for prior in priors]
        axis.plot(priors, shares, ":", color=RED, linewidth=2.5)
        label_curve(axis, priors, shares, "bandit", "right", RED)
    axis.plot(priors, means, color=BLUE, linewidth=2)
    label_curve(axis, priors, means, "mean of the runs", "left", BLUE)
    for prior in priors:
        after = [run["after_code_share"] for run in cells[openers, prior]]
        axis.plot([prior] * len(after), after, "o", color=BLUE, markersize=4, alpha=0.6)


def draw_volumes(axis, results: Results) -> None:
    """Gains against the length of pretraining: dashed after the fewest batches, solid the most."""
    steps = {base: flags.get("steps", PretrainConfig.steps) for base, flags in YOUNG.items()}
    for reward, color, named in (("correct", BLUE, 1), ("random", ORANGE, -2)):
        followed = {base: follow_gains(results, base, reward) for base in YOUNG}
        for at, style in ((0, "--"), (-1, "-")):
            points = [(steps[base], mean(seed[at] for seed in seeds))
                      for base, seeds in followed.items() if seeds]
            axis.plot(*zip(*points), style, color=color)
            axis.annotate(f"{reward}, {VOLUMES[at]}", points[named % len(points)],
                          (-58, 2), color=color, fontsize=9, textcoords="offset points")
        for base, seeds in followed.items():
            axis.plot([steps[base]] * len(seeds), [seed[-1] for seed in seeds], "o", color=color,
                      markersize=3)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xscale("log")
    axis.set(title="reward, batches of RL", xlabel="pretraining steps",
             ylabel="gain in accuracy (points)")


def figure(results: Results):
    """The final share of code against the prior, a panel a kind of text; gains by pretraining."""
    cells = group_cells(results.runs)
    predicted = predict_all(cells, group_cells(results.evidence))["bandit"]
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    has_volumes = any(map(is_long, results.runs))
    panels = len(kinds) + has_volumes
    canvas, axes = open_canvas(1, panels, figsize=(4 * panels, 3.6), squeeze=False)
    for axis, openers in zip(axes[0], kinds):
        draw_panel(axis, openers, cells, predicted)
        axis.set(title=f"the rest is text on {name_text(openers)}", xlim=(0, 1),
                 ylim=(-0.03, 1.03), xlabel="share of code in the corpus")
    axes[0, 0].set_ylabel("share of code after RL (dot: a run)")
    if has_volumes:
        draw_volumes(axes[0, -1], results)
    return canvas
