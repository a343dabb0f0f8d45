"""The lessons' own code: against the project's loss, and the claims that their text makes."""

import numpy as np
import pytest
import torch

from lessons import bandit, matched
from tests import adapters


def test_bandit_is_grpo(monkeypatch):
    """Its update per arm is the project's clipped loss on the same pulls, one by one, by autograd; the second update clips."""
    for name, value in {"SEEDS": 1, "BATCHES": 1, "SAMPLES": 80, "UPDATES": 4, "LR": 5.0}.items():
        monkeypatch.setattr(bandit, name, value)
    prior = (0.5, 0.3, 0.2)
    old = torch.tensor(prior, dtype=torch.float64)
    z, rng, clipped = old.log(), np.random.default_rng(0), 0
    for pulls in rng.multinomial(20, [prior], size=(4, 1)):
        wins = rng.binomial(pulls, 0.5)
        arms = torch.tensor([a for a in range(3) for _ in range(pulls[0, a])])
        rewards = torch.tensor([float(i < wins[0, a]) for a in range(3) for i in range(pulls[0, a])], dtype=torch.float64)
        advantages = adapters.advantages("grpo", rewards[None])[0]
        z = z.detach().requires_grad_()
        logprobs = z.log_softmax(-1)[arms]
        loss = adapters.policy_loss("grpo", logprobs, old.log()[arms], advantages, 0.2, 0.2).mean()
        loss.backward()
        ratio = (logprobs - old.log()[arms]).exp()
        clipped += int((((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))).sum())
        z = z - 5.0 * z.grad
    assert clipped > 0
    assert bandit.first_arm(prior, 0.2)[-1, 0] == pytest.approx(z.softmax(-1)[0].item(), abs=1e-8)


def test_the_clip_feeds_the_largest_arm():
    """Up with the clip in nearly all seeds, in about half without; the smaller of two arms goes down; equal arms stay in the mean."""
    big, equal = bandit.BANDITS["0.65, 7 x 0.05"], bandit.BANDITS["8 x 0.125"]
    with_clip, without = (bandit.first_arm(big, eps) for eps in (0.2, 1e9))
    assert np.mean(with_clip[-1] > 0.65) > 0.9 > 0.6 > np.mean(without[-1] > 0.65) and with_clip[-1].mean() > 0.85
    assert np.mean(bandit.first_arm((0.35, 0.65), 0.2)[-1] > 0.35) < 0.35
    assert abs(bandit.first_arm(equal, 0.2)[-1].mean() - 0.125) < 0.06


def test_ahead_is_measured_at_the_same_pass_at_1():
    """Between two points of the curve by hand; on the curve it is 0, wherever on it."""
    curve = [{"1": 0.4, "64": 0.8}, {"1": 0.5, "64": 0.7}, {"1": 0.6, "64": 0.4}]
    assert matched.ahead({"1": 0.45, "64": 0.78}, curve, "64") == pytest.approx(3.0)
    assert matched.ahead({"1": 0.55, "64": 0.50}, curve, "64") == pytest.approx(-5.0)
    assert all(matched.ahead(point, curve, "64") == pytest.approx(0) for point in curve)


def test_matched_reads_the_committed_runs(capsys, tmp_path):
    matched.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(matched.OTHERS) and all("nan" not in line for line in lines)
    with pytest.raises(ValueError, match="no runs of psr"):
        matched.main(str(tmp_path))
