"""Ten parts of the project to write yourself, graded by the tests that guard them.

    python -m course.exercises                       # which there are
    python -m course.exercises new FOLDER            # a copy in which their bodies are gone
    python -m course.exercises new FOLDER clip gae   # only those of two
    python -m course.exercises grade FOLDER          # points, and what does not hold
    python -m course.exercises grade FOLDER clip --json

Each has a page, course/exercises/NAME.md. All is graded with the tests of this checkout, not those
of FOLDER, and every exercise alone: what others ask for is there as it should be. It runs what
students wrote, with your rights: grade strangers' code in a container.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import textwrap
from argparse import RawDescriptionHelpFormatter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from course.copies import (
    ROOT,
    empty_functions,
    find_functions,
    is_empty,
    make_copy,
    replace_functions,
    run_tests,
)
from course.exercises.catalog import EXERCISES, Check, Exercise, list_points
from course.exercises.names import explain_solution
from lessons.jobs import count_jobs
from plumbing.commands import Parser, run_command, suggest
from plumbing.files import check_writable, read_text, to_json, write
from plumbing.messages import InputError
from plumbing.progress import progress_bar

MARK = "exercises.json"   # in a copy: which exercises it has
LONGEST = 600             # seconds that the tests of an exercise may take: they need 2 to 20


class Failure(NamedTuple):
    check: Check
    message: str    # which case, and the first line of what pytest says of it

    @property
    def broken(self) -> str:
        missing = "NotImplementedError" in self.message
        return "a function that it goes through is not written" if missing else self.check.holds


class Grade(NamedTuple):
    name: str
    begun: bool
    failures: list[Failure]
    mistakes: list[str] = []   # what is wrong with each function (names.py)

    @property
    def most(self) -> int:
        return list_points(EXERCISES[self.name])

    @property
    def points(self) -> int:
        return self.most - sum(failure.check.points for failure in self.failures)


def group_functions(functions: list[str]) -> dict[str, set[str]]:
    """['losses.py:grpo', ...] -> {file: names}."""
    files = {}
    for function in functions:
        file, name = function.split(":")
        files.setdefault(file, set()).add(name)
    return files


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
    suggest(f"python -m course.exercises grade {shlex.quote(folder.as_posix())}    # from here")


# --- grade

def merge_file(file: str, exercise: Exercise, folder: Path) -> str:
    """A file as the student wrote it; what other exercises ask for is the project's.

    Raises SyntaxError, OSError, or KeyError if a function is not there.
    """
    source, reference = read_text(folder / file), read_text(ROOT / file)
    every = group_functions([f for e in EXERCISES.values() for f in e.write + e.hide])
    own = group_functions([*exercise.write, *exercise.hide])
    return replace_functions(source, reference, every[file] - own[file])


def has_begun(exercise: Exercise, folder: Path) -> bool:
    """Whether any of its functions has a body."""
    return any(not is_empty(find_functions(read_text(folder / file))[name])
               for file, names in group_functions(exercise.write).items() for name in names)


def read_solution(name: str, folder: Path) -> dict[str, str] | Grade:
    """{file: its source} with what the student wrote for one exercise; a grade if nothing runs."""
    exercise = EXERCISES[name]
    try:
        if not has_begun(exercise, folder):
            return fail_all(name, "not begun", begun=False)
        return {file: merge_file(file, exercise, folder)
                for file in group_functions(exercise.write)}
    except SyntaxError as error:
        return fail_all(name, f"line {error.lineno} is no Python: {error.msg}")
    except KeyError as error:
        return fail_all(name, f"there is no function {error.args[0]}")
    except (OSError, ValueError) as error:
        return fail_all(name, str(error))


def grade_solution(name: str, solution: dict[str, str] | Grade) -> Grade:
    """Run the tests of one exercise on what was read of it."""
    if isinstance(solution, Grade):
        return solution
    return Grade(name, True, run_checks(EXERCISES[name], solution))


def fail_all(name: str, message: str, begun: bool = True) -> Grade:
    return Grade(name, begun, [Failure(check, message) for check in EXERCISES[name].checks])


def run_checks(exercise: Exercise, changed: dict[str, str]) -> list[Failure]:
    """The checks that fail in a copy of the project in which some files are changed."""
    tests = [f"tests/{check.test}" for check in exercise.checks]
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary, "results.xml")
        try:
            done = run_tests(changed, [f"--junitxml={found}", *tests], results=False,
                             timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return [Failure(check, f"not done after {LONGEST} seconds")
                    for check in exercise.checks]
        cases = read_cases(found) if found.exists() else {}
    last = next(filter(None, reversed((done.stdout + done.stderr).splitlines())), "no output")
    said = [cases.get(check.test, [last]) for check in exercise.checks]
    return [Failure(check, next(filter(None, messages))) for check, messages
            in zip(exercise.checks, said) if any(messages)]


def read_cases(path: Path) -> dict[str, list[str]]:
    """{'test_losses.py::test_name': a message for each of its cases, '' if it passed}."""
    cases = {}
    for case in ElementTree.parse(path).iter("testcase"):
        module, name = case.get("classname", "").split(".")[-1], case.get("name", "")
        messages = [bad.get("message") or bad.tag for bad in case
                    if bad.tag in ("failure", "error", "skipped")]
        message = messages[0].split("\n")[0] if messages else ""
        label = f"tests/{module}.py::{name}: {message}" if message else ""
        cases.setdefault(f"{module}.py::{name.split('[')[0]}", []).append(label)
    return cases


def read_marked(folder: Path) -> list[str]:
    """The exercises that a copy was made for; all of them in a folder that does not say."""
    if not (folder / "losses.py").exists():
        raise InputError(f"{folder} is no copy of the project: it has no losses.py")
    try:
        names = json.loads(read_text(folder / MARK))["exercises"]
    except FileNotFoundError:
        return list(EXERCISES)
    except (ValueError, KeyError, OSError):
        raise InputError(f"{folder / MARK} cannot be read: name the exercises") from None
    return [name for name in EXERCISES if name in names]


def grade_side_by_side(solutions: dict[str, dict[str, str] | Grade]) -> list[Grade]:
    """Grades in their order. They are read before: Python's parser is not for several threads."""
    grades, bar = [], progress_bar(total=len(solutions), desc="grading")
    with bar, ThreadPoolExecutor(count_jobs()) as pool:
        for grade in pool.map(grade_solution, solutions, solutions.values()):
            grades.append(grade)
            bar.update()
    return grades


def grade_folder(folder: Path, names: list[str]) -> list[Grade]:
    names = names or read_marked(folder)
    solutions = {name: read_solution(name, folder) for name in names}
    return [explain_grade(grade, solutions[grade.name]) for grade in grade_side_by_side(solutions)]


def explain_grade(grade: Grade, solution: dict[str, str] | Grade) -> Grade:
    """With what is wrong with each function, if a check failed."""
    if isinstance(solution, Grade) or not grade.failures:
        return grade
    return grade._replace(mistakes=explain_solution(grade.name, solution))


# --- what is said of it

def print_grades(grades: list[Grade]) -> None:
    for grade in grades:
        print(f"{grade.name:<11}{grade.points:3d} of {grade.most}"
              f"{'' if grade.begun else ', not begun'}")
        for mistake in grade.mistakes:
            print(textwrap.fill(mistake, 100, initial_indent="   ", subsequent_indent="     "))
        for failure in grade.failures if grade.begun else []:
            print(f"   -{failure.check.points}  {failure.broken}\n"
                  f"       {failure.message[:93]}")
    print(f"{'total':<11}{sum(grade.points for grade in grades):3d} of "
          f"{sum(grade.most for grade in grades)}")
    lacking = next((grade.name for grade in grades if grade.points < grade.most), None)
    suggest(f"course/exercises/{lacking}.md, then grade again" if lacking
            else "python -m course.bughunt new FOLDER    # all is done here")


def describe_grades(grades: list[Grade]) -> dict:
    return {"points": sum(grade.points for grade in grades),
            "most": sum(grade.most for grade in grades),
            "exercises": [{"name": grade.name, "points": grade.points,
                           "most": grade.most, "begun": grade.begun,
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
    return {"score": sum(test["score"] for test in tests), "tests": tests}


def grade_command(args) -> None:
    if args.gradescope:
        check_writable(args.gradescope.parent)
    grades = grade_folder(args.folder, args.names)
    if args.json:
        print(to_json(describe_grades(grades)), end="")
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


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m course.exercises", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", parser_class=Parser, metavar="new|grade")
    parsers = {"new": commands.add_parser("new", help="make a copy to work in"),
               "grade": commands.add_parser("grade", help="points of a copy")}
    for command in parsers.values():
        command.add_argument("folder", type=Path, metavar="FOLDER")
        command.add_argument("names", nargs="*", metavar="NAME",
                             help=f"{', '.join(EXERCISES)} (default: all)")
    parsers["grade"].add_argument("--json", action="store_true", help="print JSON")
    parsers["grade"].add_argument("--gradescope", type=Path, metavar="FILE",
                                  help="write Gradescope's results.json there as well")
    args = parser.parse_args(arguments)
    if args.command is None:
        return run_command(parser.prog, list_exercises)
    for name in args.names:
        if name not in EXERCISES:
            parser.error(f"unknown exercise {name!r}: choose from {', '.join(EXERCISES)}")
    if args.command == "new":
        names = [name for name in EXERCISES if name in (args.names or EXERCISES)]
        return run_command(parser.prog, lambda: make_exercises(args.folder, names))
    return run_command(parser.prog, lambda: grade_command(args))


if __name__ == "__main__":
    sys.exit(main())
