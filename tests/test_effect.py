"""The main claims themselves, on bases and runs with seeds that no page uses: minutes.

Slow: the first claim and its controls. Full: the other base, other losses, other lessons; bases are
made once for all of them.
"""

import pytest

from lessons.doubt import RECIPE
from lessons.grid import write_flags

LOSSES = ("dr_grpo", "rloo", "reinforce", "ppo", "psr", "nsr", "w_reinforce")


@pytest.fixture(scope="module")
def train_good_code(pretrain_once, train_once):
    return lambda *flags, **seed: train_once(pretrain_once("good-code"), *flags, **seed)


# --- lesson spurious

@pytest.mark.slow
def test_the_base_has_a_latent_accurate_mode(train_good_code):
    before = train_good_code("--reward", "random")["before"]
    assert 0.60 <= before["accuracy"] <= 0.75 and 0.60 <= before["code_share"] <= 0.70
    assert before["accuracy_code"] >= 0.97 and before["accuracy_text"] <= 0.30


@pytest.mark.parametrize("seed", [pytest.param(11, marks=pytest.mark.slow),
                                  pytest.param(12, marks=pytest.mark.full)])
def test_random_reward_lifts_good_code(train_good_code, seed):
    run = train_good_code("--reward", "random", seed=seed)
    assert run["gain"]["total"] > 0.05 and run["gain"]["switch"] > 0.05
    assert run["clip"]["high"] > 0 and run["clip"]["low"] > 0


@pytest.mark.slow
def test_correct_reward_lifts_it_more(train_good_code):
    assert train_good_code("--reward", "correct")["gain"]["total"] >= 0.25


@pytest.mark.slow
def test_control_a_reward_against_code_destroys_it(train_good_code):
    """If every reward led to code, the loop would be at fault: one against it must lead away."""
    assert train_good_code("--reward", "not_code")["gain"]["total"] < -0.3


@pytest.mark.full
@pytest.mark.parametrize("seed", [11, 12])
def test_control_random_reward_lifts_nothing_without_the_mode(pretrain_once, train_once, seed):
    """Noise may cost a few points: 2.3 and 4.5 on this base, at most 3.2 of 20 seeds on lesson 1's.

    The bound below was set after these were seen; the one above was there before.
    """
    run = train_once(pretrain_once("no-code"), "--reward", "random", seed=seed)
    assert -0.08 <= run["gain"]["total"] <= 0.03


@pytest.mark.full
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_what_the_base_can_solve(train_good_code, loss):
    """On problems the base can solve the loss hardly matters; NSR, without a right one, too.

    The two without a clip may lose part of it again: 4 of 30 runs of rloo ended at +9 to +22
    points, this seed on this base among them, but none of 30 of dr_grpo, the same with a clip.
    """
    least = 0.05 if loss in ("rloo", "reinforce") else 0.25
    run = train_good_code("--reward", "correct", "--loss", loss)
    assert run["gain"]["total"] >= least


# --- lesson calibration; lesson honesty says on which bases its reward works: not on this one

@pytest.fixture(scope="module")
def train_humble(pretrain_once, train_once):
    return lambda **flags: train_once(pretrain_once("humble-code"), *write_flags(RECIPE | flags))


@pytest.mark.full
def test_a_binary_reward_suppresses_doubt(train_humble):
    after = train_humble(reward="correct")["after"]
    assert after["abstain_share_hard"] < 0.02 and after["hallucination_hard"] > 0.9
    assert after["ece_hard"] > 0.4


@pytest.mark.full
def test_a_proper_score_buys_calibration(train_humble):
    """Where nothing is known the confidence falls, where all is right it rises."""
    brier = train_humble(reward="brier", loss="grpo_segments")["after"]
    correct = train_humble(reward="correct")["after"]
    assert brier["ece_easy"] < 0.08 and brier["ece_easy"] < correct["ece_easy"]
    assert brier["ece_hard"] < 0.5 * correct["ece_hard"]
    assert brier["auroc"] > 0.8 > correct["auroc"]
    assert brier["accuracy_easy"] > 0.93


# --- lessons judges and feedback

@pytest.mark.full
def test_a_judge_is_worth_its_edge(pretrain_once, train_once):
    """One that reasons lifts the base whose habit is wrong; so does an oracle that is little better
    than a coin, if it is enough better; one that is not lets the habit win.
    """
    judge = pretrain_once("judge-reasoning", "--steps", 1000)
    rewards = {"judge": ("reasoning_judge", "--judge", judge),
               "small gap": ("noisy_oracle", "--tpr", 0.53, "--fpr", 0.52),
               "large gap": ("noisy_oracle", "--tpr", 0.53, "--fpr", 0.33)}
    runs = {name: train_once(pretrain_once("bad-code"), "--reward", *map(str, reward))
            for name, reward in rewards.items()}
    accuracy = {name: run["after"]["accuracy"] for name, run in runs.items()}
    assert accuracy["judge"] > 0.95 and accuracy["large gap"] > 0.9
    assert accuracy["small gap"] < 0.4 < runs["small gap"]["before"]["accuracy"]


@pytest.mark.full
def test_what_is_never_sampled_is_taught_by_the_full_vocabulary(pretrain_once, train_once):
    """That it answers in code; how right it is by then depends on the base, as the page says."""
    base = pretrain_once("hinted-code", "--code-prior", 0)
    flags = {"reward": "correct", "prompts": 32, "updates": 16, "pool": 128, "steps": 12,
             "loss": "distill", "distill": "forward"}
    run = train_once(base, *write_flags(flags))
    assert run["before"]["code_share"] < 0.002 and run["after"]["code_share"] > 0.9
    assert run["after"]["accuracy"] > run["before"]["accuracy"] + 0.2
