"""Why does a coin flip help?

PPO's clip gives the habit about (7/6) eps^2 in log-odds a batch; the clip of the gradient's norm
pushes towards code at p = 0.1, away at 0.9; with neither there is no drift. A bandit predicts 11 of
15 within 25%. About 60 minutes on 2 cores.
"""

from statistics import mean

import numpy as np

from lessons.bandit import first_arm
from lessons.clips.kernel import Habit, measure_habit
from lessons.drift import estimate_drift, show_drift, wall_drift
from lessons.grid import base_grid, grid, own_seeds
from lessons.report import (
    BLUE,
    GREY,
    POINTS,
    RED,
    Results,
    align,
    curves_of,
    describe_flags,
    gains,
    greedy_gains,
    group_runs,
    open_canvas,
    show_spread,
)
from rlvr import make_config

BASES = base_grid(base=["good-code"])
SEEDS = 400                              # of a bandit
NO_PPO = {"eps_low": 1e9, "eps_high": 1e9}
NO_NORM = {"max_grad_norm": 1e9}
CLIPS = {"both clips": {}, "PPO's alone": NO_NORM, "norm's alone": NO_PPO,
         "neither": NO_PPO | NO_NORM}
FRESH = {"steps": 640, "prompts": 2, "updates": 1}   # an update sees only its own 32 rollouts
ADAMW = {"optimizer": "adamw"}
ENDS = ADAMW | {"trained": "ends"}       # embedding and head, which move the openers most
RECIPE = ADAMW | {"lr": 0.0003, "updates": 8, "eps_low": 0.2, "eps_high": 0.2, "max_grad_norm": 1.0}


def vary_p(name: str, flags: dict, ps: tuple[float, ...] = (0.1, 0.5, 0.9)) -> dict[str, dict]:
    """{'NAME, p 0.1': flags, ...}; 0.5 is the default, and no flag."""
    return {f"{name}, p {p}": flags | ({} if p == 0.5 else {"p": p}) for p in ps}


# What is varied: {group: {name of the cell: its flags}}
CELLS = {
    "lr 0.006": {name: flags for clip in CLIPS
                 for name, flags in vary_p(clip, {"lr": 0.006} | CLIPS[clip]).items()},
    "lr 0.015": vary_p("default", {}) | vary_p("no norm clip", NO_NORM),
    "width of PPO's clip": {f"eps {eps}": {"eps_low": eps, "eps_high": eps}
                            for eps in (0.2, 0.1, 0.05)},
    "shape of PPO's clip": {**vary_p("upper bound only", {"eps_low": 1e9}, (0.5, 0.1)),
                            **vary_p("lower bound only", {"eps_high": 1e9}, (0.5, 0.1)),
                            "bounds even in logits": {"eps_high": 0.667},
                            "no weight": {"loss": "grpo_unweighted"},
                            "both signs masked": {"loss": "grpo_masked"}},
    "nothing to clip": {"fresh, lr 0.004": FRESH | {"lr": 0.004},
                        **vary_p("default", {}, (0.001, 0))},
    "AdamW": {**{f"adamw, lr {lr}": ADAMW | {"lr": lr} for lr in (0.0001, 0.0003)},
              **{f"adamw on ends, lr {lr}": ENDS | {"lr": lr} for lr in (0.001, 0.003)}},
    "a public recipe": {**vary_p("recipe", RECIPE),
                        **vary_p("recipe, no norm", RECIPE | NO_NORM, (0.1, 0.9)),
                        **vary_p("recipe, no PPO", RECIPE | NO_PPO, (0.1, 0.9))},
    "lr 0.003": vary_p("neither, lr 0.003", {"lr": 0.003} | CLIPS["neither"]),
}
QUICK = ("default, p 0.5", "norm's alone, p 0.1", "norm's alone, p 0.9", "neither, p 0.5")
EPS = {0.4: "default, p 0.5", **{eps: f"eps {eps}" for eps in (0.2, 0.1, 0.05)}}
NAMED = 0.06   # a dot nearer to 0 on both sides has no name in the figure
# Where a name would stand on another: its offset in points.
LABELS = {"default, p 0.1": (-76, 4), "no norm clip, p 0.1": (-102, 3), "default, p 0.5": (7, -2),
          "no norm clip, p 0.9": (7, -14), "norm's alone, p 0.1": (-98, 2),
          "both clips, p 0.1": (7, -8), "no norm clip, p 0.5": (-104, 3),
          "lower bound only, p 0.1": (7, 2), "upper bound only, p 0.5": (7, -8)}
BROKEN = 0.1   # nats a token: one batch that moves further than this has broken the model
COLORS = {0.1: BLUE, 0.5: GREY, 0.9: RED}


def list_cells() -> dict[str, dict]:
    """{name: flags} of all groups."""
    return {name: flags for group in CELLS.values() for name, flags in group.items()}


def runs(seeds: int = 8, quick: bool = False) -> list[dict]:
    """Every cell on seeds of its own, so that no two share their coins; p = 0 pays none: once."""
    planned = []
    for index, (name, flags) in enumerate(list_cells().items()):
        if quick and name not in QUICK:
            continue
        count = 1 if flags.get("p") == 0 else 3 if quick else seeds
        planned += grid(base="good-code", reward="random", **flags, seed=own_seeds(index, count))
    return planned


# --- what theory says

def predict_paths(flags: dict, habit: Habit) -> list[list[float]]:
    """The share of code by batch, a path a seed, of a bandit with the habit of a base."""
    config = make_config(reward="random", **flags)
    read = config.flags
    shares = np.array(habit.shares) / sum(habit.shares)
    norms = np.array([habit.norms["code"], *[habit.norms["text"]] * (len(shares) - 1)])
    own = habit.kappa * ((shares ** 2).sum() - 2 * shares + 1)   # kappa |onehot - pi|^2
    paths = first_arm(tuple(shares), read["eps_low"], config.steps, config.prompts * config.group,
                      config.updates, read["p"], group=config.group, eps_high=read["eps_high"],
                      loss=config.loss, lr=config.lr, kappa=habit.kappa,
                      max_norm=config.max_grad_norm, rest=norms - own, seeds=SEEDS)
    return paths[::config.steps // POINTS].T.tolist()            # (seeds, POINTS + 1)


def measure(runs: list[dict]) -> list[dict]:
    """The base's habit, and the drift of a bandit with this habit in each cell; AdamW has none."""
    habit = measure_habit("good-code")
    rows = [{"cell": "habit", "arms": len(habit.shares), "share": habit.shares[0],
             "kappa": habit.kappa, **{f"norm_{mode}": habit.norms[mode] for mode in habit.norms}}]
    for name, flags in list_cells().items():
        if "optimizer" not in flags:
            drift, error = estimate_drift(predict_paths(flags, habit))
            rows.append({"cell": name, "drift": drift, "error": error})
    return rows


# --- tables

Cells = dict[str, list[dict]]   # {name: its runs}


def sort_cells(runs: list[dict]) -> Cells:
    """In the order of CELLS; KeyError for a run of no cell."""
    names = {}
    for name, flags in list_cells().items():
        config = {"reward": "random", "loss": "grpo"} | flags
        names[config["loss"], describe_flags(config)] = name
    found = {names[key]: cell for key, cell in group_runs(runs, "loss", "flags").items()}
    return {name: found[name] for name in names.values() if name in found}


def find_break(curve: list[dict]) -> int | None:
    """The first batch that broke the model, if one did."""
    return next((t for t, row in enumerate(curve) if row["approx_kl"] > BROKEN), None)


def read_path(curve: list[dict], run: dict) -> list[float]:
    """The share of code in what each batch sampled, and in the evaluation after the last.

    It ends before a batch that broke the model: what is left of one says nothing of modes. A row of
    the curve of fresh rollouts is a mean over 32 of their batches.
    """
    end = find_break(curve)
    shares = [row["code_share"] for row in curve] + [run["after_code_share"]]
    return shares if end is None else shares[:end + 1]


def estimate_drifts(results: Results) -> dict[str, tuple[float, float]]:
    """{name of a cell: drift of logit(code share) a batch of 1,024 rollouts, standard error}."""
    return {name: estimate_drift([read_path(curve, run)
                                  for curve, run in zip(curves_of(results, cell), cell)])
            for name, cell in sort_cells(results.runs).items()}


def read_predictions(results: Results) -> dict[str, float]:
    """{name of a cell: the bandit's drift}."""
    return {row["cell"]: row["drift"] for row in results.evidence if row["cell"] != "habit"}


def show_mean(runs: list[dict], name: str, digits: int = 2) -> str:
    """Over the seeds that have such a number: a model that writes no code has none of it."""
    return f"{mean(run[name] for run in runs if run[name] is not None):.{digits}f}"


def tabulate_drifts(results: Results) -> str:
    """A batch's drift, ± two standard errors; the bandit's; what became of it."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    lines = [["", "drift", "bandit", "code", "gain", "greedy", "in code", "broken"],
             ["before", "", "", show_mean(results.runs, "before_code_share"), "", "",
              show_mean(results.runs, "before_accuracy_code"), ""]]
    for name, cell in sort_cells(results.runs).items():
        broken = [find_break(curve) is not None for curve in curves_of(results, cell)]
        drift, error = drifts[name]
        lines.append([name, show_drift(drift, error) if len(cell) > 1 else f"{drift:+.3f}",
                      f"{predicted[name]:+.3f}" if name in predicted else "",
                      show_mean(cell, "after_code_share"), show_spread(gains(cell)),
                      show_spread(greedy_gains(cell)),
                      show_mean(cell, "after_accuracy_code"),
                      str(sum(broken))])
    return align(lines)


def tabulate_causes(runs: list[dict]) -> str:
    """KL: nats per response from the base. The clips are shares of all tokens."""
    lines = [["", "seeds", "KL", "switch", "within", "clip high", "clip low", "entropy"],
             ["before", "", "", "", "", "", "", show_mean(runs, "before_entropy", 3)]]
    for name, cell in sort_cells(runs).items():
        parts = [f"{mean(gains(cell, part)):+.1f}" for part in ("switch", "within")]
        clips = [f"{mean(run[f'clip_{side}'] for run in cell):.3%}" for side in ("high", "low")]
        lines.append([name, str(len(cell)), show_mean(cell, "after_kl_to_base"), *parts, *clips,
                      show_mean(cell, "after_entropy", 3)])
    return align(lines)


def tabulate_walls(results: Results) -> str:
    """The drift of PPO's clip against its width: formula, bandit, runs."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    lines = [["eps", "formula", "bandit", "runs"]]
    for eps, name in EPS.items():
        if name in drifts:
            lines.append([str(eps), f"{wall_drift(eps, eps):+.3f}",
                          f"{predicted[name]:+.3f}" if name in predicted else "",
                          show_drift(*drifts[name])])
    return align(lines)


def tabulate_agreement(results: Results) -> str:
    """How many cells agree with the bandit, where it predicts more than their noise, or less."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    counts = {"more": [], "less": []}
    for name, expected in predicted.items():
        drift, error = drifts.get(name, (0.0, 0.0))
        if error:   # not p = 0, nor a cell that was not run
            counts["more" if abs(expected) > 2 * error else "less"].append(
                (drift * expected > 0, abs(drift - expected) < 2 * error,
                 abs(drift - expected) < 0.25 * abs(expected)))
    lines = [["bandit against 2 s.e.", "cells", "sign right", "within 2 s.e.", "within 25%"]]
    for side, found in counts.items():
        if found:
            lines.append([side, str(len(found)), *(str(sum(column)) for column in zip(*found))])
    return align(lines)


def table(results: Results) -> str:
    """Drifts and what became of them; distances and causes; widths; agreement with the bandit."""
    parts = [tabulate_drifts(results), tabulate_causes(results.runs), tabulate_walls(results)]
    if results.evidence:
        parts.append(tabulate_agreement(results))
    return "\n\n".join(parts)


def figure(results: Results):
    """A dot a cell: the drift that the bandit predicts, and that of the runs, ± 2 s.e."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    canvas, axis = open_canvas(figsize=(7, 6))
    axis.axhline(0, color=GREY, linewidth=0.6)
    axis.axvline(0, color=GREY, linewidth=0.6)
    axis.plot([-0.3, 0.3], [-0.3, 0.3], color="black", linewidth=0.8)
    for name, (drift, error) in drifts.items():
        if name in predicted and error:
            color = COLORS.get(list_cells()[name].get("p", 0.5), GREY)
            axis.errorbar(predicted[name], drift, 2 * error, fmt="o", color=color, markersize=5,
                          elinewidth=0.8)
            if max(abs(predicted[name]), abs(drift)) > NAMED:
                axis.annotate(name, (predicted[name], drift), LABELS.get(name, (7, -3)),
                              fontsize=8, textcoords="offset points", color=color)
    for p, color in COLORS.items():
        axis.plot([], [], "o", color=color, label=f"p {p}")
    axis.legend(loc="upper left", frameon=False)
    axis.set(xlabel="drift of logit(code share) a batch that the bandit predicts",
             ylabel="drift in the runs, ± 2 standard errors", xlim=(-0.2, 0.32),
             ylim=(-0.2, 0.35))
    return canvas
