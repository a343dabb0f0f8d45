"""Why a coin flip helps, without a language model: GRPO on a bandit whose pulls pay at random.

It has the two clips of the real thing, and what can be changed about them (sums: drift.py):

PPO's clip takes away what pushes an arm further beyond its bounds, and keeps what pushes it back:
two walls. Between them a rare arm moves in steps proportional to its ratio, so it lingers low.
An arm of probability 0.65 never meets its upper wall, and gets what the rare ones lose.

The norm clip scales a whole update down to a largest norm. It holds back what is rare and large: if
the coin seldom pays, the rewards of those arms whose gradient is large.
"""

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


def first_arm(prior: tuple[float, ...], eps: float, batches: int = 100, samples: int = 512,
              updates: int = 8, p: float = 0.5, *, group: int = GROUP,
              eps_high: float | None = None, loss: str = "grpo", lr: float = LR,
              kappa: float = 1.0, max_norm: float = OFF, rest: tuple[float, ...] | float = 0.0,
              seeds: int | None = None) -> np.ndarray:
    """The first arm's probability before, and after each batch of pulls: (batches + 1, seeds).

    A batch is pulled from the old policy and trained on in clipped SGD updates, of whole groups.
    `eps_high` is `eps` unless given. |d theta|^2 is kappa |d z|^2, so an update moves z by lr kappa
    times the gradient. A pull's has `rest` more, by arm, which counts in the norm alone.
    """
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))                  # (seeds, arms) logits
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)          # the random reward: (seeds, groups, arms)
            mean = wins.sum(axis=2, keepdims=True) / group
            std = np.sqrt(mean * (1 - mean)) + 1e-9
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            # times the advantages: (seeds, groups, arms)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            weight = (up * wins + down * (pulls - wins)).sum(axis=1) / n
            # d log pi_a / dz = onehot(a) - pi
            gradient = weight - pi * weight.sum(axis=1, keepdims=True)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = squares * rest / n ** 2
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others.sum(axis=1)) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)
