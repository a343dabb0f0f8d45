"""The drift of a habit under a coin: what theory says, and what runs and bandits did.

All in logits of the habit's share a rollout batch. A coin does not see what was done, so without
clips the logits have no drift. PPO's clip and the clip of the gradient's norm each add one.
"""

from math import exp, log, sqrt
from statistics import mean

import numpy as np

INSIDE = 0.05, 0.95  # beyond, a share is too near its end for a logit to mean much


def logit(share: float) -> float:
    return log(share / (1 - share))


def wall_drift(eps_low: float, eps_high: float, weighted: bool = True) -> float:
    """What a batch takes from a rare arm's log-ratio x, if the walk reaches both walls.

    Minus the mean of x on [log(1 - eps_low), log(1 + eps_high)] under the density e^(-2x), which
    steps proportional to e^x lead to; steps that do not depend on x (no weight) lead to a flat one.
    About (1/2 + 2/3) eps^2 for equal bounds: 1/2 for the bounds, 2/3 for the weight.

    >>> round(wall_drift(0.4, 0.4), 3), round(wall_drift(0.4, 0.4, weighted=False), 3)
    (0.201, 0.087)
    """
    a, b = log(1 - eps_low), log(1 + eps_high)
    if not weighted:
        return -(a + b) / 2
    mass = (exp(-2 * a) - exp(-2 * b)) / 2
    return -((a / 2 + 1 / 4) * exp(-2 * a) - (b / 2 + 1 / 4) * exp(-2 * b)) / mass


def norm_drift(shares: list[float], norms: list[float], p: float, n: int,
               max_norm: float) -> list[float]:
    """What the norm clip adds to each arm's logit an update of n pulls, over lr kappa, in the mean.

    `norms` has E|d log pi / d theta|^2 of a pull, by arm. Where every update is scaled down, to
    first order in 1 / n: an update's squared norm is R^2 = sum_a pi_a norm_a / n, and a pull with
    advantage A adds A^2 norm_a / n^2 to it. So its scale is (max_norm / R) (1 - A^2 norm_a /
    (2 n^2 R^2)), and E[A scale] is left with E[A^3] = (1 - 2p) / sqrt(p (1 - p)).
    """
    pi, norms = np.array(shares), np.array(norms)
    R, skew = np.sqrt(pi @ norms / n), (1 - 2 * p) / sqrt(p * (1 - p))
    pulled = -max_norm / R * skew * norms / (2 * n ** 2 * R ** 2)                   # E[A scale]
    return (pi * (pulled - pi @ pulled)).tolist()


def find_exit(outside: list[bool]) -> int:
    """The first batch at whose end a path is outside, else its last; where it began is no exit."""
    return next((t for t, out in enumerate(outside) if t and out), len(outside) - 1)


def cut_path(shares: list[float]) -> tuple[float, int]:
    """How far a path's logit got, and in how many batches, until its share first left INSIDE."""
    low, high = INSIDE
    end = find_exit([not low <= share <= high for share in shares])
    share = min(max(shares[end], 1e-3), 1 - 1e-3)
    return logit(share) - logit(shares[0]), end


def estimate_drift(paths: list[list[float]]) -> tuple[float, float]:
    """Drift a batch and its standard error over seeds, from the share by batch, a path a seed."""
    return divide(*np.array([cut_path(path) for path in paths]).T)


def divide(moved: np.ndarray, batches: np.ndarray) -> tuple[float, float]:
    """How far by how many batches, a number a seed each: the drift and its standard error.

    All displacements by all batches: where a path ends depends on where it went, so a mean over
    paths of displacement / batches would be off, and this is not (Wald's identity).
    """
    drift = moved.sum() / batches.sum()
    rest = moved - drift * batches
    error = sqrt((rest ** 2).sum() * len(rest) / max(1, len(rest) - 1)) / batches.sum()
    return float(drift), float(error)


def show_drift(drift: float, error: float) -> str:
    """'+0.138 ± 0.055': with two standard errors."""
    return f"{drift:+.3f} ± {2 * error:.3f}"


def estimate_step(paths: list[list[float]]) -> float:
    """How far the logit of the share moves in a batch, either way: the mean of its size."""
    return mean(abs(logit(b) - logit(a)) for path in paths
                for a, b in list(zip(path, path[1:]))[:cut_path(path)[1]])
