"""Writing files, and being interrupted, so that nothing is ever half written or lost."""

import csv
import io
import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from data.task import InputError


def check_writable(folder: Path) -> None:
    """Before any work: is `folder`, or what exists of the way to it, a folder one may write to? `write` makes the rest."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write to {folder}: {existing} is not a writable folder")


def write(path: Path, content: str | bytes) -> None:
    """Write under a temporary name, then rename: whoever reads, or comes after a crash, finds the old file or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def to_json(value: dict) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def to_csv(rows: list[dict]) -> str:
    """Rows with the same keys as CSV, the keys as its first line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextmanager
def stop_signals():
    """Collect the first Ctrl-C or SIGTERM in a list, so that the loop can end its step and save; the second one acts at once."""
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])
        print("\nstopping after this step (again to stop at once)", file=sys.stderr)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
