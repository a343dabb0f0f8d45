"""Why does a coin flip help?

PPO's clip gives the habit about (7/6) eps^2 in log-odds a batch, where rivals reach both walls; the
clip of the gradient's norm pushes towards code at p = 0.1, away at 0.9; with neither no drift is
seen. A bandit has the sign of 12 of 12, and 10 within the runs' intervals. About 70 minutes on 2
cores.
"""

from pathlib import Path
from statistics import mean, median

import numpy as np

from lessons.bandit import first_arm, own_squares
from lessons.chance import find_student
from lessons.clips import walls
from lessons.clips.kernel import Habit, measure_habit
from lessons.clips.norms import cut_rows, pick_mode
from lessons.drift import estimate_drift, wall_drift
from lessons.grid import PAPER_SHAPE, base_grid, grid, own_seeds, write_flags
from lessons.report import (
    BLUE,
    GREY,
    POINTS,
    RED,
    Results,
    add_bounds,
    align,
    curves_of,
    describe_flags,
    gains,
    greedy_gains,
    group_runs,
    open_canvas,
    parse_csv,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary
from plumbing.files import read_text
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
RECIPE = PAPER_SHAPE | {"lr": 0.0003}


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
    "run after they were predicted": {"default, p 0.9, again": {"p": 0.9},
                                      "no PPO clip, p 0.9": NO_PPO | {"p": 0.9}},
}
AGAIN = {"default, p 0.9, again": "default, p 0.9"}   # a cell whose flags another one has
# Runs inside which gradient norms are measured, {name: (flags, seeds)}.
NORM_RUNS = {"p 0.5": ({"p": 0.5}, own_seeds(90, 8)), "p 0.9": ({"p": 0.9}, own_seeds(91, 3)),
             "p 0.1": ({"p": 0.1}, own_seeds(92, 3)),
             "p 0.5, lr 0.006": ({"p": 0.5, "lr": 0.006}, own_seeds(93, 4))}
EVIDENCE_SECONDS = 30
QUICK = ("default, p 0.5", "norm's alone, p 0.1", "norm's alone, p 0.9", "neither, p 0.9")
# What the page shows: {cell: the clips that are on}.
SHOWN = {"default, p 0.5": "both, eps 0.4", "eps 0.2": "both, eps 0.2",
         "no norm clip, p 0.5": "PPO's, eps 0.4", "no PPO clip, p 0.9": "norm clip",
         "default, p 0.9, again": "both, eps 0.4", "norm's alone, p 0.1": "norm clip",
         "norm's alone, p 0.9": "norm clip", "neither, p 0.9": "neither"}
EPS = {0.4: "default, p 0.5", **{eps: f"eps {eps}" for eps in (0.2, 0.1, 0.05)}}
NAMED = 0.06   # a dot nearer to 0 on both sides has no name in the figure
# Where a name would stand on another: its offset in points.
LABELS = {"default, p 0.1": (-76, 4), "no norm clip, p 0.1": (-102, 3), "default, p 0.5": (7, -2),
          "no norm clip, p 0.9": (7, -14), "norm's alone, p 0.1": (-98, 2),
          "both clips, p 0.1": (7, -8), "lower bound only, p 0.5": (-124, -3),
          "both clips, p 0.9": (7, -1), "no norm clip, p 0.5": (-104, 3),
          "lower bound only, p 0.1": (-122, 2), "upper bound only, p 0.5": (7, -8)}
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
        more = 2 if name in CELLS["run after they were predicted"] else 1
        count = 1 if flags.get("p") == 0 else 3 if quick else more * seeds
        planned += grid(base="good-code", reward="random", **flags, seed=own_seeds(index, count))
    return planned


# --- what theory says

def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """The runs inside which norms are measured: command, the file that it makes, and the base."""
    return [(command, path, "good-code") for name in NORM_RUNS for command, path in
            list_norms(name)]


def list_norms(name: str) -> list[tuple[str, Path]]:
    """Commands and files of the runs of NORM_RUNS with a name."""
    flags, seeds = NORM_RUNS[name]
    cell = "-".join(f"{flag}-{value:g}" for flag, value in flags.items())
    found = []
    for seed in seeds:
        path = Path("runs", "good-code", "norms", cell, f"seed{seed}", "norms.csv")
        words = write_flags(flags | {"seed": seed, "threads": 1, "out": path})
        found.append((" ".join(["python -m lessons.clips.norms", *words]), path))
    return found


def read_norms(name: str) -> dict[str, list[float]]:
    """What was measured inside these runs, each until its drift ends: by mode."""
    rows = [row for _, path in list_norms(name)
            for row in cut_rows(parse_csv(read_text(path), ("mode",)))]
    return {mode: pick_mode(rows, mode) for mode in ("code", "text")}


def predict_paths(flags: dict, habit: Habit, norms: dict[str, list[float]] | None = None
                  ) -> list[list[float]]:
    """The share of code by batch, a path a seed, of a bandit with the habit of a base.

    norms: what a pull's norm is drawn from, by mode; without, it is the base's mean.
    """
    config = make_config(reward="random", **flags)
    read = config.flags
    shares = np.array(habit.shares) / sum(habit.shares)
    modes = ["code", *["text"] * (len(shares) - 1)]
    told = {"rest": np.array([habit.norms[mode] for mode in modes])
                    - habit.kappa * own_squares(shares)}
    if norms:
        told = {"norms": [np.array(norms[mode]) for mode in modes]}
    paths = first_arm(tuple(shares), read["eps_low"], config.steps, config.prompts * config.group,
                      config.updates, read["p"], group=config.group, eps_high=read["eps_high"],
                      loss=config.loss, lr=config.lr, kappa=habit.kappa,
                      max_norm=config.max_grad_norm, seeds=SEEDS, **told)
    return paths[::config.steps // POINTS].T.tolist()            # (seeds, POINTS + 1)


def predict_cells(habit: Habit, norms: dict[str, dict[str, list[float]]]) -> list[dict]:
    """The drift of a bandit in each cell, told norms at p = 0.5; AdamW has none.

    base_drift: told the base's norms. own_drift: those at a cell's own, smaller step.
    """
    rows = []
    for name, flags in list_cells().items():
        told = {"": norms["p 0.5"], "base_": None}
        if name in CELLS["lr 0.006"]:
            told["own_"] = norms["p 0.5, lr 0.006"]
        row = {"cell": name}
        for key, chosen in told.items() if "optimizer" not in flags else ():
            paths = predict_paths(flags, habit, chosen)
            row[f"{key}drift"], row[f"{key}error"] = estimate_drift(paths)
        rows += [row] if len(row) > 1 else []
    return rows


def measure(runs: list[dict]) -> list[dict]:
    """The base's habit; predictions; what norms there are inside runs."""
    habit, norms = measure_habit("good-code"), {name: read_norms(name) for name in NORM_RUNS}
    rows = [{"cell": "habit", "arms": len(habit.shares), "share": habit.shares[0],
             "kappa": habit.kappa, **{f"norm_{mode}": habit.norms[mode] for mode in habit.norms}}]
    rows += predict_cells(habit, norms)
    for name, by_mode in norms.items():
        rows += [{"cell": f"norms, {name}", "mode": mode, "runs": len(NORM_RUNS[name][1]),
                  "rows": len(found), "mean": mean(found), "median": median(found),
                  "largest": max(found)} for mode, found in by_mode.items()]
    return rows


# --- tables

Cells = dict[str, list[dict]]   # {name: its runs}


def sort_cells(runs: list[dict]) -> Cells:
    """In the order of CELLS; KeyError for a run of no cell. Of equal cells, the seed tells which.
    """
    names, blocks = {}, {name: own_seeds(i, 100) for i, name in enumerate(list_cells())}
    for name, flags in list_cells().items():
        config = {"reward": "random", "loss": "grpo"} | flags
        names.setdefault((config["loss"], describe_flags(config)), name)
    found = {names[key]: cell for key, cell in group_runs(runs, "loss", "flags").items()}
    for name, first in AGAIN.items():
        both = found.get(first, [])
        found[name] = [run for run in both if run["seed"] in blocks[name]]
        found[first] = [run for run in both if run["seed"] not in blocks[name]]
    return {name: found[name] for name in blocks if found.get(name)}


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
    """{name of a cell: drift of logit(code share) a batch of 1,024 rollouts, half its interval}.

    Student's 95% interval for so many seeds; half of it is 0 where there is one.
    """
    found = {}
    for name, cell in sort_cells(results.runs).items():
        paths = [read_path(curve, run) for curve, run in zip(curves_of(results, cell), cell)]
        drift, error = estimate_drift(paths)
        found[name] = drift, error * find_student(len(cell)) if len(cell) > 1 else 0.0
    return found


def show_interval(drift: float, half: float) -> str:
    """'+0.138 ± 0.065'; a drift without an interval stands alone."""
    return f"{drift:+.3f} ± {half:.3f}" if half else f"{drift:+.3f}"


def read_predictions(results: Results, norms: str = "") -> dict[str, float]:
    """{name of a cell: the bandit's drift}; norms "base_": of a bandit with the base's norms."""
    return {row["cell"]: row[f"{norms}drift"] for row in results.evidence
            if row.get(f"{norms}drift") is not None}


def show_mean(runs: list[dict], name: str, digits: int = 2) -> str:
    """Over the seeds that have such a number: a model that writes no code has none of it."""
    return f"{mean(run[name] for run in runs if run[name] is not None):.{digits}f}"


def show_ends(runs: list[dict], name: str) -> str:
    """A share over the seeds that have it: '0.65 ± 0.18', or how many end above a line if split."""
    found = [run[name] for run in runs if run[name] is not None]
    return show_seeds(found, 2, "", 1) if found else ""


def tabulate_drifts(results: Results) -> str:
    """A batch's drift and its interval; what two bandits expect; where the habit ends."""
    drifts = estimate_drifts(results)
    predicted = [read_predictions(results, norms) for norms in ("", "base_")]
    lines = [["", "drift", "bandit", "base's norms", "code"],
             ["before", "", "", "", show_mean(results.runs, "before_code_share")]]
    for name, cell in sort_cells(results.runs).items():
        lines.append([name, show_interval(*drifts[name]),
                      *(f"{of_norms[name]:+.3f}" if name in of_norms else ""
                        for of_norms in predicted), show_ends(cell, "after_code_share")])
    return align(lines)


def tabulate_ends(results: Results) -> str:
    """What became of the runs: gains, what is right inside code, how many broke."""
    lines = [["", "gain", "switch", "within", "greedy", "in code", "broken"],
             ["before", "", "", "", "", show_mean(results.runs, "before_accuracy_code"), ""]]
    for name, cell in sort_cells(results.runs).items():
        broken = [find_break(curve) is not None for curve in curves_of(results, cell)]
        parts = [f"{mean(gains(cell, part)):+.1f}" for part in ("switch", "within")]
        lines.append([name, show_seeds(gains(cell)), *parts, show_seeds(greedy_gains(cell)),
                      show_ends(cell, "after_accuracy_code"), f"{sum(broken)} of {len(cell)}"])
    return align(lines)


def tabulate_causes(results: Results) -> str:
    """KL: nats per response from the base. The clips are shares of all tokens."""
    lines = [["", "KL", "clip high", "clip low", "entropy"],
             ["before", "", "", "", show_mean(results.runs, "before_entropy", 3)]]
    for name, cell in sort_cells(results.runs).items():
        clips = [f"{mean(run[f'clip_{side}'] for run in cell):.3%}" for side in ("high", "low")]
        lines.append([name, show_mean(cell, "after_kl_to_base"), *clips,
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
                          show_interval(*drifts[name])])
    return align(lines)


def tabulate_agreement(results: Results) -> str:
    """How many cells agree with the bandit, where it predicts more than their noise, or less."""
    drifts = estimate_drifts(results)
    lines = [["bandit's norms", "against the interval", "cells", "sign right", "inside it",
              "within 25%"]]
    for norms, told in (("", "in a run"), ("base_", "the base's")):
        counts = {"more": [], "less": []}
        for name, expected in read_predictions(results, norms).items():
            drift, half = drifts.get(name, (0.0, 0.0))
            if half:   # not p = 0, nor a cell that was not run
                counts["more" if abs(expected) > half else "less"].append(
                    (drift * expected > 0, abs(drift - expected) < half,
                     abs(drift - expected) < 0.25 * abs(expected)))
        lines += [[told, side, str(len(found)), *(str(sum(column)) for column in zip(*found))]
                  for side, found in counts.items() if found]
    return align(lines)


def tabulate_norms(evidence: list[dict]) -> str:
    """|gradient of a response's loss|^2 / A^2 by mode: of the base, and inside runs."""
    habit = evidence[0]
    lines = [["|gradient|²", "runs", "code: rows", "mean", "median", "text: rows", "mean",
              "median"],
             ["before RL", "", "", f"{habit['norm_code']:.0f}", "", "",
              f"{habit['norm_text']:.0f}", ""]]
    for name in NORM_RUNS:
        rows = {row["mode"]: row for row in evidence if row["cell"] == f"norms, {name}"}
        if rows:
            numbers = [f"{rows[mode][name]:.0f}" for mode in ("code", "text")
                       for name in ("rows", "mean", "median")]
            lines.append([f"in a run, {name}", f"{rows['code']['runs']:.0f}", *numbers])
    return align(lines)


def table(results: Results) -> str:
    """Drifts; what became of the runs; distances; widths; the bandit's agreement, norms."""
    parts = {
        "Drift of the log-odds of code in a rollout batch, by cell": tabulate_drifts(results),
        "What became of the runs, by cell": tabulate_ends(results),
        "Distance from the base at the end, tokens clipped, and entropy, by cell":
            tabulate_causes(results),
        "Drift of the log-odds of code in a batch by eps, the width of PPO's clip, at p = 0.5":
            tabulate_walls(results)}
    if results.evidence:
        parts |= {
            "How many cells agree with the bandit, by the gradient norms that it is told":
                tabulate_agreement(results),
            "Squared norm of the gradient of one response, by mode":
                tabulate_norms(results.evidence)}
    return add_bounds(title_tables(parts))


def summary(results: Results) -> Summary:
    """The cells of SHOWN that were run; without a bandit, as after --quick, no column of its."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    cells, found = sort_cells(results.runs), {}
    for name in SHOWN:
        if name in cells:
            flags = list_cells()[name]
            found[name] = [SHOWN[name], f"{flags.get('p', 0.5):g}",
                           f"{flags.get('lr', walls.LR):g}", str(len(cells[name])),
                           show_interval(*drifts[name]),
                           *([f"{predicted[name]:+.3f}"] if name in predicted else [])]
    head = ["clips that are on", "p", "step", "seeds", "drift in the runs",
            "predicted by the bandit"]
    width = min(map(len, found.values()), default=len(head))
    return Summary("Drift of the log-odds of the program in a rollout batch, with its 95% interval",
                   [row[:width] for row in (head, *found.values())],
                   conclude({name: drifts[name] for name in found}))


def conclude(drifts: dict[str, tuple[float, float]]) -> str:
    """In how many cells the sign of the drift is known: with a clip, and with neither."""
    widest = max((half for _, half in drifts.values()), default=0.0)
    if not widest:
        return "One seed a row shows a path each, not a mean: of no drift is the sign known."
    told = [["neither" in name, 0 < half < abs(drift)] for name, (drift, half) in drifts.items()]
    counts = [f"{sum(far for off, far in told if off == clip)} of "
              f"{sum(off == clip for off, _ in told)}" for clip in (False, True)]
    return (f"With a clip the interval leaves out 0 in {counts[0]} rows, with neither in "
            f"{counts[1]}; the widest is ± {widest:.3f}.")


def figure(results: Results):
    """One rollout batch of the bandit, with PPO's walls and without: the same for all results."""
    return walls.draw(walls.play(), walls.EPS)


def record_figure(results: Results):
    """A dot a cell: the drift that the bandit predicts, and that of the runs, its interval."""
    drifts, predicted = estimate_drifts(results), read_predictions(results)
    canvas, axis = open_canvas(figsize=(7, 6))
    axis.set_title("The drifts in most of the runs are those that a bandit predicts")
    axis.axhline(0, color=GREY, linewidth=0.6)
    axis.axvline(0, color=GREY, linewidth=0.6)
    axis.plot([-0.26, 0.32], [-0.26, 0.32], color="black", linewidth=0.8)
    for name, (drift, half) in drifts.items():
        if name in predicted and half:
            color = COLORS.get(list_cells()[name].get("p", 0.5), GREY)
            axis.errorbar(predicted[name], drift, half, fmt="o", color=color, markersize=5,
                          elinewidth=0.8)
            if max(abs(predicted[name]), abs(drift)) > NAMED or name in AGAIN:
                axis.annotate(name, (predicted[name], drift), LABELS.get(name, (7, -3)),
                              fontsize=8, textcoords="offset points", color=color)
    for p, color in COLORS.items():
        axis.plot([], [], "o", color=color, label=f"p {p}")
    axis.legend(loc="upper left", frameon=False)
    axis.set(xlabel="drift of logit(code share) a batch that the bandit predicts",
             ylabel="drift in the runs and its 95% interval", xlim=(-0.26, 0.32),
             ylim=(-0.26, 0.36))
    return canvas
