"""Where does a gain come from: answers that switched to code, or answers that got better as they were? Seconds a run.

    python -m lessons.anatomy RUN [RUN ...]   # folders of finished runs, their model.pt and base included; writes runs/anatomy.png

Each problem is answered before and after RL with the same random numbers, so that the i-th answer before has a partner after, and a policy
that did not change has no changed pair. Every pair is in one cell of the switch matrix (text->code, code->code, ...); a cell contributes the
sum over its pairs of (right after - right before), so the four add up to the gain exactly. A cell's share of the gain is the C_d of
2506.10947, there for one answer to each problem. Beside it `switch` and `within`, the same gain split by rates instead of pairs (rlvr.gain).

Other pairs would give other cells: with independent random numbers an unchanged policy at 65% of code has text->code and code->text of nearly
20 points each, which cancel. `switch` and `within` do not depend on the pairing.
"""

import json
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

import rlvr
from data.figures import grouped, png, read_run, save_figure, short_names
from data.options import lesson
from data.task import InputError

CELLS = ("text->code", "code->code", "text->text", "code->text")


def switch_matrix(code_before: np.ndarray, right_before: np.ndarray, code_after: np.ndarray, right_after: np.ndarray) -> dict[str, tuple[float, float]]:
    """{cell: (share of the pairs, contribution to the gain in accuracy)} from booleans of any one shape, (P, n) for a run."""
    change = right_after.astype(int) - right_before
    cells = {f"{old}->{new}": ((code_before == (old == "code")) & (code_after == (new == "code"))) for old in ("text", "code") for new in ("text", "code")}
    return {name: (cells[name].mean().item(), (change * cells[name]).sum().item() / change.size) for name in CELLS}


@lru_cache(maxsize=2)  # the base of many runs is judged once
def judged(checkpoint: Path, problems: int, split: str, num_ops: tuple[int, ...], samples: int, max_new_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The evaluation of `rlvr.train` on a checkpoint: whether each answer is code, and whether it is right, (P, n) each."""
    model, _ = rlvr.load(checkpoint, torch.device("cpu"))
    drawn = rlvr.evaluation_problems(problems, split, num_ops)
    _, right, code = rlvr.judged(drawn, rlvr.respond(model, drawn, samples, (rlvr.EVALUATION,), max_new_tokens=max_new_tokens))
    return code, right


def anatomy(folder: Path) -> dict:
    """A run as data/figures.py reads it, with its switch matrix as `cells`, from its evaluation done again on the base and on model.pt."""
    run, config = read_run(folder, rlvr.flags_of), json.loads((folder / "config.json").read_text())
    settings = (config["eval_problems"], config.get("eval_split", "evaluation"), tuple(config["eval_num_ops"]), config["eval_samples"], config["max_new_tokens"])
    run["cells"] = switch_matrix(*judged(rlvr.base_path(config["base"]), *settings), *judged(folder / "model.pt", *settings))
    if abs(sum(points for _, points in run["cells"].values()) - run["gain"]["total"]) > 0.01:   # a GPU rounds otherwise; a point is another model
        raise InputError(f"{folder}: the gain of its model.pt over base {config['base']} is not that of its summary.json: one of them has changed")
    return run


def figure(rows: list[tuple[str, list[dict]]]) -> bytes:
    """A bar per cell of the table, stacked from the four contributions (mean over seeds), losses below 0; the dot is the gain."""
    import matplotlib.pyplot as plt

    canvas, axis = plt.subplots(figsize=(max(6, 0.75 * len(rows)), 4.5), layout="constrained")
    above, below = np.zeros(len(rows)), np.zeros(len(rows))
    for cell in CELLS:
        values = np.array([100 * mean(run["cells"][cell][1] for run in runs) for _, runs in rows])
        axis.bar(range(len(rows)), values, bottom=np.where(values > 0, above, below), label=cell, width=0.7)
        above, below = above + values.clip(min=0), below + values.clip(max=0)
    axis.plot(range(len(rows)), above + below, "o", color="black", label="gain")
    axis.margins(y=0.08)
    axis.use_sticky_edges = False
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(rows)), [name for name, _ in rows], rotation=60, ha="right", fontsize=8)
    axis.set(ylabel="points of accuracy", title="What each change of mode contributes to the gain")
    axis.legend(fontsize=8)
    return png(canvas)


def main(folders: list[str]) -> None:
    cells = grouped([anatomy(Path(folder)) for folder in folders])
    names = [f"{Path(base).stem} {name}" for (base, *_), name in zip(cells, short_names([cell[1:] for cell in cells]))]
    rows, width = list(zip(names, cells.values())), max(map(len, names))
    print("share of the answers that changed so, and what that contributes to the gain in points (and in % of it); ± over seeds")
    print(f"{'run':{width}s}  seeds  " + "".join(f"{cell:22s}" for cell in CELLS) + "gain          switch  within")
    for name, runs in rows:
        gains = [100 * sum(points for _, points in run["cells"].values()) for run in runs]
        line = f"{name:{width}s}  {len(runs):<5d}  "
        for cell in CELLS:
            share, points = (mean(run["cells"][cell][i] for run in runs) * 100 for i in (0, 1))
            part = f" ({round(100 * points / mean(gains))}%)" if abs(mean(gains)) > 3 else ""   # a share of nothing says nothing
            line += f"{f'{share:3.0f}%: {points:+5.1f}{part}':22s}"
        line += f"{mean(gains):+5.1f} " + (f"± {stdev(gains):<4.1f}" if len(gains) > 1 else " " * 6)
        print(line + "  " + "   ".join(f"{100 * mean(run['gain'][part] for run in runs):+5.1f}" for part in ("switch", "within")))
    save_figure("runs/anatomy.png", lambda: figure(rows))


if __name__ == "__main__":
    lesson("anatomy", __doc__, main, folders=dict(nargs="+", metavar="RUN"))
