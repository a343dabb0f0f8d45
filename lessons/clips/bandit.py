"""Why a coin flip helps, without a language model: GRPO on a bandit whose pulls pay at random.

    python -m lessons.clips.bandit    # 7 seconds; writes runs/bandit.png

What is played is lessons/bandit.py: 200 seeds of four bandits, each with PPO's clip and without.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np

from lessons.bandit import EPS, OFF, SEEDS, first_arm
from lessons.report import BLUE, GREY, RED, align, draw_to, open_canvas
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import check_writable
from plumbing.flags import number

BANDITS = {"0.65, 7 x 0.05": (0.65, *[0.05] * 7), "0.65, 0.35": (0.65, 0.35),
           "0.35, 0.65": (0.35, 0.65), "8 x 0.125": (0.125,) * 8}


def tabulate(runs: dict[tuple[str, float], np.ndarray]) -> str:
    lines = [["arms", "clip", "first arm, mean", f"5% to 95% of {SEEDS} seeds", "seeds up"]]
    for (name, eps), shares in runs.items():
        low, high = np.quantile(shares[-1], (0.05, 0.95))
        lines.append([name, f"1 +- {eps}" if eps < OFF else "none",
                      f"{shares[0, 0]:.2f} -> {shares[-1].mean():.2f}", f"{low:.2f} to {high:.2f}",
                      f"{np.mean(shares[-1] > shares[0, 0]):.0%}"])
    return align(lines)


def draw(runs: dict[tuple[str, float], np.ndarray]):
    """A column for each bandit: with the clip above, without below; 5% to 95%, mean, ten seeds."""
    figure, axes = open_canvas(2, len(BANDITS), figsize=(8, 4), sharex=True, sharey=True)
    for axis, ((name, eps), shares) in zip(axes.T.flat, runs.items()):
        color, clip = (BLUE, f"clip 1 ± {eps}") if eps < OFF else (RED, "no clip")
        low, high = np.quantile(shares, (0.05, 0.95), axis=1)
        axis.fill_between(range(len(shares)), low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(shares[:, :10], color=color, linewidth=0.6)
        axis.axhline(shares[0, 0], color=GREY, linestyle="--")
        axis.plot(shares.mean(axis=1), color="black", linewidth=2.2)
        axis.set(title=f"{name}\n{clip}: {shares[0, 0]:.2f} → {shares[-1].mean():.2f}",
                 ylim=(0, 1), xlim=(0, len(shares) - 1))
    figure.supxlabel(f"batches of pulls; black: mean of {SEEDS} seeds, thin: ten of them, "
                     "shaded: 5% to 95%, dashed: the start", fontsize=8.5)
    figure.supylabel("probability of the first arm", fontsize=8.5)
    return figure


def play(out: Path, p: float) -> None:
    check_writable(out.parent)
    runs = {(name, eps): first_arm(prior, eps, p=p)
            for name, prior in BANDITS.items() for eps in (EPS, OFF)}
    print(tabulate(runs))
    list_written(*draw_to(out, draw, runs))
    suggest("python -m lessons.clips.walls    # one batch of it, between its walls",
            "./train.sh clips --quick")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.clips.bandit", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--p", type=number(float, least=0, most=1), default=0.5,
                        help="how often a pull pays (default 0.5)")
    parser.add_argument("--out", type=Path, default=Path("runs/bandit.png"),
                        help="the figure (default runs/bandit.png)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: play(args.out, args.p))


if __name__ == "__main__":
    sys.exit(main())
