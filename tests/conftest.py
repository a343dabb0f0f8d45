"""Fixtures and the profile of hypothesis.

Bases and runs are made by the command line itself, so what uses them needs all of the project. They
are made once for all workers: nothing may change them.
"""

import os
import signal
from pathlib import Path
from typing import Callable

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.helpers import SMALL_BASE, TINY_RUN, make_once, read_json

# Other examples each time, and the line that repeats a failure; in CI the same ones. No deadline,
# and no complaint that examples come slowly: time is no verdict.
patient = settings(deadline=None, print_blob=True, max_examples=60,
                   suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", patient)
settings.register_profile("repeatable", patient, derandomize=True)
# Of exercises that are graded, where each call goes to another process.
settings.register_profile("graded", patient, derandomize=True, max_examples=20)
settings.load_profile("repeatable" if os.environ.get("CI") else "random")

# A shell's `command &` ignores Ctrl-C, and some tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # models are tiny: a second thread would only wait


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of this session see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def base(shared) -> str:
    """A checkpoint that answers in both modes, mostly boxes its answer, and ends its responses."""
    path = shared / "small" / "small.pt"
    return str(make_once(path, "pretrain", "--base", "good-code", "--out", path, *SMALL_BASE))


@pytest.fixture(scope="session")
def finished(base, shared) -> Path:
    """The folder of a finished run on it."""
    out = shared / "finished" / "random"
    make_once(out / "summary.json", "train", "--base", base, "--out", out, *TINY_RUN)
    return out


@pytest.fixture(scope="session")
def pretrain_once(shared) -> Callable[..., Path]:
    """(base, *flags) -> its checkpoint, of a pretraining seed that no page uses."""
    def pretrain_once(name: str, *flags: str) -> Path:
        path = shared / "bases" / f"{name}.pt"
        return make_once(path, "pretrain", "--base", name, "--seed", 7, "--out", path, *flags)
    return pretrain_once


@pytest.fixture(scope="session")
def train_once(shared) -> Callable[..., dict]:
    """(checkpoint, *flags) -> the summary of a run on it, of an RL seed that no page uses."""
    def train_once(path: Path, *flags: str, seed: int = 11) -> dict:
        words = [Path(str(word)).name.lstrip("-") for word in (path.stem, *flags, seed)]
        out = shared / "runs" / "-".join(words)
        made = make_once(out / "summary.json", "train", "--base", path, "--seed", seed, "--out",
                         out, *flags)
        return read_json(made)
    return train_once
