"""The claims of lessons judges and feedback, on bases, judges and runs with seeds of their own.

Minutes: marked slow.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lessons.grid import write_flags
from tests.helpers import ROOT, read_json

pytestmark = pytest.mark.slow
BASES = {"bad-code": [], "judge-reasoning": ["--steps", "1000"],
         "hinted-code": ["--code-prior", "0"]}
HINTED = {"base": "hinted-code", "reward": "correct", "prompts": 32, "updates": 16, "pool": 128,
          "steps": 12}
RUNS = {"judge": {"base": "bad-code", "reward": "reasoning_judge", "judge": "judge-reasoning"},
        "small gap": {"base": "bad-code", "reward": "noisy_oracle", "tpr": 0.53, "fpr": 0.52},
        "large gap": {"base": "bad-code", "reward": "noisy_oracle", "tpr": 0.53, "fpr": 0.33},
        "forward": HINTED | {"loss": "distill", "distill": "forward"}}


@pytest.fixture(scope="module")
def summaries(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("feedback")

    def command(*arguments):
        words = [sys.executable, str(ROOT / "rlvr.py"), *arguments, "--threads", "1"]
        subprocess.run(words, check=True, cwd=folder)

    def run(name: str) -> dict:
        command("train", *write_flags(RUNS[name] | {"seed": 11}), "--out", name)
        return read_json(folder / name / "summary.json")

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(lambda base: command("pretrain", "--base", base, "--seed", "7",
                                              *BASES[base]), BASES))
        return dict(zip(RUNS, workers.map(run, RUNS)))


def test_a_judge_is_worth_its_edge(summaries):
    """One that reasons lifts the base whose habit is wrong; so does an oracle that is little better
    than a coin, if it is enough better; one that is not lets the habit win.
    """
    accuracy = {name: summaries[name]["after"]["accuracy"] for name in RUNS}
    assert accuracy["judge"] > 0.95 and accuracy["large gap"] > 0.9
    assert accuracy["small gap"] < 0.4 < summaries["small gap"]["before"]["accuracy"]


def test_what_is_never_sampled_is_taught_by_the_full_vocabulary(summaries):
    """That it answers in code; how right it is by then depends on the base, as the page says."""
    forward = summaries["forward"]
    assert forward["before"]["code_share"] < 0.002 and forward["after"]["code_share"] > 0.9
    assert forward["after"]["accuracy"] > forward["before"]["accuracy"] + 0.2
