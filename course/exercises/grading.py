"""How one exercise is graded: its checks, behind the door, and inputs that are drawn anew.

The points of an exercise are those of the checks that pass, at most its share of the drawn inputs
that the student's functions get right (draws.py): so an answer that is written down, or trivial,
is worth nothing.
"""

import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple
from xml.etree import ElementTree

from course.copies import ROOT, empty_functions, list_files, run_tests, write_files
from course.exercises import draws
from course.exercises.catalog import EXERCISES, Check, Exercise, list_points
from course.exercises.door import FOLDER, USER, Worker, ask_worker, write_stubs
from course.exercises.handin import group_functions, read_solution
from course.exercises.names import isolate_functions, name_mistakes
from course.exercises.probes import answer_probes

LONGEST = 1800   # seconds that the tests of an exercise may take: alone, they need 5 to 30
# What the student's process can import: modules that hold no answer once they are emptied.
ROOMS = ("", "companions", "data", "lessons", "plumbing", "course")
DOOR = ("seal", "wire", "worker")   # of course/exercises
# Beside what is to be written: a student's cache may begin otherwise.
ALSO_ASKED = {"cache": ["model.py:KVCache.__init__"]}


class Failure(NamedTuple):
    check: Check
    message: str    # which case, and the first line of what pytest says of it

    @property
    def broken(self) -> str:
        found = re.search(r"NotImplementedError(?: in (\S+))?", self.message)
        return (f"{found[1] or 'a function'} is not written, and this test goes through it"
                if found else self.check.holds)


class Grade(NamedTuple):
    name: str
    begun: bool
    failures: list[Failure]
    drawn: dict[str, tuple[int, int]] = {}   # function -> inputs that it got right, of how many
    mistakes: list[str] = []                 # what is wrong with each function (names.py)
    held_by: str = ""                        # what of the system held the student's process

    @property
    def most(self) -> int:
        return list_points(EXERCISES[self.name])

    @property
    def passed(self) -> int:
        return self.most - sum(failure.check.points for failure in self.failures)

    @property
    def cap(self) -> int:
        """What the drawn inputs allow: each function weighs the same, rounded down."""
        shares = [right / of for right, of in self.drawn.values()]
        return int(self.most * sum(shares) / max(len(shares), 1) + 1e-9)

    @property
    def points(self) -> int:
        return min(self.passed, self.cap)


def fail_all(name: str, message: str, begun: bool = True) -> Grade:
    return Grade(name, begun, [Failure(check, message) for check in EXERCISES[name].checks])


# --- the two places: where the student's code runs, and where the tests do

def list_bare_files() -> list[Path]:
    """The project's modules and data; no tests, pages or results."""
    found = [path for path in list_files(results=False, tests=False)
             if path.parent.as_posix().replace(".", "") in ROOMS
             and (path.suffix == ".py" or path.parts[0] == "data")]
    return found + [Path("course/exercises", f"{name}.py") for name in DOOR]


@contextmanager
def make_bare_folder(exercise: Exercise, files: dict[str, str]) -> Iterator[Path]:
    """Where a student's process stands: the project's modules, what was handed in, no answer."""
    hidden = {file: empty_functions((ROOT / file).read_text("utf-8"), names)
              for file, names in group_functions(exercise.hide).items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in list_bare_files():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
        write_files(folder, hidden | files)
        for path in (folder, *folder.rglob("*")):   # another user may be the one who runs there
            path.chmod(0o755)
        yield folder


def stub_files(name: str) -> dict[str, str]:
    """{file: the project's, in which this exercise's functions ask the student's}."""
    asked = [*EXERCISES[name].write, *ALSO_ASKED.get(name, [])]
    return {file: write_stubs((ROOT / file).read_text("utf-8"), file, functions)
            for file, functions in group_functions(asked).items()}


# --- grading

def grade_exercise(name: str, folder: Path, key: str, user: str | None = None) -> Grade:
    """Points of one exercise of a folder that was handed in."""
    exercise, found = EXERCISES[name], read_solution(folder, name)
    if "error" in found:
        return fail_all(name, found["error"])
    if not found["begun"]:
        return fail_all(name, "not begun", begun=False)
    with make_bare_folder(exercise, found["files"]) as bare:
        drawn, held_by = draw_answers(exercise, bare, key, user)
        failures = run_checks(name, bare, user)
        grade = Grade(name, True, failures, drawn, held_by=held_by)
        if grade.points < grade.most:
            grade = grade._replace(mistakes=find_mistakes(name, found["files"], bare, user))
    return grade


def draw_answers(exercise: Exercise, bare: Path, key: str, user: str | None
                 ) -> tuple[dict[str, tuple[int, int]], str]:
    """How each function does on drawn inputs, and what holds its process."""
    worker = Worker(bare, user)
    try:
        drawn = {function: draws.count_agreements(function, key, partial(ask_worker, worker))
                 for function in exercise.write}
    finally:
        worker.stop()
    return drawn, worker.held_by


def find_mistakes(name: str, files: dict[str, str], bare: Path, user: str | None) -> list[str]:
    """What is wrong with each function, by what it gives on small inputs beside the project's own.
    """
    worker, answers = Worker(bare, user), {}
    try:
        for i, (function, source) in enumerate(isolate_functions(name, files).items()):
            write_files(bare, {f"only_{i}.py": source})
            ask = partial(ask_worker, worker, f"only_{i}.py:{function.split(':')[1]}")
            answers[function] = answer_probes(function, ask)
    finally:
        worker.stop()
    return name_mistakes(name, answers)


def run_checks(name: str, bare: Path, user: str | None = None) -> list[Failure]:
    """The checks that fail where the exercise's functions are those of a bare folder."""
    environment = {FOLDER: str(bare), **({USER: user} if user else {})}
    try:
        return judge_checks(name, lambda arguments: run_tests(
            stub_files(name), ["--hypothesis-profile=graded", *arguments], results=False,
            timeout=LONGEST, environment=environment))
    except subprocess.TimeoutExpired:
        return [Failure(check, f"not done after {LONGEST} seconds")
                for check in EXERCISES[name].checks]


def judge_checks(name: str, run: Callable[[list[str]], subprocess.CompletedProcess]
                 ) -> list[Failure]:
    """The checks of an exercise that fail where `run` runs pytest, with the arguments it is given.
    """
    exercise = EXERCISES[name]
    tests = [f"tests/{check.test}" for check in exercise.checks]
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary, "results.xml")
        done = run([f"--junitxml={found}", *tests])
        cases = read_cases(found) if found.exists() else {}
    return list_failures(exercise, cases, done.stdout + done.stderr)


def list_failures(exercise: Exercise, cases: dict[str, list[str]], output: str) -> list[Failure]:
    """The checks that did not pass; one that did not run failed by the output's last line."""
    last = next(filter(None, reversed(output.splitlines())), "no output")
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
        if message == "NotImplementedError":
            message += name_unwritten("".join(bad.text or "" for bad in case))
        label = f"tests/{module}.py::{name}: {message}" if message else ""
        cases.setdefault(f"{module}.py::{name.split('[')[0]}", []).append(label)
    return cases


def name_unwritten(traceback: str) -> str:
    """' in FILE:FUNCTION', the last one of pytest's traceback; '' if that is none of a student's.

    Behind the door a traceback ends in the stub, and says nothing of where the error was raised.
    """
    files = re.findall(r"^(\S+\.py):\d+: NotImplementedError$", traceback, re.MULTILINE)
    functions = re.findall(r"^ +def (\w+)\(", traceback, re.MULTILINE)
    if not files or not functions or re.match("course|tests", files[-1]):
        return ""
    return f" in {Path(files[-1]).as_posix()}:{functions[-1]}"
