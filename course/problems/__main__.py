"""Twelve problems: predict what a run will do, run it, explain it.

    python -m course.problems                            # which there are
    python -m course.problems check 6 RUNFOLDER ...      # your runs beside runs with other seeds
    python -m course.problems check 11 spread=4 seeds=9  # numbers that you worked out
    python -m course.problems expected 6                 # what other seeds gave; predict first

The page is course/problems/README.md. `check` compares numbers and a curve of each run with stored
runs of the same setting, and says which runs of the problem are missing. Explanations it leaves to
people.
"""

import csv
import io
import math
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import NamedTuple

from course.problems.catalog import (
    PARTS,
    PROBLEMS,
    Assignment,
    Cell,
    Expected,
    expect_curve,
    expect_number,
    expect_number_of,
    list_given,
    show_number,
    write_expected,
)
from lessons.grid import write_flags
from lessons.report import align, read_run, select_runs
from plumbing.commands import Parser, run_command, suggest
from plumbing.files import read_text
from plumbing.flags import number
from plumbing.messages import InputError

SHOWN = (0, 5, 10, 15, 19)   # points of a curve that are printed
SAME = 1e-6                  # how far two runs of one seed and setting may differ on one machine


class StudentRun(NamedTuple):
    """A student's run, and the cell of the problem that it is of."""

    folder: Path
    cell: Cell
    row: dict            # as a row of runs.csv
    curve: list[dict]    # and the rows of its curve


# --- the list

def write_command(cell: Cell, number: int) -> str:
    """What makes a run of a cell, with a seed and a folder to choose."""
    name = cell.name.replace(",", "").replace("= ", "").replace(" ", "-")
    words = " ".join(write_flags(cell.flags))
    return f"python rlvr.py train {words} --seed 7 --threads 1 --out runs/problem{number}/{name}"


def list_problems() -> None:
    lines = [["problem", "minutes", "points", "part", "title"]]
    for i, problem in PROBLEMS.items():
        lines.append([str(i), str(problem.minutes or "no run"), str(sum(problem.points)),
                      problem.part, problem.title])
    print(align(lines))
    total = sum(sum(problem.points) for problem in PROBLEMS.values())
    print(f"{len(PROBLEMS)} problems in {len(PARTS)} parts, {total} points; minutes are of one "
          "core,\nand a base takes two to three more, once")
    suggest("python -m course.problems check NUMBER RUNFOLDER ...    # when your runs are done")


def show_problem(number: int) -> None:
    bounds = ("what counts as right" if PROBLEMS[number].numbers else
              "bounds between which a run\nwith a new seed lies in 95 of 100 cases")
    print(f"Problem {number}, {PROBLEMS[number].title}: {bounds}\n\n{write_expected(number)}")
    suggest(f"python -m course.problems check {number} {list_given(number)}")


# --- check

def read_student_run(folder: Path, number: int) -> StudentRun:
    """InputError unless it is a finished run of one of the problem's cells."""
    row, curve = read_run(folder)
    for cell in PROBLEMS[number].cells:
        if select_runs([row], cell.flags):
            return StudentRun(folder, cell, row, curve)
    said = f"--base {row['base']} --reward {row['reward']} --loss {row['loss']} {row['flags']}"
    cells = "; ".join(" ".join(write_flags(cell.flags)) for cell in PROBLEMS[number].cells)
    raise InputError(f"{folder} is no run of problem {number}: it has {said.strip()}, and the "
                     f"problem asks for {cells}")


def show_expected(expected: Expected, digits: int) -> list[str]:
    """Where the seeds' mean is, and from where to where a new one may lie."""
    return [show_number(value, digits) for value in expected[:3]]


def compare_numbers(problem: Assignment, runs: list[StudentRun]) -> tuple[str, int, int]:
    """A table of every number of every run; how many are as expected, of how many."""
    lines = [["run", "number", "yours", "mean", "from", "to", "you are above", ""]]
    held = []
    for run in runs:
        for quantity in problem.quantities:
            value, expected = quantity.read(run.row, run.curve), expect_number(run.cell, quantity)
            held.append(expected.holds(value))
            lines.append([run.folder.as_posix(), quantity.name, show_number(value, quantity.digits),
                          *show_expected(expected, quantity.digits),
                          f"{sum(value > other for other in expected.values)} of "
                          f"{len(expected.values)} seeds",
                          "inside" if held[-1] else "OUTSIDE"])
    return align(lines), sum(held), len(held)


def compare_curve(run: StudentRun, column: str) -> str:
    """A run's curve at a few points, beside what other seeds gave; how often it is within."""
    expected = expect_curve(run.cell, column)
    inside = sum(point.holds(own[column]) for own, point in zip(run.curve, expected))
    lines = [["rollout batch", "yours", "mean", "from", "to"]]
    for i in SHOWN:
        lines.append([str(int(run.curve[i]["step"])), f"{run.curve[i][column]:.3f}",
                      *show_expected(expected[i], 3)])
    return (f"{column} of {run.folder.as_posix()}: inside at {inside} of {len(expected)} points\n"
            f"{align(lines)}")


def read_metrics(folder: Path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(read_text(folder / "metrics.csv"))))


def find_difference(first: Path, second: Path) -> str:
    """Where the metrics of two runs part, batch by batch and column by column; '' if nowhere."""
    for ours, theirs in zip(read_metrics(first), read_metrics(second)):
        for name in ours.keys() & theirs.keys():
            if not math.isclose(float(ours[name] or 0), float(theirs[name] or 0), rel_tol=SAME,
                                abs_tol=SAME):
                return f"batch {ours['step']}, {name}: {ours[name]} and {theirs[name]}"
    return ""


def compare_twins(runs: list[StudentRun]) -> list[str]:
    """What is to be said of runs with the same setting and seed: on one machine they are equal."""
    said, first = [], {}
    for run in runs:
        twin = first.setdefault((run.cell.name, run.row["seed"]), run)
        if twin is not run:
            differs = find_difference(twin.folder, run.folder)
            said.append(f"{twin.folder.as_posix()} and {run.folder.as_posix()} have one seed, and "
                        + (f"part in {differs}" if differs else "the same metrics throughout"))
    return said


def say_found(inside: int, of: int) -> str:
    if inside == of:
        return (f"All {of} numbers lie where a new seed lies in 95 of 100 cases. Where bounds are "
                "wide, one run\ndecides nothing: compare the mean of several with the mean here.")
    return (f"{of - inside} of {of} numbers lie where a new seed lies in 5 of 100 cases: check the "
            "base and the flags,\nthen run a second seed, and explain what you see if it stays.")


def check_runs(number: int, folders: list[str]) -> None:
    """A student's runs beside the stored ones."""
    problem = PROBLEMS[number]
    runs = [read_student_run(Path(folder), number) for folder in folders]
    print(f"Problem {number}, {problem.title}: your runs, and stored runs with other seeds\n")
    table, inside, of = compare_numbers(problem, runs)
    print(table, *(compare_curve(run, problem.curve) for run in runs), sep="\n\n")
    print("\n" + "\n".join([*compare_twins(runs), say_found(inside, of)]))
    lacking = [cell for cell in problem.cells if cell not in [run.cell for run in runs]]
    if lacking:
        suggest(*(write_command(cell, number) for cell in lacking))
    else:
        suggest("write the explanation: which of your predictions failed, and why?")


def parse_number(word: str, names: tuple[str, ...]) -> tuple[str, float]:
    """('seeds', 9.0) of 'seeds=9'."""
    name, _, value = word.partition("=")
    try:
        if name in names and math.isfinite(float(value)):
            return name, float(value)
    except ValueError:
        pass
    raise InputError(f"{word!r} is none of {', '.join(f'{name}=NUMBER' for name in names)}")


def check_numbers(number: int, words: list[str]) -> None:
    """Numbers that a student worked out of stored rows."""
    names = PROBLEMS[number].numbers
    given = dict(parse_number(word, names) for word in words)
    lines = [["number", "yours", "from", "to", ""]]
    for name, value in given.items():
        low, high = expect_number_of(number, name)
        held = low <= value <= high
        lines.append([name, f"{value:g}", f"{low:.3g}", f"{high:.3g}",
                      "inside" if held else "OUTSIDE"])
    print(align(lines))
    outside = sum(line[-1] == "OUTSIDE" for line in lines)
    print("These are the numbers that we find." if not outside else
          f"{outside} of {len(given)} are not what we find. Look again at the rows that you took, "
          "or at a command's\nflags, and at your formula.")
    lacking = [f"{name}=NUMBER" for name in names if name not in given]
    suggest(f"python -m course.problems check {number} {' '.join(lacking)}" if lacking
            else "write the explanation: where does each number come from?")


def check_problem(number: int, given: list[str]) -> None:
    if PROBLEMS[number].numbers:
        return check_numbers(number, given)
    check_runs(number, given)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m course.problems", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", parser_class=Parser, metavar="check|expected")
    check = commands.add_parser("check", help="compare your runs with other seeds")
    expected = commands.add_parser("expected", help="what other seeds gave")
    for command in (check, expected):
        command.add_argument("number", type=number(int, least=1, most=len(PROBLEMS)),
                             metavar="NUMBER")
    check.add_argument("given", nargs="+", metavar="RUNFOLDER",
                       help="folders of finished runs; problems 1 and 11: NAME=NUMBER")
    args = parser.parse_args(arguments)
    if args.command is None:
        return run_command(parser.prog, list_problems)
    if args.command == "expected":
        return run_command(parser.prog, lambda: show_problem(args.number))
    return run_command(parser.prog, lambda: check_problem(args.number, args.given))


if __name__ == "__main__":
    sys.exit(main())
