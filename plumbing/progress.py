"""Long work: how far it is, what took how long, and how a signal ends it."""

import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager

import torch
from tqdm import tqdm

from plumbing.system import catch_signals, say


class Clock:
    """Seconds spent per stage: `lap(name)` books the time since the last lap."""

    def __init__(self, device: torch.device):
        self.device, self.booked, self.last = device, Counter(), time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.device.type == "mps":
            torch.mps.synchronize()
        now = time.perf_counter()
        self.booked[name] += now - self.last
        self.last = now


class LineWriter:
    """A stream on which a progress bar writes lines instead of moving: for logs.

    Work goes on where they cannot be written: a log is not the result.
    """

    def write(self, text: str) -> None:
        if text.strip():
            say(text.strip("\r\n"))

    def flush(self) -> None:
        pass  # each line is


def progress_bar(**options) -> tqdm:
    """A bar with what is left; where stderr is no terminal, a line every ten seconds."""
    if sys.stderr and sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(file=LineWriter(), mininterval=10, maxinterval=10, ascii=True, ncols=100, **options)


def say_above(text: str) -> None:
    """A line or some on stderr, above the bars that move there if it is a terminal."""
    with tqdm.external_write_mode(sys.stderr):
        say(text)


@contextmanager
def stop_signals():
    """Collect the first Ctrl-C, SIGTERM or SIGHUP in a list, so that a loop can save its step.

    The second acts at once.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])
        say("\nstopping after this step (again to stop at once)")

    with catch_signals(receive, "SIGINT", "SIGTERM", "SIGHUP") as previous:
        yield received
