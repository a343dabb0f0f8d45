"""A page to look at runs with: their curves, and the same problems' answers before, during, after.

    python -m lessons.report --html RUN [RUN ...]    # writes page.html into --out

A lesson writes it too. The page is page.html with the data of at most a dozen runs in it, as JSON,
and with links to their files. It needs no network and no server.
"""

import csv
import io
import json
import os
from pathlib import Path
from urllib.parse import quote

from data.answers import is_correct
from data.corpus import CORPORA
from data.task import parse_problem, write_answer
from plumbing.files import read_text
from plumbing.messages import InputError

TEMPLATE, PLACEHOLDER = Path(__file__).with_name("page.html"), "{{DATA}}"
SHOWN_RUNS = 12    # on a page
FILES = ("metrics.csv", "samples.txt", "answers.json", "summary.json", "config.json", "log.txt")
# of metrics.csv, beside the share of every mode
DRAWN = ("reward", "accuracy", "clip_high", "clip_low", "approx_kl", "grad_norm", "entropy")


def read_curves(folder: Path, names: tuple[str, ...]) -> dict[str, list[float | None]]:
    """Columns of a metrics.csv, those that it has; an empty cell is None."""
    rows = list(csv.DictReader(io.StringIO(read_text(folder / "metrics.csv"))))
    return {name: [float(row[name]) if row[name] else None for row in rows]
            for name in names if name in rows[0]}


def read_answers(folder: Path) -> dict | None:
    """An answers.json with every text's mode and whether it is right; None if the run kept none.

    problems: [problem, its answer] of each; batches: step, and answers (P, n): text, mode, right.
    """
    path = folder / "answers.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(read_text(path))
        corpus, problems = CORPORA[kept["corpus"]], list(map(parse_problem, kept["problems"]))
        batches = []
        for batch in kept["batches"]:
            n = len(batch["texts"]) // len(problems)
            groups = [batch["texts"][i * n:(i + 1) * n] for i in range(len(problems))]
            batches.append({"step": batch["step"], "answers": [
                [{"text": text, "mode": corpus.mode_of(text), "right": is_correct(problem, text)}
                 for text in group] for problem, group in zip(problems, groups)]})
    except Exception:  # truncated or foreign, in many ways
        raise InputError(f"{path} is not what a run writes") from None
    answers = [[name, write_answer(problem)] for name, problem in zip(kept["problems"], problems)]
    return {"problems": answers, "batches": batches} if batches else None


def link_files(folder: Path, out: Path) -> dict[str, str]:
    """{name: address, as seen from a page in `out`} of the files that a run has."""
    try:
        place = quote(Path(os.path.relpath(folder, out)).as_posix())
    except ValueError:  # on another drive of Windows
        place = folder.resolve().as_uri()
    return {name: f"{place}/{name}" for name in FILES if (folder / name).exists()}


def choose_runs(rows: list[dict]) -> list[int]:
    """Which runs a page shows: SHOWN_RUNS at most, the first seed of every cell before a second.

    A cell is base, reward, loss and flags; the runs stay in their order.
    """
    seen, order = {}, []
    for i, row in enumerate(rows):
        cell = tuple(row[name] for name in ("base", "reward", "loss", "flags"))
        seen[cell] = seen.get(cell, 0) + 1
        order.append((seen[cell], i))
    return sorted(i for _, i in sorted(order)[:SHOWN_RUNS])


def describe_run(folder: Path, row: dict, out: Path) -> dict:
    """What a page in `out` shows of a run, from its folder and its row of runs.csv."""
    cells = [key.removeprefix("switches_") for key in row if key.startswith("switches_")]
    modes = list(dict.fromkeys(cell.split("->")[0] for cell in cells))
    shares = [f"{mode}_share" for mode in modes]
    return {"folder": str(folder), "modes": modes, "files": link_files(folder, out),
            **{name: row[name] for name in ("base", "reward", "loss", "flags", "seed", "steps",
                                            "command")},
            **{when: {name: row.get(f"{when}_{name}")
                      for name in ("accuracy", "greedy_accuracy", *shares)}
               for when in ("before", "after")},
            "curves": read_curves(folder, (*DRAWN, *shares)), "answers": read_answers(folder)}


def build_page(folders: list[Path], rows: list[dict], out: Path) -> str:
    """The page, to be written into `out`, of some runs: their folders, their rows of runs.csv."""
    runs = [describe_run(folders[i], rows[i], out) | {"among": len(rows)}
            for i in choose_runs(rows)]
    # A policy may say `</script>`: inside JSON a "<" can be written as its number.
    data = json.dumps(runs, allow_nan=False).replace("<", "\\u003c")
    return read_text(TEMPLATE).replace(PLACEHOLDER, data)
