"""One rival for all prompts: the first bases whose greedy accuracy a coin could move.

On good-code code is the likeliest mode on every prompt, so greedy decoding is right without RL. On
mixed-code the likeliest mode depends on the prompt: a kind of problem is answered in text, greedily
all of it, and wrongly. Here all text has one favourite opener; in trio.py each prompt has a
favourite of its own. These runs were made when mixed-code had this meaning: they are stored, and
the lesson makes them no more. Two motions then race. The walls of PPO's clip act on each prompt,
and hold down what is rare there; all prompts shake together, since they share their parameters.
"""

from math import log
from statistics import mean

import numpy as np

from data.corpus import OPENERS
from lessons.chance import chance
from lessons.drift import divide, find_exit, show_drift
from lessons.report import (
    BLUE,
    GREY,
    Results,
    align,
    curves_of,
    describe_flags,
    group_runs,
    show_change,
)

ONE_RIVAL = {"base": "mixed-code", "rival": "shared", "on_rival": 0.6}
# {name that the stored runs have: flags of pretrain that write the same documents today}
BASES = {"mixed-code": ONE_RIVAL,
         "mixed-code-sums0.3-products0.85": ONE_RIVAL | {"code_on_sums": 0.3,
                                                         "code_on_products": 0.85},
         "mixed-code-products0.34": ONE_RIVAL | {"code_on_products": 0.34},
         "mixed-code-sums0.34-products0.85": ONE_RIVAL | {"code_on_sums": 0.34,
                                                          "code_on_products": 0.85}}
MIXED, MIRRORED, NEAR, NEAR_MIRRORED = BASES
NO_PPO = {"lr": 0.006, "eps_low": 1e9, "eps_high": 1e9}
# {name of the cell: (base, reward, flags)}
CELLS = {"mixed": (MIXED, "random", {}), "mixed, p 0.1": (MIXED, "random", {"p": 0.1}),
         "mixed, p 0.9": (MIXED, "random", {"p": 0.9}),
         "mixed, no PPO clip": (MIXED, "random", NO_PPO),
         "mixed, correct": (MIXED, "correct", {}), "mirrored": (MIRRORED, "random", {}),
         "near": (NEAR, "random", {}), "near, mirrored": (NEAR_MIRRORED, "random", {})}
LIKELIEST = ONE_RIVAL["on_rival"] + (1 - ONE_RIVAL["on_rival"]) / OPENERS   # of text, one opener
MOVED = 0.1            # of greedy accuracy: what counts as up or down
INSIDE = 0.02, 0.98    # beyond, a share is too near its end for a logit to mean much


def sort_cells(runs: list[dict]) -> dict[str, list[dict]]:
    """{name: its runs} of the bases here, in the order of CELLS; other bases are left out."""
    names = {(base, reward, describe_flags({"reward": reward, "loss": "grpo"} | flags)): name
             for name, (base, reward, flags) in CELLS.items()}
    found = {names[key]: cell for key, cell in group_runs(runs, "base", "reward", "flags").items()
             if key in names}
    return {name: found[name] for name in CELLS if name in found}


def count_moved(cell: list[dict]) -> tuple[int, int]:
    """Seeds whose greedy accuracy went up, and down, by more than MOVED."""
    moves = [run["after_greedy_accuracy"] - run["before_greedy_accuracy"] for run in cell]
    return sum(move > MOVED for move in moves), sum(move < -MOVED for move in moves)


def tabulate_outcomes(runs: list[dict]) -> str:
    """Up and down: seeds whose greedy accuracy moved by more than 10 points."""
    lines = [["", "seeds", "accuracy", "greedy", "greedy in code", "up", "95% interval", "down"]]
    for name, cell in sort_cells(runs).items():
        up, down = count_moved(cell)
        low, high = chance(up, len(cell))
        lines.append([name, str(len(cell)), show_change(cell, "accuracy"),
                      show_change(cell, "greedy_accuracy"), show_change(cell, "greedy_code_share"),
                      str(up), f"{low:.0%} to {high:.0%}", str(down)])
    return align(lines)


def follow(curve: list[dict], run: dict) -> np.ndarray:
    """How far the log-odds of code moved in each batch: (batches, 2), the likelier kind first.

    Until a share leaves INSIDE. The kinds are told apart before RL.
    """
    kinds = sorted(("sums", "products"), key=lambda kind: -run[f"before_code_share_{kind}"])
    shares = np.array([[row[f"code_share_{kind}"] for kind in kinds] for row in curve]
                      + [[run[f"after_code_share_{kind}"] for kind in kinds]])   # (batches + 1, 2)
    low, high = INSIDE
    end = find_exit(((shares < low) | (shares > high)).any(axis=1).tolist())
    shares = shares[:end + 1].clip(1e-3, 1 - 1e-3)
    return np.diff(np.log(shares) - np.log(1 - shares), axis=0)


def tabulate_race(results: Results) -> str:
    """Log-odds of code a batch, ± 2 standard errors: the two kinds apart, and both together.

    `from the tie`: code against the likeliest opener where code is rarer, before RL. `shake`: the
    standard deviation of what both kinds share. `correlation`: of the two kinds' steps.
    """
    lines = [["", "from the tie", "apart", "together", "shake", "correlation"]]
    for name, cell in sort_cells(results.runs).items():
        followed = [follow(curve, run) for curve, run in zip(curves_of(results, cell), cell)]
        steps = np.concatenate(followed)                                         # (batches, 2)
        batches = np.array(list(map(len, followed)))
        moved = np.array([path.sum(axis=0) for path in followed])                # (seeds, 2)
        apart, together = (divide(moved @ weights, batches) for weights in ([1, -1], [0.5, 0.5]))
        rarer = mean(min(run["before_code_share_sums"], run["before_code_share_products"])
                     for run in cell)
        lines.append([name, f"{log(rarer / (1 - rarer) / LIKELIEST):+.2f}",
                      show_drift(*apart), show_drift(*together),
                      f"{steps.mean(axis=1).std():.2f}", f"{np.corrcoef(steps.T)[0, 1]:+.2f}"])
    return align(lines)


def draw_outcomes(axis, runs: list[dict]) -> None:
    """A row for each cell: the greedy accuracy of each seed, and that of the base as a line."""
    cells = sort_cells(runs)
    for y, cell in enumerate(cells.values()):
        after = sorted(run["after_greedy_accuracy"] for run in cell)
        before = mean(run["before_greedy_accuracy"] for run in cell)
        up, _ = count_moved(cell)
        axis.plot(after, y + np.linspace(-0.25, 0.25, len(after)), "o", markersize=4,
                  color=BLUE if 2 * up > len(cell) else GREY)
        axis.plot([before, before], [y - 0.4, y + 0.4], color="black", linewidth=1.5)
    axis.set_yticks(range(len(cells)), [f"{name} ({len(cell)})" for name, cell in cells.items()])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.03), xlabel="greedy accuracy after RL (dot: a seed; line: before)",
             title="one rival for all prompts")
