"""The main claim itself, on a base and runs with seeds that the README does not use.

Minutes: marked slow.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers import ROOT, read_json

pytestmark = pytest.mark.slow
LOSSES = ("dr_grpo", "rloo", "reinforce", "ppo", "psr", "nsr", "w_reinforce")
RUNS = [("good-code", "random", 11), ("good-code", "random", 12), ("good-code", "correct", 11),
        ("good-code", "not_code", 11), ("no-code", "random", 11), ("no-code", "random", 12),
        *(("good-code", f"correct --loss {loss}", 11) for loss in LOSSES)]


@pytest.fixture(scope="module")
def summaries(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("effect")

    def command(*arguments):
        words = [sys.executable, ROOT / "rlvr.py", *map(str, arguments), "--threads", "1"]
        subprocess.run(words, check=True, cwd=folder)

    def run(job):
        base, reward, seed = job
        out = f"{base}-{reward}-{seed}"
        command("train", "--base", base, "--reward", *reward.split(), "--seed", seed, "--out", out)
        return job, read_json(folder / out / "summary.json")

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(lambda base: command("pretrain", "--base", base, "--seed", 7),
                         ("good-code", "no-code")))
        return dict(workers.map(run, RUNS))


def test_the_base_has_a_latent_accurate_mode(summaries):
    before = summaries["good-code", "random", 11]["before"]
    assert 0.60 <= before["accuracy"] <= 0.75 and 0.60 <= before["code_share"] <= 0.70
    assert before["accuracy_code"] >= 0.97 and before["accuracy_text"] <= 0.30


def test_random_reward_lifts_good_code(summaries):
    for seed in (11, 12):
        run = summaries["good-code", "random", seed]
        assert run["gain"]["total"] > 0.05 and run["gain"]["switch"] > 0.05
        assert run["clip"]["high"] > 0 and run["clip"]["low"] > 0


def test_correct_reward_lifts_it_more(summaries):
    assert summaries["good-code", "correct", 11]["gain"]["total"] >= 0.25


def test_control_a_reward_against_code_destroys_it(summaries):
    """If every reward led to code, the loop would be at fault: one against it must lead away."""
    assert summaries["good-code", "not_code", 11]["gain"]["total"] < -0.3


def test_control_random_reward_lifts_nothing_without_the_mode(summaries):
    """Noise may cost a few points: 2.3 and 4.5 on this base, at most 3.2 of 20 seeds on lesson 1's.

    The bound below was set after these were seen; the one above was there before.
    """
    for seed in (11, 12):
        assert -0.08 <= summaries["no-code", "random", seed]["gain"]["total"] <= 0.03


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_what_the_base_can_solve(summaries, loss):
    """On problems the base can solve the loss hardly matters; NSR, without a right one, too.

    The two without a clip may lose part of it again: 4 of 30 runs of rloo ended at +9 to +22
    points, this seed on this base among them, but none of 30 of dr_grpo, the same with a clip.
    """
    least = 0.05 if loss in ("rloo", "reinforce") else 0.25
    assert summaries["good-code", f"correct --loss {loss}", 11]["gain"]["total"] >= least
