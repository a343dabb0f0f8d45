"""Why a coin flip helps, without a language model: GRPO on a bandit whose pulls pay at random.

It has the two clips of the real thing, and what can be changed about them (sums: drift.py):

PPO's clip takes away what pushes an arm further beyond its bounds, and keeps what pushes it back:
two walls. Between them a rare arm moves in steps proportional to its ratio, so it lingers low.
An arm of probability 0.65 never meets its upper wall, and gets what the rare ones lose.

The norm clip scales a whole update down to a largest norm. It holds back what is rare and large: if
the coin seldom pays, the rewards of those arms whose gradient is large.
"""

from typing import Sequence

import numpy as np

SEEDS, LR, EPS, OFF = 200, 2.0, 0.2, 1e9
GROUP = 16   # pulls whose rewards are compared


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def weigh(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str) -> list[np.ndarray]:
    """What a pull counts if it paid, and if not: by arm, 0 where the loss takes its gradient."""
    high, low = ratio > 1 + eps_high, ratio < 1 - eps_low
    if loss == "grpo_masked":
        high = low = high | low
    weight = np.ones_like(ratio) if loss == "grpo_unweighted" else ratio
    return [weight * ~high, weight * ~low]


def compare_wins(wins: np.ndarray, group: int = GROUP) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the rewards of each group: (..., arms) -> (..., 1) twice."""
    mean = wins.sum(axis=-1, keepdims=True) / group
    return mean, np.sqrt(mean * (1 - mean)) + 1e-9


def push_arms(pi: np.ndarray, wins: np.ndarray, losses: np.ndarray, up: np.ndarray,
              down: np.ndarray) -> np.ndarray:
    """The gradient of the mean of some pulls with respect to the logits: (seeds, arms).

    wins, losses: how many pulls paid and did not, and what each weighs, up and down: (seeds,
    groups, arms). d log pi_a / dz = onehot(a) - pi.
    """
    n = (wins[0] + losses[0]).sum()
    weight = (up * wins + down * losses).sum(axis=1) / n
    return weight - pi * weight.sum(axis=1, keepdims=True)


def own_squares(pi: np.ndarray) -> np.ndarray:
    """|d log pi_a / dz|^2 = |onehot(a) - pi|^2 by arm: (..., arms) -> (..., arms)."""
    return (pi ** 2).sum(axis=-1, keepdims=True) - 2 * pi + 1


def draw_norms(rng: np.random.Generator, norms: Sequence[np.ndarray], pulls: np.ndarray,
               wins: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The sum over an update's pulls of A^2 times one of the norms that the pull's arm has.

    norms: of each arm, any number of |gradient of a pull's loss|^2 / A^2 as measured in runs
    (clips/norms.py), with what the loss makes of its tokens, weights and masks. pulls, wins
    (seeds, groups, arms); mean, std (seeds, groups, 1) of the rewards -> (seeds,).
    """
    total, every = np.zeros(len(pulls)), np.concatenate(norms)
    sizes = np.array([len(own) for own in norms])                # (arms,)
    starts = np.cumsum(sizes) - sizes                            # where in `every` an arm's begin
    for count, advantage in ((wins, (1 - mean) / std), (pulls - wins, mean / std)):
        pull = np.repeat(np.arange(count.size), count.ravel())   # where in count each pull is
        seed, _, arm = np.unravel_index(pull, count.shape)
        drawn = every[starts[arm] + rng.integers(sizes[arm])]
        square = np.broadcast_to(advantage ** 2, count.shape).ravel()[pull]
        total += np.bincount(seed, weights=square * drawn, minlength=len(total))
    return total


def first_arm(prior: tuple[float, ...], eps: float, batches: int = 100, samples: int = 512,
              updates: int = 8, p: float = 0.5, *, group: int = GROUP,
              eps_high: float | None = None, loss: str = "grpo", lr: float = LR,
              kappa: float = 1.0, max_norm: float = OFF, rest: tuple[float, ...] | float = 0.0,
              norms: Sequence[np.ndarray] | None = None, seeds: int | None = None) -> np.ndarray:
    """The first arm's probability before, and after each batch of pulls: (batches + 1, seeds).

    A batch is pulled from the old policy and trained on in clipped SGD updates, of whole groups.
    `eps_high` is `eps` unless given. |d theta|^2 is kappa |d z|^2, so an update moves z by lr kappa
    times the gradient. A pull's has `rest` more, by arm, which counts in the norm alone; or the
    whole is one of its arm's `norms`, drawn anew for each pull (`draw_norms`).
    """
    rng, n = np.random.default_rng(0), samples // updates
    other_rng = np.random.default_rng(1)   # so that the pulls do not depend on the norms
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))                  # (seeds, arms) logits
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)          # the random reward: (seeds, groups, arms)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            # times the advantages: (seeds, groups, arms)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            if norms is not None:
                drawn = draw_norms(other_rng, norms, pulls, wins, mean, std)
                others = (drawn - kappa * (squares * own_squares(pi)).sum(axis=1)) / n ** 2
            norm = np.sqrt(np.maximum(0, kappa * (gradient ** 2).sum(axis=1) + others)) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)
