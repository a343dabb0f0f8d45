"""What takes rights away from the process that runs a student's code, before it reads any of it.

Three layers, each of use without the others:
- limits of memory, of processor time for each call and of written files (Linux, macOS);
- an audit hook: files elsewhere, processes and sockets raise PermissionError. Python code that
  means no harm meets it; code that calls C itself goes around it;
- Landlock (Linux since 5.13; all of it since 6.12): the kernel lets the process, and whatever it
  starts, read a list of folders and write nothing; since 6.12 it can signal no one outside either.
  It asks for no rights, and cannot be undone.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MOST_MEMORY = 4 * 2**30      # bytes of data that the process may have
MOST_SECONDS = 10            # of processor time for one call
SYSCALLS = {"create": 444, "add": 445, "restrict": 446}   # the same on all that Linux runs on
NO_NEW_PRIVILEGES = 38       # prctl
READ_FILE, READ_FOLDER, EXECUTE = 1 << 2, 1 << 3, 1 << 0
# How many kinds of access to files each version of Landlock knows.
ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
# What Python says of itself before it does it, and no exercise needs.
REFUSED = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
           "os.system", "os.kill", "os.killpg", "os.remove", "os.rename", "os.link", "os.symlink",
           "os.truncate", "os.chmod", "os.chown", "os.mkdir", "os.rmdir", "subprocess.Popen",
           "socket.", "ctypes.", "shutil.", "pty.spawn")


def seal_process(readable: list[Path]) -> str:
    """Take away all but reading some folders; says what the system's own part of it is."""
    limit_resources()
    held_by = restrict_files(readable)
    refuse_events([os.path.realpath(path) for path in readable])
    return held_by


def limit_resources() -> None:
    try:
        import resource
    except ImportError:      # Windows
        return
    for name, most in (("RLIMIT_DATA", MOST_MEMORY), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with suppress(ValueError, OSError):    # lower already
            resource.setrlimit(getattr(resource, name), (most, most))


def limit_seconds() -> None:
    """From now on MOST_SECONDS of processor time: other work on the machine costs nothing."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + MOST_SECONDS
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def end_group(process: subprocess.Popen) -> None:
    """End a process, and on Linux and macOS what it started in its session."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


# --- the hook

def refuse_events(readable: list[str]) -> None:
    """PermissionError for what no exercise needs. A hook cannot be taken away again."""
    def refuse(event: str, arguments: tuple) -> None:
        if event == "open" and not may_open(readable, *arguments):
            raise PermissionError(f"{arguments[0]!r} is not to be opened here")
        if event.startswith(REFUSED):
            raise PermissionError(f"{event} is not to be used here")

    sys.addaudithook(refuse)


def may_open(readable: list[str], path, mode, flags) -> bool:
    """Whether a file is to be read, and lies in a folder that may be; links are followed first."""
    if isinstance(path, int) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return isinstance(path, int)
    place = os.path.realpath(os.fsdecode(path))
    return any(place == folder or place.startswith(folder + os.sep) for folder in readable)


# --- Landlock

class Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64),
                ("scoped", ctypes.c_uint64)]


class PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def restrict_files(readable: list[Path]) -> str:
    """Let the kernel refuse what is not in these folders: "Landlock 6", or "" where it cannot."""
    if not sys.platform.startswith("linux"):
        return ""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(SYSCALLS["create"], None, ctypes.c_size_t(0), 1)
    if version < 1:
        return ""
    # Version 4 adds TCP (bind, connect), version 6 signals and abstract sockets.
    rules = Ruleset((1 << ACCESSES[min(version, 5)]) - 1, 3 if version >= 4 else 0,
                    3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(SYSCALLS["create"], ctypes.byref(rules), ctypes.c_size_t(size), 0)
    for path in filter(os.path.exists, readable):
        allow_reading(libc, ruleset, path)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    failed = ruleset < 0 or libc.syscall(SYSCALLS["restrict"], ruleset, 0)
    os.close(ruleset)
    return "" if failed else f"Landlock {version}"


def allow_reading(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    parent = os.open(path, getattr(os, "O_PATH", 0))
    allowed = READ_FILE | READ_FOLDER | EXECUTE if os.path.isdir(path) else READ_FILE
    rule = PathRule(allowed, parent)
    libc.syscall(SYSCALLS["add"], ruleset, 1, ctypes.byref(rule), 0)
    os.close(parent)
