"""Ten parts of the project to write yourself, graded by the tests that guard them.

    python -m course.exercises                       # which there are
    python -m course.exercises new FOLDER            # a copy in which their bodies are gone
    python -m course.exercises new FOLDER clip gae   # only those of two
    python -m course.exercises check                 # in the copy: its own tests, as you write
    python -m course.exercises check FOLDER clip
    python -m course.exercises grade FOLDER          # points, and what does not hold
    python -m course.exercises grade FOLDER clip --json

Each has a page, course/exercises/NAME.md. `check` is the student's: it runs the tests of the copy
on the copy. `grade` is the lecturer's: the tests of this checkout ask what was handed in, which
runs in a process of its own (door.py), and the same functions are compared on inputs that `--key`
draws. Every exercise is graded alone: what others ask for is there as it should be.
"""

import json
import secrets
import shlex
import subprocess
import sys
import textwrap
from argparse import RawDescriptionHelpFormatter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course.copies import ROOT, empty_functions, make_copy, run_here
from course.exercises.catalog import EXERCISES, list_points
from course.exercises.door import become_user
from course.exercises.grading import LONGEST, Grade, grade_exercise, judge_checks
from course.exercises.handin import Unreadable, group_functions, read_plain
from lessons.jobs import count_jobs
from plumbing.commands import Parser, run_command, suggest
from plumbing.files import check_writable, read_text, to_json, write
from plumbing.messages import InputError, note
from plumbing.progress import progress_bar

MARK = "exercises.json"   # in a copy: which exercises it has


# --- new

def empty_files(names: list[str]) -> dict[str, str]:
    """{file: its source without what these exercises take out}."""
    gone = [function for name in names
            for function in EXERCISES[name].write + EXERCISES[name].hide]
    return {file: empty_functions(read_text(ROOT / file), functions)
            for file, functions in group_functions(gone).items()}


def make_exercises(folder: Path, names: list[str]) -> None:
    """A copy of the project in which the functions of some exercises are to be written."""
    make_copy(folder, empty_files(names) | {MARK: to_json({"exercises": names})})
    for name in names:
        print(f"{name:<11}{', '.join(EXERCISES[name].write)}")
    print(f"to be written in {folder}; the pages: course/exercises/NAME.md")
    suggest("python -m course.exercises check    # in that folder",
            f"python -m course.exercises grade {shlex.quote(folder.as_posix())}    # from here")


# --- what a folder has

def read_marked(folder: Path) -> list[str]:
    """The exercises that a copy was made for; all of them in a folder that does not say.

    Raises InputError.
    """
    files = {file for exercise in EXERCISES.values() for file in group_functions(exercise.write)}
    if not any((folder / file).exists() for file in files):
        raise InputError(f"{folder} is no copy of the project: it has none of "
                         f"{', '.join(sorted(files))}")
    if not (folder / MARK).exists():
        return list(EXERCISES)
    try:
        names = json.loads(read_plain(folder, MARK))["exercises"]
        return [name for name in EXERCISES if name in names]
    except (ValueError, KeyError, TypeError, RecursionError, Unreadable):
        raise InputError(f"{folder / MARK} cannot be read: name the exercises") from None


# --- check

def check_folder(folder: Path, names: list[str]) -> None:
    """Run the checks of some exercises in a copy, with its own tests, and print what they say."""
    def run_copy(arguments: list[str]) -> subprocess.CompletedProcess:
        return run_here(folder, arguments, LONGEST)

    names, grades = names or read_marked(folder), []
    with progress_bar(total=len(names), desc="checking") as bar:
        for name in names:
            try:
                failures = judge_checks(name, run_copy)
            except subprocess.TimeoutExpired:
                raise InputError(f"{name}: not done after {LONGEST} seconds") from None
            grades.append(Grade(name, True, failures))
            bar.update()
    for grade in grades:
        print(f"{grade.name:<11}{grade.passed:3d} of {grade.most}")
        print_failures(grade)
    suggest(*say_after_check(grades))


def say_after_check(grades: list[Grade]) -> list[str]:
    """What a student does next: look at the first failure, or hand in."""
    lacking = next((grade for grade in grades if grade.failures), None)
    if lacking is None:
        return ["hand in the files that you changed: grading also draws inputs that are in no test"]
    return [f"python -m pytest tests/{lacking.failures[0].check.test}    # in the copy: the first",
            f"course/exercises/{lacking.name}.md has hints"]


# --- grade

def grade_side_by_side(folder: Path, names: list[str], key: str, user: str | None = None
                       ) -> list[Grade]:
    """Grades of some exercises of a folder, in their order."""
    grades, bar = [], progress_bar(total=len(names), desc="grading")
    with bar, ThreadPoolExecutor(count_jobs()) as pool:
        for grade in pool.map(lambda name: grade_exercise(name, folder, key, user), names):
            grades.append(grade)
            bar.update()
    return grades


# --- what is said of it

def print_failures(grade: Grade) -> None:
    for failure in grade.failures:
        print(f"   -{failure.check.points}  {failure.broken}\n"
              f"       {failure.message[:93]}")


def describe_draws(grade: Grade) -> str:
    """On how many drawn inputs each function differs; "" if on none."""
    wrong = [f"{function.split(':')[1]} differs on {of - right} of {of}"
             for function, (right, of) in grade.drawn.items() if right < of]
    return (f"inputs that are in no test: {', '.join(wrong)}; so at most {grade.cap} points"
            if wrong else "")


def print_grades(grades: list[Grade]) -> None:
    for grade in grades:
        print(f"{grade.name:<11}{grade.points:3d} of {grade.most}"
              f"{'' if grade.begun else ', not begun'}")
        for mistake in grade.mistakes:
            print(textwrap.fill(mistake, 100, initial_indent="   ", subsequent_indent="     "))
        if grade.begun:
            print_failures(grade)
        if describe_draws(grade):
            print(f"   {describe_draws(grade)}")
    print(f"{'total':<11}{sum(grade.points for grade in grades):3d} of "
          f"{sum(grade.most for grade in grades)}")
    lacking = next((grade.name for grade in grades if grade.points < grade.most), None)
    suggest(f"course/exercises/{lacking}.md, then grade again" if lacking
            else "python -m course.bughunt new FOLDER    # all is done here")


def describe_grades(grades: list[Grade], key: str) -> dict:
    return {"points": sum(grade.points for grade in grades),
            "most": sum(grade.most for grade in grades), "key": key,
            "exercises": [{"name": grade.name, "points": grade.points,
                           "most": grade.most, "begun": grade.begun, "passed": grade.passed,
                           "drawn": {function: {"right": right, "of": of}
                                     for function, (right, of) in grade.drawn.items()},
                           "mistakes": grade.mistakes,
                           "failed": [{"test": failure.check.test,
                                       "points": failure.check.points,
                                       "holds": failure.broken, "message": failure.message}
                                      for failure in grade.failures]}
                          for grade in grades]}


def describe_for_gradescope(grades: list[Grade]) -> dict:
    """Gradescope's results.json (gradescope-autograders.readthedocs.io): a test a check."""
    tests = []
    for grade in grades:
        said = {failure.check: "\n".join([failure.broken, *grade.mistakes, failure.message])
                for failure in grade.failures}
        for check in EXERCISES[grade.name].checks:
            lost = check in said
            tests.append({"name": f"{grade.name}: {check.test.split('::')[1]}",
                          "score": 0 if lost else check.points, "max_score": check.points,
                          "status": "failed" if lost else "passed",
                          "output": said.get(check, "")})
        if describe_draws(grade):
            tests.append({"name": f"{grade.name}: inputs that are in no test",
                          "status": "failed", "output": describe_draws(grade)})
    return {"score": sum(grade.points for grade in grades), "tests": tests}


def choose_names(folder: Path, names: list[str]) -> list[str]:
    """The exercises to be graded; which, if none is named, the folder itself says."""
    marked = read_marked(folder)
    if not names and (folder / MARK).exists():
        note(f"{folder / MARK} says what is graded: name the exercises, or all, if a stranger "
             "handed it in")
    return list(EXERCISES) if "all" in names else names or marked


def grade_command(args) -> None:
    if (ROOT / MARK).exists():
        raise InputError(f"{ROOT} is a copy without answers: `check` there, `grade` in the project")
    if args.gradescope:
        check_writable(args.gradescope.parent)
    try:
        become_user(args.user)
    except (KeyError, ImportError):
        raise InputError(f"there is no user {args.user} on this system") from None
    key = args.key or secrets.token_hex(8)
    names = choose_names(args.folder, args.names)
    grades = grade_side_by_side(args.folder, names, key, args.user)
    if any(grade.drawn and not grade.held_by for grade in grades) and not args.user:
        note("this system has no Landlock: what was handed in could read this checkout; "
             "course/exercises/Dockerfile has a container")
    if args.json:
        print(to_json(describe_grades(grades, key)), end="")
    else:
        print_grades(grades)
    if args.gradescope:
        write(args.gradescope, to_json(describe_for_gradescope(grades)))


def list_exercises() -> None:
    print(f"{'exercise':<11}points  minutes  page in course/exercises")
    for name, exercise in EXERCISES.items():
        print(f"{name:<11}{list_points(exercise):6d}{exercise.minutes:9d}  "
              f"{name}.md: {exercise.title}")
    suggest("python -m course.exercises new FOLDER    # a copy to work in")


def make_parser() -> Parser:
    parser = Parser(prog="python -m course.exercises", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", parser_class=Parser,
                                     metavar="new|check|grade")
    parsers = {"new": commands.add_parser("new", help="make a copy to work in"),
               "check": commands.add_parser("check", help="run a copy's own tests on it"),
               "grade": commands.add_parser("grade", help="points of a copy")}
    for name, command in parsers.items():
        command.add_argument("folder", type=Path, metavar="FOLDER",
                             **({"nargs": "?", "default": ROOT} if name == "check" else {}))
        command.add_argument("names", nargs="*", metavar="NAME",
                             help=f"{', '.join(EXERCISES)} (default: all)")
    grade = parsers["grade"]
    grade.add_argument("--json", action="store_true", help="print JSON")
    grade.add_argument("--gradescope", type=Path, metavar="FILE",
                       help="write Gradescope's results.json there as well")
    grade.add_argument("--key", help="what the inputs are drawn from that are in no test "
                                     "(default: a new one each time, which --json says)")
    grade.add_argument("--user", help="run what was handed in as this user (needs root)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        return run_command(parser.prog, list_exercises)
    if args.command == "check" and str(args.folder) in EXERCISES:   # FOLDER was left out
        args.folder, args.names = ROOT, [str(args.folder), *args.names]
    for name in args.names:
        if name not in EXERCISES and (args.command, name) != ("grade", "all"):
            parser.error(f"unknown exercise {name!r}: choose from {', '.join(EXERCISES)}")
    if args.command == "new":
        names = [name for name in EXERCISES if name in (args.names or EXERCISES)]
        return run_command(parser.prog, lambda: make_exercises(args.folder, names))
    if args.command == "check":
        return run_command(parser.prog, lambda: check_folder(args.folder, args.names))
    return run_command(parser.prog, lambda: grade_command(args))


if __name__ == "__main__":
    sys.exit(main())
