"""Files that are whole or not there, one writer at a time; JSON and CSV."""

import csv
import io
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from plumbing.messages import InputError
from plumbing.system import explain_error, lock_file


def remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError, ValueError):  # not empty, or never made
            folder.rmdir()


def list_missing(folder: Path) -> list[Path]:
    """What has to be made for a folder to be there, innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def check_writable(folder: Path, name: str = "") -> None:
    """Before any work, by trying: can `folder` be made, and in it a file of such a name?

    Raises InputError if not, and leaves nothing behind.
    """
    made = list_missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(dir=folder, prefix=name).close()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = explain_error(error)
        raise InputError(f"cannot write to {str(folder / name)!r}: {reason}") from None
    finally:
        remove_empty(made)


@contextmanager
def write_beside(path: Path):
    """A temporary name that becomes `path` at the end: a crash leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_file(path: Path) -> bool:
    """Whether a file could be removed: not another user's, nor on Windows one that is open."""
    try:
        path.unlink(missing_ok=True)
        return True
    except OSError:
        return False


def remove_leftovers(folder: Path, *names: str) -> None:
    """What a killed process has left there of `write_beside`: of these files, or of all."""
    for path in folder.iterdir():
        left = re.fullmatch(r"(.+)\.\d+\.tmp", path.name)
        if left and (not names or left[1] in names):
            remove_file(path)


def escape_text(text: str) -> str:
    """A text that can be written and drawn: the name of a file may hold bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()


def write(path: Path, content: str | bytes) -> None:
    """The same bytes on every system."""
    with write_beside(path) as temporary:
        temporary.write_bytes(
            escape_text(content).encode() if isinstance(content, str) else content)


def read_text(path: Path) -> str:
    """A text, whatever this system's own encoding is; line ends, and a mark that some Windows
    programs put in front, are as on any other."""
    return path.read_text("utf-8-sig")


def keep_file(source: Path, target: Path) -> None:
    """Keep a file's present content: a copy, since `cp` onto the source writes into its links."""
    if source == target:  # it is kept already
        return
    with write_beside(target) as temporary:
        shutil.copyfile(source, temporary)


def open_lock(path: Path):
    """The file of a lock, made if need be; that of another user may be read-only."""
    try:
        try:
            return open(path, "ab")
        except PermissionError:
            return open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot lock {path}: {explain_error(error)}") from None


def claim_lock(file, folder: Path) -> None:
    """Lock an open file. InputError if another process has it, nothing on a disk without locks."""
    try:
        lock_file(file)
        if os.fstat(file.fileno()).st_nlink == 0:  # the other has just removed it
            raise BlockingIOError
    except BlockingIOError:
        raise InputError(f"another process is at work in {folder}; wait for its end") from None
    except OSError:
        pass


@contextmanager
def lock(path: Path):
    """One process at a time, or InputError. The system lets go of it however a process ends."""
    made = list_missing(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(path) as file:
        claim_lock(file, path.parent)
        try:
            yield
        finally:
            if not remove_file(path):
                file.close()
                remove_file(path)
            remove_empty(made)


@contextmanager
def claim(folder: Path):
    """Work in a folder of one's own: it can be written, nobody else does, no leftovers."""
    check_writable(folder)
    with lock(folder / ".lock"):
        remove_leftovers(folder)
        yield


def to_json(value: dict) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def to_csv(rows: list[dict]) -> str:
    """Rows as CSV, first their keys; empty where a row has none, as one of an earlier release."""
    text, names = io.StringIO(), dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
