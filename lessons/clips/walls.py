"""Where PPO's clip pushes: a rollout batch of the bandit, by update, with its walls and without.

    python -m lessons.clips.walls    # seconds; writes runs/walls.png

The arms are the openers of good-code and move as far as its openers do (clips/kernel.py). No norm
clip. A line of the figure is a seed of the bandit; no language model is trained.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np

from lessons.bandit import GROUP, OFF, compare_wins, push_arms, softmax, weigh
from lessons.chance import find_student
from lessons.report import BLUE, GREY, ORANGE, align, draw_to, open_canvas
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import check_writable
from plumbing.flags import number
from rlvr import TrainConfig

SHARES = (0.64, *[0.36 / 7] * 7)      # of the habit and its rivals
KAPPA = 103                           # a step of lr on the model is one of lr kappa on the logits
EPS, LR, UPDATES, GROUPS = 0.4, TrainConfig.lr, 32, 2
SEEDS, DRAWN = 4000, 32
TITLE = "Rare openers run into the walls and the habit does not, so the habit gains"


def walk(eps: float, lr: float = LR, p: float = 0.5, seeds: int = SEEDS) -> np.ndarray:
    """The ratio w of every arm's probability to that at the rollout: (updates + 1, seeds, arms)."""
    rng, z = np.random.default_rng(0), np.tile(np.log(SHARES), (seeds, 1))
    old = softmax(z)
    ratios = [np.ones_like(old)]
    for _ in range(UPDATES):
        pulls = rng.multinomial(GROUP, old[:, None], size=(seeds, GROUPS))
        wins = rng.binomial(pulls, p)
        mean, std = compare_wins(wins)
        up, down = weigh(ratios[-1], eps, eps, "grpo")
        z = z + lr * KAPPA * push_arms(ratios[-1] * old, wins, pulls - wins,
                                       up[:, None] * (1 - mean) / std, -down[:, None] * mean / std)
        ratios.append(softmax(z) / old)
    return np.array(ratios)


def meet_walls(ratios: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether each arm of each seed was beyond the upper wall, and the lower one: (seeds, arms)."""
    return (ratios > 1 + eps).any(axis=0), (ratios < 1 - eps).any(axis=0)


def move_odds(ratios: np.ndarray) -> np.ndarray:
    """How far the batch moves the log-odds of the habit, by seed: the drift is the mean of it."""
    before, after = SHARES[0], ratios[-1, :, 0] * SHARES[0]
    return np.log(after / (1 - after)) - np.log(before / (1 - before))


def tabulate(walks: dict[float, np.ndarray], eps: float) -> str:
    """A row with the walls and one without: who meets them, and what a batch moves in the mean."""
    lines = [["PPO's clip", "rivals above", "below", "either", "both", "rival's log w",
              "habit's log w", "drift"]]
    for bound, ratios in walks.items():
        high, low = (met[:, 1:] for met in meet_walls(ratios, eps))
        moved, x = move_odds(ratios), np.log(ratios[-1])
        half = find_student(len(moved)) * moved.std(ddof=1) / len(moved) ** 0.5
        lines.append([f"1 +- {bound:g}" if bound < OFF else "none",
                      *(f"{met.mean():.0%}" for met in (high, low, high | low, high & low)),
                      f"{x[:, 1:].mean():+.3f}", f"{x[:, 0].mean():+.3f}",
                      f"{moved.mean():+.3f} +- {half:.3f}"])
    return align(lines)


def draw(walks: dict[float, np.ndarray], eps: float):
    """A row with the walls, one without; a rival on the left, the habit on the right."""
    figure, axes = open_canvas(2, 2, figsize=(8, 4), sharex=True, sharey=True)
    names = [f"a rival, {SHARES[1]:.0%} at first", f"the habit, {SHARES[0]:.0%} at first"]
    for row, (bound, ratios), color in zip(axes, walks.items(), (BLUE, ORANGE)):
        met = np.logical_or(*meet_walls(ratios, eps))
        for axis, arm, of, name in zip(row, (1, 0), (met[:, 1:], met[:, 0]), names):
            axis.plot(ratios[:, :DRAWN, arm], color=color, linewidth=0.6)
            axis.axhline(1, color=GREY, linestyle=":", linewidth=1)
            if bound < OFF:
                draw_walls(axis, bound)
            axis.set_title(f"{name}: " + (f"{of.mean():.0%} meet a wall" if bound < OFF
                                          else "no walls"))
        drift = f"{move_odds(ratios).mean():+.2f}".replace("-", "−")
        row[1].text(0.99, 0.05, f"drift of the habit: {drift} a batch", ha="right", weight="bold",
                    transform=row[1].transAxes, bbox={"color": "white", "pad": 2})
    axes[0, 0].set(yscale="log", ylim=(0.25, 2.7), xlim=(0, UPDATES))
    axes[0, 0].minorticks_off()
    axes[0, 0].set_yticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
    figure.suptitle(TITLE, fontsize=12, weight="bold", x=0.01, ha="left")
    figure.supxlabel("updates on one rollout batch; each thin line is one seed of the bandit",
                     fontsize=9)
    figure.supylabel("probability now / when sampled", fontsize=9)
    return figure


def draw_walls(axis, eps: float) -> None:
    """Both walls, with their names at the left, where no line has come yet."""
    for bound, name, place in ((1 + eps, "1 + eps", "bottom"), (1 - eps, "1 − eps", "top")):
        axis.axhline(bound, color="black", linewidth=1.8)
        axis.annotate(name, (0, bound), (3, 2 if place == "bottom" else -2), fontsize=8, va=place,
                      textcoords="offset points")


def play(eps: float = EPS, lr: float = LR, p: float = 0.5) -> dict[float, np.ndarray]:
    """What `draw` and `tabulate` show: one batch with walls at 1 +- eps, and one without."""
    return {bound: walk(bound, lr, p) for bound in (eps, OFF)}


def show_walls(eps: float, lr: float, p: float, out: Path) -> None:
    check_writable(out.parent)
    walks = play(eps, lr, p)
    print(tabulate(walks, eps))
    list_written(*draw_to(out, draw, walks, eps))
    suggest("python -m lessons.clips.bandit    # 100 batches of a bandit, for several habits")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.clips.walls", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=number(float, least=0.01, most=0.9), default=EPS,
                        help=f"the walls stand at 1 +- eps (default {EPS})")
    parser.add_argument("--lr", type=number(float, least=0), default=LR,
                        help=f"step size, as of train (default {LR})")
    parser.add_argument("--p", type=number(float, least=0, most=1), default=0.5,
                        help="how often a pull pays (default 0.5)")
    parser.add_argument("--out", type=Path, default=Path("runs/walls.png"),
                        help="the figure (default runs/walls.png)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: show_walls(args.eps, args.lr, args.p, args.out))


if __name__ == "__main__":
    sys.exit(main())
