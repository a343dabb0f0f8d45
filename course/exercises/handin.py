"""What a student handed in: read as what it is, a stranger's files, in a process of its own.

    python -m course.exercises.handin FOLDER NAME    # JSON: {"files": ...} or {"error": ...}

Python's parser can crash on what is handed to it. Here that ends this process, and costs the
exercise.
"""

import io
import json
import os
import stat
import subprocess
import sys
import tokenize
from pathlib import Path

from course.copies import ROOT, find_functions, is_empty, replace_functions
from course.exercises.catalog import EXERCISES, Exercise

MOST_BYTES = 2**20
READ_SECONDS = 60


class Unreadable(Exception):
    """What was handed in for an exercise cannot be run."""


def group_functions(functions: list[str]) -> dict[str, set[str]]:
    """['losses.py:grpo', ...] -> {file: names}."""
    files = {}
    for function in functions:
        file, name = function.split(":")
        files.setdefault(file, set()).add(name)
    return files


def read_plain(folder: Path, file: str) -> str:
    """A file's text. Raises Unreadable for a link of any kind, and for what is no file or large."""
    path = folder / file
    try:
        if path.resolve() != folder.resolve() / file:
            raise Unreadable(f"{file} is a link")
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
                         | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(number, "rb") as opened:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise Unreadable(f"{file} is no file of its own: a link, or a device")
            content = opened.read(MOST_BYTES + 1)
    except (OSError, RuntimeError) as error:
        raise Unreadable(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > MOST_BYTES:
        raise Unreadable(f"{file} has more than {MOST_BYTES >> 20} MiB")
    return decode_source(file, content)


def decode_source(file: str, content: bytes) -> str:
    """Its text, of which neither a byte order mark nor how its lines end is a part."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        if encoding not in ("utf-8", "utf-8-sig"):
            raise Unreadable(f"{file} is not in UTF-8")
        return io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except (SyntaxError, UnicodeError):
        raise Unreadable(f"{file} is not in UTF-8") from None


def merge_file(file: str, exercise: Exercise, folder: Path) -> str:
    """A file as the student wrote it; what other exercises ask for is the project's.

    Raises Unreadable.
    """
    every = group_functions([f for e in EXERCISES.values() for f in e.write + e.hide])
    own = group_functions([*exercise.write, *exercise.hide])
    return merge_source(file, read_plain(folder, file), every[file] - own[file])


def merge_source(file: str, source: str, others: set[str]) -> str:
    reference = (ROOT / file).read_text("utf-8")
    try:
        return replace_functions(source, reference, others)
    except SyntaxError as error:
        raise Unreadable(f"{file}, line {error.lineno or 1} is no Python: {error.msg}") from None
    except KeyError as error:
        raise Unreadable(f"{file} has no function {error.args[0]}") from None
    except (RecursionError, MemoryError, ValueError):
        raise Unreadable(f"{file} is more than Python's parser takes") from None


def has_begun(files: dict[str, str], exercise: Exercise) -> bool:
    """Whether any of its functions has a body. Raises Unreadable if none is there at all."""
    there = [find_functions(files[file])[name]
             for file, names in group_functions(exercise.write).items()
             for name in names & find_functions(files[file]).keys()]
    if not there:
        raise Unreadable(f"there is no function {exercise.write[0].split(':')[1]}")
    return not all(map(is_empty, there))


def read_exercise(folder: Path, name: str) -> dict:
    exercise = EXERCISES[name]
    try:
        files = {file: merge_file(file, exercise, folder)
                 for file in group_functions(exercise.write)}
        return {"files": files, "begun": has_begun(files, exercise)}
    except Unreadable as error:
        return {"error": str(error)}
    except (RecursionError, MemoryError):
        return {"error": "more than Python's parser takes"}


def read_solution(folder: Path, name: str) -> dict:
    """What `read_exercise` finds, in a process that may crash."""
    command = [sys.executable, "-m", "course.exercises.handin", os.path.abspath(folder), name]
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("PYTHON") or name == "PYTHONHOME"}
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=READ_SECONDS, capture_output=True,
                              env={**environment, "PYTHONIOENCODING": "utf-8"})
        return json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return {"error": "Python's parser crashes on it"}


if __name__ == "__main__":
    print(json.dumps(read_exercise(Path(sys.argv[1]), sys.argv[2])))
