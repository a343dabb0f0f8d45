"""Wrong solutions of the exercise bandit: what students write, and what each is told."""

from typing import Sequence

import numpy as np

from course.exercises.catalog import replaces
from lessons.bandit import GROUP, LR, OFF, SEEDS, compare_wins, push_arms, softmax, weigh


@replaces("lessons/bandit.py:weigh")
def cut_the_other_side(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                       ) -> list[np.ndarray]:
    """The sides are swapped: what paid is cut above 1 + eps_high, what did not below 1 - eps_low.
    """
    high, low = ratio > 1 + eps_high, ratio < 1 - eps_low
    if loss == "grpo_masked":
        high = low = high | low
    weight = np.ones_like(ratio) if loss == "grpo_unweighted" else ratio
    return [weight * ~low, weight * ~high]


@replaces("lessons/bandit.py:weigh")
def cut_nothing(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                ) -> list[np.ndarray]:
    """Nothing is cut beyond the bounds: this is a loss without a clip."""
    weight = np.ones_like(ratio) if loss == "grpo_unweighted" else ratio
    return [weight, weight]


@replaces("lessons/bandit.py:weigh")
def cut_both_sides(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                   ) -> list[np.ndarray]:
    """Every loss is masked on both sides. Only `grpo_masked` is: PPO's clip keeps pushes back."""
    inside = (ratio <= 1 + eps_high) & (ratio >= 1 - eps_low)
    weight = np.ones_like(ratio) if loss == "grpo_unweighted" else ratio
    return [weight * inside, weight * inside]


@replaces("lessons/bandit.py:weigh")
def leave_the_ratio_out(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                        ) -> list[np.ndarray]:
    """The ratio is left out of every loss. Only `grpo_unweighted` has none."""
    high, low = ratio > 1 + eps_high, ratio < 1 - eps_low
    if loss == "grpo_masked":
        high = low = high | low
    return [1.0 * ~high, 1.0 * ~low]


@replaces("lessons/bandit.py:weigh")
def treat_all_losses_alike(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                           ) -> list[np.ndarray]:
    """All losses are treated as `grpo`. `grpo_masked` and `grpo_unweighted` weigh otherwise."""
    return [ratio * ~(ratio > 1 + eps_high), ratio * ~(ratio < 1 - eps_low)]


@replaces("lessons/bandit.py:weigh")
def bound_both_sides_alike(ratio: np.ndarray, eps_low: float, eps_high: float, loss: str
                           ) -> list[np.ndarray]:
    """eps_low bounds both sides. The upper bound is 1 + eps_high."""
    high, low = ratio > 1 + eps_low, ratio < 1 - eps_low
    if loss == "grpo_masked":
        high = low = high | low
    weight = np.ones_like(ratio) if loss == "grpo_unweighted" else ratio
    return [weight * ~high, weight * ~low]


@replaces("lessons/bandit.py:first_arm")
def average_over_all_groups(prior: tuple[float, ...], eps: float, batches: int = 100,
                            samples: int = 512, updates: int = 8, p: float = 0.5, *,
                            group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                            lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                            rest: tuple[float, ...] | float = 0.0,
                            norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                            ) -> np.ndarray:
    """One mean of the coin is used for all groups. Each group has its own."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean = wins.sum(axis=(1, 2), keepdims=True) / n
            std = np.sqrt(mean * (1 - mean)) + 1e-9
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def leave_the_stds_out(prior: tuple[float, ...], eps: float, batches: int = 100,
                       samples: int = 512, updates: int = 8, p: float = 0.5, *,
                       group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                       lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                       rest: tuple[float, ...] | float = 0.0,
                       norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                       ) -> np.ndarray:
    """Advantages are not divided by the std of their group. GRPO's are."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, _ = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean), -down[:, None] * mean
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def follow_the_policy(prior: tuple[float, ...], eps: float, batches: int = 100,
                      samples: int = 512, updates: int = 8, p: float = 0.5, *,
                      group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                      lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                      rest: tuple[float, ...] | float = 0.0,
                      norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                      ) -> np.ndarray:
    """The old policy is renewed at each update, so the ratio is always 1 and nothing is clipped."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        for _ in range(updates):
            old = softmax(z)
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def leave_kappa_out(prior: tuple[float, ...], eps: float, batches: int = 100,
                    samples: int = 512, updates: int = 8, p: float = 0.5, *,
                    group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                    lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                    rest: tuple[float, ...] | float = 0.0,
                    norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                    ) -> np.ndarray:
    """kappa is left out of the step: an update moves z by lr kappa times the gradient."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def measure_arms_alone(prior: tuple[float, ...], eps: float, batches: int = 100,
                       samples: int = 512, updates: int = 8, p: float = 0.5, *,
                       group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                       lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                       rest: tuple[float, ...] | float = 0.0,
                       norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                       ) -> np.ndarray:
    """The norm is of the arms alone. What each pull has beside its arm, `rest`, counts too."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) ) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def average_the_rest(prior: tuple[float, ...], eps: float, batches: int = 100,
                     samples: int = 512, updates: int = 8, p: float = 0.5, *,
                     group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                     lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                     rest: tuple[float, ...] | float = 0.0,
                     norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                     ) -> np.ndarray:
    """`rest` is divided by n. The gradient is a mean of n pulls, so its square has 1 / n^2."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def divide_norms_upside_down(prior: tuple[float, ...], eps: float, batches: int = 100,
                             samples: int = 512, updates: int = 8, p: float = 0.5, *,
                             group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                             lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                             rest: tuple[float, ...] | float = 0.0,
                             norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                             ) -> np.ndarray:
    """The factor is upside down. An update is scaled by max_norm / R where R is larger."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, -down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, norm / max_norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


@replaces("lessons/bandit.py:first_arm")
def reward_losing_pulls(prior: tuple[float, ...], eps: float, batches: int = 100,
                        samples: int = 512, updates: int = 8, p: float = 0.5, *,
                        group: int = GROUP, eps_high: float | None = None, loss: str = "grpo",
                        lr: float = LR, kappa: float = 1.0, max_norm: float = OFF,
                        rest: tuple[float, ...] | float = 0.0,
                        norms: Sequence[np.ndarray] | None = None, seeds: int | None = None
                        ) -> np.ndarray:
    """Pulls that did not pay are pushed up. Their advantage is -m / s."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (seeds or SEEDS, 1))
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for _ in range(updates):
            pulls = rng.multinomial(group, old[:, None], size=(len(z), n // group))
            wins = rng.binomial(pulls, p)
            mean, std = compare_wins(wins, group)
            pi = softmax(z)
            up, down = weigh(pi / old, eps, eps if eps_high is None else eps_high, loss)
            up, down = up[:, None] * (1 - mean) / std, down[:, None] * mean / std
            gradient = push_arms(pi, wins, pulls - wins, up, down)
            squares = (up ** 2 * wins + down ** 2 * (pulls - wins)).sum(axis=1)
            others = (squares * rest / n ** 2).sum(axis=1)
            norm = np.sqrt(kappa * (gradient ** 2).sum(axis=1) + others) + 1e-9
            z = z + lr * kappa * np.minimum(1, max_norm / norm)[:, None] * gradient
        shares.append(softmax(z)[:, 0])
    return np.array(shares)
