"""What systems do each in their own way, and what is the caller's and stays as it was.

Linux, macOS and Windows: nothing else in the project names what only one of them has.
"""

import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing.context import BaseContext

# --- signals


@contextmanager
def catch_signals(handler, *names: str):
    """`handler` for some signals, those that are the caller's to lose; yields what was there.

    Left alone: one that is ignored (nohup, or a shell's `command &`), one that was caught from C
    and could not be put back, one that the system has not; and all of them in a thread, where
    Python refuses.
    """
    previous = {}
    try:
        for name in names:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                with suppress(ValueError):  # not in the main thread
                    previous[number] = signal.signal(number, handler)
        yield previous
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def become_job() -> None:
    """Be a process that its parent alone stops, by SIGTERM: not a Ctrl-C, not a hang-up."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def choose_start(preload: list[str]) -> BaseContext:
    """How processes start: forked from a server that has loaded some modules, or anew.

    Anew where that server cannot be: on Windows, and where the folder of temporary files is not
    writable or its name too long for a socket. On macOS a process that has loaded torch may not be
    forked.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    with catch_signals(signal.SIG_IGN, "SIGINT", "SIGTERM", "SIGHUP"):  # ours to pass on
        try:
            forkserver.ensure_running()
        except OSError:
            return multiprocessing.get_context("spawn")
    return context


# --- streams, and what is said on them


def explain_error(error: BaseException) -> str:
    """What went wrong, in one line: an OSError need not have a `strerror`, nor any text at all."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def say(text: str) -> None:
    """A line on stderr, if anybody can hear it: a terminal may be gone, a disk full."""
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: in a handler, amid a write
        print(text, file=sys.stderr or open_nothing(), flush=True)


def open_nothing():
    return open(os.devnull, "w", encoding="utf-8")


def fill_streams() -> None:
    """Files for the numbers 0 to 2 where these are free: what is opened next would be written to.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        os.set_inheritable(number, True)
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


@contextmanager
def open_streams():
    """Streams that are there and take any text: what they have no code for is escaped.

    A closed one (`>&-`, pythonw) is None in Python, which print takes for the standard output.
    """
    fill_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams = [
        open_nothing() if getattr(stream, "closed", stream is None) else stream
        for stream in before]
    strict = [(stream, stream.errors) for stream in streams if hasattr(stream, "reconfigure")
              and stream.errors in ("strict", "surrogateescape")]
    for stream, _ in strict:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream in streams:
            drain(stream)
        for stream, errors in strict:
            stream.reconfigure(errors=errors)
        sys.stdout, sys.stderr = before


def drain(stream) -> None:
    """Write what is left; where that fails it goes nowhere, or Python complains once more."""
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError):  # a stream without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_streams_to(log) -> None:
    """Let a file be the standard output and the standard error of this process, of C too."""
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    sys.stdout = sys.stderr = log


# --- files and memory


def lock_file(file) -> None:
    """BlockingIOError if another process has locked it, OSError if the disk has no locks.

    The system lets go of it when the file is closed, however a process ends.
    """
    try:
        import fcntl
    except ImportError:
        import msvcrt
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def peak_memory_of_process() -> float | None:
    """MiB that this process has held at most, so far; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
