"""Commands: exit codes, one line on stderr, output that has arrived."""

import errno
import io
import os
import shlex
import sys
import types
from pathlib import Path

import pytest

from plumbing import commands
from plumbing.commands import run_command
from plumbing.messages import InputError, WorkError


@pytest.mark.parametrize("error, code, line", [
    (None, 0, ""), (InputError("bad thing"), 2, "toy: error: bad thing\n"),
    (FloatingPointError("diverged"), 1, "toy: diverged\n"),
    (WorkError("a run failed"), 1, "toy: a run failed\n"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 1,
     "toy: No space left on device; what was saved before is whole\n"),
    (PermissionError(errno.EACCES, "Permission denied", "run/model.pt"), 1,
     "toy: run/model.pt: Permission denied; what was saved before is whole\n")])
def test_exit_codes(error, code, line, capsys):
    def command():
        if error is not None:
            raise error
    assert run_command("toy", command) == code
    captured = capsys.readouterr()
    assert captured.err == line and captured.out == ""


def test_only_what_resumes_says_so(capsys):
    def command():
        raise KeyboardInterrupt

    assert run_command("toy", command, resumes=True) == 130
    assert capsys.readouterr().err == (
        "interrupted: what was done is saved, the same command resumes\n")


def test_what_to_do_next_can_be_typed_where_one_is(tmp_path, monkeypatch, capsys):
    """From another folder by the path of rlvr.py; `python -m` finds nothing there."""
    advice = "python -m lessons.report --html a", "python rlvr.py sample a/model.pt"
    monkeypatch.chdir(commands.ROOT)
    commands.suggest(*advice)
    assert capsys.readouterr().out == f"next: {advice[0]}\n      {advice[1]}\n"
    monkeypatch.chdir(tmp_path)
    commands.suggest(*advice)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and Path(shlex.split(said[0])[2]) == commands.ROOT / "rlvr.py"


def test_beside_data_it_goes_where_it_is_shown(monkeypatch, capsys):
    monkeypatch.chdir(commands.ROOT)
    shown = []
    commands.suggest("python rlvr.py sample a.pt", "python -m lessons", show=shown.append)
    assert shown == ["next: python rlvr.py sample a.pt", "      python -m lessons"]
    assert capsys.readouterr().out == ""


def test_bad_input_is_one_line_whatever_is_in_it(capsys):
    """A name that a user typed may have line breaks."""
    def command():
        raise InputError("no file a\nb\r\nc")

    assert run_command("toy", command) == 2
    assert capsys.readouterr().err == "toy: error: no file a b c\n"


def test_what_is_printed_has_arrived(monkeypatch, capsys):
    """Catches exit code 0 where the disk was full when the output was to be written at last."""
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert run_command("toy", lambda: print("result")) == 1
    monkeypatch.undo()
    assert "No space left" in capsys.readouterr().err


def test_a_reader_that_has_enough(monkeypatch):
    """`evaluate ... | head` ends without a traceback; what is left goes to the void."""
    replaced = []

    def command():
        raise BrokenPipeError

    with monkeypatch.context() as patch:               # pytest itself needs dup2 after the test
        patch.setattr(os, "dup2", lambda source, target: (replaced.append(target),
                                                          os.close(source)))
        patch.setattr(sys, "stdout", types.SimpleNamespace(fileno=lambda: 77))
        code = run_command("toy", command)
    assert code == 1 and replaced == [77]


def test_a_bug_is_a_traceback():
    """Catches an InputError so wide that it hides bugs: a plain ValueError is none."""
    with pytest.raises(ValueError):
        run_command("toy", lambda: int("x"))
