"""Is it a phase transition? The coin against one rival, with more rollouts and with more batches.

Were it one, P(more code than text) would climb more steeply from prior to prior the more rollouts a
batch has, or the more batches there are. A crossover keeps its width.
"""

from math import erfc, sqrt

import numpy as np

from lessons.bandit import first_arm
from lessons.chance import chance
from lessons.grid import base_grid, grid, own_seeds, scale_seeds
from lessons.report import BLUE, GREY, ORANGE, RED, Results, align, describe_flags
from rlvr import make_config

PRIORS = 0.4, 0.5, 0.6, 0.7
BASES = base_grid(base=["good-code"], code_prior=list(PRIORS), text_openers=[1])
FEWEST, MAIN = "512 rollouts, 20 batches", "1,024 rollouts, 20 batches"
SETTINGS = {FEWEST: {"prompts": 32}, MAIN: {},   # the lesson has runs of MAIN already
            "2,048 rollouts, 20 batches": {"prompts": 128},
            "512 rollouts, 60 batches": {"prompts": 32, "steps": 60}}
FIRST_SEED = 10      # of own_seeds: no other cell of the lesson has these
BANDIT_SEEDS = 2000
MIDDLE = 0.2, 0.8    # a run that ends with a share of code between them has not decided
STEEP = np.linspace(0, 20, 201)       # steepnesses and middles that are tried
CENTRES = np.linspace(-1.5, 2, 176)
FIVE_PERCENT = 3.84                   # of chi square, one degree of freedom
COLORS = dict(zip(SETTINGS, (GREY, BLUE, ORANGE, RED)))


def runs(seeds: int) -> list[dict]:
    """Seed by seed over all cells, so that what has been done is balanced wherever it stops."""
    count = scale_seeds(8, seeds)
    cells = [(base, flags) for flags in SETTINGS.values() if flags for base in BASES]
    listed = [grid(base=base, reward="random", **flags, seed=own_seeds(FIRST_SEED + i, count))
              for i, (base, flags) in enumerate(cells)]
    return [run for of_seed in zip(*listed) for run in of_seed]


def predict_shares(arms: tuple[float, ...], flags: dict) -> np.ndarray:
    """The bandit's final share of its first arm, code, in each seed, with RL's eps and updates."""
    config = make_config(**flags)
    return first_arm(arms, config.flags["eps_high"], config.steps, config.prompts * config.group,
                     config.updates, seeds=BANDIT_SEEDS)[-1]


def is_undecided(share: float) -> bool:
    return MIDDLE[0] < share < MIDDLE[1]


def measure(runs: list[dict]) -> list[dict]:
    """What the bandit says of each cell, if the settings are among the runs."""
    rows = []
    for name, flags in SETTINGS.items() if any("prompts" in run for run in runs) else []:
        for base, base_flags in BASES.items():
            prior = base_flags["code_prior"]
            shares = predict_shares((prior, 1 - prior), flags)
            rows.append({"base": base, "setting": name, "p_code": (shares > 0.5).mean().item(),
                         "undecided": np.mean(list(map(is_undecided, shares))).item()})
    return rows


def select_cells(runs: list[dict]) -> dict[str, dict[float, list[dict]]]:
    """{setting: {prior: its rows}}; of MAIN those of further bases too."""
    words = {describe_flags({"reward": "random", "loss": "grpo"} | flags): name
             for name, flags in SETTINGS.items()}
    found = {name: {} for name in SETTINGS}
    for run in runs:
        base = run["base"].split("-seed")[0]
        if base in BASES and run["flags"] in words:
            cells = found[words[run["flags"]]]
            cells.setdefault(BASES[base]["code_prior"], []).append(run)
    return {name: dict(sorted(cells.items())) for name, cells in found.items() if cells}


def count_code(rows: list[dict]) -> tuple[int, int]:
    """How many runs end with more code than text, of how many."""
    return sum(run["after_code_share"] > 0.5 for run in rows), len(rows)


# --- how steeply P climbs


def profile(counts: dict[float, tuple[float, int]]) -> np.ndarray:
    """The log-likelihood of each of STEEP, at its best centre, of {prior: (k, n)}.

    Log-odds of P = steepness x (log-odds of the prior - centre).
    """
    priors = np.array(list(counts))
    k, n = np.array(list(counts.values())).T
    logits = np.log(priors / (1 - priors))
    z = STEEP[:, None, None] * (logits - CENTRES[:, None])           # (steep, centres, priors)
    likelihood = -k * np.logaddexp(0, -z) - (n - k) * np.logaddexp(0, z)
    return likelihood.sum(axis=2).max(axis=1)


def fit_steepness(counts: dict[float, tuple[float, int]]) -> tuple[float, float, float]:
    """The likeliest steepness and its 95% interval, by the likelihood's profile."""
    likelihood = profile(counts)
    kept = STEEP[2 * (likelihood.max() - likelihood) <= FIVE_PERCENT]
    return STEEP[likelihood.argmax()].item(), kept.min().item(), kept.max().item()


def compare_steepness(one: dict, other: dict) -> float:
    """p of a likelihood ratio: one steepness for both, or one for each (and a centre for each)."""
    first, second = profile(one), profile(other)
    ratio = 2 * (first.max() + second.max() - (first + second).max())
    return erfc(sqrt(max(0.0, ratio) / 2))


def show_steepness(counts: dict) -> str:
    """'2.3 (0.9 to 4.1)'; STEEP ends at 20, which stands for any more."""
    best, low, high = (f"{value:.1f}" if value < STEEP[-1] else f"{value:.0f}+"
                       for value in fit_steepness(counts))
    return f"{best} ({low} to {high})"


def count_cells(results: Results) -> dict[str, dict[float, tuple[int, int]]]:
    """{setting: {prior: (runs that end in code, runs)}}"""
    return {name: {prior: count_code(rows) for prior, rows in cells.items()}
            for name, cells in select_cells(results.runs).items()}


def find_predicted(results: Results, setting: str) -> dict[float, dict]:
    """The bandit's rows of a setting, by prior."""
    return {BASES[row["base"]]["code_prior"]: row for row in results.evidence
            if row.get("setting") == setting}


def tabulate_phase(results: Results) -> str:
    """A row for each setting: runs that end in code, by prior, and how steeply their share climbs.

    `p`: of the same steepness as in the first row.
    """
    counted = count_cells(results)
    lines = [["setting", *(f"at {prior}" for prior in PRIORS), "steepness (95%)", "p"]]
    for name, counts in counted.items():
        p = compare_steepness(counted[FEWEST], counts) if FEWEST in counted else 1.0
        lines.append([name, *("{} of {}".format(*counts[prior]) if prior in counts else ""
                              for prior in PRIORS),
                      show_steepness(counts), "" if name == FEWEST else f"{p:.2f}"])
    return "Runs that end with more code than text, against one rival\n" + align(lines)


def tabulate_predicted(results: Results) -> str:
    """A row for each setting: the bandit's P by prior and its steepness; who has not decided."""
    lines = [["bandit", *(f"at {prior}" for prior in PRIORS), "steepness", "undecided",
              "undecided runs"]]
    for name, cells in select_cells(results.runs).items():
        predicted = find_predicted(results, name)
        if predicted:
            counts = {prior: (row["p_code"] * BANDIT_SEEDS, BANDIT_SEEDS)
                      for prior, row in predicted.items()}
            rows = [run for cell in cells.values() for run in cell]
            middle = sum(is_undecided(run["after_code_share"]) for run in rows)
            lines.append([name, *(f"{predicted[prior]['p_code']:.2f}" for prior in PRIORS),
                          f"{fit_steepness(counts)[0]:.1f}",
                          f"{np.mean([row['undecided'] for row in predicted.values()]):.1%}",
                          f"{middle} of {len(rows)}"])
    return "The bandit's chance of the same\n" + align(lines) if lines[1:] else ""


def tabulate(results: Results) -> list[str]:
    """Both tables, if there is more than one setting."""
    if len(select_cells(results.runs)) < 2:
        return []
    return [part for part in (tabulate_phase(results), tabulate_predicted(results)) if part]


def draw_phase(axis, results: Results) -> None:
    """P against the prior, exact 95% intervals; dotted: the bandit's."""
    for name, counts in count_cells(results).items():
        i = list(SETTINGS).index(name)
        x = np.array(list(counts)) + 0.012 * (i - 1.5)
        shares = np.array([k / n for k, n in counts.values()])
        bounds = np.array([chance(k, n) for k, n in counts.values()]).T
        axis.errorbar(x, shares, abs(bounds - shares), color=COLORS[name], marker="o",
                      markersize=4, linewidth=1.2, elinewidth=0.8)
        axis.text(0.385, 1.30 - 0.085 * i, name, color=COLORS[name], fontsize=9)
        predicted = find_predicted(results, name)
        if predicted and name == MAIN:
            axis.plot(list(predicted), [row["p_code"] for row in predicted.values()], ":",
                      color="black", linewidth=2)
            axis.annotate("bandit", (0.45, 0.36), (0.46, 0.1), fontsize=9,
                          arrowprops={"arrowstyle": "-", "linewidth": 0.6})
    axis.set_xticks(PRIORS, [f"{prior:.0%}" for prior in PRIORS])
    axis.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axis.set(xlim=(0.37, 0.73), ylim=(-0.03, 1.38), xlabel="share of programs in pretraining",
             title="runs that end in programs, 95% intervals")
