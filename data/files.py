"""Files that are whole or not there, one writer at a time; JSON and CSV."""

import csv
import fcntl
import io
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from data.plumbing import InputError


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
        reason = getattr(error, "strerror", None) or error
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


def remove_leftovers(folder: Path, *names: str) -> None:
    """What a killed process has left there of `write_beside`: of these files, or of all."""
    for path in folder.iterdir():
        left = re.fullmatch(r"(.+)\.\d+\.tmp", path.name)
        if left and (not names or left[1] in names):
            path.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    with write_beside(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def keep_file(source: Path, target: Path) -> None:
    """Keep a file's present content: a copy, since `cp` onto the source writes into its links."""
    if source == target:  # it is kept already
        return
    with write_beside(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def lock(path: Path):
    """One process at a time, or InputError. The system lets go of it however a process ends."""
    made = list_missing(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # the other has just removed it
                raise BlockingIOError
        except BlockingIOError:
            raise InputError(f"another process is at work in {path.parent}; wait for its end"
                             ) from None
        except OSError:
            pass  # a disk that has no locks
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            remove_empty(made)


def to_json(value: dict) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def to_csv(rows: list[dict]) -> str:
    """Rows as CSV, first their keys; empty where a row has none, as one of an earlier release."""
    text, names = io.StringIO(), dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
