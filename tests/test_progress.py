"""Long work: its clock, its bar, its end by a signal."""

import io
import signal
import sys

import pytest
import torch

from plumbing import progress
from tests.helpers import interrupt


def test_clock(monkeypatch):
    """A lap books what passed since the last one, and adds up under a name."""
    now = iter([10.0, 11.0, 14.0, 14.5])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    clock = progress.Clock(torch.device("cpu"))
    for name in ("rollout", "update", "rollout"):
        clock.lap(name)
    assert clock.booked == {"rollout": 1.5, "update": 3.0}


@pytest.mark.parametrize("device, waited", [("cpu", 0), ("cuda", 2)])
def test_the_clock_waits_for_a_gpu(device, waited, monkeypatch):
    """Catches the seconds of one stage booked on the next: a GPU works on after a call returns."""
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append(1))
    clock = progress.Clock(torch.device(device))
    clock.lap("a")
    clock.lap("b")
    assert len(calls) == waited


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bar(terminal, monkeypatch):
    """In a log it writes whole lines of ASCII, and not many; on a terminal it moves."""
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.progress_bar(total=50, desc="toy", initial=10) as bar:
        assert (bar.total, bar.n, bar.desc) == (50, 10, "toy")
        assert (bar.mininterval == 0.1) if terminal else (bar.mininterval >= 5)
        for _ in range(40):
            bar.update()
    assert list(progress.progress_bar(iterable=range(3), leave=False)) == [0, 1, 2]
    text = stream.getvalue()
    assert "toy" in text and "50/50" in text
    assert ("\r" in text) == terminal
    if not terminal:
        assert text.isascii() and text.endswith("\n") and 2 <= text.count("\n") <= 4
        assert all(line.strip() for line in text.splitlines())


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_stop_signals(number, capsys):
    """The first is collected, the second acts as it did before; after the block all do."""
    acted = []
    before = {n: signal.getsignal(n) for n in SIGNALS}
    mine = {n: lambda n, frame: acted.append(n) for n in before}
    try:
        for n, handler in mine.items():
            signal.signal(n, handler)
        with progress.stop_signals() as stopped:
            assert not stopped
            interrupt(number)
            assert stopped == [number] and not acted
            interrupt(number)
            assert stopped == [number] and acted == [number]
        assert all(signal.getsignal(n) is mine[n] for n in mine)
        with pytest.raises(RuntimeError), progress.stop_signals():
            raise RuntimeError
        assert all(signal.getsignal(n) is mine[n] for n in mine)
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert capsys.readouterr().err.count("stopping after this step") == 1
