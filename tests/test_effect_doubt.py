"""The claims of lesson calibration, on a base and runs with seeds of their own.

Minutes: marked slow. Lesson honesty says on which bases its reward works; this one is not of them.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lessons.grid import write_flags
from lessons.honesty.lesson import RECIPE
from tests.helpers import ROOT, read_json

pytestmark = pytest.mark.slow
RUNS = {"correct": {"reward": "correct"},
        "brier": {"reward": "brier", "loss": "grpo_segments"}}


@pytest.fixture(scope="module")
def summaries(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("doubt")

    def command(*arguments):
        words = [sys.executable, str(ROOT / "rlvr.py"), *arguments, "--threads", "1"]
        subprocess.run(words, check=True, cwd=folder)

    def run(name: str) -> dict:
        flags = write_flags(RECIPE | RUNS[name] | {"base": "humble-code", "seed": 11})
        command("train", *flags, "--out", name)
        return read_json(folder / name / "summary.json")

    command("pretrain", "--base", "humble-code", "--seed", "7")
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return dict(zip(RUNS, workers.map(run, RUNS)))


def test_a_binary_reward_suppresses_doubt(summaries):
    after = summaries["correct"]["after"]
    assert after["abstain_share_hard"] < 0.02 and after["hallucination_hard"] > 0.9
    assert after["ece_hard"] > 0.4


def test_a_proper_score_buys_calibration(summaries):
    """Where nothing is known the confidence falls, where all is right it rises."""
    brier, correct = summaries["brier"]["after"], summaries["correct"]["after"]
    assert brier["ece_easy"] < 0.08 and brier["ece_easy"] < correct["ece_easy"]
    assert brier["ece_hard"] < 0.5 * correct["ece_hard"]
    assert brier["auroc"] > 0.8 > correct["auroc"]
    assert brier["accuracy_easy"] > 0.93
