"""Does NSR keep more of pass@k than PSR, or has it only moved less? Compare them at the same pass@1. Seconds, on runs that are there.

    python -m lessons.matched [FOLDER]        # FOLDER (default data/results/runs) as ./train.sh losses fills runs/

The base and PSR at four step sizes give a curve: pass@k against pass@1, linear between the points. Printed is how far each run of another loss
lies above that curve at its own pass@1, in points: mean ± standard deviation over seeds. 0 says that all it keeps comes from having moved less.
"""

import json
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from data.options import lesson
from data.task import InputError

STEP_SIZES = ("0.0002", "0.0005", "0.0015", "0.005")
OTHERS = [*(("nsr", lr) for lr in STEP_SIZES), *((loss, lr) for lr in STEP_SIZES[2:] for loss in (
    "w_reinforce", "w_reinforce-1", "reinforce", "grpo", "dr_grpo", "rloo", "ppo"))]


def summaries(folder: Path, base: str, loss: str, lr: str) -> list[dict]:
    found = sorted((folder / base / f"mixed-lr{lr}" / loss).glob("seed*/summary.json"))
    if not found:
        raise InputError(f"no runs of {loss} at {lr} in {folder / base}: ./train.sh losses makes them")
    return [json.loads(path.read_text()) for path in found]


def ahead(run: dict, curve: list[dict], k: str) -> float:
    """Points of pass@k by which a run's evaluation lies above the curve at its own pass@1; curve: evaluations, pass@1 rising."""
    return 100 * (run[k] - float(np.interp(run["1"], [point["1"] for point in curve], [point[k] for point in curve])))


def main(folder: str) -> None:
    ks = ("16", "64", "256")
    lines = ["base        loss           step    pass@1         " + "  ".join(f"ahead at pass@{k:4s}" for k in ks).rstrip()]
    for base in ("good-code", "early-code"):
        of_psr = [summaries(Path(folder), base, "psr", lr) for lr in STEP_SIZES]
        curve = [of_psr[0][0]["before"]["pass_at_k"]] + [
            {k: mean(run["after"]["pass_at_k"][k] for run in runs) for k in ("1", *ks)} for runs in of_psr]
        for loss, lr in OTHERS:
            runs = [run["after"]["pass_at_k"] for run in summaries(Path(folder), base, loss, lr)]
            gains = [100 * (run["1"] - curve[0]["1"]) for run in runs]
            cells = [[ahead(run, curve, k) for run in runs] for k in ks]
            lines.append(f"{base:10s}  {loss:13s}  {lr:6s}  {f'{mean(gains):+.1f} ± {stdev(gains):.1f}':13s}  "
                         + "  ".join(f"{f'{mean(cell):+.1f} ± {stdev(cell):.1f}':18s}" for cell in cells).rstrip())
    print("\n".join(lines))


if __name__ == "__main__":
    lesson("matched", __doc__, main, folder=dict(nargs="?", default="data/results/runs"))
