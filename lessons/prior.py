"""Is there a phase transition? A random reward on bases with 10% to 90% of code, their text on seven openers or on one. Seconds, on runs that are there.

    python -m lessons.prior [FOLDER]          # FOLDER (default data/results/runs) as ./train.sh prior fills runs/; writes runs/prior.png

With seven openers code is the largest of eight ways to begin from 1/8 on; with one it is only from 1/2 on. If what is largest wins, the two
curves must differ there. The bandit with the same arms is the prediction: it knows nothing but the shares. Twice: lessons/bandit.py as it is, and
with the eps, batches, samples and updates of RL. Seed k has the same prompts and coin flips on every base: the rows of the table are not independent.
"""

from pathlib import Path
from statistics import mean, stdev

import rlvr
from data.corpus import OPENERS
from data.figures import png, read_run, save_figure
from data.options import lesson
from data.task import InputError
from lessons.bandit import first_arm

PRIORS = tuple(round(0.1 * i, 1) for i in range(1, 10))
VARIANTS = {OPENERS: "", 1: "-openers1"}  # openers of the text: how the bases are called
RL = rlvr.TrainConfig()


def runs_of(folder: Path, prior: float, openers: int) -> list[dict]:
    cell = folder / f"good-code-prior{prior}{VARIANTS[openers]}" / "random"
    paths = sorted(cell.glob("seed*"))
    if len(paths) < 2:
        raise InputError(f"fewer than two runs in {cell}: ./train.sh prior makes them")
    return [read_run(path, rlvr.flags_of) for path in paths]


def predict(prior: float, openers: int, *settings: float) -> float:
    """The bandit's mean final share of code."""
    return first_arm((prior, *[(1 - prior) / openers] * openers), *settings)[-1].mean().item()


def figure(runs: dict[int, dict[float, list[dict]]], predicted: dict[int, list[float]]) -> bytes:
    """Top: gain and final code share against the prior, a dot per seed. Below: code share over each run."""
    import matplotlib.pyplot as plt

    canvas, axes = plt.subplots(2, 2, figsize=(11, 8.5), layout="constrained")
    names = {OPENERS: f"text on {OPENERS} openers", 1: "text on one opener"}
    for i, (openers, by_prior) in enumerate(runs.items()):
        for axis, value in ((axes[0, 0], lambda run: 100 * run["gain"]["total"]), (axes[0, 1], lambda run: run["after"]["code_share"])):
            values = [[value(run) for run in group] for group in by_prior.values()]
            axis.plot(PRIORS, [mean(v) for v in values], color=f"C{i}", linewidth=2, label=names[openers])
            for prior, v in zip(PRIORS, values):
                axis.plot([prior + 0.01 * (2 * i - 1)] * len(v), v, "o", color=f"C{i}", markersize=4, alpha=0.6, linewidth=0)
        axes[0, 1].plot(PRIORS, predicted[openers], ":", color=f"C{i}", linewidth=2, label=f"the bandit, 1 + {openers} arms")
        curves = axes[1, i]
        for j, (prior, group) in enumerate(by_prior.items()):
            for k, run in enumerate(group):
                curves.plot([row["code_share"] for row in run["rows"]], color=plt.colormaps["viridis"](j / (len(PRIORS) - 1)),
                            linewidth=0.9, label=f"{prior:.1f}" if k == 0 else None)
        curves.set(title=f"{names[openers]}: every run", xlabel="rollout batch", ylabel="code share in training", ylim=(-0.02, 1.02), xticks=range(0, 20, 5))
    axes[1, 1].legend(title="code in the corpus", fontsize=7, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0, 0].axhline(0, color="black", linewidth=0.8)
    axes[0, 0].set(xlabel="share of code in the corpus", ylabel="gain in accuracy (points)", title="gain under a random reward (line: mean, dot: a seed)")
    axes[0, 1].plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="no change")
    axes[0, 1].set(xlabel="share of code in the corpus", ylabel="share of code after RL", ylim=(-0.02, 1.02), title="share of code after it")
    axes[0, 1].legend(fontsize=8)
    axes[0, 0].legend(fontsize=8)
    return png(canvas)


def main(folder: str) -> None:
    runs = {openers: {prior: runs_of(Path(folder), prior, openers) for prior in PRIORS} for openers in VARIANTS}
    as_it_is, as_rl = ({openers: [predict(prior, openers, *settings) for prior in PRIORS] for openers in VARIANTS}
                       for settings in ((0.2,), (RL.eps_high, RL.steps, RL.prompts * RL.group, RL.updates)))
    print("openers  prior  seeds  code share            min   max   above 1/2  bandit  as RL  accuracy        gain")
    for openers, by_prior in runs.items():
        for i, (prior, group) in enumerate(by_prior.items()):
            before, shares, gains = group[0]["before"], [run["after"]["code_share"] for run in group], [100 * run["gain"]["total"] for run in group]
            print(f"{openers:<7d}  {prior:.1f}    {len(group):<5d}  {before['code_share']:.2f} -> {mean(shares):.2f} ± {stdev(shares):.2f}   {min(shares):.2f}  "
                  f"{max(shares):.2f}  {sum(share > 0.5 for share in shares)} of {len(group)}     {as_it_is[openers][i]:.2f}    {as_rl[openers][i]:.2f}   "
                  f"{before['accuracy']:.2f} -> {mean(run['after']['accuracy'] for run in group):.2f}    {mean(gains):+5.1f} ± {stdev(gains):.1f}")
    save_figure("runs/prior.png", lambda: figure(runs, as_it_is))


if __name__ == "__main__":
    lesson("prior", __doc__, main, folder=dict(nargs="?", default="data/results/runs"))
