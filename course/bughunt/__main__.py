"""A bug hunt: one line of the project is wrong in your copy, and trains on silently.

    python -m course.bughunt new FOLDER --seed 7        # plants one; HUNT.md there says what to run
    python -m course.bughunt compare FOLDER             # your run beside clean ones: what is odd?
    python -m course.bughunt check FOLDER losses.py:191 --kind scale
    python -m course.bughunt reveal FOLDER              # give up
    python -m course.bughunt list                       # for a lecturer: all answers

README.md in this folder says how to hunt.
"""

import hashlib
import json
import random
import re
import shlex
import sys
import textwrap
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from course.bughunt.hunts import (
    CLEAN_SEEDS,
    HUNTS,
    KINDS,
    Hunt,
    base_command,
    find_odd,
    read_clean,
    read_last_numbers,
    read_symptoms,
    train_command,
    write_row,
)
from course.bughunt.mutants import MUTANTS, Mutant, find_line, mutate
from course.bughunt.strip import STRIPPED, strip_comment, strip_words
from course.copies import ROOT, find_functions, make_copy
from plumbing.commands import Parser, run_command, suggest
from plumbing.files import read_text, to_csv, to_json, write
from plumbing.flags import number
from plumbing.messages import InputError
from plumbing.streams import MAX_SEED

MARK = "bughunt.json"   # in a copy: which bug it has, so that one cannot read it there
DEALT = {mutant.name: mutant for mutant in MUTANTS if mutant.name in HUNTS}
PAGE = """# A bug hunt

One line of the code in this folder is wrong. Everything runs on, and a number is not as it should
be. Run this here, one after the other (about a minute of one core):

    {base}
    {train}

`clean.csv` has what four runs of both commands without the bug show, each with other seeds: means
over the batches, and the evaluation before and after. In the folder of the project,
`python -m course.bughunt compare` with the path of this folder puts your run beside them.

Hand in the odd number, the line (FILE:LINE), what it should be, and why. The kinds of reasons:

{kinds}
"""


# --- which bug, and where it is

def choose_mutant(seed: int) -> Mutant:
    """The seeds 0, 1, 2, ... go through all that are dealt out in a mixed order, then again."""
    order = random.Random(0).sample(sorted(DEALT), len(DEALT))
    return DEALT[order[seed % len(DEALT)]]


def seal_name(name: str) -> str:
    return hashlib.blake2b(f"bug {name}".encode(), digest_size=12).hexdigest()


def read_mark(folder: Path) -> tuple[dict, Mutant]:
    """What a copy says of itself, and its bug."""
    try:
        mark = json.loads(read_text(folder / MARK))
        seal = mark["bug"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} has no {MARK}: python -m course.bughunt new {folder}"
                         ) from None
    for mutant in DEALT.values():
        if seal_name(mutant.name) == seal:
            return mark, mutant
    raise InputError(f"{folder} was made by another version of the project: make it again")


def locate_bug(folder: Path, mutant: Mutant) -> int:
    """Its line: where it stands now, or stood when it was planted if it has been mended."""
    lines = list(map(str.strip, read_text(folder / mutant.file).splitlines()))
    planted = find_line(strip_words(read_text(ROOT / mutant.file)), strip_comment(mutant.old))
    for wanted in (mutant.new, strip_comment(mutant.new), mutant.old, strip_comment(mutant.old)):
        found = [i for i, line in enumerate(lines, 1) if line == wanted]
        if found:
            return min(found, key=lambda i: abs(i - planted))
    return planted


def name_function(source: str, line: int) -> str | None:
    """The function that a line belongs to."""
    nodes = find_functions(source).items()
    return next((name for name, node in nodes if node.lineno <= line <= node.end_lineno), None)


# --- new

def plant(folder: Path, seed: int, tests: bool) -> None:
    """A copy of the project with one bug, and what a clean run shows."""
    mutant = choose_mutant(seed)
    hunt = HUNTS[mutant.name]
    sources = {file: read_text(ROOT / file) for file in {*STRIPPED, mutant.file}}
    sources[mutant.file] = mutate(sources[mutant.file], mutant)
    if not tests:   # with them a copy is the easier hunt: the words are left in as well
        sources = {file: strip_words(source) for file, source in sources.items()}
    mark = to_json({"seed": seed, "bug": seal_name(mutant.name), "guesses": 0})
    make_copy(folder, {**sources, MARK: mark, "HUNT.md": write_page(hunt),
                       "clean.csv": write_clean(hunt)}, tests)
    where = shlex.quote(folder.as_posix())
    print(f"One line of the code in {folder} is wrong. HUNT.md there says what to run, which takes "
          "about a\nminute of one core, and what to hand in.")
    suggest(f"cd {where} && cat HUNT.md", f"python -m course.bughunt compare {where}",
            f"python -m course.bughunt check {where} FILE:LINE --kind KIND")


def write_page(hunt: Hunt) -> str:
    kinds = "\n".join(f"- `{name}`: {said}" for name, said in KINDS.items())
    return PAGE.format(base=base_command(), train=train_command(hunt.experiment), kinds=kinds)


def write_clean(hunt: Hunt) -> str:
    return to_csv([write_row({"number": name}, values, CLEAN_SEEDS)
                   for name, values in read_clean(hunt.experiment).items()])


# --- compare

def compare_run(folder: Path) -> None:
    """The numbers of the copy's run that are far from all clean ones, the furthest first."""
    _, mutant = read_mark(folder)
    try:
        numbers = read_last_numbers(folder / "run")
    except (OSError, ValueError, KeyError, IndexError):
        raise InputError(f"{folder / 'run'} has no finished run: {folder / 'HUNT.md'} says how to "
                         "make it") from None
    clean = read_clean(HUNTS[mutant.name].experiment)
    odd = find_odd(numbers, clean)
    print(f"Numbers of your run that are far from those of {len(CLEAN_SEEDS)} clean runs\n"
          f"{'number':26s}{'yours':>10s}{'clean runs':>22s}{'how far':>10s}")
    for name, distance in odd:
        span = f"{min(clean[name]):.4f} to {max(clean[name]):.4f}"
        print(f"{name:26s}{numbers[name]:10.4f}{span:>22s}{distance:10.1f}")
    print(f"{len(set(numbers) & set(clean)) - len(odd)} other numbers are like those of the clean "
          "runs. How far: in widths of their\nrange; the last ones of the list may be chance.")
    suggest(f"python -m course.bughunt check {shlex.quote(folder.as_posix())} FILE:LINE "
            "--kind KIND")


# --- check

def parse_place(folder: Path, text: str) -> tuple[str, int]:
    """('losses.py', 191) of 'losses.py:191'; InputError if there is no such line."""
    found = re.fullmatch(r"(.+):([1-9][0-9]{0,6})", text)
    if not found:
        raise InputError(f"{text!r} is not FILE:LINE, such as losses.py:191")
    file, line = Path(found[1]).as_posix(), int(found[2])
    try:
        count = len(read_text(folder / file).splitlines())
    except (OSError, ValueError):
        raise InputError(f"{folder} has no file {file} to read") from None
    if line > count:
        raise InputError(f"{file} has {count} lines")
    return file, line


def judge_place(folder: Path, mutant: Mutant, file: str, line: int) -> str:
    """'there', or how far a guess is from it."""
    if file != mutant.file:
        return "not there: it is in another file"
    bug = locate_bug(folder, mutant)
    if line == bug:
        return "there"
    try:
        source = read_text(folder / file)
        function, guessed = name_function(source, bug), name_function(source, line)
    except SyntaxError:
        return "not there: the file is right, the line is not"
    if function and function == guessed:
        return f"not there: the function is right ({function}), the line is not"
    return "not there: the file is right, the line is not"


def explain(folder: Path, mutant: Mutant) -> str:
    """The answer, as a lecturer would give it."""
    hunt = HUNTS[mutant.name]
    row = read_symptoms()[mutant.name][hunt.shows]
    shown = ", ".join(f"{value:.4g}" for value in row["bug"])
    return (f"{mutant.file}:{locate_bug(folder, mutant)}\n    here: {mutant.new}\n"
            f"   right: {mutant.old}\n{textwrap.fill(mutant.said, 100)}\n"
            f"Kind: {hunt.kind}, {KINDS[hunt.kind]}.\n"
            f"Measured: {hunt.shows} is {shown} on three bases, and {row['least']:.4g} to "
            f"{row['most']:.4g} in clean runs.\n"
            f"It breaks lesson {mutant.lesson}; {mutant.killer} fails on it.")


def check_guess(folder: Path, place: str, kind: str) -> None:
    """Found; the right place for a wrong reason; or not there."""
    mark, mutant = read_mark(folder)
    verdict = judge_place(folder, mutant, *parse_place(folder, place))
    mark["guesses"] = mark.get("guesses", 0) + 1
    write(folder / MARK, to_json(mark))
    where = shlex.quote(folder.as_posix())
    if verdict != "there":
        print(verdict)
    elif kind != HUNTS[mutant.name].kind:
        print(f"right place, wrong reason: this line is the bug, but it does not do this:\n"
              f"    {kind}: {KINDS[kind]}")
    else:
        print(f"found, with guess {mark['guesses']}: {explain(folder, mutant)}")
        return suggest("python -m course.bughunt new OTHER --seed N    # another bug")
    suggest(f"python -m course.bughunt check {where} FILE:LINE --kind KIND",
            f"python -m course.bughunt reveal {where}")


def reveal(folder: Path) -> None:
    print(explain(folder, read_mark(folder)[1]))
    suggest("python -m course.bughunt new OTHER --seed N    # another bug")


def list_hunts() -> None:
    """For a lecturer: which seed has which bug."""
    print(f"{'seed':6s}{'kind':10s}{'file':18s}{'bug':30s}shown by")
    for seed in range(len(DEALT)):
        mutant = choose_mutant(seed)
        hunt = HUNTS[mutant.name]
        print(f"{seed:<6d}{hunt.kind:10s}{mutant.file:18s}{mutant.name:30s}{hunt.shows}")
    suggest("python -m course.bughunt new FOLDER --seed N")


# --- command line

def build_hunt_parser() -> Parser:
    parser = Parser(prog="python -m course.bughunt", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser,
                                     metavar="new|compare|check|reveal|list")
    helps = {"new": "make a copy with a bug", "compare": "which numbers of its run are odd?",
             "check": "is it there, and for that reason?", "reveal": "say where it is",
             "list": "all bugs, for a lecturer"}
    parsers = {name: commands.add_parser(name, help=help) for name, help in helps.items()}
    for name in ("new", "compare", "check", "reveal"):
        parsers[name].add_argument("folder", type=Path, metavar="FOLDER")
    parsers["new"].add_argument("--seed", type=number(int, least=0, most=MAX_SEED), default=0,
                                help=f"which bug; there are {len(DEALT)} (default 0)")
    parsers["new"].add_argument("--tests", action="store_true",
                                help="easier: leave the tests, the docstrings and comments in")
    parsers["check"].add_argument("place", metavar="FILE:LINE")
    parsers["check"].add_argument("--kind", required=True, choices=KINDS,
                                  help="why the line is wrong (HUNT.md says what each means)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = build_hunt_parser()
    args = parser.parse_args(arguments)
    commands = {"new": lambda: plant(args.folder, args.seed, args.tests),
                "compare": lambda: compare_run(args.folder),
                "check": lambda: check_guess(args.folder, args.place, args.kind),
                "reveal": lambda: reveal(args.folder),
                "list": list_hunts}
    return run_command(parser.prog, commands[args.command])


if __name__ == "__main__":
    sys.exit(main())
