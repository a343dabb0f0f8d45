"""What the caller set stays set; streams and files as other machines have them; without Unix."""

import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import types
from multiprocessing import forkserver
from pathlib import Path

import pytest

from plumbing import files, progress, system
from plumbing.commands import Parser, run_command
from plumbing.messages import InputError, WorkError
from tests.helpers import call, interrupt

SIGNALS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)}


@pytest.fixture
def handlers():
    """A handler for each signal, that of the caller; after the test what there was."""
    before = read_handlers()
    mine = {name: lambda number, frame: None for name in SIGNALS}
    for name, handler in mine.items():
        signal.signal(SIGNALS[name], handler)
    yield mine
    for name, handler in before.items():
        signal.signal(SIGNALS[name], handler)


def read_handlers() -> dict:
    return {name: signal.getsignal(number) for name, number in SIGNALS.items()}


# --- signals


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(name, handlers):
    """nohup, or a shell's `command &`. Catches a handler that undoes it, inside or afterwards."""
    number = SIGNALS[name]
    signal.signal(number, signal.SIG_IGN)
    with progress.stop_signals() as stopped:
        for _ in range(2):
            interrupt(number)
        assert not stopped and signal.getsignal(number) is signal.SIG_IGN
        others = [other for other in SIGNALS if other != name]
        assert all(read_handlers()[other] is not handlers[other] for other in others)
    assert read_handlers() == {**handlers, name: signal.SIG_IGN}


def test_a_handler_of_c_is_left_alone(handlers, monkeypatch):
    """Python says None for it, and could not put it back."""
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        patch.setattr(signal, "signal", lambda *_: pytest.fail("it is replaced"))
        with progress.stop_signals() as stopped:
            assert stopped == []
    assert read_handlers() == handlers


def test_in_a_thread_signals_are_not_touched(handlers):
    """Only the main thread may: a notebook's or a server's threads train as well."""
    seen = []

    def work():
        with progress.stop_signals() as stopped:
            seen.append((read_handlers(), stopped))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(handlers, [])]


def test_a_system_without_hangups(monkeypatch, handlers):
    """Windows has no SIGHUP; the second Ctrl-C acts there too."""
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    acted = []
    signal.signal(signal.SIGINT, lambda *_: acted.append(1))
    with progress.stop_signals() as stopped:
        interrupt(signal.SIGINT)
        assert stopped == [signal.SIGINT] and not acted
        interrupt(signal.SIGINT)
        assert acted == [1]


def test_a_signal_where_nobody_hears(handlers, monkeypatch):
    """A terminal that has gone refuses what is said of it: the step is saved all the same."""
    monkeypatch.setattr(sys, "stderr", Refusing())
    for error in (OSError(errno.EIO, "Input/output error"), RuntimeError("reentrant call")):
        sys.stderr.error = error
        with progress.stop_signals() as stopped:
            interrupt(signal.SIGTERM)
            assert stopped == [signal.SIGTERM]


def test_the_server_of_jobs_does_not_hear_signals(handlers, monkeypatch):
    """It is started with those ignored that are ours to pass on; ours are as before then."""
    if "forkserver" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        pytest.skip("no server here")
    seen = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.append(read_handlers()))
    assert system.choose_start([]).get_start_method() == "forkserver"
    assert seen == [dict.fromkeys(SIGNALS, signal.SIG_IGN)] and read_handlers() == handlers


# --- how processes start


@pytest.mark.parametrize("error", [OSError("AF_UNIX path too long"),
                                   FileNotFoundError(2, "No usable temporary directory found")])
def test_jobs_start_anew_without_a_server(error, monkeypatch):
    """A TMPDIR of 89 characters is too long for its socket; one that is not there is none."""
    def refuse():
        raise error
    monkeypatch.setattr(forkserver, "ensure_running", refuse)
    assert system.choose_start([]).get_start_method() == "spawn"


@pytest.mark.parametrize("methods, platform", [(["spawn"], "win32"),
                                               (["spawn", "fork", "forkserver"], "darwin")])
def test_where_processes_cannot_be_forked(methods, platform, monkeypatch):
    """Windows cannot; macOS can, and a child that has torch loaded may crash."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    monkeypatch.setattr(sys, "platform", platform)
    assert system.choose_start(["torch"]).get_start_method() == "spawn"


# --- streams


class Refusing(io.StringIO):
    """A stream that cannot be written."""

    error = OSError(errno.EIO, "Input/output error")

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


def narrow(encoding: str = "ascii") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize("encoding, written", [("ascii", rb"1 \xb1 2 \u2212 \udcff"),
                                               ("cp1252", b"1 \xb1 2 \\u2212 \\udcff"),
                                               ("utf-8", "1 ± 2 − \\udcff".encode())])
def test_any_text_can_be_printed(encoding, written, monkeypatch):
    """Catches a traceback of a terminal that has no ±, or of a file name that is no text."""
    stream = narrow(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert run_command("toy", lambda: print("1 ± 2 − \udcff", end="")) == 0
    assert stream.buffer.getvalue() == written and stream.errors == "strict"


def test_a_handler_of_encoding_errors_that_was_chosen_stays(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run_command("toy", lambda: print("±", end="")) == 0
    assert stream.buffer.getvalue() == b"?"


def test_closed_streams(monkeypatch, capsys):
    """`>&- 2>&-`, or pythonw: Python has None there. What is for stderr does not go to stdout."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert run_command("toy", lambda: print("result")) == 0

        def fail():
            for _ in progress.progress_bar(iterable=range(3), desc="bar"):
                print("line", file=sys.stderr)
            raise InputError("bad")
        assert run_command("toy", fail) == 2
        assert list(progress.progress_bar(iterable=range(2))) == [0, 1] and sys.stderr is None
    assert capsys.readouterr().out == "result\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert run_command("toy", lambda: print("result")) == 0
        patch.setattr(sys, "stdout", narrow())
        sys.stdout.close()
        assert run_command("toy", lambda: print("result")) == 0


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left")])
def test_what_is_wrong_with_stderr_ends_no_work(error, monkeypatch):
    """Its reader has gone, its disk is full: exit codes are those of the work."""
    monkeypatch.setattr(sys, "stderr", Refusing())
    monkeypatch.setattr(Refusing, "error", error)
    done = []

    def work():
        for i in progress.progress_bar(iterable=range(3)):
            done.append(i)
    assert run_command("toy", work) == 0 and done == [0, 1, 2]
    assert run_command("toy", lambda: fail_by(InputError)) == 2
    assert run_command("toy", lambda: fail_by(WorkError)) == 1
    with pytest.raises(SystemExit) as exit:
        Parser(prog="toy").parse_args(["--unknown"])
    assert exit.value.code == 2


def fail_by(kind: type):
    raise kind("why")


def test_help_that_cannot_be_printed(monkeypatch, capsys):
    """Narrow, it is escaped; on a full disk it is one line and exit code 1; closed, nothing."""
    parser = Parser(prog="toy", description="a ± b")
    for stream, code in ((narrow(), 0), (None, 0), (Refusing(), 1)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert call(parser.parse_args, "--help") == code
    assert capsys.readouterr().err == "toy: Input/output error; what was saved before is whole\n"


@pytest.mark.parametrize("error, line", [
    (OSError("AF_UNIX path too long"), "AF_UNIX path too long"), (OSError(), "OSError"),
    (PermissionError(), "PermissionError"), (OSError(5, "Input/output\nerror"),
                                             "Input/output error")])
def test_an_error_says_what_it_is(error, line, capsys, tmp_path, monkeypatch):
    """Never "None", and one line."""
    def fail(*_, **__):
        raise error
    assert run_command("toy", fail) == 1
    assert capsys.readouterr().err == f"toy: {line}; what was saved before is whole\n"
    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", fail)
    with pytest.raises(InputError) as refused:
        files.check_writable(tmp_path)
    assert str(refused.value).endswith(f": {line}")


def test_the_name_in_an_error_may_have_lines(capsys):
    error = OSError(errno.ENOSPC, "No space left on device", "a\nb/model.pt")
    assert run_command("toy", lambda: fail_with(error)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "b/model.pt: No space left on device" in said


def fail_with(error: Exception):
    raise error


# --- a lock without fcntl, and others' files


def simulate_windows(monkeypatch) -> None:
    """msvcrt instead of fcntl, and no file can be removed that is open in this process."""
    fcntl, unlink = pytest.importorskip("fcntl"), Path.unlink

    def locking(number: int, mode: int, size: int) -> None:
        assert (mode, size) == (3, 1)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    def refuse_open(path: Path, missing_ok: bool = False) -> None:
        held = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
        if os.path.realpath(path) in held:
            raise PermissionError(errno.EACCES, "it is open")
        unlink(path, missing_ok)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt",
                        types.SimpleNamespace(LK_NBLCK=3, locking=locking))
    monkeypatch.setattr(Path, "unlink", refuse_open)


def test_a_lock_on_windows(tmp_path, monkeypatch):
    """Simulated: one at a time, and nothing is left, though an open file cannot be removed."""
    simulate_windows(monkeypatch)
    path = tmp_path / "run/.lock"
    with files.lock(path):
        for _ in range(2):
            with pytest.raises(InputError, match="another process is at work"), files.lock(path):
                pytest.fail("two at once")
    assert not list(tmp_path.iterdir())


def test_a_lock_of_somebody_else(tmp_path, monkeypatch):
    """Read-only, it locks as well, and stays where we may not remove it; unreadable, one line."""
    path = tmp_path / ".lock"
    path.write_bytes(b"")
    unlink = Path.unlink

    def open_read_only(name, mode):
        if mode != "rb":
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return open(name, "rb")
    monkeypatch.setattr(files, "open", open_read_only, raising=False)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: fail_by(PermissionError))
    with files.lock(path), pytest.raises(InputError, match="another process"), files.lock(path):
        pytest.fail("two at once")
    assert path.exists()
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.undo()
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"^cannot lock .*\.lock: "), files.lock(path):
        pytest.fail("a folder is no lock")


def test_what_others_left_stays(tmp_path, monkeypatch):
    """Catches a run that does not begin since another user's temporary file is there."""
    (tmp_path / "model.pt.7.tmp").mkdir()
    (tmp_path / "model.pt.8.tmp").write_bytes(b"")
    files.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt.7.tmp"]


# --- texts


def test_texts_are_the_same_on_every_system(tmp_path):
    """UTF-8 with \\n, also of a name that is no text; \\r\\n and a mark in front are not read."""
    path = tmp_path / "text"
    files.write(path, "a ± b\nc \udcff\n")
    assert path.read_bytes() == "a ± b\nc \\udcff\n".encode()
    path.write_bytes(b"\xef\xbb\xbf" + "a ± b\r\nc\r\n".encode())
    assert files.read_text(path) == "a ± b\nc\n"


def test_memory_where_it_is_not_counted(monkeypatch):
    assert system.peak_memory_of_process() > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    assert system.peak_memory_of_process() is None
