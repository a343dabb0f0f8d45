"""A bug hunt: one line of the project is wrong in your copy, and trains on silently.

    python -m course.bughunt new FOLDER --seed 7             # plants one; each seed another
    python -m course.bughunt check FOLDER losses.py:191      # right or wrong, and why
    python -m course.bughunt reveal FOLDER                   # give up

`new` says which lesson the bug breaks, and no more. --tests leaves the tests in the copy, which is
easier: one of the fast ones fails on every bug.
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

from course.bughunt.mutants import MUTANTS, Mutant
from course.copies import ROOT, find_functions, make_copy
from plumbing.commands import Parser, run_command, suggest
from plumbing.files import read_text, to_json
from plumbing.flags import number
from plumbing.messages import InputError
from plumbing.streams import MAX_SEED

MARK = "bughunt.json"   # in a copy: which bug it has, so that one cannot read it there


def choose_mutant(seed: int) -> Mutant:
    """The seeds 0, 1, 2, ... go through all of them in a mixed order, then again."""
    order = random.Random(0).sample(range(len(MUTANTS)), len(MUTANTS))
    return MUTANTS[order[seed % len(MUTANTS)]]


def seal_name(name: str) -> str:
    return hashlib.blake2b(f"bug {name}".encode(), digest_size=12).hexdigest()


def find_line(source: str, line: str) -> int:
    """The number of the only line, counted from 1, that is `line` but for its indentation."""
    numbers = [i for i, text in enumerate(source.splitlines(), 1) if text.strip() == line]
    if len(numbers) != 1:
        raise ValueError(f"{len(numbers)} lines are {line!r}")
    return numbers[0]


def mutate(source: str, mutant: Mutant) -> str:
    """The source with the mutant's line in place of ours, indented alike."""
    lines = source.splitlines(keepends=True)
    i = find_line(source, mutant.old) - 1
    lines[i] = lines[i].replace(mutant.old, mutant.new)
    return "".join(lines)


def plant(folder: Path, seed: int, tests: bool) -> None:
    """A copy of the project with one bug."""
    mutant = choose_mutant(seed)
    bad = mutate(read_text(ROOT / mutant.file), mutant)
    mark = to_json({"seed": seed, "bug": seal_name(mutant.name)})
    make_copy(folder, {mutant.file: bad, MARK: mark}, tests)
    print(f"One line of the code in {folder} is wrong. It breaks lesson {mutant.lesson}.")
    suggest(f"python -m course.bughunt check {shlex.quote(folder.as_posix())} FILE:LINE")


def read_mutant(folder: Path) -> Mutant:
    try:
        seal = json.loads(read_text(folder / MARK))["bug"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{folder} has no {MARK}: python -m course.bughunt new {folder}"
                         ) from None
    for mutant in MUTANTS:
        if seal_name(mutant.name) == seal:
            return mutant
    raise InputError(f"{folder} was made by another version of the project: make it again")


def locate_bug(folder: Path, mutant: Mutant) -> int:
    """Its line: where it stands now, or stood when it was planted if it has been mended."""
    planted = find_line(read_text(ROOT / mutant.file), mutant.old)
    lines = read_text(folder / mutant.file).splitlines()
    now = [i for i, line in enumerate(lines, 1) if line.strip() == mutant.new]
    return min(now, key=lambda i: abs(i - planted), default=planted)


def name_function(source: str, line: int) -> str | None:
    """The function that a line belongs to."""
    nodes = find_functions(source).items()
    return next((name for name, node in nodes if node.lineno <= line <= node.end_lineno), None)


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


def judge_guess(folder: Path, mutant: Mutant, file: str, line: int) -> str:
    """'right', or how far a guess is from it."""
    if file != mutant.file:
        return "wrong: it is in another file"
    bug = locate_bug(folder, mutant)
    if line == bug:
        return "right"
    try:
        source = read_text(folder / file)
        function, guessed = name_function(source, bug), name_function(source, line)
    except SyntaxError:
        return "wrong: the file is right, the line is not"
    if function and function == guessed:
        return f"wrong: the function is right ({function}), the line is not"
    return "wrong: the file is right, the line is not"


def explain(folder: Path, mutant: Mutant) -> str:
    return (f"{mutant.file}:{locate_bug(folder, mutant)}\n    here: {mutant.new}\n"
            f"   right: {mutant.old}\n{textwrap.fill(mutant.said, 100)}\n"
            f"It breaks lesson {mutant.lesson}; {mutant.killer} fails on it.")


def check_guess(folder: Path, place: str) -> None:
    mutant = read_mutant(folder)
    verdict = judge_guess(folder, mutant, *parse_place(folder, place))
    print(verdict if verdict != "right" else f"right: {explain(folder, mutant)}")
    where = shlex.quote(folder.as_posix())
    suggest(*(["python -m course.bughunt new OTHER --seed N    # another bug"]
              if verdict == "right" else [f"python -m course.bughunt check {where} FILE:LINE",
                                          f"python -m course.bughunt reveal {where}"]))


def reveal(folder: Path) -> None:
    print(explain(folder, read_mutant(folder)))
    suggest("python -m course.bughunt new OTHER --seed N    # another bug")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m course.bughunt", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser,
                                     metavar="new|check|reveal")
    parsers = {"new": commands.add_parser("new", help="make a copy with a bug"),
               "check": commands.add_parser("check", help="is it there?"),
               "reveal": commands.add_parser("reveal", help="say where it is")}
    for command in parsers.values():
        command.add_argument("folder", type=Path, metavar="FOLDER")
    parsers["new"].add_argument("--seed", type=number(int, least=0, most=MAX_SEED), default=0,
                                help=f"which bug; there are {len(MUTANTS)} (default 0)")
    parsers["new"].add_argument("--tests", action="store_true", help="leave the tests in")
    parsers["check"].add_argument("place", metavar="FILE:LINE")
    args = parser.parse_args(arguments)
    commands = {"new": lambda: plant(args.folder, args.seed, args.tests),
                "check": lambda: check_guess(args.folder, args.place),
                "reveal": lambda: reveal(args.folder)}
    return run_command(parser.prog, commands[args.command])


if __name__ == "__main__":
    sys.exit(main())
