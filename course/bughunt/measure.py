"""Measure what each bug of the hunt shows, beside clean runs: writes clean.csv and symptoms.csv.

    python -m course.bughunt.measure        # about five minutes of one core

Each bug is planted in a copy of the project, and the command that a student gets is run there, on
several seeds, each with a base that another seed made. What is in --work is not run again. Do it
anew after a change of what is measured.
"""

import os
import subprocess
import sys
import tempfile
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from course.bughunt.hunts import (
    BUG_SEEDS,
    CLEAN_SEEDS,
    EXPERIMENTS,
    HERE,
    HUNTS,
    base_command,
    find_odd,
    read_last_numbers,
    train_command,
    write_row,
)
from course.bughunt.mutants import MUTANTS, Mutant, mutate
from course.copies import ROOT, copy_project
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import read_text, to_csv, write
from plumbing.messages import WorkError
from plumbing.progress import progress_bar

# All seeds in one process: to load torch takes longer than a run.
PROGRAM = "import sys, rlvr; sys.exit(max(rlvr.main(line.split('\\t')) for line in sys.argv[1:]))"


def run_lines(folder: Path, lines: list[str]) -> None:
    """Run some commands `python rlvr.py ...` one after another, in a copy of the project."""
    arguments = ["\t".join(line.split()[2:]) for line in lines]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=folder,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
                          encoding="utf-8", errors="replace")
    if done.returncode:
        raise WorkError(f"{lines[0]} ended with {done.returncode}: {done.stderr[-300:]}")


def place_base_of(work: Path, seed: int) -> Path:
    return work.absolute() / f"base{seed}.pt"


def make_bases(work: Path) -> None:
    """One for each seed, of the project without a bug."""
    bases = {seed: place_base_of(work, seed) for seed in (*CLEAN_SEEDS, *BUG_SEEDS)}
    lines = [base_command(seed, str(base)) for seed, base in bases.items() if not base.exists()]
    if lines:
        work.mkdir(parents=True, exist_ok=True)
        run_lines(ROOT, lines)


def run_seeds(work: Path, experiment: str, seeds: tuple[int, ...],
              mutant: Mutant | None = None) -> list[dict[str, float]]:
    """The numbers of an experiment's run on each seed, with a bug or without."""
    out = work.absolute() / "runs" / experiment / (mutant.name if mutant else "clean")
    missing = [seed for seed in seeds if not (out / str(seed) / "summary.json").exists()]
    if missing:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            copy_project(folder, results=False, tests=False)
            if mutant:
                write(folder / mutant.file, mutate(read_text(ROOT / mutant.file), mutant))
            run_lines(folder, [train_command(experiment, seed, str(out / str(seed)),
                                             str(place_base_of(work, seed))) for seed in missing])
    return [read_last_numbers(out / str(seed)) for seed in seeds]


def join_numbers(runs: list[dict[str, float]]) -> dict[str, list[float]]:
    """{number: its value in each run}, of the numbers that all runs have."""
    return {name: [run[name] for run in runs] for name in runs[0]
            if all(name in run for run in runs)}


def list_symptoms(runs: list[dict[str, float]], clean: dict[str, list[float]]) -> list[str]:
    """The numbers that are odd on every seed, on the same side of the clean ones."""
    odd = set.intersection(*(set(dict(find_odd(run, clean))) for run in runs))
    return [name for name in clean if name in odd
            and len({run[name] > max(clean[name]) for run in runs}) == 1]


def measure(work: Path) -> None:
    make_bases(work)
    clean = {name: join_numbers(run_seeds(work, name, CLEAN_SEEDS)) for name in EXPERIMENTS}
    write(HERE / "clean.csv", to_csv([
        write_row({"experiment": experiment, "number": name}, values, CLEAN_SEEDS)
        for experiment, numbers in clean.items() for name, values in numbers.items()]))
    rows, dealt = [], [mutant for mutant in MUTANTS if mutant.name in HUNTS]
    for mutant in progress_bar(iterable=dealt, desc="bugs"):
        hunt = HUNTS[mutant.name]
        runs = run_seeds(work, hunt.experiment, BUG_SEEDS, mutant)
        for name in list_symptoms(runs, clean[hunt.experiment]):
            values = clean[hunt.experiment][name]
            head = {"bug": mutant.name, "experiment": hunt.experiment, "number": name,
                    "clean least": f"{min(values):.6g}", "clean most": f"{max(values):.6g}"}
            rows.append(write_row(head, [run[name] for run in runs], BUG_SEEDS))
    write(HERE / "symptoms.csv", to_csv(rows))
    silent = sorted(set(HUNTS) - {row["bug"] for row in rows})
    print(f"{len(HUNTS) - len(silent)} of {len(HUNTS)} bugs show on every seed"
          + (f"; not {', '.join(silent)}" if silent else ""))
    list_written(HERE / "clean.csv", HERE / "symptoms.csv")
    suggest("python -m course.bughunt list")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m course.bughunt.measure", description=__doc__,
                    allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/bughunt"),
                        help="folder for the base and the runs (default runs/bughunt)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: measure(args.work))


if __name__ == "__main__":
    sys.exit(main())
