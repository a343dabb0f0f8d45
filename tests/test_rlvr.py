"""Estimators, rollout, update and evaluation, against ground truth in float64. The losses are in test_losses.py."""

import copy
import doctest
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rewards
import rlvr
from data import corpus, task, tokenizer
from tests import adapters

END = tokenizer.END
f64 = {"dtype": torch.float64}


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(torch.as_tensor(a, **f64), torch.as_tensor(b, **f64), rtol=0, atol=tolerance)


# --- estimators

def test_k3_in_expectation_is_the_exact_kl():
    """Catches a swapped direction: KL(p || q) and KL(q || p) differ here by 0.1."""
    p, q = torch.tensor([0.8, 0.1, 0.1], **f64), torch.tensor([0.3, 0.3, 0.4], **f64)
    close((p * adapters.kl_k3(p.log(), q.log())).sum(), (p * (p / q).log()).sum())
    assert abs((p * (p / q).log()).sum() - (q * (q / p).log()).sum()) > 0.05
    assert (adapters.kl_k3(p.log(), q.log()) >= 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert adapters.pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


@pytest.mark.parametrize("n, c, k", [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_the_impossible(n, c, k):
    with pytest.raises(ValueError):
        adapters.pass_at_k(n, c, k)


shares = st.floats(0, 1)


@given(shares, shares, shares, shares, shares, shares)
def test_gain_adds_up(s0, s1, c0, c1, t0, t1):
    """switch + within == total exactly, also where a mode does not occur; switch is 0 if the shares are equal."""
    def evaluation(s, c, t):
        return {"accuracy": s * c + (1 - s) * t, "code_share": s, "accuracy_code": c if s > 0 else None, "accuracy_text": t if s < 1 else None}
    result = adapters.gain(evaluation(s0, c0, t0), evaluation(s1, c1, t1))
    assert result["switch"] + result["within"] == pytest.approx(result["total"], abs=1e-12)
    assert result["switch"] == 0 or s0 != s1
    if (c0, t0) == (c1, t1):
        assert result["within"] == pytest.approx(0, abs=1e-12)


# --- rollout and update, on a real but tiny model over the project's vocabulary

def tiny(seed=0, scale=4.0):
    return adapters.make_model(seed, tokenizer.VOCABULARY_SIZE, layers=1, width=8, heads=2, scale=scale)


def config(**changes) -> rlvr.TrainConfig:
    return rlvr.TrainConfig(**{"prompts": 4, "group": 4, "updates": 2, "max_new_tokens": 6, "num_ops": task.EASY, "pool": 8, "lr": 0.1, **changes})


def pool(n=8):
    return [(p, None) for p in task.draw(n, "training", task.EASY, rlvr.numpy_rng(0))]


def test_batch_holds_the_very_ids_sampled(monkeypatch):
    """Catches text that is decoded and encoded again: an untrained model's tokens would merge into others."""
    model, c, seen = tiny(), config(), []
    original = rlvr.sample
    monkeypatch.setattr(rlvr, "sample", lambda *args, **kwargs: seen.append(original(*args, **kwargs)) or seen[-1])
    batch, _, _ = adapters.rollout(model, c, pool())
    assert torch.equal(batch.ids, seen[0].ids) and torch.equal(batch.mask, seen[0].mask) and torch.equal(batch.old_logprobs, seen[0].logprobs)
    sampled = [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask)]
    assert any(tokenizer.encode(tokenizer.decode(ids)) != [i for i in ids if i < END] for ids in sampled)


def test_same_prompt_twice_stays_two_groups():
    """Catches groups made by prompt text: with one training prompt (one-shot RLVR) a batch is P groups, not one."""
    model, c = tiny(), config(pool=1, prompts=3, group=4)
    batch, _, _ = adapters.rollout(model, c, pool(1))
    assert len(set(map(tuple, batch.prompts))) == 1
    rng = rlvr.numpy_rng(c.seed, rlvr.REWARD, 0)
    paid = torch.tensor([[float(x < 0.5) for x in rng.random(4)] for _ in range(3)], **f64)
    assert len(set(paid.sum(1).tolist())) > 1   # else one big group could give the same
    close(batch.advantages[:, 0].reshape(3, 4), adapters.advantages("grpo", paid))


def test_every_batch_is_drawn_anew():
    """Catches a seed that forgets the step: the same prompt in the next batch gets other samples and other coin flips."""
    model, c = tiny(), config(pool=1, prompts=3, group=8)
    (a, _, _), (b, _, _) = (adapters.rollout(model, c, pool(1), step) for step in (0, 1))
    assert a.ids.shape != b.ids.shape or not torch.equal(a.ids, b.ids)
    assert not torch.equal(a.advantages, b.advantages)


def hand_made_batch(model, lengths=(2, 4), advantages=(1.0, -1.0), ending=END):
    """Responses of given lengths to prompts of different lengths, scored by a plain forward pass of `model`."""
    torch.manual_seed(0)
    prompts = [[37, 100, 10], [40, 41, 42, 43, 10]] * (len(lengths) // 2 + 1)
    prompts, T = prompts[:len(lengths)], max(lengths)
    ids, mask, old = torch.zeros(len(lengths), T, dtype=torch.long), torch.zeros(len(lengths), T, dtype=torch.bool), torch.zeros(len(lengths), T, **f64)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.cat((torch.randint(0, END, (length - 1,)), torch.tensor([ending])))
        mask[i, :length] = True
        logits = adapters.full_logits(model, torch.cat((torch.tensor(prompts[i]), ids[i, :length]))[None])[0, len(prompts[i]) - 1:-1]
        old[i, :length] = logits.log_softmax(-1).gather(1, ids[i, :length, None])[:, 0].detach()
    return rlvr.Batch(prompts, ids, mask, old, torch.tensor(advantages, **f64)[:, None] * mask)


def parameters_after(model, batch, c):
    copied = copy.deepcopy(model)
    metrics = adapters.update(copied, [torch.optim.SGD(copied.parameters(), lr=c.lr)], batch, c)
    return torch.cat([p.detach().flatten() for p in copied.parameters()]), metrics


def test_update_is_the_policy_gradient():
    """One on-policy update moves the parameters by lr / rows * sum of A d log pi over all tokens, the ending included.

    Catches a dropped or masked ending, a division by the length, and a divisor that forgets rows without signal.
    """
    model, c = tiny(), config(updates=1, max_grad_norm=1e9)
    batch = hand_made_batch(model, (2, 4, 3), (1.0, -0.5, 0.0))
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    expected = torch.zeros_like(before)
    for prompt, ids, mask, advantage in zip(batch.prompts, batch.ids, batch.mask, batch.advantages):
        sequence = torch.tensor(prompt + ids[mask].tolist())
        logprobs = adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:-1].log_softmax(-1).gather(1, ids[mask][:, None])
        gradient = torch.autograd.grad(logprobs.sum(), list(model.parameters()), allow_unused=True)
        expected += advantage[0] * torch.cat([g.flatten() for g in gradient]) / 3
    after, _ = parameters_after(model, batch, c)
    close((after - before) / c.lr, expected)


def test_nothing_after_the_ending_matters():
    """Catches a mask with an off-by-one: the padding behind an ending may hold anything."""
    model, c = tiny(), config(updates=1)
    batch = hand_made_batch(model)
    other = batch._replace(ids=torch.where(batch.mask, batch.ids, 77), old_logprobs=torch.where(batch.mask, batch.old_logprobs, -3.0))
    a, b = parameters_after(model, batch, c)[0], parameters_after(model, other, c)[0]
    assert torch.equal(a, b)
    changed = batch._replace(ids=torch.where(batch.ids == END, 77, batch.ids))
    assert (parameters_after(model, changed, c)[0] - a).abs().max() > 1e-6   # and the ending does matter


def test_clip_fractions_and_kl_count_over_all_updates():
    """Against a second derivation: replay the updates by hand and count the tokens whose gradient the clip removed."""
    model, c = tiny(), config(updates=3, lr=3.0, eps_low=0.05, eps_high=0.1)
    batch = hand_made_batch(model, (3, 4, 3, 6, 5, 2), (1.0, -1.0, 0.5, 2.0, -0.7, -1.2))
    _, metrics = parameters_after(model, batch, c)
    copied, high, low, kl, order = copy.deepcopy(model), 0, 0, 0.0, rlvr.numpy_rng(c.seed, rlvr.SHUFFLE, 0).permutation(6).reshape(3, 2)
    for rows in order:
        for i in rows:
            logits = adapters.response_logits(copied, [batch.prompts[i]], batch.ids[i:i + 1], batch.mask[i:i + 1])
            ratio = (logits.log_softmax(-1).gather(1, batch.ids[i][batch.mask[i]][:, None])[:, 0] - batch.old_logprobs[i][batch.mask[i]]).exp()
            high += int(((ratio > 1.1) & (batch.advantages[i, 0] > 0)).sum())
            low += int(((ratio < 0.95) & (batch.advantages[i, 0] < 0)).sum())
            kl += (ratio - 1 - ratio.log()).sum().item()   # the samples are the old policy's: this estimates KL(old || new)
        part = batch._replace(prompts=[batch.prompts[i] for i in rows], **{name: getattr(batch, name)[rows] for name in ("ids", "mask", "old_logprobs", "advantages")})
        adapters.update(copied, [torch.optim.SGD(copied.parameters(), lr=c.lr)], part, config(**{**vars(c), "updates": 1}))
    tokens = int(batch.mask.sum())
    assert high > 0 and low > 0
    assert metrics["clip_high"] == pytest.approx(high / tokens) and metrics["clip_low"] == pytest.approx(low / tokens)
    assert metrics["approx_kl"] == pytest.approx(kl / tokens)


def test_first_update_has_ratio_one_and_later_ones_clip():
    model = tiny(scale=6.0)
    batch = hand_made_batch(model, (3, 4, 3, 6), (1.0, -1.0, 0.5, -2.0))
    once, often = (parameters_after(model, batch, config(updates=n, lr=3.0))[1] for n in (1, 4))
    assert once["clip_high"] == once["clip_low"] == 0 and abs(once["approx_kl"]) < 1e-20
    assert often["clip_high"] + often["clip_low"] > 0 and often["approx_kl"] > 1e-6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_equal_rewards_move_nothing(optimizer):
    """p = 0: the random reward never pays, the parameters stay what they are, bit for bit, weight decay included."""
    model, c = tiny(), config(p=0.0, optimizer=optimizer)
    before = [p.clone() for p in model.parameters()]
    batch, metrics, _ = adapters.rollout(model, c, pool())
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    metrics |= adapters.update(model, [kind(model.parameters(), lr=1.0)], batch, c)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert metrics["no_signal"] == 1 and metrics["reward"] == 0 and metrics["grad_norm"] == 0 == metrics["clip_high"]


def test_sampling_temperature_is_scored_too():
    """At T = 0.5 the first ratio is 1 as well: the loss scores under the distribution that was sampled from."""
    model, c = tiny(), config(temperature=0.5, updates=1)
    batch, _, _ = adapters.rollout(model, c, pool())
    assert abs(adapters.update(model, [torch.optim.SGD(model.parameters(), lr=0.1)], batch, c)["approx_kl"]) < 1e-18


def test_prompt_order_runs_in_epochs():
    """Each epoch holds every prompt once, whatever the batch size, also where a batch spans several epochs."""
    c = config(prompts=3)
    drawn = [i for step in range(16) for i in rlvr.order(c, 8, step).tolist()]
    assert all(sorted(drawn[i:i + 8]) == list(range(8)) for i in range(0, 48, 8)) and drawn[:8] != drawn[8:16]
    assert rlvr.order(config(prompts=5), 1, 3).tolist() == [0] * 5


def test_incorrect_trains_on_wrong_labels_only(monkeypatch):
    """Its pool keeps the prompts whose majority is wrong; if there are none it says so."""
    problems = [p for p, _ in pool(6)]
    labels = [str(task.answer(p)) if i % 2 else "nonsense" for i, p in enumerate(problems)]
    labels[0] = None
    monkeypatch.setattr(rlvr, "draw", lambda *args: problems)
    monkeypatch.setattr(rlvr, "frozen_labels", lambda *args: labels)
    assert rlvr.training_pool(config(reward="incorrect"), None) == [(problems[i], "nonsense") for i in (2, 4)]
    assert rlvr.training_pool(config(reward="majority"), None) == list(zip(problems, labels))
    monkeypatch.setattr(rlvr, "frozen_labels", lambda *args: [str(task.answer(p)) for p in problems])
    with pytest.raises(ValueError, match="right on all"):
        rlvr.training_pool(config(reward="incorrect"), None)


def test_frozen_labels_are_the_majority_of_the_models_samples():
    model = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, layers=1, width=8, heads=2, scale=1.0)
    problems = [p for p, _ in pool(3)]
    box = tokenizer.encode(corpus.BOX_OPEN) + tokenizer.encode("48") + tokenizer.encode(corpus.BOX_CLOSE)

    def fake(model, prompts, n, end, **options):
        ids = torch.tensor([box + [END]] * (len(prompts) * n))
        return rlvr.Rollouts(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros(ids.shape), torch.zeros(ids.shape))

    original, rlvr.sample = rlvr.sample, fake
    try:
        assert rlvr.frozen_labels(model, problems, (0,), 6) == ["48"] * 3
    finally:
        rlvr.sample = original


def test_evaluation_by_hand(monkeypatch):
    """Every number of an evaluation of two problems, recounted from eight known responses; absent modes are None, not NaN."""
    problems = [task.parse("37 *4 +5"), task.parse("3 +4")]
    right = [corpus.good_code(p, False) for p in problems]
    table = {0: [right[0], corpus.bad_code(problems[0], False), corpus.text(problems[0], 0, False), "The answer is 53."],
             1: [corpus.text(problems[1], 0, False), corpus.text(problems[1], 0, True), right[1], right[1]]}

    def fake(model, prompts, n, end, temperature=1.0, **options):
        sampled = [response for i in range(len(prompts)) for response in (table[i] if temperature else [right[0]])]
        ids = [torch.tensor(tokenizer.encode(response) + [END]) for response in sampled]
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in ids], batch_first=True)
        ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return rlvr.Rollouts(ids, mask, torch.where(mask, math.log(0.25), 0.0), torch.where(mask, 0.7, 0.0))

    monkeypatch.setattr(rlvr, "sample", fake)
    result = rlvr.evaluate(None, problems, 4, [1, 2, 4], (0,))
    expected = {"distinct_answers": (3 + 1) / 2, "accuracy": 4 / 8, "greedy_accuracy": 1 / 2, "code_share": 4 / 8, "accuracy_code": 3 / 4, "accuracy_text": 1 / 4,
                "format_rate": 6 / 8, "entropy": 0.7, "mean_token_prob": 0.25, "n_problems": 2, "n_samples": 4}
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, rel=1e-6), key
    assert result["pass_at_k"] == pytest.approx({"1": 1 / 2, "2": (1 / 2 + 1) / 2, "4": 1.0})   # 1 and 3 of 4 are right
    table[0] = table[1] = [right[1]] * 4
    assert rlvr.evaluate(None, problems, 4, [1], (0,))["accuracy_text"] is None


def test_doctests():
    for module in (rlvr, rewards, task, tokenizer, corpus):
        assert doctest.testmod(module).failed == 0
