"""How often is the probe's rule wrong? Counted over all that can happen, in a second.

    python -m lessons.probe.simulate

A seed lifts with a given chance, else it falls. Beside the rule stands what was tried before it:
Student's interval of the mean gain, with lifts of +40 points, falls of -30, and a spread of 3. Near
the switch gains are of this kind, not normal, and few seeds hide one of the two peaks.
"""

import math
import sys

import numpy as np

from lessons.chance import STUDENT, chance
from lessons.probe.probe import LOOKS, judge, wants_look
from lessons.report import align
from plumbing.commands import Parser, head_of, run_command, suggest

CHANCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of a lift
UP, DOWN, SPREAD = 0.40, -0.30, 0.03             # gains where chance decides which habit wins
FEW = (3, 5)                                     # numbers of seeds for Student's interval
TRIALS = 20_000


def write_gains(lifts: int, seeds: int) -> list[float]:
    return [UP] * lifts + [DOWN] * (seeds - lifts)


def enumerate_ends(p: float) -> list[tuple[float, int, int]]:
    """(probability, lifts, seeds) of every end of a probe; a seed lifts with chance p, or falls."""
    ends, paths = [], [(1.0, 0, 0)]
    for look in LOOKS:
        longer = []
        for path in paths:
            probability, lifts, seeds = path
            if not wants_look(write_gains(lifts, seeds), look):
                ends.append(path)
                continue
            more = look - seeds
            for k in range(more + 1):
                part = math.comb(more, k) * p ** k * (1 - p) ** (more - k)
                longer.append((probability * part, lifts + k, look))
        paths = longer
    return ends + paths


def rate_rule(p: float) -> dict[str, float]:
    """Probabilities of the verdicts and that the exact interval holds p; the mean of the seeds."""
    rates = dict.fromkeys(("yes", "harmful", "unclear", "seeds", "holds"), 0.0)
    for probability, lifts, seeds in enumerate_ends(p):
        low, high = chance(lifts, seeds)
        rates[judge(write_gains(lifts, seeds))] += probability
        rates["seeds"] += probability * seeds
        rates["holds"] += probability * (low <= p <= high)
    return rates


def cover_mean(p: float, seeds: int, trials: int = TRIALS) -> float:
    """How often Student's 95% interval of the mean gain of some seeds holds the true mean."""
    rng = np.random.default_rng(0)
    lifts = rng.random((trials, seeds)) < p
    gains = rng.normal(np.where(lifts, UP, DOWN), SPREAD)          # (trials, seeds)
    half = STUDENT[seeds] * gains.std(axis=1, ddof=1) / seeds ** 0.5
    return np.mean(np.abs(gains.mean(axis=1) - p * UP - (1 - p) * DOWN) < half).item()


def tabulate_rates() -> str:
    """A row for each chance of a lift."""
    lines = [["chance of a lift", "yes", "harmful", "unclear", "seeds", "interval holds",
              *(f"t of {seeds} holds" for seeds in FEW)]]
    for p in CHANCES:
        rates = rate_rule(p)
        lines.append([f"{p:.2f}", *(f"{rates[name]:.3f}" for name in ("yes", "harmful", "unclear")),
                      f"{rates['seeds']:.2f}", f"{rates['holds']:.3f}",
                      *(f"{cover_mean(p, seeds):.3f}" for seeds in FEW)])
    return align(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.probe.simulate", allow_abbrev=False,
                    description=head_of(__doc__))
    parser.parse_args(arguments)

    def simulate() -> None:
        print(tabulate_rates())
        suggest("python -m lessons probe --stored")
    return run_command(parser.prog, simulate)


if __name__ == "__main__":
    sys.exit(main())
