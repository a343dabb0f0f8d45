"""The parts of a rollout, called alone: other keys, other policies, groups kept and joined.

And what is wrong at the door: payments, advantages and losses of another shape than they must have.
"""

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
import torch

import losses
import rewards
import rlvr
import run
from data.corpus import CORPORA
from losses import join_batches, select_groups
from plumbing.messages import InputError
from rewards import Reward
from tests import adapters
from tests.helpers import close, config, load_run, pool, tiny, train


def open_task(c) -> tuple[run.Task, losses.Objective]:
    reward, objective = run.bind_entries(c, rlvr.LOSSES[c.loss], tiny(), tiny())
    return run.Task(CORPORA["good-code"], pool(), reward), objective


def sample(model, c, *key, T=12):
    """A paid batch of the prompts of step 0; T: the longest response."""
    task, _ = open_task(c)
    c = dataclasses.replace(c, max_new_tokens=T)
    return rlvr.pay_rewards(rlvr.sample_groups(model, task.pool[:3], c, *key), task, c, *key)


def test_a_rollout_is_its_parts():
    """By the same keys; a batch that is not paid yet is no number, lest it be trained on."""
    c, model = config(reward="random", prompts=3), tiny()
    task, objective = open_task(c)
    asked = rlvr.draw_prompts(task, c, 5)
    assert asked == [task.pool[i] for i in rlvr.choose_prompts(c, 8, 5)]
    batch = rlvr.sample_groups(model, asked, c, 5)
    assert batch.rewards.shape == (3, 4) and batch.rewards.isnan().all()
    batch = rlvr.compare_rewards(rlvr.pay_rewards(batch, task, c, 5), objective)
    whole = rlvr.rollout(model, task, c, 5, objective)
    for name in ("ids", "old_logprobs", "rewards", "advantages", "entropy"):
        assert torch.equal(getattr(batch, name), getattr(whole, name)), name
    assert batch.labels == whole.labels and batch.responses == whole.responses


def test_another_key_is_another_stream():
    """Of samples and of coins, apart: a second attempt in a step, and no other step's numbers."""
    c, model = config(reward="random", prompts=3), tiny()
    keys = (0,), (1,), (0, 1), (0, 0), (1, 0)
    batches = {key: sample(model, c, *key) for key in keys}
    for field in ("responses", "rewards"):
        values = {key: str(getattr(batch, field)) for key, batch in batches.items()}
        assert len(set(values.values())) == len(keys), field
    again = sample(model, c, 0, 1)
    assert again.responses == batches[0, 1].responses
    assert torch.equal(again.rewards, batches[0, 1].rewards)


def test_what_another_policy_sampled():
    """A stale actor: the log-probabilities are those of the model that sampled."""
    c, stale = config(prompts=3), tiny(3)
    batch = sample(stale, c, 0)
    scored = losses.score_sampled(stale, batch.prompts, batch, c.temperature)
    assert torch.allclose(scored, batch.old_logprobs)
    moved = losses.score_sampled(tiny(4), batch.prompts, batch, c.temperature)
    assert (moved - batch.old_logprobs).abs().max() > 0.1


@pytest.mark.parametrize("kept", [[True, False, True], [False, True, True], [True] * 3])
def test_groups_are_selected_whole(kept):
    c = config(reward="random", prompts=3)
    batch, kept = sample(tiny(), c, 0), torch.tensor(kept)
    chosen = select_groups(batch, kept)
    rows = [i for i in range(12) if kept[i // 4]]
    assert torch.equal(chosen.rewards, batch.rewards[kept])
    for name in ("prompts", "problems", "responses", "labels"):
        assert getattr(chosen, name) == [getattr(batch, name)[i] for i in rows], name
    for name in ("ids", "mask", "old_logprobs", "entropy"):
        assert torch.equal(getattr(chosen, name), getattr(batch, name)[rows]), name


def test_batches_of_unlike_lengths_are_joined():
    """Groups stay groups, tokens stay their row's: the gradient is the sum of the parts'.

    Catches padding in front, and padding that is trained on.
    """
    c, model = config(reward="random", prompts=3), tiny()
    long, short = sample(model, c, 0, T=12), sample(model, c, 1, T=5)
    whole = join_batches([short, long])
    assert short.ids.size(1) == 5 < long.ids.size(1) and whole.ids.shape == (24, long.ids.size(1))
    assert whole.responses == short.responses + long.responses
    assert torch.equal(whole.mask.sum(1), torch.cat((short.mask.sum(1), long.mask.sum(1))))
    assert not whole.mask[:12, 5:].any()
    _, objective = open_task(c)
    scored = rlvr.compare_rewards(whole, objective)
    apart = [rlvr.compare_rewards(part, objective) for part in (short, long)]
    assert torch.equal(scored.advantages[12:], apart[1].advantages)

    def measure(batch):
        rows = torch.arange(len(batch.ids))
        loss, _ = adapters.minibatch_loss(model, batch, rows, torch.ones(len(rows)), c)
        return torch.autograd.grad(loss, model.head.weight)[0]

    close(measure(scored), measure(apart[0]) + measure(apart[1]))
    halves = [select_groups(whole, torch.arange(6) < 3), select_groups(whole, torch.arange(6) >= 3)]
    assert torch.equal(join_batches(halves).ids, whole.ids)


# --- at the door

@pytest.mark.parametrize("paid, said", [
    ([0.5, 1.5, 0.0], "reward mine: it pays 1.5, and says that it pays from 0 to 1"),
    ([0.5, -0.1, 0.0], "it pays -0.1"), ([0.5, float("nan"), 0.0], "it pays nan"),
    ([0.5, None, 0.0], "it pays nan"), ([0.5, 0.0], r"it pays (2,), not (3,)")])
def test_a_payment_is_within_what_a_reward_says(paid, said, monkeypatch):
    """Catches advantages of numbers that nobody meant: `not_mine`, PSR and W-REINFORCE read the
    range."""
    monkeypatch.setitem(rewards.REWARDS, "mine", Reward(lambda *scored: paid))
    for name in ("mine", "not_mine", "format+mine"):
        with pytest.raises(InputError, match=re.escape(said)):
            rewards.build_reward(name).score([None] * 3, [""] * 3, None)


def test_a_payment_may_be_rounded(monkeypatch):
    entry = Reward(lambda *scored: [1 + 1e-8, -1 - 1e-8], low=-1.0)
    monkeypatch.setitem(rewards.REWARDS, "mine", entry)
    assert rewards.build_reward("mine").score([None] * 2, [""] * 2, None) == [1 + 1e-8, -1 - 1e-8]


def test_advantages_are_one_a_token():
    """(N, 1) would be stretched over the padding too."""
    c = config(prompts=3)
    _, objective = open_task(c)
    stretched = objective._replace(advantages=lambda batch: torch.ones(12, 1))
    with pytest.raises(InputError, match=r"advantages of a loss are \(12, 1\), not \(12, 10\)"):
        rlvr.compare_rewards(sample(tiny(), c, 0), stretched)


@pytest.mark.parametrize("change, said", [
    (lambda loss, dropped: (loss.mean(), dropped), r"the losses of tokens are \(\), not"),
    (lambda loss, dropped: (loss, dropped[:1]), r"that a loss clipped are \(1,\), not")])
def test_a_policy_loss_is_one_a_token(change, said):
    """A mean would be counted once for each token."""
    c, model = config(prompts=3), tiny()
    _, objective = open_task(c)
    batch = rlvr.compare_rewards(sample(model, c, 0), objective)
    wrong = objective._replace(policy_loss=lambda *tokens: change(*objective.policy_loss(*tokens)))
    with pytest.raises(InputError, match=said):
        rlvr.minibatch_loss(model, batch, torch.arange(2), torch.ones(2), c, wrong)


def test_two_rewards_with_two_defaults_of_one_flag(monkeypatch):
    """One line: what --p would be in random+mine nobody has said."""
    def mine(problems, responses, context, *, p: rewards.Chance = 0.9) -> list[float]:
        return np.full(len(responses), p).tolist()

    monkeypatch.setitem(rewards.REWARDS, "mine", Reward(mine))
    assert rlvr.make_config(reward="mine").flags["p"] == 0.9
    for flags in ({}, {"p": 0.3}):
        with pytest.raises(InputError, match="--p: random has the default 0.5, mine 0.9"):
            rlvr.make_config(reward="random+mine", **flags)


# --- what a run says of itself

def test_a_metric_that_is_no_number_is_said(capsys):
    """A gradient can be finite where a ratio is not: a loss that scores under another sampler."""
    sums = Counter(trained=2, approx_kl=float("inf"))
    metrics = rlvr.average_metrics(sums, [1.0], 2, 0)
    assert metrics["approx_kl"] == float("inf")
    assert capsys.readouterr().err == (
        "note: approx_kl of a rollout batch is no number: a sampled token has probability 0 now\n")
    rlvr.average_metrics(Counter(trained=2, approx_kl=0.1), [1.0], 2, 0)
    assert capsys.readouterr().err == ""


def test_what_a_resume_does_not_find_is_said(base, tmp_path, capsys):
    """Catches an optimizer or a critic that begins anew without a word."""
    out, flags = tmp_path / "a", ("--reward", "correct", "--loss", "ppo")
    assert train(base, out, *flags, "--steps", "2") == 0
    saved = load_run(out)
    assert len(saved["train"]["stateful"]) == 3
    saved["train"]["stateful"].pop()
    torch.save(saved, out / "model.pt")
    capsys.readouterr()
    assert train(base, out, *flags) == 2
    assert "2 optimizers and models that change, and this loss has 3" in capsys.readouterr().err


def test_the_flags_that_differ_are_named(base, tmp_path, capsys):
    assert train(base, tmp_path / "a", "--steps", "1") == 0
    capsys.readouterr()
    assert train(base, tmp_path / "a", "--lr", "0.5", "--seed", "4") == 2
    assert "(--seed 1, not 4, --lr 0.015, not 0.5)" in capsys.readouterr().err
