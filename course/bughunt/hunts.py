"""Which bugs are dealt out, what is run to see them, and what clean runs show.

A bug is dealt out only if a number of its runs is far from that of all clean runs, on every seed
that was measured. course/bughunt/measure.py measures it: clean.csv, symptoms.csv.
"""

import csv
import json
import math
from pathlib import Path
from typing import NamedTuple

from plumbing.files import read_text

HERE = Path(__file__).parent
# Each seed has a base of its own, for so does a reader's machine: rounding alone leads the same
# pretraining elsewhere.
CLEAN_SEEDS, BUG_SEEDS = (1, 2, 3, 4), (5, 6, 7)
# A number is odd if it is further from all clean ones than ODD times their range, which counts as
# at least this much: the evaluation has few answers.
ODD, LEAST_RANGE, LEAST_RANGE_OF_EVALUATION = 2, 0.002, 0.05

# A small base and small runs: all is made in a minute, and a bug that shows, shows there.
BASE = "--base good-code --layers 2 --width 48 --heads 3 --batch 64 --steps 400"
SMALL = "--threads 1 --eval-problems 40 --eval-samples 4 --prompts 16 --group 8"
EXPERIMENTS = {
    "on-policy": "--reward correct --steps 3 --updates 1 --temperature 0.7",
    # Close walls and some batches more, so that a clip's numbers differ little from base to base.
    "coin": "--reward random --steps 8 --updates 16 --eps 0.1",
}

# What a bug does to a run. A line alone does not say it: one has to know why it is wrong.
KINDS = {
    "mixed": "what belongs to one prompt, row or token is used for another one",
    "weights": "some rows or tokens count more, or less, than others that should count alike",
    "scale": "every update points where it should, and is too small or too large",
    "limit": "what should hold the policy (a clip, a KL term) does not hold it",
    "mismatch": "the sampler and the loss do not agree on what the policy says",
    "pay": "an answer counts as right that is not, or is paid for what it should not be paid for",
    "luck": "random numbers are shared that should be independent",
    "report": "the training is right, and a number that is reported about it is not",
}


class Hunt(NamedTuple):
    kind: str          # one of KINDS
    experiment: str    # one of EXPERIMENTS
    shows: str         # the number that shows it best


# {name of a mutant: its kind, its experiment, the number that shows it best}
HUNTS = {
    # rollout and sampling
    "prompt-without-newline": Hunt("mismatch", "on-policy", "approx_kl"),
    "pads-are-seen": Hunt("mismatch", "on-policy", "approx_kl"),
    "positions-restart": Hunt("mismatch", "on-policy", "approx_kl"),
    "scored-at-one": Hunt("mismatch", "on-policy", "approx_kl"),
    "one-number-a-row": Hunt("luck", "on-policy", "code_share before"),
    "repeat-for-interleave": Hunt("mixed", "on-policy", "approx_kl"),
    # rewards and advantages
    "answer-anywhere": Hunt("pay", "on-policy", "accuracy_code before"),
    "one-coin-for-all": Hunt("luck", "coin", "no_signal"),
    "groups-across-prompts": Hunt("mixed", "on-policy", "reward_gap"),
    # masking and aggregation
    "ending-is-no-action": Hunt("weights", "on-policy", "ended"),
    "length-bias": Hunt("weights", "on-policy", "grad_norm"),
    "mean-over-tokens-again": Hunt("scale", "on-policy", "grad_norm"),
    # clips
    "min-of-ratios": Hunt("limit", "coin", "approx_kl"),
    "ratio-always-one": Hunt("limit", "coin", "clip_high"),
    "clipped-whatever-the-sign": Hunt("report", "coin", "clip_high"),
    "last-micro-batch-logged": Hunt("report", "coin", "clip_high"),
    # metrics and evaluation
    "surprise-as-entropy": Hunt("report", "on-policy", "entropy"),
    "greedy-is-sampled": Hunt("report", "on-policy", "greedy_code_share before"),
}


def base_command(seed: int = 1, out: str = "base.pt") -> str:
    return f"python rlvr.py pretrain {BASE} --seed {seed} --threads 1 --out {out}"


def train_command(experiment: str, seed: int = 1, out: str = "run", base: str = "base.pt") -> str:
    return (f"python rlvr.py train --base {base} {SMALL} {EXPERIMENTS[experiment]} "
            f"--seed {seed} --out {out}")


# --- the numbers of a run

def read_last_numbers(run: Path) -> dict[str, float]:
    """{name: value} of a run: means over its batches (metrics.csv), the evaluation before, after.

    A number that is not there on every batch, or is None, is left out.
    """
    rows = list(csv.DictReader(read_text(run / "metrics.csv").splitlines()))
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "step"}
    numbers = {name: sum(map(float, values)) / len(values)
               for name, values in columns.items() if all(values)}
    summary = json.loads(read_text(run / "summary.json"))
    for when in ("before", "after"):
        found = summary[when] | {f"pass@{k}": p for k, p in summary[when]["pass_at_k"].items()}
        numbers |= {f"{name} {when}": value for name, value in found.items()
                    if isinstance(value, float)}
    return numbers


def measure_distance(name: str, value: float, clean: list[float]) -> float:
    """How far a number is from all clean ones, in widths of their range; above ODD it is odd."""
    low, high = min(clean), max(clean)
    evaluated = name.endswith((" before", " after"))
    width = max(high - low, LEAST_RANGE_OF_EVALUATION if evaluated else LEAST_RANGE)
    return max(low - value, value - high, 0.0) / width if math.isfinite(value) else math.inf


def find_odd(numbers: dict[str, float], clean: dict[str, list[float]]) -> list[tuple[str, float]]:
    """The numbers that are odd, and how far they are, the furthest first."""
    far = {name: measure_distance(name, value, clean[name]) for name, value in numbers.items()
           if name in clean}
    return sorted(((name, distance) for name, distance in far.items() if distance > ODD),
                  key=lambda pair: -pair[1])


# --- what was measured

def write_row(names: dict[str, str], values: list[float], seeds: tuple[int, ...]) -> dict:
    """A row of clean.csv or symptoms.csv: a number's names, and its value on each seed."""
    return names | {f"seed {seed}": f"{value:.6g}" for seed, value in zip(seeds, values)}


def read_clean(experiment: str) -> dict[str, list[float]]:
    """{number: its value on each of CLEAN_SEEDS} of an experiment without a bug."""
    rows = csv.DictReader(read_text(HERE / "clean.csv").splitlines())
    return {row["number"]: [float(row[f"seed {seed}"]) for seed in CLEAN_SEEDS]
            for row in rows if row["experiment"] == experiment}


def read_symptoms() -> dict[str, dict[str, dict]]:
    """{bug: {number: least and most of clean runs, and the bug's on each of BUG_SEEDS}}."""
    found = {}
    for row in csv.DictReader(read_text(HERE / "symptoms.csv").splitlines()):
        found.setdefault(row["bug"], {})[row["number"]] = {
            "least": float(row["clean least"]), "most": float(row["clean most"]),
            "bug": [float(row[f"seed {seed}"]) for seed in BUG_SEEDS]}
    return found
