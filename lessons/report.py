"""Results of runs as rows, tables and figures; and the same for your own runs.

    python -m lessons.report DIR [DIR ...]    # folders written by `python rlvr.py train`, or above

prints a table, and writes runs.csv, curves.csv and figure.png into --out (default runs/report);
with --html also page.html, which shows curves and answers, batch by batch (page.py). Of a folder
that is no run, all finished runs below it are taken.

A row of runs.csv is one run: base, reward, loss, flags (those not at their default), seed, then
every number of its summary.json with its path as its name (before_accuracy, after_pass_at_k_16,
gain_total, switches_text->code_points, ...), then its command. A row of curves.csv is one rollout
batch, or the mean over some: at most 20 rows a run; `run` counts the rows of runs.csv from 0.
"""

import csv
import io
import json
import math
import re
import shlex
import sys
from pathlib import Path
from statistics import mean, stdev
from textwrap import wrap
from typing import Callable, Iterable, NamedTuple

import numpy as np

from lessons.chance import chance
from lessons.grid import write_flags
from lessons.page import build_page
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import check_writable, escape_text, read_text, to_csv, write
from plumbing.flags import list_values
from plumbing.messages import InputError, note
from plumbing.system import explain_error
from rlvr import TrainConfig, make_config

TEXT = ("base", "reward", "loss", "flags", "command")    # columns that are not numbers
UNNAMED = ("base", "reward", "loss", "seed", "out", "micro_batch", "threads", "device")
# of curves.csv, and every share of a mode
CURVES = ("reward", "accuracy", "entropy", "clip_high", "clip_low", "approx_kl", "grad_norm",
          "no_signal")
# what is said of each run, unless other columns are asked for
EACH = ("before_accuracy", "after_accuracy", "before_greedy_accuracy", "after_greedy_accuracy",
        "before_accuracy_code", "after_accuracy_code", "before_format_rate", "after_format_rate")
LABEL = 42   # characters in a line of a label; a figure's is at most two
COLORS = 128  # of a stored figure
POINTS = 20  # rows of curves.csv for a run
BOUNDS = "Exact 95% intervals of the shares above: a row for each count, a column for each total"

# Points gained on MATH-500, decoded greedily, by Qwen2.5-Math-7B (2506.10947, figure 1): to set
# beside ours, never to be matched by tuning.
PAPER = {"correct": 29.1, "majority": 27.1, "incorrect": 24.1, "random": 21.4, "format": 13.8}

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#777777"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
         "axes.titlesize": 10, "axes.titlelocation": "left", "figure.dpi": 100}


class Results(NamedTuple):
    """What a lesson's table and figure are made from."""

    runs: list[dict]               # rows of runs.csv
    curves: dict[int, list[dict]]  # rows of curves.csv, by run
    evidence: list[dict] = []      # rows of evidence.csv: what was measured beside the runs


# --- from the files of a run to rows, and back

def flatten(value: dict, prefix: str = "") -> dict:
    """Nested dicts as one: {'before': {'accuracy': 1}} -> {'before_accuracy': 1}."""
    flat = {}
    for key, inner in value.items():
        if key == "switches":
            inner = {cell: dict(zip(("share", "points"), pair)) for cell, pair in inner.items()}
        if isinstance(inner, dict):
            flat |= flatten(inner, f"{prefix}{key}_")
        else:
            flat[prefix + key] = inner
    return flat


def describe_flags(config: dict) -> str:
    """The flags of a config.json that are not at their defaults, but those with a column."""
    defaults = make_config(reward=config["reward"], loss=config["loss"])
    flags = {}
    for name, default in list_values(defaults).items():
        value = config.get(name, default)
        value = tuple(value) if isinstance(value, list) else value
        if name not in UNNAMED and value != default:
            flags[name] = value
    return " ".join(write_flags(flags))


def shorten(value) -> str:
    """A number with five digits, anything else as it is; '' for None."""
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def read_run(folder: Path, curves: tuple[str, ...] = CURVES) -> tuple[dict, list[dict]]:
    """The row of a finished run and its curve of some columns. Raises InputError if there is none.
    """
    try:
        summary, config = (json.loads(read_text(folder / f"{name}.json"))
                           for name in ("summary", "config"))
        metrics = list(csv.DictReader(io.StringIO(read_text(folder / "metrics.csv"))))
        numbers = {key: value for key, value in flatten(summary).items() if key not in TEXT}
        base = Path(summary["base"].removesuffix(".pt")).name  # a name may have a dot: prior0.3
        row = {"base": escape_text(base), "reward": summary["reward"],
               "loss": summary["loss"], "flags": describe_flags(config), **numbers,
               "command": config["command"]}
        return row, thin_out(metrics, curves)
    except Exception:  # missing, truncated or foreign, in many ways
        raise InputError(f"{folder} holds no finished run (config.json, metrics.csv, "
                         "summary.json)") from None


def thin_out(metrics: list[dict], columns: tuple[str, ...] = CURVES) -> list[dict]:
    """The rows of a metrics.csv as at most POINTS means, `step` being the last one in it."""
    parts = np.array_split(np.arange(len(metrics)), min(POINTS, len(metrics)))
    return [{"step": int(metrics[part[-1]]["step"]),
             **{name: average([metrics[i][name] for i in part])
                for name in metrics[0] if name in columns or "_share" in name}}
            for part in parts]


def average(cells: list[str]) -> float | None:
    """The mean of those that are not empty; None if all are."""
    numbers = [float(cell) for cell in cells if cell]
    return mean(numbers) if numbers else None


def collect(folders: Iterable[Path], evidence: list[dict] | None = None,
            curves: tuple[str, ...] = ()) -> Results:
    """The results of finished runs; `curves`: columns to keep besides CURVES."""
    read = [read_run(folder, CURVES + curves) for folder in folders]
    return Results([row for row, _ in read], {i: curve for i, (_, curve) in enumerate(read)},
                   evidence or [])


def format_csv(rows: list[dict]) -> str:
    """Rows as CSV, with the columns of all of them: numbers shortened, what a row lacks empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: name == "command")          # it is the longest: last
    return to_csv([{name: shorten(row.get(name)) for name in names} for row in rows])


def parse_csv(text: str, words: tuple[str, ...] = ()) -> list[dict]:
    """The rows of `format_csv`: numbers as floats, empty cells as None; columns `words` as text."""
    return [{name: value if name in words else parse_cell(value) for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(text))]


def parse_cell(value: str) -> float | str | None:
    try:
        return float(value) if value else None
    except ValueError:
        return value


def write_results(folder: Path, results: Results) -> None:
    """runs.csv, curves.csv and, if there is any, evidence.csv."""
    curves = [{"run": i, **row} for i, curve in results.curves.items() for row in curve]
    for name, rows in (("runs", results.runs), ("curves", curves), ("evidence", results.evidence)):
        if rows:
            write(folder / f"{name}.csv", format_csv(rows))


def read_results(folder: Path) -> Results:
    """What `write_results` wrote. Raises InputError if there is nothing."""
    texts = {}
    for name in ("runs", "curves", "evidence"):
        path = folder / f"{name}.csv"
        words = TEXT if name == "runs" else ()
        texts[name] = parse_csv(read_text(path), words) if path.exists() else []
    if not texts["runs"]:
        raise InputError(f"{folder} holds no runs.csv")
    curves = {}
    for row in texts["curves"]:
        curves.setdefault(int(row.pop("run")), []).append(row)
    return Results(texts["runs"], curves, texts["evidence"])


# --- tables

def group_runs(runs: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    """The runs of each cell, {(value of each key): runs}, in the order in which they come."""
    cells = {}
    for run in runs:
        cells.setdefault(tuple(run[key] for key in keys), []).append(run)
    return cells


def select_runs(runs: list[dict], flags: dict) -> list[dict]:
    """The rows of one cell: whose flags are these and no others, whatever the seed."""
    config = {"reward": TrainConfig.reward, "loss": TrainConfig.loss} | flags
    cell = flags["base"], config["reward"], config["loss"], describe_flags(config)
    return [run for run in runs if tuple(run[key] for key in TEXT[:4]) == cell]


def list_rows(results: Results, shared: dict,
              cells: dict[str, dict]) -> list[tuple[str, str, list[dict]]]:
    """[(name, 'after', runs)] of the cells {name: flags beside the shared ones} that have runs.

    First ('(base)', 'before', [run]): the base, as one of these runs found it.
    """
    rows = [(name, "after", select_runs(results.runs, shared | flags))
            for name, flags in cells.items()]
    rows = [row for row in rows if row[2]]
    return [("(base)", "before", rows[0][2][:1]), *rows] if rows else []


def curves_of(results: Results, cell: list[dict]) -> list[list[dict]]:
    """The curve of each run of a cell, the rows themselves being among the results."""
    index = {id(run): i for i, run in enumerate(results.runs)}
    return [results.curves[index[id(run)]] for run in cell]


def show_spread(values: list[float], digits: int = 1, sign: str = "+") -> str:
    """'+23.5 ± 3.6': mean and standard deviation over seeds; one value stands alone."""
    text = f"{mean(values):{sign}.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def is_split(values: list[float], whole: float) -> bool:
    """Whether runs end at one of two places, so that their mean is where hardly any of them is.

    There are three or more, they span a quarter of the scale (`whole`: 100 points, or 1 for a
    share), and less than a fifth of them lie in the middle third of that span.

    >>> is_split([0.03, 0.21, 0.96, 0.97, 0.97], 1), is_split([0.1, 0.3, 0.5, 0.7, 0.9], 1)
    (True, False)
    """
    low, span = min(values), max(values) - min(values)
    middle = [value for value in values if low + span / 3 < value < low + 2 * span / 3]
    return len(values) > 2 and span >= whole / 4 and 5 * len(middle) < len(values)


def show_seeds(values: list[float], digits: int = 1, sign: str = "+", whole: float = 100) -> str:
    """'+23.5 ± 3.6' as `show_spread`; of runs that are split how many end above: '3 of 5 > 0.9'.

    The line is the last round number in the widest gap between neighbours.
    """
    if not is_split(values, whole):
        return show_spread(values, digits, sign)
    ordered = sorted(values)
    below, above = max(zip(ordered, ordered[1:]), key=lambda pair: pair[1] - pair[0])
    steps = (whole / n for n in (10, 20, 100))
    lines = [(math.ceil(above / step) - 1) * step for step in steps]
    line = next((line for line in lines if line >= below), (below + above) / 2)
    places = 0 if whole == 100 else 1 if round(10 * line, 9) % 1 == 0 else 2
    return f"{sum(value > below for value in values)} of {len(values)} > {line:{sign}.{places}f}"


def bound_shares(tables: str, pattern: str = r"(\d+) of (\d+) >") -> str:
    """A table of the exact 95% intervals of every share 'k of n' that others show; '' if none."""
    found = {(int(k), int(n)) for k, n in re.findall(pattern, tables)}
    sizes = sorted({n for _, n in found})
    lines = [["exact 95%", *(f"of {n}" for n in sizes)]]
    for k in sorted({k for k, _ in found}):
        bounds = {n: chance(k, n) for n in sizes if (k, n) in found}
        lines.append([str(k), *("{:.0%} to {:.0%}".format(*bounds[n]) if n in bounds else ""
                                for n in sizes)])
    return align(lines) if found else ""


def add_bounds(parts: list[str], pattern: str = r"(\d+) of (\d+) >") -> str:
    """Tables as one text, and last the intervals of the shares in them."""
    bounds = bound_shares("\n\n".join(parts), pattern)
    return "\n\n".join([*parts, *title_tables({BOUNDS: bounds})])


def gains(runs: list[dict], part: str = "total") -> list[float]:
    """Gains in points of accuracy; part: total, switch or within."""
    return [100 * run[f"gain_{part}"] for run in runs]


def greedy_gains(runs: list[dict]) -> list[float]:
    """Gains in points of the accuracy of greedy decoding."""
    return [100 * (run["after_greedy_accuracy"] - run["before_greedy_accuracy"]) for run in runs]


def show_change(runs: list[dict], name: str, digits: int = 2) -> str:
    """'0.65 -> 0.96': the mean of a number before and after."""
    return " -> ".join(f"{mean(run[f'{when}_{name}'] for run in runs):.{digits}f}"
                       for when in ("before", "after"))


def show_range(values: list[float], digits: int = 2, sign: str = "") -> str:
    """'0.57 to 0.84', or one number where they are all the same."""
    ends = [f"{value:{sign}.{digits}f}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def align(lines: list[list[str]]) -> str:
    """Left-aligned columns, without those that are empty below their head."""
    kept = [column for column in zip(*lines) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip()
                     for line in zip(*kept))


def title_tables(tables: dict[str, str]) -> list[str]:
    """Each table below its title, which says of what its numbers are; none that is empty.

    >>> print(*title_tables({"Seeds": align([["base", "seeds"], ["good-code", "5"]]), "No": ""}))
    Seeds
    base       seeds
    good-code  5
    """
    return [f"{title}\n{table}" for title, table in tables.items() if table]


def tabulate(runs: list[dict]) -> str:
    """A row for each base, reward, loss and flags; gains in points, mean and spread over seeds."""
    lines = [["base", "reward", "loss", "seeds", "accuracy", "gain", "min", "max", "flags"]]
    for (base, reward, loss, flags), cell in group_runs(runs, *TEXT[:4]).items():
        several = len(cell) > 1
        lines.append([base, reward, loss, str(len(cell)), show_change(cell, "accuracy", 3),
                      show_spread(gains(cell)), f"{min(gains(cell)):+.1f}" if several else "",
                      f"{max(gains(cell)):+.1f}" if several else "", flags])
    return align(lines)


def tabulate_runs(runs: list[dict], columns: list[str]) -> str:
    """A row for each run: what makes it, its seed, and some columns of runs.csv (EACH if none).

    Flags that all runs share are left out. Raises InputError for a column that is not there.
    """
    known = {name for run in runs for name in run}
    missing = [name for name in columns if name not in known]
    if missing:
        raise InputError(f"no column {missing[0]}: the first line of runs.csv has their names")
    columns = columns or [name for name in EACH if name in known]
    flags = [split_flags(run["flags"]) for run in runs]
    shared = set.intersection(*map(set, flags)) if flags else set()
    lines = [[*TEXT[:4], "seed", *columns]]
    for run, words in zip(runs, flags):
        own = " ".join(word for word in words if word not in shared)
        numbers = [run.get(name) for name in columns]
        lines.append([*(run[name] for name in TEXT[:3]), own, f"{run['seed']:.0f}",
                      *("" if value is None else f"{value:.4g}" for value in numbers)])
    return align(lines)


# --- figures

def can_draw() -> bool:
    """Whether matplotlib is there; if not, a line says so."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        print("no figure: pip install matplotlib")
        return False
    except OSError as error:  # it finds no folder for its cache
        print(f"no figure: {explain_error(error)}")
        return False
    return True


def open_canvas(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options):
    """A figure and its axes, as plt.subplots makes them; pyplot and its window are the caller's."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=figsize, layout="constrained")
    return canvas, canvas.subplots(rows, columns, **options)


def draw_to(path: Path, draw: Callable, *arguments) -> list[Path]:
    """Write the figure that `draw` returns, if we can draw: [path], or nothing."""
    if not can_draw():
        return []
    import matplotlib

    image = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        draw(*arguments).savefig(image, dpi=130, format="png")
    write(path, shrink_png(image))
    return [path]


def shrink_png(image: io.BytesIO) -> bytes:
    """The same picture in 128 colours, in a third of the bytes: a repository keeps every figure."""
    from PIL.Image import Dither
    from PIL.Image import open as open_image

    small = io.BytesIO()
    open_image(image).convert("RGB").quantize(128, dither=Dither.NONE).save(
        small, format="png", optimize=True)
    return small.getvalue()


def draw_seeds(axis, y: float, values: list[float], color: str) -> None:
    """A row of dots, one a seed, and their mean as a bar; `y` is the row."""
    offsets = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
    axis.barh(y, mean(values), height=0.62, color=color, alpha=0.35, linewidth=0)
    axis.plot(values, y + np.array(offsets), "o", color=color, markersize=4, linewidth=0)


def draw_mean(axis, x: list[float], lines: list[list[float]], color: str) -> None:
    """Lines over the same x: each thin, one a seed, and their mean thick."""
    for line in lines:
        axis.plot(x, line, color=color, linewidth=0.5, alpha=0.4)
    axis.plot(x, [mean(values) for values in zip(*lines)], color=color, linewidth=2)


def doubt_seeds(runs: list[dict]) -> str:
    """What to say of cells that one seed stands for: nothing if there are more of each."""
    counts = [len({run["seed"] for run in cell}) for cell in group_runs(runs, *TEXT[:4]).values()]
    if 1 not in counts:
        return ""
    where = "one seed" if max(counts) == 1 else "where a row is of one seed"
    return f"{where}: enough to see it, not to claim it"


def split_flags(flags: str) -> list[str]:
    """'--lr 0.1 --num-ops 6 7' as ['--lr 0.1', '--num-ops 6 7']."""
    return re.findall(r"--.+?(?= --|$)", flags)


def label_cells(cells: list[tuple[str, str, str, str]]) -> tuple[list[str], str]:
    """A label of at most two lines for each (base, reward, loss, flags), and what all share.

    Where one is longer than a line, a label has only what its row does not share with all others,
    and is cut; two that are the same by then get the number of their row in the table.
    """
    labels = [" ".join(" ".join(cell).split()) for cell in cells]
    if max(map(len, labels)) <= LABEL:
        return labels, ""
    words = [[*cell[:3], *split_flags(cell[3])] for cell in cells]
    shared = [word for word in words[0] if len(cells) > 1 and all(word in row for row in words)]
    labels = []
    for row in words:
        own = [word.replace(" ", "\N{NO-BREAK SPACE}") for word in row if word not in shared]
        lines = wrap(" ".join(own) or "(no other flag)", LABEL, max_lines=2, placeholder=" …",
                     break_on_hyphens=False)
        labels.append("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))
    labels = [f"row {i + 1}: {label[:LABEL - 10]}…" if labels.count(label) > 1 else label
              for i, label in enumerate(labels)]
    return labels, " ".join(shared)


def draw_gains(results: Results):
    """A row for each cell: the gain in points, a dot a seed; the rows are labelled directly."""
    cells = group_runs(results.runs, *TEXT[:4])
    labels, shared = label_cells(list(cells))
    height = min(400, 1.4 + sum(0.3 + 0.15 * label.count("\n") for label in labels))
    figure, axis = open_canvas(figsize=(8, height))
    for y, cell in enumerate(cells.values()):
        draw_seeds(axis, y, gains(cell), BLUE if mean(gains(cell)) >= 0 else RED)
    # A name may have a $, which is no formula.
    axis.set_yticks(range(len(cells)), labels, parse_math=False)
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("gain in accuracy (points); bar: mean, dot: a seed")
    lines = wrap(f"all: {shared}", 2 * LABEL, max_lines=2, placeholder=" …") if shared else []
    figure.suptitle("\n".join(lines), parse_math=False, fontsize=10, x=0.01, ha="left")
    return figure


def find_runs(folder: Path) -> list[Path]:
    """A run's own folder; of any other all finished runs below it, seed 2 before seed 10."""
    if (folder / "config.json").exists():
        return [folder]
    begun = sorted((path.parent for path in folder.rglob("config.json")), key=lambda path: [
        (int(word), "") if word.isdigit() else (-1, word)
        for part in path.parts for word in re.split(r"(\d+)", part)])
    finished = [path for path in begun if (path / "summary.json").exists()]
    if finished and len(finished) < len(begun):
        note(f"not finished, and left out: {len(begun) - len(finished)} of {len(begun)} runs in "
             f"{folder}")
    return finished or [folder]     # which is refused, since it holds no run


def report(given: list[str], out: Path, html: bool) -> None:
    """Table, rows and figure of somebody's runs, and if wanted their page."""
    if len({Path(folder).resolve() for folder in given}) < len(given):
        note("a folder that is given twice counts as one run")
    found = [path for folder in given for path in find_runs(Path(folder))]
    folders = list({folder.resolve(): folder for folder in found}.values())
    results = collect(folders)
    page = build_page(folders, results.runs, out) if html else None
    check_writable(out)
    write_results(out, results)
    print(tabulate(results.runs))
    print(doubt_seeds(results.runs) or "± is the standard deviation over seeds")
    written = [out / "runs.csv", out / "curves.csv"]
    written += draw_to(out / "figure.png", draw_gains, results)
    if page is not None:
        write(out / "page.html", page)
        written.append(out / "page.html")
    list_written(*written)
    again = " ".join(shlex.quote(Path(folder).as_posix()) for folder in given)
    suggest(f"open {(out / 'page.html').as_posix()} in a browser" if html
            else f"python -m lessons.report --html {again}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.report", description="table and figure of your runs")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="runs, or folders of runs")
    parser.add_argument("--out", default="runs/report", help="where to write (default runs/report)")
    parser.add_argument("--html", action="store_true", help="also a page: curves, and answers")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: report(args.folders, Path(args.out), args.html))


if __name__ == "__main__":
    sys.exit(main())
