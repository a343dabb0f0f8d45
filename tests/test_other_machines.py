"""Real programs where machines are unlike ours: Windows by simulation, nohup, streams, folders.

Each starts the project anew, in processes of its own: minutes together.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import copies
from tests.helpers import ROOT, TINY_RUN, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    os.name == "nt" or not os.path.exists("/dev/full"), reason="it wants Linux")]

# A lesson of one tiny base and two runs, side by side. Arguments: the checkout, steps of a run.
LESSON = """
import sys
sys.path.insert(0, sys.argv[1])
from lessons import runner
from lessons.grid import grid

RUN = dict(steps=int(sys.argv[2]), prompts=3, group=4, updates=2, pool=9, max_new_tokens=12,
           eval_problems=5, eval_samples=2)
if __name__ == "__main__":
    lesson = runner.load_lesson("template")
    lesson.BASES = {"tiny": dict(base="good-code", steps=3, batch=8, layers=1, width=8, heads=2)}
    lesson.runs = lambda **_: grid(base="tiny", reward=["correct", "code"], seed=[1], **RUN)
    lesson.table = lambda results: f"{len(results.runs)} runs"
    runner.NAMES = ("template",)
    sys.exit(runner.main(["template", "--quick", "--jobs", "2"]))
"""

# What a Windows has and has not, as far as it can be had here; also in processes that are started.
WINDOWS = """
import errno, fcntl, multiprocessing, multiprocessing.popen_spawn_posix, os, signal, sys, types
import tempfile, torch
lock, unlink, replace = fcntl.flock, os.unlink, os.replace

def locking(number, mode, size):
    try:
        lock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied")

def refuse_open(path):
    held = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
    if os.path.realpath(path) in held:
        raise PermissionError(errno.EACCES, "it is open", str(path))

def unlink_closed(path, **more):
    refuse_open(path)
    unlink(path, **more)

def replace_closed(source, target, **more):
    refuse_open(source)
    refuse_open(target)
    replace(source, target, **more)

os.unlink = os.remove = unlink_closed
os.replace = replace_closed
for name in ("fcntl", "resource", "pwd", "grp", "termios", "multiprocessing.forkserver"):
    sys.modules[name] = None
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=3, locking=locking)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM"):
    delattr(signal, name)
for name in ("setsid", "sched_getaffinity", "fork", "forkpty", "killpg", "getuid"):
    delattr(os, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
multiprocessing.set_start_method("spawn")
for name in ("fork", "forkserver"):
    del multiprocessing.context._concrete_contexts[name]
print("simulated", file=sys.stderr)
"""


def write_program(folder: Path, name: str, program: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(program, encoding="utf-8")
    return folder / name


def hear_hang_ups() -> None:
    """As in a terminal of its own, although these tests themselves may run under nohup."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(*words, cwd: Path, **more) -> subprocess.Popen:
    """Python, its output kept; `more`: environment variables, and what Popen takes."""
    names = {name: more.pop(name) for name in list(more) if name.isupper()}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8",
               "preexec_fn": hear_hang_ups if os.name == "posix" else None, **more}
    return subprocess.Popen(list(map(str, words)), cwd=cwd, **options,
                            env={**os.environ, "OMP_NUM_THREADS": "1", **names})


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def call_python(*words, cwd: Path, **more) -> tuple[int, str, str]:
    return finish(start(sys.executable, *words, cwd=cwd, **more))


def test_a_machine_without_unix(tmp_path):
    """Pretraining, a run, its resume and a lesson as Windows would have them, by simulation.

    Catches an import, a signal, a lock or a start of processes that only Unix has, and a file that
    is removed or replaced while it is open.
    """
    write_program(tmp_path / "site", "sitecustomize.py", WINDOWS)
    where = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path / "site")}
    flags = "--steps 3 --batch 8 --layers 1 --width 8 --heads 2 --threads 1".split()
    for words in (["pretrain", "--out", "b.pt", *flags],
                  ["train", "--base", "b.pt", "--out", "run", *TINY_RUN, "--steps", 1],
                  ["train", "--base", "b.pt", "--out", "run", *TINY_RUN]):
        code, _, error = call_python(ROOT / "rlvr.py", *words, **where)
        assert code == 0 and "simulated" in error, error
    assert len(read_rows(tmp_path / "run")) == 4
    lesson = write_program(tmp_path, "lesson.py", LESSON)
    code, out, error = call_python(lesson, ROOT, 2, **where)
    assert code == 0 and "2 runs" in out and "Traceback" not in error, error
    assert not list(tmp_path.rglob("*.lock")) and not list(tmp_path.rglob("*.tmp"))
    log = tmp_path / "runs/tiny/code"
    assert "simulated" in next(log.rglob("log.txt")).read_text("utf-8") or "simulated" in error


def count_files(folder: Path, pattern: str) -> int:
    try:
        return len(list(folder.rglob(pattern)))
    except FileNotFoundError:  # a folder that was tried, and removed meanwhile
        return 0


def wait_for(process: subprocess.Popen, pattern: str, folder: Path, count: int) -> None:
    while count_files(folder, pattern) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_a_lesson_goes_on_after_a_hang_up(name, tmp_path):
    """`nohup ./train.sh`: the terminal's signal reaches the runner and its server; all jobs end.

    So too a Ctrl-C meant for another, where a shell has started it with `&`.
    """
    if not hasattr(signal, name):
        pytest.skip(f"no {name}")
    lesson = write_program(tmp_path, "lesson.py", LESSON)
    command = f"trap '' {name[3:]}; exec \"$0\" \"$@\""
    process = start("sh", "-c", command, sys.executable, lesson, ROOT, 60, cwd=tmp_path,
                    start_new_session=True)
    wait_for(process, "metrics.csv", tmp_path, 2)
    os.killpg(process.pid, getattr(signal, name))
    code, out, error = finish(process)
    assert code == 0 and "2 runs" in out, error
    assert [len(read_rows(path.parent)) for path in tmp_path.rglob("metrics.csv")] == [60, 60]


def test_a_hang_up_saves(tmp_path):
    """Of a lesson without nohup: no job is left behind, each saves its step; the same goes on."""
    lesson = write_program(tmp_path, "lesson.py", LESSON)
    process = start(sys.executable, lesson, ROOT, 400, cwd=tmp_path, start_new_session=True)
    wait_for(process, "metrics.csv", tmp_path, 2)
    os.killpg(process.pid, signal.SIGHUP)
    code, _, error = finish(process)
    assert code == 130 and "Traceback" not in error, error
    assert not list(tmp_path.rglob(".lock")) and not list(tmp_path.rglob("summary.json"))


@pytest.mark.parametrize("ignored, batches", [(True, 60), (False, None)])
def test_a_terminal_that_goes_away(ignored, batches, base, tmp_path):
    """With its bar on it: a run that ignores hang-ups goes on, another saves its step.

    Catches a write to what is no more, by the bar or by the handler, that ends the run instead.
    """
    import pty
    ours, theirs = pty.openpty()
    words = [sys.executable, ROOT / "rlvr.py", "train", "--base", base, "--out", "run", *TINY_RUN,
             "--steps", 60]
    trap = "trap '' HUP; " if ignored else ""
    process = start("setsid", "-c", "sh", "-c", f'{trap}exec "$@"', "sh", *words, cwd=tmp_path,
                    stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for(process, "metrics.csv", tmp_path, 1)
    os.close(ours)
    assert process.wait(timeout=300) == (1 if ignored else 130)     # its last line is lost
    rows = len(read_rows(tmp_path / "run"))
    assert rows == batches if ignored else 0 < rows < 60
    assert (tmp_path / "run/summary.json").exists() == ignored


NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
          "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}


@pytest.mark.parametrize("redirect, code", [
    (">&- 2>&-", 0), ("2>&-", 0), (">&-", 0), ("<&-", 0), ("2>/dev/full", 0),
    (">/dev/full", 1), (">/dev/full 2>/dev/full", 1), ("2>&1 | true", 0)])
def test_streams_that_are_not_there(redirect, code, base, tmp_path):
    """Closed, full, or with nobody behind: the run is whole, and there is no traceback."""
    words = [sys.executable, ROOT / "rlvr.py", "train", "--base", base, "--out", "run", *TINY_RUN]
    process = start("sh", "-c", f'"$@" {redirect}', "sh", *words, cwd=tmp_path)
    done, _, error = finish(process)
    assert done == code and "Traceback" not in error and "Exception ignored" not in error, error
    assert (tmp_path / "run/summary.json").exists() and len(read_rows(tmp_path / "run")) == 4


def test_help_on_a_disk_that_is_full(tmp_path):
    process = start("sh", "-c", '"$@" > /dev/full', "sh", sys.executable, ROOT / "rlvr.py",
                    "train", "--help", cwd=tmp_path)
    code, _, error = finish(process)
    assert code == 1 and error.count("\n") == 1, error


# Every stored table, every run, every help. Argument: the checkout.
SHOW_ALL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import importlib
from lessons import report, runner
report.can_draw = lambda: False
codes = [runner.main([name, flag]) for name in runner.NAMES for flag in ("--stored", "--runs")]
codes.append(runner.main([]))
folder = Path(runner.HERE)
for path in [folder.parent / "rlvr.py", *folder.glob("*.py"), *folder.glob("*/*.py")]:
    if "def main(" in path.read_text("utf-8"):
        module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        try:
            importlib.import_module(module).main(["--help"])
        except SystemExit as exit:
            codes.append(exit.code)
sys.exit(f"exit codes {codes}" if any(codes) or len(codes) <= 30 else 0)
"""


def test_a_narrow_terminal_of_ascii(tmp_path):
    """What there is to show, and a lesson: in the locale C, 40 wide."""
    path = write_program(tmp_path, "program.py", SHOW_ALL)
    code, out, error = call_python(path, ROOT, cwd=tmp_path, **NARROW)
    assert code == 0 and out.isascii() and "\\xb1" in out, error
    lesson = write_program(tmp_path, "lesson.py", LESSON)
    code, out, error = call_python(lesson, ROOT, 2, cwd=tmp_path, **NARROW)
    assert code == 0 and "2 runs" in out, error


def test_python_without_docstrings(tmp_path):
    """PYTHONOPTIMIZE=2 takes them away, and each `assert`: no command lives by either."""
    path = write_program(tmp_path, "program.py", SHOW_ALL)
    code, out, error = call_python("-OO", path, ROOT, cwd=tmp_path)
    assert code == 0 and "Do spurious rewards work?" in out, error


def test_a_checkout_of_any_name(tmp_path):
    """With a space and an umlaut, in the locale C: its pages, sources and jobs are found."""
    folder = tmp_path / "ü x"
    folder.mkdir()
    copies.copy_project(folder)
    lesson = write_program(tmp_path / "elsewhere", "lesson.py", LESSON)
    for words in ((lesson, folder, 2), (folder / "lessons", "clips", "--stored")):
        code, out, error = call_python(*words, cwd=lesson.parent, **NARROW)
        assert code == 0 and "Traceback" not in error, error


@pytest.mark.parametrize("name", ["x" * 100, "missing"])
def test_a_folder_of_temporary_files_that_is_no_good(name, tmp_path):
    """Too long for a socket, or not there: jobs run all the same."""
    if name != "missing":
        (tmp_path / name).mkdir()
    lesson = write_program(tmp_path, "lesson.py", LESSON)
    code, out, error = call_python(lesson, ROOT, 2, cwd=tmp_path, TMPDIR=str(tmp_path / name))
    assert code == 0 and "2 runs" in out, error


THEIRS = ("data", "helpers", "model", "losses", "rewards", "evaluation", "measures", "judges",
          "plumbing", "pretrain", "companions")


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A folder of somebody whose modules are called as ours are."""
    for name in THEIRS:
        write_program(tmp_path / name, "__init__.py", "raise SystemExit('theirs')")
    return tmp_path


def test_modules_of_the_same_names(foreign, base):
    """In the folder that a command is run from, and on PYTHONPATH; with Python's -P and -I too."""
    sample = "sample", base, "37 *4"
    for flag in [[], ["-I"], *([["-P"]] if sys.version_info >= (3, 11) else [])]:
        code, out, error = call_python(*flag, ROOT / "rlvr.py", *sample, cwd=foreign,
                                       PYTHONPATH=str(foreign))
        assert code == 0 and "log-probability" in out, error
    for words in (["-m", "rlvr", *sample], ["-m", "lessons"], ["-m", "course.exercises"],
                  ["-m", "bench", "--help"]):
        code, _, error = call_python(*words, cwd=foreign, PYTHONPATH=str(ROOT))
        assert code == 0, error
    code, _, error = call_python(ROOT / "lessons", cwd=foreign)
    assert code == 0, error
    code, _, error = call_python("-m", "lessons", cwd=ROOT, PYTHONPATH=str(foreign))
    assert code == 0, error
    program = ("import sys; sys.path.append(sys.argv[1]); before = sys.path[:]\n"
               "import rlvr; assert sys.path == before")
    code, _, error = call_python("-c", program, ROOT, cwd=foreign)
    assert code == 0, error


def test_jobs_of_a_lesson_find_ours(foreign):
    """Their server is started in that folder, and each job's folder is that as well."""
    lesson = write_program(foreign, "lesson.py", LESSON)
    code, out, error = call_python(lesson, ROOT, 2, cwd=foreign)
    assert code == 0 and "2 runs" in out, error
