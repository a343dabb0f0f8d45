"""How much of a habit does it take?

Against seven rival openers all 5 seeds end in code from a share of 50% on, against one rival from
70% on; below that chance decides, or text wins. A bandit that knows only the shares is 0.10 off on
average. About 25 minutes on 2 cores.
"""

from statistics import mean

import numpy as np

from data.corpus import OPENERS
from lessons.clips.bandit import EPS, first_arm
from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    RED,
    Results,
    align,
    gains,
    group_runs,
    show_change,
    show_spread,
)
from rlvr import TrainConfig

# Shares of code in the corpus: from where text should win to where code should, in either kind.
BASES = (base_grid(base=["good-code"], code_prior=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
         | base_grid(base=["good-code"], code_prior=[0.2, 0.4, 0.5, 0.6, 0.7, 0.8],
                     text_openers=[1]))
QUICK = ["good-code-prior0.2", "good-code-prior0.6",
         "good-code-prior0.2-openers1", "good-code-prior0.8-openers1"]

# What the bandit gets beside its arms: eps, batches, samples, updates.
RL = TrainConfig()
BANDITS = {"bandit": (EPS,),
           "as RL": (RL.eps_high, RL.steps, RL.prompts * RL.group, RL.updates)}

Cells = dict[tuple[int, float], list[dict]]  # rows by (openers of the text, prior)


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return grid(base=QUICK, reward="random", seed=[1])
    return grid(base=list(BASES), reward="random", seed=range(1, seeds + 1))


def predict_share(openers: int, prior: float, *settings: float) -> float:
    """The bandit's mean final share of code: an arm for code, one for each opener of the text."""
    arms = (prior, *[(1 - prior) / openers] * openers)
    return first_arm(arms, *settings)[-1].mean().item()


def describe_base(base: str) -> tuple[int, float]:
    """(openers of its text, share of code in its corpus)."""
    return BASES[base].get("text_openers", OPENERS), BASES[base]["code_prior"]


def measure(runs: list[dict]) -> list[dict]:
    """What both bandits predict for each base."""
    return [{"base": base, **{name: predict_share(*describe_base(base), *settings)
                              for name, settings in BANDITS.items()}}
            for base in dict.fromkeys(run["base"] for run in runs)]


def group_cells(rows: list[dict]) -> Cells:
    return {describe_base(base): cell for (base,), cell in group_runs(rows, "base").items()}


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
    """The share of code before and after, how many seeds end in code, and what the bandits say."""
    lines = [["openers", "prior", "code share", "min", "max", "above 1/2", *BANDITS]]
    for key, cell in cells.items():
        after = [run["after_code_share"] for run in cell]
        lines.append([*map(str, key),
                      f"{average_share(cell, 'before'):.2f} -> {show_spread(after, 2, '')}",
                      f"{min(after):.2f}", f"{max(after):.2f}",
                      f"{sum(share > 0.5 for share in after)} of {len(after)}",
                      *(f"{rules[name][key]:.2f}" if key in rules[name] else ""
                        for name in BANDITS)])
    return align(lines)


def name_text(openers: int) -> str:
    return "1 opener" if openers == 1 else f"{openers} openers"


def tabulate_gains(cells: Cells) -> str:
    """A row for each prior, the two kinds of text side by side."""
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    lines = [["prior", *(f"{what}, {name_text(openers)}"
                         for openers in kinds for what in ("accuracy", "gain"))]]
    for prior in sorted({prior for _, prior in cells}):
        line = [str(prior)]
        for openers in kinds:
            cell = cells.get((openers, prior))
            line += [show_change(cell, "accuracy"), show_spread(gains(cell))] if cell else ["", ""]
        lines.append(line)
    return align(lines)


def tabulate_misses(cells: Cells, rules: dict) -> str:
    """How far each prediction is from the mean final share of code, over the bases."""
    lines = [["prediction", "bases", "mean miss", "largest miss"]]
    for name, shares in rules.items():
        misses = [abs(share - average_share(cells[key], "after")) for key, share in shares.items()]
        if misses:
            lines.append([name, str(len(misses)), f"{mean(misses):.2f}", f"{max(misses):.2f}"])
    return align(lines)


def table(results: Results) -> str:
    """Shares of code and what the bandits say; accuracy and gain; how far predictions miss."""
    cells = group_cells(results.runs)
    rules = predict_all(cells, group_cells(results.evidence))
    return "\n\n".join([tabulate_shares(cells, rules), tabulate_gains(cells),
                        tabulate_misses(cells, rules)])


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


def figure(results: Results):
    """A panel for each kind of text: the final share of code against the prior."""
    import matplotlib.pyplot as plt

    cells = group_cells(results.runs)
    predicted = predict_all(cells, group_cells(results.evidence))["bandit"]
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    canvas, axes = plt.subplots(1, len(kinds), figsize=(8, 3.6), sharey=True, squeeze=False,
                                layout="constrained")
    for axis, openers in zip(axes[0], kinds):
        draw_panel(axis, openers, cells, predicted)
        axis.set(title=f"the rest is text on {name_text(openers)}", xlim=(0, 1),
                 ylim=(-0.03, 1.03), xlabel="share of code in the corpus")
    axes[0, 0].set_ylabel("share of code after RL (dot: a run)")
    return canvas
