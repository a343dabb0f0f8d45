"""Does NSR keep more of pass@k than PSR, or has it only moved less?

    python -m lessons.losses.matched [FOLDER]    # a folder with runs.csv (default: the stored one)

compares them at the same pass@1. The base and PSR at its step sizes give a curve, pass@k against
pass@1, straight between the points. A row says how far the runs of another loss lie above it at
their own pass@1: points of pass@k, mean ± standard deviation over seeds. 0 says that what the loss
keeps comes from having moved less. A run whose pass@1 is beyond an end of the curve has no number,
and a base on which PSR has one step size has no curve.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from lessons.losses.cells import Cell, group_cells, list_bases, name_column, raised
from lessons.report import align, read_results, show_seeds, show_spread
from plumbing.commands import Parser, run_command
from plumbing.messages import InputError

HERE = Path(__file__).parent
KS = (16, 64, 256)


class Match(NamedTuple):
    """A cell against PSR's curve."""

    cell: Cell
    gains: list[float]               # of pass@1, in points, of all its runs
    ahead: dict[int, list[float]]    # {k: points above the curve} of those that it reaches


def draw_curve(cells: dict[Cell, list[dict]]) -> list[dict[int, float]]:
    """The base and the mean of PSR at each step size as {k: pass@k}, pass@1 rising."""
    of_psr = [runs for cell, runs in cells.items() if cell.loss == "psr"]
    sets = [("before", of_psr[0][:1]), *(("after", runs) for runs in of_psr)]
    points = [{k: mean(run[name_column(when, k)] for run in runs) for k in (1, *KS)}
              for when, runs in sets]
    return sorted(points, key=lambda point: point[1])


def is_beyond(run: dict, curve: list[dict[int, float]]) -> bool:
    """Whether there is nothing to compare a run with: its pass@1 is left or right of the curve."""
    return not curve[0][1] <= run[name_column("after", 1)] <= curve[-1][1]


def measure_ahead(run: dict, curve: list[dict[int, float]], k: int) -> float:
    """Points of pass@k by which a run lies above the curve at its own pass@1."""
    xs, ys = ([point[i] for point in curve] for i in (1, k))
    expected = np.interp(run[name_column("after", 1)], xs, ys).item()
    return 100 * (run[name_column("after", k)] - expected)


def match_cells(runs: list[dict]) -> list[Match]:
    """Every cell with hard problems but PSR's own, against the curve of its base."""
    matches, cells = [], group_cells(runs, mixed=True)
    for base in list_bases(cells):
        of_base = {cell: runs for cell, runs in cells.items() if cell.base == base}
        steps = [cell.step for cell in of_base if cell.loss == "psr"]
        if not steps:
            raise InputError(f"no runs of psr on {base}: there is no curve to compare with")
        if len(steps) == 1:
            continue
        curve = draw_curve(of_base)
        for cell, of_cell in of_base.items():
            if cell.loss != "psr":
                inside = [run for run in of_cell if not is_beyond(run, curve)]
                ahead = {k: [measure_ahead(run, curve, k) for run in inside] for k in KS}
                matches.append(Match(cell, raised(of_cell, 1), ahead))
    return matches


def show_ahead(match: Match, k: int) -> str:
    """Over the runs that the curve reaches; `beyond` unless these are more than half of them."""
    return show_spread(match.ahead[k]) if 2 * len(match.ahead[k]) > len(match.gains) else "beyond"


def count_inside(match: Match) -> str:
    return f"{len(match.ahead[KS[0]])} of {len(match.gains)}"


def tabulate_matches(matches: list[Match]) -> str:
    lines = [["base", "loss", "step", "pass@1", "inside", *(f"pass@{k}" for k in KS)]]
    for match in matches:
        lines.append([match.cell.base, match.cell.loss, f"{match.cell.step:g}",
                      show_seeds(match.gains), count_inside(match),
                      *(show_ahead(match, k) for k in KS)])
    return align(lines)


def print_matches(folder: str) -> None:
    matches = match_cells(read_results(Path(folder)).runs)
    if not matches:
        raise InputError(f"{folder}: no runs with --num-ops, of psr at two step sizes and of "
                         "another loss")
    print(tabulate_matches(matches))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.losses.matched", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", metavar="FOLDER", default=str(HERE),
                        help="where runs.csv is, such as runs/lessons/losses")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print_matches(args.folder))


if __name__ == "__main__":
    sys.exit(main())
