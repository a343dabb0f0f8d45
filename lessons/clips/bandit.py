"""Why a coin flip helps, without a language model: GRPO on a bandit whose every pull pays with probability 1/2.

The clip's bounds are symmetric in probability, not in logit: log(1 + eps) < -log(1 - eps), so a rare arm is held back more on its way
up than down. And an arm of probability 0.65 can hardly grow by a factor 1 + eps at all, so it is never held back on its way up.
"""

import numpy as np

from data.figures import png, save_figure
from data.options import lesson

SEEDS, LR = 200, 2.0
BANDITS = {"0.65, 7 x 0.05": (0.65, *[0.05] * 7), "0.65, 0.35": (0.65, 0.35), "0.35, 0.65": (0.35, 0.65), "8 x 0.125": (0.125,) * 8}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def first_arm(prior: tuple[float, ...], eps: float, batches: int = 100, samples: int = 512, updates: int = 8) -> np.ndarray:
    """(batches + 1, SEEDS): the probability of the first arm, before and after each batch of pulls and its clipped SGD updates."""
    rng, n = np.random.default_rng(0), samples // updates
    z = np.tile(np.log(prior), (SEEDS, 1))                                                # (seeds, arms) logits
    shares = [softmax(z)[:, 0]]
    for _ in range(batches):
        old = softmax(z)
        for pulls in rng.multinomial(n, old, size=(updates, SEEDS)):                      # (seeds, arms), all of the old policy
            wins = rng.binomial(pulls, 0.5)                                               # the random reward
            mean = wins.sum(axis=1, keepdims=True) / n
            win, loss = (1 - mean) / (std := np.sqrt(mean * (1 - mean)) + 1e-9), -mean / std   # advantages
            ratio = (pi := softmax(z)) / old
            weight = ratio * ((ratio <= 1 + eps) * wins * win + (ratio >= 1 - eps) * (pulls - wins) * loss) / n   # clipped
            z = z + LR * (weight - pi * weight.sum(axis=1, keepdims=True))                # d log pi_a / dz = onehot(a) - pi
        shares.append(softmax(z)[:, 0])
    return np.array(shares)


def draw(runs: dict[tuple[str, float], np.ndarray]) -> bytes:
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(2, len(BANDITS), figsize=(11, 5), sharex=True, sharey=True, layout="constrained")
    for axis, ((name, eps), shares) in zip(axes.T.flat, runs.items()):
        axis.plot(shares[:, :40], color="C0" if eps < 1 else "C3", linewidth=0.5, alpha=0.5)
        axis.plot(shares.mean(axis=1), color="black", linewidth=2)
        axis.set(title=f"{name}: {'clip' if eps < 1 else 'no clip'}", ylim=(0, 1), xlabel="batch", ylabel="first arm")
    return png(figure)


def main() -> None:
    runs = {(name, eps): first_arm(prior, eps) for name, prior in BANDITS.items() for eps in (0.2, 1e9)}
    print(f"arms            clip      first arm, mean  5% to 95% of {SEEDS} seeds  seeds up")
    for (name, eps), shares in runs.items():
        low, high = np.quantile(shares[-1], (0.05, 0.95))
        print(f"{name:14s}  {'1 +- 0.2' if eps < 1 else 'none':8s}  {shares[0, 0]:.2f} -> {shares[-1].mean():.2f}     {low:.2f} to {high:.2f}           {np.mean(shares[-1] > shares[0, 0]):.0%}")
    save_figure("runs/bandit.png", lambda: draw(runs))


if __name__ == "__main__":
    lesson("bandit", __doc__, main)
