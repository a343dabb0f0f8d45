"""Is there a phase transition? A random reward on bases with 10% to 90% of code, their text on seven openers or on one. Seconds, on runs that are there.

    python -m lessons.prior [FOLDER]          # FOLDER (default data/results/runs) as ./train.sh prior fills runs/; writes runs/prior.png

With seven openers code is the largest of eight ways to begin from 1/8 on; with one it is only from 1/2 on. If what is largest wins, the two
curves must differ there. The bandit (lessons/bandit.py, as it is) with the same arms is the prediction: it knows nothing but the shares.
"""

import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import rlvr
from data.corpus import OPENERS
from data.figures import png, read_run
from data.files import write
from data.options import lesson
from data.task import InputError
from lessons.bandit import first_arm

PRIORS = tuple(round(0.1 * i, 1) for i in range(1, 10))
VARIANTS = {OPENERS: "", 1: "-openers1"}  # openers of the text: how the bases are called


def runs_of(folder: Path, prior: float, openers: int) -> list[dict]:
    cell = folder / f"good-code-prior{prior}{VARIANTS[openers]}" / "random"
    paths = sorted(cell.glob("seed*"))
    if len(paths) < 2:
        raise InputError(f"fewer than two runs in {cell}: ./train.sh prior makes them")
    return [read_run(path, rlvr.flags_of) for path in paths]


def figure(runs: dict[int, dict[float, list[dict]]], predicted: dict[int, list[float]]) -> bytes:
    """Top: gain and final code share against the prior, a dot per seed. Below: code share over each run."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    canvas, axes = plt.subplots(2, 2, figsize=(11, 8.5), layout="constrained")
    names = {OPENERS: f"text on {OPENERS} openers", 1: "text on one opener"}
    for i, (openers, by_prior) in enumerate(runs.items()):
        for axis, value in ((axes[0, 0], lambda run: 100 * run["gain"]["total"]), (axes[0, 1], lambda run: run["after"]["code_share"])):
            values = [[value(run) for run in group] for group in by_prior.values()]
            middle, deviation = np.array([mean(v) for v in values]), np.array([stdev(v) for v in values])
            axis.plot(PRIORS, middle, color=f"C{i}", linewidth=2, label=names[openers])
            axis.fill_between(PRIORS, middle - deviation, middle + deviation, color=f"C{i}", alpha=0.1, linewidth=0)
            for prior, v in zip(PRIORS, values):
                axis.plot([prior + 0.01 * (2 * i - 1)] * len(v), v, "o", color=f"C{i}", markersize=3)
        axes[0, 1].plot(PRIORS, predicted[openers], ":", color=f"C{i}", linewidth=2, label=f"the bandit, 1 + {openers} arms")
        curves = axes[1, i]
        for j, (prior, group) in enumerate(by_prior.items()):
            for k, run in enumerate(group):
                curves.plot([row["code_share"] for row in run["rows"]], color=plt.colormaps["viridis"](j / (len(PRIORS) - 1)),
                            linewidth=0.9, label=f"{prior:.1f}" if k == 0 else None)
        curves.set(title=f"{names[openers]}: every run", xlabel="rollout batch", ylabel="code share in training", ylim=(-0.02, 1.02), xticks=range(0, 20, 5))
    axes[1, 1].legend(title="code in the corpus", fontsize=7, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0, 0].axhline(0, color="black", linewidth=0.8)
    axes[0, 0].set(xlabel="share of code in the corpus", ylabel="gain in accuracy (points)", title="gain under a random reward")
    axes[0, 1].plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="no change")
    axes[0, 1].set(xlabel="share of code in the corpus", ylabel="share of code after RL", ylim=(-0.02, 1.02),
                   title="line: mean, band: ± standard deviation, dot: a seed")
    axes[0, 1].legend(fontsize=8)
    axes[0, 0].legend(fontsize=8)
    return png(canvas)


def main(folder: str = "data/results/runs") -> None:
    runs = {openers: {prior: runs_of(Path(folder), prior, openers) for prior in PRIORS} for openers in VARIANTS}
    predicted = {openers: [first_arm((prior, *[(1 - prior) / openers] * openers), 0.2)[-1].mean() for prior in PRIORS] for openers in VARIANTS}
    print("openers  prior  seeds  code share            min   max   more code  the bandit  accuracy        gain")
    for openers, by_prior in runs.items():
        for (prior, group), bandit in zip(by_prior.items(), predicted[openers]):
            before, shares, gains = group[0]["before"], [run["after"]["code_share"] for run in group], [100 * run["gain"]["total"] for run in group]
            more = sum(share > before["code_share"] for share in shares)
            print(f"{openers:<7d}  {prior:.1f}    {len(group):<5d}  {before['code_share']:.2f} -> {mean(shares):.2f} ± {stdev(shares):.2f}   "
                  f"{min(shares):.2f}  {max(shares):.2f}  {more} of {len(group)}     {bandit:.2f}        "
                  f"{before['accuracy']:.2f} -> {mean(run['after']['accuracy'] for run in group):.2f}    {mean(gains):+5.1f} ± {stdev(gains):.1f}")
    try:
        write(Path("runs/prior.png"), figure(runs, predicted))
        print("wrote runs/prior.png")
    except ModuleNotFoundError:
        print("no figure: pip install matplotlib")


if __name__ == "__main__":
    sys.exit(lesson("prior", __doc__, main, folder=dict(nargs="?", default="data/results/runs")))
