"""Copies of the project for students, and what is changed in them: functions that are taken out.

A function is named by its file and its name in it: `losses.py:grpo`, `model.py:KVCache.append`.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plumbing.files import check_writable, write
from plumbing.messages import InputError

ROOT = Path(__file__).parents[1]
COPIED = ("*.py", "companions/*.py", "data/*", "plumbing/*.py", "lessons/*.*", "lessons/*/*",
          "course/*.*", "course/*/*", "tests/*.py", "*.md", "LICENSE", "pyproject.toml",
          "requirements.txt", "train.sh", ".gitattributes")
# What would give an answer away: our own solutions written once more, mutants, wrong solutions.
WITHHELD = ("course/bughunt/*", "course/exercises/mistakes/*", "course/problems/answers/*",
            "lessons/bench.py", "lessons/bughunt.py", "lessons/exercises.py",
            "lessons/clips/bandit.html", "tests/test_bench.py", "tests/test_bughunt.py",
            "tests/test_devices.py", "tests/test_exercises.py", "tests/test_grading.py",
            "tests/test_cheats.py", "tests/test_mistakes.py", "tests/test_problems.py",
            "tests/test_bandit_page.py")
RESULTS = (".csv", ".png")  # of lessons: megabytes, which a test of a function does not read


def list_files(results: bool = True, tests: bool = True) -> list[Path]:
    """What a copy consists of, relative to the project."""
    found = {path.relative_to(ROOT) for pattern in COPIED for path in ROOT.glob(pattern)
             if path.is_file()}
    return sorted(path for path in found
                  if not any(path.match(pattern) for pattern in WITHHELD)
                  and (results or path.suffix not in RESULTS)
                  and (tests or path.parts[0] != "tests"))


def copy_project(folder: Path, results: bool = True, tests: bool = True) -> None:
    """The project without what is withheld, into a folder that is there."""
    for path in list_files(results, tests):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
        if os.access(ROOT / path, os.X_OK):
            let_run(folder / path)


def let_run(path: Path) -> None:
    """Whoever may read a new file may run it; who may, the user's umask says, not our checkout."""
    mode = path.stat().st_mode
    path.chmod(mode | (mode & 0o444) >> 2)


def write_files(folder: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        write(folder / name, content)


def make_copy(folder: Path, changed: dict[str, str], tests: bool = True) -> None:
    """A copy in which the files {name: content} are others; it is there whole, or not at all.

    Raises InputError if there is something already.
    """
    if not (ROOT / "tests").exists():
        raise InputError(f"{ROOT} has no tests: take a clone of the project")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: choose another name or delete it")
    check_writable(folder)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"  # tempfile's are private
    temporary.mkdir(parents=True)
    try:
        copy_project(temporary, tests=tests)
        write_files(temporary, changed)
        if folder.exists():  # Windows does not replace a folder, even an empty one
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run_tests(changed: dict[str, str], arguments: list[str], results: bool = True,
              timeout: float | None = None, environment: dict[str, str] | None = None
              ) -> subprocess.CompletedProcess:
    """pytest with some arguments in a copy of the project in which some files are others.

    On one thread, with the same examples each time, as in CI, and without the caller's own options
    of pytest and of Python: which tests are run is ours to say.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copy_project(Path(temporary), results)
        write_files(Path(temporary), changed)
        return run_here(Path(temporary), arguments, timeout, environment)


def run_here(folder: Path, arguments: list[str], timeout: float | None = None,
             environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """pytest with some arguments in a copy of the project, as `run_tests` runs it."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "PYTHON")) or name == "PYTHONHOME"}
    kept |= {"CI": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, timeout=timeout,
                          capture_output=True, encoding="utf-8", errors="replace")


# --- functions in a source

def find_functions(source: str) -> dict[str, ast.FunctionDef]:
    """{name: node} of all functions and methods; SyntaxError if it is no Python."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}": inner for inner in node.body
                      if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = node
    return found


def is_empty(node: ast.FunctionDef) -> bool:
    """Whether nothing stands below a docstring but `raise NotImplementedError`."""
    return ast.unparse(node.body[-1]) == "raise NotImplementedError" and len(node.body) == 2


def empty_functions(source: str, names: set[str]) -> str:
    """`source` without the bodies of some functions, all of which have a docstring."""
    return write_bodies(source, {name: ["raise NotImplementedError"] for name in names})


def write_bodies(source: str, bodies: dict[str, list[str]]) -> str:
    """`source` with other lines below the docstrings of some functions: {name: lines}."""
    lines, nodes = split_lines(source), find_functions(source)
    for name in sorted(bodies, key=lambda name: -nodes[name].lineno):
        docstring = nodes[name].body[0]
        lines[docstring.end_lineno:nodes[name].end_lineno] = [
            f"{' ' * docstring.col_offset}{line}\n" for line in bodies[name]]
    return "".join(lines)


def split_lines(source: str) -> list[str]:
    """Lines as Python counts them: a form feed, for example, ends none."""
    return [*re.findall(r".*?\n|.+", source, re.DOTALL)]


def replace_functions(source: str, other: str, names: set[str]) -> str:
    """`source` with some functions as they are in `other`; KeyError if it lacks one."""
    lines, theirs = split_lines(source), split_lines(other)
    nodes, others = find_functions(source), find_functions(other)
    for node, new in sorted(((nodes[name], others[name]) for name in names),
                            key=lambda pair: -pair[0].lineno):
        lines[first_line(node):node.end_lineno] = theirs[first_line(new):new.end_lineno]
    return "".join(lines)


def first_line(node: ast.FunctionDef) -> int:
    """Where a function begins, its decorators included, counted from 0."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
