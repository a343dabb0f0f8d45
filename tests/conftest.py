"""Fixtures and the profile of hypothesis.

The session's base and run are made by the command line itself, so what uses them needs all of the
project: only test_rlvr.py, test_cli.py and test_registries.py do.
"""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from data import plumbing
from tests.helpers import SMALL_BASE, run, train

# Other examples each time, and the line that repeats a failure; in CI the same ones. No deadline,
# and no complaint that examples come slowly: time is no verdict.
patient = settings(deadline=None, print_blob=True, max_examples=60,
                   suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", patient)
settings.register_profile("repeatable", patient, derandomize=True)
settings.load_profile("repeatable" if os.environ.get("CI") else "random")

torch.set_num_threads(1)  # models are tiny: a second thread would only wait


@pytest.fixture(autouse=True)
def notes_are_new():
    """What is said once in a process is said once in a test."""
    plumbing.note.cache_clear()


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    """A checkpoint that answers in both modes, mostly boxes its answer, and ends its responses."""
    path = str(tmp_path_factory.mktemp("base") / "small.pt")
    assert run("pretrain", "--base", "good-code", "--out", path, *SMALL_BASE) == 0
    return path


@pytest.fixture(scope="session")
def finished(base, tmp_path_factory) -> Path:
    """The folder of a finished run on it; nothing may change it."""
    out = tmp_path_factory.mktemp("runs") / "random"
    assert train(base, out) == 0
    return out
