"""Where does a gain come from: answers that switched to code, or answers that got better as they were? Seconds a run.

    python -m lessons.anatomy RUN [RUN ...]   # folders of finished runs, their model.pt and base included; writes runs/anatomy.png

Each problem is answered before and after RL with the same random numbers, so that the i-th answer before has a partner after, and a policy
that did not change has no changed pair. Every pair is in one cell of the switch matrix (text->code, code->code, ...); a cell contributes the
sum over its pairs of (right after - right before), so the four add up to the gain exactly. A cell's share of the gain is the C_d of
2506.10947, there for one answer to each problem. Beside it `switch` and `within`, the same gain split by rates instead of pairs (rlvr.gain).
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

import rlvr
from data.figures import png
from data.files import write
from data.options import lesson
from data.task import InputError, draw

CELLS = ("text->code", "code->code", "text->text", "code->text")


def switch_matrix(code_before: np.ndarray, right_before: np.ndarray, code_after: np.ndarray, right_after: np.ndarray) -> dict[str, tuple[float, float]]:
    """{cell: (share of the pairs, contribution to the gain in accuracy)} from booleans of any one shape, (P, n) for a run."""
    change = right_after.astype(int) - right_before
    cells = {f"{old}->{new}": ((code_before == (old == "code")) & (code_after == (new == "code"))) for old in ("text", "code") for new in ("text", "code")}
    return {name: (cells[name].mean().item(), (change * cells[name]).sum().item() / change.size) for name in CELLS}


def anatomy(folder: Path) -> dict:
    """The run's summary.json with its switch matrix as `cells`, from its evaluation done again on the base and on model.pt."""
    try:
        config, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "summary"))
    except (OSError, ValueError):
        raise InputError(f"{folder} holds no finished run (config.json, summary.json)") from None
    problems = draw(config["eval_problems"], config.get("eval_split", "evaluation"), tuple(config["eval_num_ops"]), rlvr.numpy_rng(rlvr.EVALUATION, 0))
    cpu, judged = torch.device("cpu"), []
    for model in (rlvr.load_base(config["base"], cpu), rlvr.load(folder / "model.pt", cpu)[0]):
        _, right, code = rlvr.judged(problems, rlvr.respond(
            model, problems, config["eval_samples"], (rlvr.EVALUATION,), max_new_tokens=config["max_new_tokens"]))
        judged += [code, right]
    return summary | {"cells": switch_matrix(*judged)}


def draw_contributions(rows: dict[tuple[str, str], list[dict]]) -> bytes:
    """A bar per base and reward, stacked from the four contributions (mean over seeds); the dot is the gain."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(max(6, 0.75 * len(rows)), 4.5), layout="constrained")
    for i, cell in enumerate(CELLS):
        values = [100 * mean(run["cells"][cell][1] for run in runs) for runs in rows.values()]
        bottoms = [sum(v for name in CELLS[:i] if (v := 100 * mean(run["cells"][name][1] for run in runs)) * value > 0)
                   for runs, value in zip(rows.values(), values)]
        axis.bar(range(len(rows)), values, bottom=bottoms, label=cell, width=0.7)
    axis.plot(range(len(rows)), [100 * mean(run["gain"]["total"] for run in runs) for runs in rows.values()], "o", color="black", label="gain")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(rows)), [f"{base}\n{reward}" for base, reward in rows], rotation=45, fontsize=8)
    axis.set_ylabel("points of accuracy")
    axis.set_title("What each change of mode contributes to the gain", fontsize=10)
    axis.legend(fontsize=8)
    return png(figure)


def main(folders: list[str]) -> None:
    rows = {}
    for folder in map(Path, folders):
        run = anatomy(folder)
        rows.setdefault((Path(run["base"]).stem, run["reward"]), []).append(run)
    print("share of the answers that changed so, and what that contributes to the gain in points (and in % of it); ± over seeds")
    print("base       reward     seeds  " + "".join(f"{cell:22s}" for cell in CELLS) + "gain          switch  within")
    for (base, reward), runs in rows.items():
        gains = [100 * run["gain"]["total"] for run in runs]
        line = f"{base:9s}  {reward:9s}  {len(runs):<5d}  "
        for cell in CELLS:
            share, points = (mean(run["cells"][cell][i] for run in runs) * 100 for i in (0, 1))
            part = f" ({points / mean(gains):.0%})" if abs(mean(gains)) > 3 else ""
            line += f"{f'{share:3.0f}%: {points:+5.1f}{part}':22s}"
        line += f"{mean(gains):+5.1f} " + (f"± {stdev(gains):<4.1f}" if len(gains) > 1 else " " * 6)
        print(line + "  " + "   ".join(f"{100 * mean(run['gain'][part] for run in runs):+5.1f}" for part in ("switch", "within")))
    try:
        write(Path("runs/anatomy.png"), draw_contributions(rows))
        print("wrote runs/anatomy.png")
    except ModuleNotFoundError:
        print("no figure: pip install matplotlib")


if __name__ == "__main__":
    sys.exit(lesson("anatomy", __doc__, main, folders=dict(nargs="+", metavar="RUN")))
