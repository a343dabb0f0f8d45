"""Two motions race where the habit depends on the prompt: each prompt's own, and all prompts'.

The walls of PPO's clip act on each prompt, and hold down what is rare there, so prompts on which
the habit is the favourite and prompts on which it is not part. And all prompts move together, by
chance and by the habit's drift, since they share their parameters.
"""

import numpy as np

from lessons.drift import divide, find_exit, show_drift
from lessons.report import Results, align, curves_of

INSIDE = 0.02, 0.98    # beyond, a share is too near its end for a logit to mean much


def follow_kinds(curve: list[dict], run: dict) -> np.ndarray:
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


def tabulate_race(results: Results, cells: dict[str, list[dict]]) -> str:
    """Log-odds of code a batch, ± 2 standard errors: the two kinds apart, and both together.

    `shake`: the standard deviation of what both kinds share in a batch. `correlation`: of the two
    kinds' steps. Runs that have left INSIDE before their first batch are not counted.
    """
    lines = [["log-odds of code a batch", "seeds", "apart", "together", "shake", "correlation"]]
    for name, cell in cells.items():
        followed = [follow_kinds(curve, run) for curve, run in zip(curves_of(results, cell), cell)]
        followed = [path for path in followed if len(path)]
        steps = np.concatenate(followed or [np.zeros((0, 2))])                   # (batches, 2)
        if len(steps) < 2:    # there is no correlation of one step
            continue
        batches = np.array(list(map(len, followed)))
        moved = np.array([path.sum(axis=0) for path in followed])                # (seeds, 2)
        apart, together = (divide(moved @ weights, batches) for weights in ([1, -1], [0.5, 0.5]))
        lines.append([name, str(len(followed)), show_drift(*apart), show_drift(*together),
                      f"{steps.mean(axis=1).std():.2f}", f"{np.corrcoef(steps.T)[0, 1]:+.2f}"])
    return align(lines)
