"""The tables and figures of finished runs: what `python rlvr.py plot` prints and draws.

A *cell* is what is repeated over seeds: one base, reward and loss, and the flags that are not at their defaults.
"""

import csv
import io
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Callable

import numpy as np

from data.corpus import BASES
from data.files import check_writable, to_csv, to_json, write
from data.task import MODULUS, InputError

# Points gained on MATH-500 by Qwen2.5-Math-7B (2506.10947, figure 1), to set beside ours, never to be matched by tuning.
PAPER = {"correct": 29.1, "majority": 27.1, "incorrect": 24.1, "random": 21.4, "format": 13.8}
MANY_SAMPLES = 16  # from so many samples a problem on, pass@k has a table and a figure of its own


def read_run(folder: Path, flags_of: Callable[[dict], str]) -> dict:
    """summary.json of a run, its metrics.csv as `rows`, and as `flags` those that are not at their defaults."""
    try:
        run, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "config"))
        run["flags"] = flags_of(config)
        with open(folder / "metrics.csv", newline="") as file:
            run["rows"] = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        assert run["rows"] and "total" in run["gain"]
        return run
    except Exception:
        raise InputError(f"{folder} holds no finished run (config.json, metrics.csv, summary.json)") from None


def cell_of(run: dict) -> tuple[str, str, str, str]:
    return run["base"], run["reward"], run["loss"], run["flags"]


def grouped(runs: list[dict]) -> dict[tuple, list[dict]]:
    """The runs of each cell, in the order of the tables: bases and rewards as the README has them, losses as they come."""
    rank = {name: i for i, name in enumerate((*BASES, *PAPER))}
    losses = list(dict.fromkeys(run["loss"] for run in runs))
    order = sorted(set(map(cell_of, runs)), key=lambda cell: (*((rank.get(name, 99), name) for name in cell[:2]), losses.index(cell[2]), cell[3]))
    return {cell: [run for run in runs if cell_of(run) == cell] for cell in order}


def spread(values: list[float]) -> float | None:
    """Standard deviation over seeds; None for one seed."""
    return stdev(values) if len(values) > 1 else None


def cells(runs: list[dict]) -> list[dict]:
    """One row per cell: means over seeds, in points where they are gains."""
    rows = []
    for (base, reward, loss, flags), group in grouped(runs).items():
        gains = [100 * run["gain"]["total"] for run in group]
        rows.append({
            "base": base, "reward": reward, "loss": loss, "flags": flags, "seeds": len(group),
            "gain_mean": mean(gains), "gain_std": spread(gains), "gain_min": min(gains), "gain_max": max(gains),
            **{part: mean([100 * run["gain"][part] for run in group]) for part in ("switch", "within")},
            "destroyed": sum(run["after"]["accuracy"] < run["before"]["accuracy"] / 2 for run in group),
            **{f"{key}_{when}": mean([run[when][key] for run in group])
               for key in ("accuracy", "code_share", "entropy", "mean_token_prob") for when in ("before", "after")},
            **{f"clip_{side}": mean([run["clip"][side] for run in group]) for side in ("high", "low")},
            "kl_to_base": mean(kl) if None not in (kl := [run["after"].get("kl_to_base") for run in group]) else None,
            "seconds": mean([run["seconds"]["total"] for run in group]),
            "paper_gain": PAPER.get(reward) if base == "good-code" and loss == "grpo" and not flags else None})
    return rows


def pass_at_k_cells(runs: list[dict]) -> list[dict]:
    """One row per cell and k, and one per base and k for the base itself (`loss` is None): those of runs with MANY_SAMPLES.

    `gain` is pass@k minus the base's in points, mean and standard deviation over seeds; likewise entropy and distinct answers. `panel` is
    the base, with the --eval flags if they are not the same in all runs: what may be compared.
    """
    runs = [run for run in runs if run["after"]["n_samples"] >= MANY_SAMPLES]
    settings = {run["flags"]: " ".join(flag for flag in split_flags(run["flags"]) if flag.startswith("--eval")) for run in runs}
    rows, done = {}, set()                                                    # rows per panel
    for (base, reward, loss, flags), group in grouped(runs).items():
        panel = Path(base).stem + (f" {settings[flags]}" if len(set(settings.values())) > 1 else "")
        before = group[0]["before"]
        for name, sources in ((None, [before]), (loss, [run["after"] for run in group])):
            if name is None and panel in done:
                continue
            done.add(panel)
            for k in before["pass_at_k"]:
                values = [source["pass_at_k"][k] for source in sources]
                rows.setdefault(panel, []).append({
                    "panel": panel, "base": base, "reward": reward if name else None, "loss": name, "flags": flags if name else "",
                    "seeds": len(sources), "k": int(k), "pass_at_k": mean(values), "pass_at_k_std": spread(values),
                    "gain": 100 * (mean(values) - before["pass_at_k"][k]), "gain_std": spread([100 * value for value in values]),
                    **{f"{key}{suffix}": f([source[key] for source in sources])
                       for key in ("entropy", "distinct_answers") for suffix, f in (("", mean), ("_std", spread))},
                    **{key: before[key] for key in ("n_problems", "n_samples")}})
    return [row for panel in rows.values() for row in panel]


def columns(lines: list[list[str]]) -> str:
    """Left-aligned columns, without those that are empty below their head."""
    kept = [column for column in zip(*lines) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in zip(*kept))


def tables(rows: list[dict]) -> str:
    """The cells as two tables: what changed (gain, switch and within in points of accuracy; `paper` is Qwen2.5-Math-7B on MATH-500), and how
    (clip fractions, KL(policy || base) in nats per response, entropy and token probability, seeds whose accuracy fell below half).
    """
    own, shared = shared_flags(rows)
    several = len({row["loss"] for row in rows}) > 1 or rows[0]["loss"] != "grpo"
    names = [[Path(row["base"]).stem, row["reward"], row["loss"] if several else "", str(row["seeds"])] for row in rows]
    what = [["base", "reward", "loss", "seeds", "accuracy", "gain", "", "min", "max", "switch", "within", "code share", "paper", "flags"]]
    how = [["base", "reward", "loss", "seeds", "clip high", "low", "KL", "entropy", "token probability", "destroyed", "flags"]]
    for row, name, flags in zip(rows, names, own):
        what.append([
            *name, f"{row['accuracy_before']:.3f} -> {row['accuracy_after']:.3f}", f"{row['gain_mean']:+.1f}", plus_minus(row["gain_std"], 1),
            *((f"{row[key]:+.1f}" if row["seeds"] > 1 else "") for key in ("gain_min", "gain_max")),
            f"{row['switch']:+.1f}", f"{row['within']:+.1f}", f"{row['code_share_before']:.2f} -> {row['code_share_after']:.2f}",
            "" if row["paper_gain"] is None else f"{row['paper_gain']:+.1f}", flags])
        how.append([
            *name, f"{row['clip_high']:.3%}", f"{row['clip_low']:.3%}", "" if row["kl_to_base"] is None else f"{row['kl_to_base']:.2f}",
            f"{row['entropy_before']:.3f} -> {row['entropy_after']:.3f}", f"{row['mean_token_prob_before']:.3f} -> {row['mean_token_prob_after']:.3f}",
            f"{row['destroyed']} of {row['seeds']}", flags])
    return f"{columns(what)}\n\n{columns(how)}" + (f"\nall with {shared}" if shared else "")


def plus_minus(value: float | None, digits: int) -> str:
    return "" if value is None else f"± {value:.{digits}f}"


def split_flags(flags: str) -> list[str]:
    """'--lr 0.1 --num-ops 1 2' -> ['--lr 0.1', '--num-ops 1 2']."""
    return re.findall(r"--\S+(?: (?!--)\S+)*", flags)


def shared_flags(rows: list[dict]) -> tuple[list[str], str]:
    """What is left of the `flags` of each row, cell or run without those that all have, and the latter."""
    flags = [split_flags(row["flags"]) for row in rows]
    shared = [flag for flag in flags[0] if all(flag in others for others in flags)] if len(rows) > 1 else []
    return [" ".join(flag for flag in own if flag not in shared) for own in flags], " ".join(shared)


def pass_at_k_table(rows: list[dict]) -> str:
    """pass@k in percent for every second power of 2: the base's, then each cell's gain over it in points with its spread over seeds."""
    ks = sorted({row["k"] for row in rows})
    ks = [k for k in ks if k.bit_length() % 2 or k == ks[-1]]
    cells = {}                                                                # {cell: {k: row}}
    for row in rows:
        cells.setdefault((row["panel"], row["reward"], row["loss"], row["flags"]), {})[row["k"]] = row
    trained = [cell for cell in cells if cell[2]]
    own, shared = shared_flags([{"flags": flags} for *_, flags in trained])
    own = dict(zip(trained, own))
    lines = [["base", "reward", "loss", "seeds", *(part for k in ks for part in (f"pass@{k}", "")), "entropy", "", "distinct", "", "flags"]]
    for cell, by_k in cells.items():
        panel, reward, loss, _ = cell
        one = by_k[1]
        lines.append([panel, reward or "", loss or "(before)", str(one["seeds"]) if loss else ""])
        for k in ks:
            row = by_k.get(k)
            lines[-1] += ["", ""] if row is None else [f"{row['gain']:+.1f}", plus_minus(row["gain_std"], 1)] if loss else [f"{row['pass_at_k']:.1%}", ""]
        lines[-1] += [f"{one['entropy']:.3f}", plus_minus(one["entropy_std"], 3),
                      f"{one['distinct_answers']:.1f}", plus_minus(one["distinct_answers_std"], 1), own.get(cell, "")]
    return columns(lines) + (f"\nall with {shared}" if shared else "")


def plot(folders: list[str], out: str, flags_of: Callable[[dict], str]) -> None:
    """Print the tables of the runs; write them, and the figures if matplotlib is there, into `out`.

    Always results.csv, results.json and figure.png; if a run has MANY_SAMPLES, pass_at_k.csv and pass_at_k.png too.
    """
    runs = [read_run(Path(folder), flags_of) for folder in folders]
    rows, pass_rows = cells(runs), pass_at_k_cells(runs)
    out, written = Path(out), []
    check_writable(out)

    def put(name: str, content: str | bytes) -> None:
        write(out / name, content)
        written.append(name)

    put("results.csv", to_csv(rows))
    summaries = [{k: v for k, v in run.items() if k != "rows"} for run in runs]
    put("results.json", to_json({"cells": rows, "pass_at_k": pass_rows, "runs": summaries}))
    print(tables(rows))
    if pass_rows:
        put("pass_at_k.csv", to_csv(pass_rows))
        print(f"\npass@k of the base; below it what each loss gains, in points\n{pass_at_k_table(pass_rows)}")
    if not can_draw():
        return
    put("figure.png", draw_gains(runs, rows))
    if pass_rows:
        put("pass_at_k.png", draw_pass_at_k(runs, pass_rows))
    print(f"wrote {', '.join(written)} to {out}")


def short_names(names: list[tuple[str, str, str]]) -> list[str]:
    """(reward, loss, flags) as legend entries, without the parts that are the same in all of them."""
    own, _ = shared_flags([{"flags": flags} for _, _, flags in names])
    rewards, losses = {reward for reward, _, _ in names}, {loss for _, loss, _ in names}
    return [" ".join(filter(None, (reward if len(rewards) > 1 or len(losses) == 1 else "", loss if len(losses) > 1 else "", flags)))
            for (reward, loss, _), flags in zip(names, own)]


def palette(names: list) -> dict:
    """A color for each name, ten or twenty of them."""
    import matplotlib.pyplot as plt

    colors = plt.colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    return {name: colors[i % len(colors)] for i, name in enumerate(names)}


def png(figure) -> bytes:
    import matplotlib.pyplot as plt

    image = io.BytesIO()
    figure.savefig(image, dpi=130, format="png")
    plt.close(figure)
    return image.getvalue()


def can_draw() -> bool:
    """Whether matplotlib is there, set to draw into files; if not, a line says so."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no figure: pip install matplotlib")
        return False
    matplotlib.use("Agg")
    return True


def save_figure(path: str, draw: Callable[[], bytes]) -> None:
    """What `draw` returns, into a file, if we can draw."""
    if can_draw():
        write(Path(path), draw())
        print(f"wrote {path}")


def draw_gains(runs: list[dict], rows: list[dict]) -> bytes:
    """Top: gain per base and cell, a dot per seed, the paper's as a line. Below: accuracy and code share over the run, in 20 parts at most."""
    import matplotlib.pyplot as plt

    bases = list(dict.fromkeys(row["base"] for row in rows))
    names = list(dict.fromkeys((row["reward"], row["loss"], row["flags"]) for row in rows))
    colors = palette(names)
    figure = plt.figure(figsize=(max(7, 3.6 * len(bases)), 9), layout="constrained")
    grid = figure.add_gridspec(3, len(bases))
    bars, width = figure.add_subplot(grid[0, :]), 0.8 / len(names)
    for row in rows:
        name = row["reward"], row["loss"], row["flags"]
        x = bases.index(row["base"]) + (names.index(name) - (len(names) - 1) / 2) * width
        bars.bar(x, row["gain_mean"], 0.9 * width, color=colors[name])
        dots = [100 * run["gain"]["total"] for run in runs if cell_of(run) == (row["base"], *name)]
        bars.plot(x + width * np.linspace(-0.2, 0.2, len(dots)) if len(dots) > 1 else x, dots, "o", color="black", markersize=3)
        if row["paper_gain"] is not None:
            bars.plot([x - 0.45 * width, x + 0.45 * width], [row["paper_gain"]] * 2, color="black", linewidth=2)
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_xticks(range(len(bases)), [Path(base).stem for base in bases])
    bars.set_ylabel("gain in accuracy (points)")
    bars.set_title("Accuracy gained by RL\nbar: mean over seeds, dot: a seed" + (
        ", line: Qwen2.5-Math-7B on MATH-500 (2506.10947)" if any(row["paper_gain"] is not None for row in rows) else ""), fontsize=9)
    for column, base in enumerate(bases):
        for line, (metric, label) in enumerate((("accuracy", "accuracy in training"), ("code_share", "code share in training"))):
            axis = figure.add_subplot(grid[1 + line, column], ylim=(-0.02, 1.02), title=Path(base).stem if line == 0 else None)
            for name in names:
                # `incorrect` trains on k = 6, 7, where nothing is right: its accuracy there says nothing about k = 1..5.
                curves = [[step[metric] for step in run["rows"]] for run in runs
                          if cell_of(run) == (base, *name) and not (metric == "accuracy" and run["reward"] == "incorrect")]
                if curves:
                    values = np.array([curve[:min(map(len, curves))] for curve in curves])   # (seeds, rollout batches)
                    values = np.array([part.mean(axis=1) for part in np.array_split(values, min(20, values.shape[1]), axis=1)])   # (parts, seeds)
                    share = np.linspace(0, 1, len(values))
                    axis.plot(share, values.mean(axis=1), color=colors[name])
                    if len(names) <= 8:                                                              # more bands hide one another
                        axis.fill_between(share, values.min(axis=1), values.max(axis=1), color=colors[name], alpha=0.15, linewidth=0)
            axis.set_ylabel(label if column == 0 else None)
            axis.set_xlabel("share of the run" if line == 1 else None)
    figure.legend([plt.Line2D([], [], color=colors[name], linewidth=3) for name in names], short_names(names), loc="outside lower center",
                  ncols=min(len(names), 5) if not any(flags for _, _, flags in names) else 1 + (len(names) > 8), fontsize=8)
    return png(figure)


def draw_pass_at_k(runs: list[dict], rows: list[dict]) -> bytes:
    """Per base, from top to bottom: pass@k against k; what each cell gains over the base; and pass@64 against pass@1, a dot per run.

    Lines are means over seeds, bands standard deviations. Dotted: what guessing uniformly among the 100 possible answers gives, without
    reading the problem. The last row asks whether a loss keeps more than another one *at the same pass@1*. So that these differences can be
    seen, the middle row is cut at -12 points and the last leaves out runs that got worse: the table has them.
    """
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(row["panel"] for row in rows))
    names = list(dict.fromkeys((row["reward"], row["loss"], row["flags"]) for row in rows if row["loss"]))
    colors = palette(names)
    styles = {(None, None, ""): ("before", "black"), **{name: (label, colors[name]) for name, label in zip(names, short_names(names))}}
    figure, axes = plt.subplots(3, len(panels), figsize=(max(7, 4.5 * len(panels)), 12), squeeze=False, layout="constrained")
    for (curves, gains, dots), panel in zip(axes.T, panels):
        of_panel = [row for row in rows if row["panel"] == panel]
        ks = np.array(sorted({row["k"] for row in of_panel}))
        many = int(min(64, ks[-1]))
        for name, (label, color) in styles.items():
            curve = [row for row in of_panel if (row["reward"], row["loss"], row["flags"]) == name]
            for axis, key in ((curves, "pass_at_k"), (gains, "gain")):
                values, deviation = (np.array([row[column] or 0.0 for row in curve]) for column in (key, f"{key}_std"))
                x = [row["k"] for row in curve]
                axis.plot(x, values, "-" if name[1] else "--", color=color, label=label, linewidth=1.3 if name[1] else 2)
                axis.fill_between(x, values - deviation, values + deviation, color=color, alpha=0.12, linewidth=0)
            group = [run["after"]["pass_at_k"] for run in runs if curve and cell_of(run) == (curve[0]["base"], *name)
                     and run["gain"]["total"] > 0]
            dots.plot([run["1"] for run in group], [run[str(many)] for run in group], "o", color=color, markersize=4)
        before = {row["k"]: row["pass_at_k"] for row in of_panel if not row["loss"]}
        dots.plot(before[1], before[many], "*", color="black", markersize=10)
        curves.plot(ks, 1 - (1 - 1 / MODULUS) ** ks, ":", color="grey", label="guessing")
        curves.set(title=panel, ylabel="pass@k")
        gains.set(xlabel="k", ylabel="gained over the base (points)", ylim=(max(-12, gains.get_ylim()[0]), None))
        dots.set(xlabel="pass@1", ylabel=f"pass@{many}")
        for axis in (curves, gains):
            axis.set_xscale("log", base=2)
            axis.set_xticks(ks, [str(k) for k in ks])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if len(panels) == 1 else 5, fontsize=8)
    return png(figure)
