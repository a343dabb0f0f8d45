"""Does the sign of the edge hold on policies of other pretraining seeds, too?

Three judges, one a kind, that were made for the first policy; a coin, and one that favours the
right; each judge's edge is measured on each policy before RL.
"""

import json
from pathlib import Path

from lessons.grid import base_grid, grid, scale_seeds
from lessons.judges.rule import LIFTED, count_held, count_judges, says_edge
from lessons.report import Results, align, select_runs, show_seeds
from plumbing.files import read_text

BASES = base_grid(base=["bad-code"], seed=[1, 2])


def runs(payers: dict[str, dict], seeds: int) -> list[dict]:
    """Three seeds of each payer on each policy; two of the right answer, which all of them learn.
    """
    cells = [(flags, scale_seeds(2 if flags["reward"] == "correct" else 3, seeds))
             for flags in payers.values()]
    return [run for base in BASES for flags, n in cells
            for run in grid(base=base, **flags, seed=range(1, n + 1))]


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """What measures the gap of each judge on each of these policies, as the lesson's own."""
    pairs = dict.fromkeys((run["judge"], run["base"]) for run in runs
                          if "judge" in run and run["base"] in BASES)
    places = {pair: Path("runs", *pair, "gap.json") for pair in pairs}
    return [(f"python -m lessons.judges.measure {judge} --policy {policy} --out {path.as_posix()}",
             path, judge) for (judge, policy), path in places.items()]


def measure(runs: list[dict]) -> list[dict]:
    """A row a judge and policy."""
    return [{"judge": judge, "what": "gap", "policy": path.parent.name,
             **json.loads(read_text(path))["gap"]}
            for _, path, judge in evidence_commands(runs)]


def compute_edge(row: dict, tpr: float, fpr: float) -> float:
    """The edge of an oracle: what it pays text, which is right, above what it pays code."""
    text, code = (tpr * row[f"{mode} right"] + fpr * row[f"{mode} wrong"]
                  for mode in ("text", "code"))
    return text - code


def find_edge(results: Results, policy: str, flags: dict) -> float | None:
    """What a payer pays a policy's words above its programs; None of one that is no judge."""
    for row in [row for row in results.evidence if row.get("policy") == policy]:
        if "tpr" in flags:
            return compute_edge(row, flags["tpr"], flags["fpr"])
        if row["judge"] == flags.get("judge"):
            return row["edge"]
    return None


def list_cells(results: Results, payers: dict[str, dict]) -> list[dict]:
    """A dict for each policy and payer with runs: policy, name, edge, accuracies of its runs."""
    cells = []
    for policy in BASES:
        for name, flags in payers.items():
            found = select_runs(results.runs, {"base": policy} | flags)
            if found:
                cells.append({"policy": policy, "name": name, "judge": flags.get("judge"),
                              "edge": find_edge(results, policy, flags),
                              "before": found[0]["before_accuracy"],
                              "after": [run["after_accuracy"] for run in found]})
    return cells


def count_pairs(cells: list[dict], lifted: float = LIFTED) -> tuple[int, int]:
    """Of how many pairs of a judge and a policy the sign says it of every run; (held, all)."""
    judged = [cell for cell in cells if cell["judge"] and cell["edge"] is not None]
    return count_judges(judged, lifted=lifted)


def tabulate(results: Results, payers: dict[str, dict]) -> str:
    """A row a policy and payer: what the edge promises, and what came of it."""
    lines = [["policy", "paid by", "edge", "says", "accuracy", "lifted", "held"]]
    for cell in list_cells(results, payers):
        n, known = len(cell["after"]), cell["edge"] is not None
        lines.append([cell["policy"], cell["name"],
                      *([f"{cell['edge']:+.3f}", "lift" if says_edge(cell) else "no lift"]
                        if known else ["", ""]),
                      f"{cell['before']:.2f} -> {show_seeds(cell['after'], 2, '', 1)}",
                      f"{sum(accuracy >= LIFTED for accuracy in cell['after'])} of {n}",
                      "{} of {}".format(*count_held([cell])) if known else ""])
    return align(lines)
