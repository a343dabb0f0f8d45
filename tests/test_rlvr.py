"""The loop: options, the pool, one rollout batch, the updates on it, and the run and its resume.

In float64 against ground truth; runs through the command line, bit for bit.
"""

import copy
import hashlib
import json
import math
import os
import signal
import statistics
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluation
import measures
import model
import rewards
import rlvr
import run
from companions.teacher import Teacher
from data import corpus, task, tokenizer
from data.corpus import CORPORA
from evaluation import Sampling
from lessons import report
from losses import Anchor, Critic, bind_loss
from model import load_checkpoint, save_checkpoint
from plumbing import machine, progress, streams
from plumbing.flags import list_values, read_options
from plumbing.messages import InputError
from plumbing.streams import numpy_rng, torch_rng
from rewards import REWARDS
from rlvr import LOSSES
from tests import adapters
from tests.helpers import (
    CPU,
    END,
    assert_options,
    close,
    config,
    describe_options,
    f64,
    fake_rollouts,
    files,
    flat,
    forward_logits,
    hand_made_batch,
    interrupt,
    load_run,
    make_pool,
    parameters_after,
    pool,
    read_json,
    read_rows,
    tiny,
    token_logprobs,
    train,
    up_to,
    weights,
)

CORPUS = CORPORA["good-code"]


def make_critic(value=None, width=8):
    """A float64 value head: random, or the constant `value`."""
    torch.manual_seed(0)
    critic = torch.nn.Linear(width, 1, **f64)
    if value is not None:
        torch.nn.init.zeros_(critic.weight)
        torch.nn.init.constant_(critic.bias, value)
    return critic


def coins(c, step=0):
    """(P, G) what the random reward pays in a rollout batch."""
    stream = numpy_rng(streams.REWARD, c.seed, step, zlib.crc32(c.base.encode()))
    drawn = stream.random((c.prompts, c.group))
    return torch.tensor(drawn < c.flags.get("p", 0.5), **f64)


# --- options


def test_options():
    """Every default, bound and choice of `train`: (default, checks); reference.md rests on it."""
    whole, unit = {"least": 1}, {"least": 0, "most": 1}
    least0, above0 = {"least": 0}, {"above": 0}
    losses = ("grpo grpo_masked grpo_unweighted dr_grpo rloo reinforce ppo gspo psr nsr "
              "w_reinforce grpo_segments directive grpo_directive distill grpo_distill")
    ks = {"many": True, "choices": "1 2 3 4 5 6 7"}
    expected = {
        "base": ("good-code", {}), "reward": ("random", {}),
        "loss": ("grpo", {"choices": losses}), "seed": (1, {"least": 0, "most": 2 ** 32 - 1}),
        "steps": (20, up_to(10 ** 6)), "out": ("runs/train", {}),
        "prompts": (64, up_to(10 ** 5)), "group": (16, up_to(10 ** 4, 2)),
        "temperature": (1.0, {"least": 0.01, "most": 100}), "max_new_tokens": (40, up_to(1000)),
        "pool": (256, up_to(10 ** 6)), "num_ops": (None, ks),
        "updates": (32, whole), "optimizer": ("sgd", {"choices": "sgd adamw"}),
        "lr": (0.015, above0), "max_grad_norm": (3.0, above0),
        "trained": ("all", {"choices": "all ends"}),
        "aggregate": ("sequences", {"choices": "sequences length tokens signal"}),
        "kl_coef": (0.0, least0), "entropy_coef": (0.0, least0),
        "eval_problems": (400, whole), "eval_samples": (8, up_to(10 ** 5)),
        "eval_split": ("evaluation", {"choices": "training evaluation probe"}),
        "eval_num_ops": ((1, 2, 3, 4, 5), ks),
        "micro_batch": (None, whole), "threads": (None, up_to(1024)),
        "device": ("auto", {"choices": "auto cpu cuda mps"}),
        # read by single losses and rewards
        "eps_low": (0.4, least0), "eps_high": (0.4, least0), "gamma": (1.0, unit),
        "gae_lambda": (1.0, unit), "lr_value": (0.01, above0), "eps_value": (0.2, above0),
        "psr_weight": (0.1, least0), "p": (0.5, unit), "votes": (64, up_to(10 ** 4)),
        "abstain_reward": (0.0, {"least": -1, "most": 1}), "judge": (None, {}),
        "verdict": ("hard", {"choices": "hard soft"}), "tpr": (1.0, unit), "fpr": (0.0, unit),
        "hint": ("code", {"choices": "code words answer tip careful huh wrong other random none"}),
        "hint_for": ("all", {"choices": "all failed"}),
        "teacher": ("frozen", {"choices": "frozen ema current"}),
        "ema_rate": (0.2, {"above": 0, "most": 1}), "directive_batches": (10 ** 6, least0),
        "clamp": (5.0, above0), "directive_weight": (1.0, least0),
        "distill": ("jsd", {"choices": "jsd forward reverse"})}
    assert_options(expected, rlvr.TrainConfig, LOSSES, REWARDS)
    assert rlvr.MICRO_BATCH == 16


@pytest.mark.parametrize("reward, given, used", [
    ("random", None, (1, 2, 3, 4, 5)), ("majority", None, (1, 2, 3, 4, 5)),
    ("incorrect", None, (6, 7)), ("format+not_incorrect", None, (6, 7)),
    ("incorrect", (3,), (3,)), ("correct", (6,), (6,))])
def test_sizes_of_the_training_problems(reward, given, used):
    """incorrect needs prompts that the base gets wrong: 6 and 7 operations unless asked."""
    c = config(reward=reward, num_ops=given)
    rlvr.check_config(c)
    assert c.num_ops == used


def test_more_updates_than_rollouts_are_refused():
    rlvr.check_config(config(prompts=2, group=3, updates=6))
    with pytest.raises(InputError, match="--updates 7 is more than the 6 rollouts"):
        rlvr.check_config(config(prompts=2, group=3, updates=7))


@pytest.mark.parametrize("flags, refused", [
    ({"loss": "rloo", "eps_low": 0.1}, True), ({"loss": "grpo", "eps_low": 0.1}, False),
    ({"loss": "grpo", "lr_value": 0.1}, True), ({"loss": "ppo", "lr_value": 0.1}, False),
    ({"reward": "correct", "p": 0.1}, True), ({"reward": "random", "p": 0.1}, False),
    ({"reward": "correct+not_random", "p": 0.1}, False)])
def test_flags_that_nothing_reads_are_refused(flags, refused):
    c = config(**flags)
    if not refused:
        return rlvr.check_config(c)
    with pytest.raises(InputError, match="does not read it"):
        rlvr.check_config(c)


# --- the pool


def test_the_pool_is_the_seeds(monkeypatch):
    """Distinct training problems of the sizes asked for; no label where no reward needs one."""
    monkeypatch.setattr(run, "answer_problems", None)
    drawn = make_pool(config(seed=3, pool=10, num_ops=(2, 6)), None)
    stream = numpy_rng(streams.POOL, 3)
    problems = task.draw_problems(10, "training", (2, 6), stream)
    assert drawn == [(problem, None) for problem in problems]
    assert drawn != make_pool(config(seed=4, pool=10, num_ops=(2, 6)), None)


def labelled_by(monkeypatch, answer):
    """Let 64 samples of a problem be answer(problem, i) -> text; the calls that are made."""
    calls = []

    def answers(model, of_corpus, problems, n, key, sampling):
        calls.append((model, of_corpus, n, key, sampling))
        texts = [answer(problem, i) for problem in problems for i in range(n)]
        return evaluation.Answers(problems, texts, [], None, None)

    monkeypatch.setattr(run, "answer_problems", answers)
    return calls


def test_labels_of_fewer_votes(monkeypatch):
    """--votes says how many samples a frozen label is the majority of."""
    asked, original = [], evaluation.answer_problems
    monkeypatch.setattr(run, "answer_problems", lambda *args: (
        asked.append(args[3]) or original(*args)))
    made = make_pool(config(reward="majority", votes=3), tiny())
    assert asked == [3] and len(made) == 8


def test_labels_are_the_majority_of_64_samples(monkeypatch):
    """Each problem's own samples vote, drawn from a stream of their own at temperature 1."""
    calls = labelled_by(monkeypatch, lambda problem, i: (
        f"\\boxed{{{problem.start}}}" if i < 22 else f"\\boxed{{{i}}}" if i < 40 else "no box"))
    c = config(reward="majority", seed=3, temperature=0.5, max_new_tokens=9)
    drawn = make_pool(c, "model")
    assert [label for _, label in drawn] == [str(problem.start) for problem, _ in drawn]
    assert calls == [("model", CORPUS, 64, (streams.LABELS, 3), Sampling(max_new_tokens=9))]


def test_incorrect_trains_on_wrong_labels_only(monkeypatch):
    """Its pool keeps the prompts whose majority is wrong; if there are none it says so."""
    def answer(problem, i):
        kind = problem.start % 3
        return ("no box", "\\boxed{nonsense}", f"\\boxed{{{task.solve(problem)}}}")[kind]

    labelled_by(monkeypatch, answer)
    whole = make_pool(config(reward="majority", pool=12), None)
    assert {label for _, label in whole} > {None, "nonsense"} and len(whole) == 12
    wrong = make_pool(config(reward="incorrect", pool=12), None)
    assert wrong == [(problem, label) for problem, label in whole if label == "nonsense"] != []
    alone = rewards.Reward(rewards.majority, labels=rewards.vote_labels, wrong_only=True)
    monkeypatch.setitem(rewards.REWARDS, "alone", alone)
    assert make_pool(config(reward="alone", pool=12), None) == wrong
    labelled_by(monkeypatch, lambda problem, i: f"\\boxed{{{task.solve(problem)}}}")
    with pytest.raises(InputError, match="right on all 12 prompts of the pool"):
        make_pool(config(reward="incorrect", pool=12), None)


def test_prompt_order_runs_in_epochs():
    """Each epoch holds every prompt once, whatever the batch size, in an order of its own."""
    c = config(prompts=3)
    drawn = [i for step in range(16) for i in rlvr.choose_prompts(c, 8, step).tolist()]
    epochs = [drawn[i:i + 8] for i in range(0, 48, 8)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 6
    expected = [numpy_rng(streams.ORDER, c.seed, epoch).permutation(8).tolist()
                for epoch in range(6)]
    assert epochs == expected
    other = rlvr.choose_prompts(config(prompts=8, seed=2), 8, 0).tolist()
    assert other == numpy_rng(streams.ORDER, 2, 0).permutation(8).tolist() != epochs[0]
    assert rlvr.choose_prompts(config(prompts=5), 1, 3).tolist() == [0] * 5


# --- one rollout batch


def recorded_sampler(monkeypatch):
    """The rollouts that the sampler returned, and how it was called."""
    seen, original = [], rlvr.sample_responses

    def sample(model, prompts, n, end, max_new_tokens, temperature, generator):
        call = (prompts, n, end, max_new_tokens, temperature, generator.initial_seed())
        seen.append((original(model, prompts, n, end, max_new_tokens, temperature,
                              generator=generator), call))
        return seen[-1][0]

    monkeypatch.setattr(rlvr, "sample_responses", sample)
    return seen


def test_batch_holds_the_very_ids_sampled(monkeypatch):
    """Catches text that is decoded and encoded again: these tokens would merge into others.

    The rows end at different lengths, and most of them with an ending.
    """
    seen, c = recorded_sampler(monkeypatch), config(prompts=8, group=16, max_new_tokens=12)
    batch, _, _ = adapters.rollout(tiny(), c, pool())
    rollouts = seen[0][0]
    assert torch.equal(batch.ids, rollouts.ids) and torch.equal(batch.mask, rollouts.mask)
    assert torch.equal(batch.old_logprobs, rollouts.logprobs)
    lengths = batch.mask.sum(1).tolist()
    assert len(set(lengths)) > 5 and 50 < sum(length < 12 for length in lengths) < 128
    sampled = [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask)]
    assert all(row[-1] == END for row in sampled if len(row) < 12)
    assert any(tokenizer.encode(tokenizer.decode(ids)) != [i for i in ids if i < END]
               for ids in sampled)


def test_how_a_batch_is_sampled(monkeypatch):
    """The step's prompts, G of each, at the run's temperature, from the step's stream."""
    seen, c = recorded_sampler(monkeypatch), config(seed=3, temperature=0.7, max_new_tokens=5)
    for step in (0, 2):
        batch, _, _ = adapters.rollout(tiny(), c, pool(), step)
        prompts = [tokenizer.encode_prompt(task.render_problem(pool()[i][0]))
                   for i in rlvr.choose_prompts(c, 8, step)]
        stream = torch_rng(streams.SAMPLES, 3, step)
        assert seen[-1][1] == (prompts, 4, END, 5, 0.7, stream.initial_seed())
        assert batch.prompts == [prompt for prompt in prompts for _ in range(4)]


def test_what_a_reward_sees(monkeypatch):
    """N problems, texts and labels side by side, the group size, the step's coins, the judge."""
    seen, judge = [], tiny(1)
    built = rewards.build_reward("majority")

    def score(problems, responses, context):
        seen.append((problems, responses, context))
        return [float(i) for i in range(len(responses))]

    monkeypatch.setattr(rewards, "build_reward", lambda name, **values: (
        built._replace(score=score, low=-3.0, high=20.0)))
    labelled = [(problem, str(i)) for i, (problem, _) in enumerate(pool())]
    c = config(loss="dr_grpo", reward="majority", prompts=3, seed=5)
    batch, metrics, _ = adapters.rollout(tiny(), c, labelled, 1, judge=judge)
    (problems, responses, context), = seen
    chosen = [i for i in rlvr.choose_prompts(c, 8, 1) for _ in range(4)]
    assert problems == [labelled[i][0] for i in chosen]
    assert context.labels == [str(i) for i in chosen]
    assert responses == [tokenizer.decode(ids[mask].tolist())
                         for ids, mask in zip(batch.ids, batch.mask)]
    assert (context.group, context.judge) == (4, judge)
    expected = numpy_rng(streams.REWARD, 5, 1, zlib.crc32(b"good-code")).random(3)
    assert np.array_equal(context.rng.random(3), expected)
    assert batch.rewards.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert batch.rewards.dtype == torch.float64 and batch.reward_range == (-3.0, 20.0)
    assert metrics["reward"] == 5.5
    assert adapters.rollout(tiny(), c, labelled, 1) and seen[-1][2].judge is None


def test_same_prompt_twice_stays_two_groups():
    """Catches groups made by prompt text: in one-shot RLVR a batch is P groups, not one."""
    model, c = tiny(), config(pool=1, prompts=3, group=4)
    batch, _, _ = adapters.rollout(model, c, pool(1))
    assert len(set(map(tuple, batch.prompts))) == 1
    paid = coins(c)
    assert len(set(paid.sum(1).tolist())) > 1   # else one big group could give the same
    close(batch.advantages[:, 0].reshape(3, 4), adapters.advantages("grpo", paid))


def test_each_base_has_its_coins():
    """Catches coins of the seed alone: runs on two bases with one seed would share their luck."""
    model, batches = tiny(), {}
    for base in ("good-code", "runs/bases/good-code.pt", "no-code"):
        c = config(base=base, group=16)
        batches[base], _, _ = adapters.rollout(model, c, pool())
    named, located, other = batches.values()
    assert torch.equal(named.rewards, located.rewards)
    assert not torch.equal(named.rewards, other.rewards)
    assert torch.equal(named.ids, other.ids)


def test_every_batch_is_drawn_anew():
    """Catches a seed that forgets the step: the next batch has other samples and other coins."""
    model, c = tiny(), config(pool=1, prompts=3, group=8)
    (a, _, _), (b, _, _) = (adapters.rollout(model, c, pool(1), step) for step in (0, 1))
    assert a.ids.shape != b.ids.shape or not torch.equal(a.ids, b.ids)
    assert torch.equal(a.rewards, coins(c, 0)) and torch.equal(b.rewards, coins(c, 1))
    assert not torch.equal(a.rewards, b.rewards)


@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_rollout_gives_every_token_its_advantage(loss):
    """One number for all tokens of a row, 0 on padding; PPO's are GAE of the critic's values.

    Those are the values before each token, at its own lambda; on rows that end early too.
    """
    model, c = tiny(), config(loss=loss, prompts=3, group=4, gamma=0.9, gae_lambda=0.8)
    helpers = {"critic": make_critic()} if loss == "ppo" else {}
    batch, _, _ = adapters.rollout(model, c, pool(), **helpers)
    assert batch.mask.sum(1).min() < batch.mask.sum(1).max()
    paid = coins(c)
    if loss != "ppo":
        assert not batch.scores
        expected = adapters.advantages(loss, paid).flatten()[:, None] * batch.mask
        return close(batch.advantages, expected)
    for prompt, ids, mask, values in zip(batch.prompts, batch.ids, batch.mask,
                                          batch.scores["values"]):
        sequence = torch.tensor(prompt + ids[mask].tolist())
        hidden = model(sequence[None])[0, len(prompt) - 1:-1]
        close(values[mask], helpers["critic"](hidden)[:, 0].detach())
        assert not values[~mask].any()
    close(batch.advantages, adapters.gae(paid.flatten(), batch.scores["values"], batch.mask, 0.9,
                                         0.8))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_takes_rewards_below_zero(loss, monkeypatch):
    """The signed ones by the reward's range; what pays most is pushed up most. An update follows.
    """
    problem = task.parse_problem("3 +4")
    texts = ["\\boxed{7} 99%", "\\boxed{8} 99%", "\\boxed{6} 10%", "?"]
    monkeypatch.setattr(rlvr, "sample_responses", lambda *args, **more: fake_rollouts(texts))
    monkeypatch.setattr(rlvr, "choose_prompts", lambda *args: np.array([0]))
    for reward in ("brier", "brier_alone", "log_score", "ternary", "soft_consensus"):
        c = config(reward=reward, loss=loss, prompts=1, abstain_reward=-0.5)
        critic = torch.nn.Linear(8, 1, **f64)
        batch, metrics, _ = adapters.rollout(tiny(), c, [(problem, None)], critic=critic,
                                             teacher=tiny(1))
        assert batch.reward_range[0] <= batch.rewards.min() < batch.rewards.max() <= 1
        assert batch.advantages.isfinite().all() and not batch.advantages[~batch.mask].any()
        if loss not in ("ppo", "grpo_segments", "directive", "distill"):
            paid = batch.rewards.flatten()
            first = batch.advantages[:, 0]
            assert first[paid.argmax()] > first[paid.argmin()] or loss in ("psr", "nsr")
            assert abs(first).max() <= (1 if loss in ("reinforce", "psr", "nsr") else 10)
        after, _ = parameters_after(tiny(), batch, c) if loss != "ppo" else (torch.zeros(1), 0)
        assert after.isfinite().all()


@pytest.mark.parametrize("reward, sees", [("brier", True), ("correct", False), ("random", False)])
def test_parts_of_a_rollout(reward, sees, monkeypatch):
    """A reward's parts on their tokens; one that is all the answer's never pushes a confidence."""
    problems = [task.parse_problem("3 +4"), task.parse_problem("8 -2")]
    texts = ["\\boxed{7} 90%", "\\boxed{8} 90%", "\\boxed{6} 10%", "\\boxed{6}"]
    monkeypatch.setattr(rlvr, "sample_responses", lambda *args, **more: fake_rollouts(texts))
    monkeypatch.setattr(rlvr, "choose_prompts", lambda *args: np.array([0, 1]))
    c = config(reward=reward, loss="grpo_segments", prompts=2, group=2)
    batch, _, _ = adapters.rollout(tiny(), c, [(problem, None) for problem in problems])
    if reward == "brier":
        close(batch.scores["parts"][0], [[1, 0], [1, 1]])
        close(batch.scores["parts"][1], [[-0.01, -0.81], [-0.81, -1]])
    else:
        close(batch.scores["parts"][0], batch.rewards)
    close(batch.scores["parts"].sum(0), batch.rewards)
    lengths = batch.mask.sum(1).tolist()
    stated = [4, 4, 4, 1]                       # " ", number, "%", ending
    assert [row.nonzero()[0].item() for row in batch.scores["confidence"]] == [
        length - tail for length, tail in zip(lengths, stated)]
    assert bool(batch.advantages[batch.scores["confidence"]].any()) == sees


@pytest.mark.parametrize("reward, failed", [
    ("ternary", [False, True, True, False]), ("soft_consensus", [True] * 4),
    ("not_ternary", [True, False, True, True])])
def test_who_got_less_than_all_has_failed(reward, failed, monkeypatch):
    """--hint-for failed, of rewards with more than two values.

    Catches `failed` as the least that a reward pays.
    """
    texts = ["\\boxed{7}", "\\boxed{8}", "?", "\\boxed{7}"]   # 1, -1, 0, 1; 1/2, 1/4, 0, 1/2
    monkeypatch.setattr(rlvr, "sample_responses", lambda *args, **more: fake_rollouts(texts))
    monkeypatch.setattr(rlvr, "choose_prompts", lambda *args: np.array([0]))
    c = config(loss="directive", hint_for="failed", reward=reward, prompts=1)
    batch, _, _ = adapters.rollout(tiny(), c, [(task.parse_problem("3 +4"), None)],
                                   teacher=tiny(1))
    assert batch.scores["taught"].any(1).tolist() == failed


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("name", ["base", "teacher"])
def test_a_frozen_model_scores_the_sampled_ids(name, temperature, monkeypatch):
    """Under the temperature that is sampled at, row by row, in chunks; 0 on padding."""
    monkeypatch.setattr(model, "SCORED_ROWS", 5)
    beside = {"base": Anchor, "teacher": Teacher}[name]
    monkeypatch.setitem(LOSSES, "toy", LOSSES["grpo"]._replace(companions=(beside,)))
    c = config(loss="toy", temperature=temperature)
    helpers = {"base": tiny(1), "teacher": tiny(2)}
    batch, _, _ = adapters.rollout(tiny(end=2 * temperature), c, pool(), **helpers)
    assert batch.mask.sum(1).min() < batch.mask.sum(1).max()
    assert {"base", "teacher"} & batch.scores.keys() == {name}
    for prompt, ids, mask, row in zip(batch.prompts, batch.ids, batch.mask, batch.scores[name]):
        if name == "teacher":
            prompt = prompt[:-1] + tokenizer.encode(" #code\n")
        expected = token_logprobs(helpers[name], prompt, ids[mask], temperature)
        close(row[mask], expected.detach())
        assert not row[~mask].any()


@pytest.mark.parametrize("flags, beside", [
    ({}, []), ({"kl_coef": 0.1}, [Anchor]), ({"loss": "ppo"}, [Critic]),
    ({"loss": "ppo", "kl_coef": 0.1}, [Critic, Anchor]), ({"loss": "directive"}, [Teacher])])
def test_who_stands_beside_the_policy(flags, beside):
    objective = adapters.make_objective(tiny(), config(**flags), critic=make_critic())
    assert list(map(type, objective.companions)) == beside


def test_metrics_of_a_batch_by_hand(monkeypatch):
    """Two groups of two known responses: every metric of the rollout recounted."""
    problems = [task.parse_problem("37 *4 +5"), task.parse_problem("3 +4")]
    texts = [corpus.write_good_code(problems[0], False), corpus.write_text(problems[0], 0, False),
             corpus.write_text(problems[1], 0, True), corpus.write_text(problems[1], 0, False)]
    monkeypatch.setattr(rlvr, "sample_responses", lambda *args, **more: fake_rollouts(texts))
    monkeypatch.setattr(rlvr, "choose_prompts", lambda *args: np.array([0, 1]))
    c = config(reward="code", prompts=2, group=2)
    unlabelled = [(problem, None) for problem in problems]
    batch, metrics, readable = adapters.rollout(tiny(), c, unlabelled)
    lengths = [len(tokenizer.encode(text)) + 1 for text in texts]
    expected = {"reward": 1 / 4, "reward_right": 1 / 2, "reward_wrong": 0.0, "reward_gap": 1 / 2,
                "reward_code": 1.0, "reward_text": 0.0, "accuracy": 2 / 4,
                "code_share": 1 / 4, "text_share": 3 / 4,
                "format_rate": 3 / 4, "entropy": 0.7, "mean_token_prob": 0.25,
                "ended": 1.0,
                # 53 and 48; 7 and none
                "agreement": 1 / 2, "vote_accuracy": 1.0, "top_answer_share": 1 / 4,
                "response_length": sum(lengths) / 4, "no_signal": 1 / 2}
    assert expected == {key: pytest.approx(metrics[key]) for key in expected}
    assert readable == [
        f"step 0 reward {int(i == 0)} correct {int(i in (0, 3))} | "
        f"{task.render_problem(problems[i // 2])}\n{text}\n" for i, text in enumerate(texts)]


def test_samples_to_read_are_four_of_a_batch():
    for prompts, group, step in ((4, 4, 7), (5, 4, 0), (1, 2, 3)):
        c = config(prompts=prompts, group=group)
        _, _, readable = adapters.rollout(tiny(), c, pool(), step)
        assert 2 <= len(readable) <= 5 and readable[0].startswith(f"step {step} reward ")
        assert len(readable) == min(4, prompts * group)


def test_metrics_average_over_tokens():
    """Catches a mean of row means: rows end at different lengths."""
    model = tiny()
    batch, metrics, _ = adapters.rollout(model, config(), pool())
    logits = adapters.response_logits(model, batch.prompts, batch.ids, batch.mask)
    close(metrics["entropy"], adapters.entropy(logits).mean().item())
    close(metrics["mean_token_prob"], batch.old_logprobs[batch.mask].exp().mean().item())
    close(metrics["response_length"], batch.mask.sum(1).double().mean().item())


# --- the updates on it


def test_update_is_the_policy_gradient():
    """One on-policy update moves the parameters by lr / rows * sum of A d log pi over all tokens.

    Catches a dropped or masked ending, a division by the length, and a divisor that forgets rows
    without signal.
    """
    model, c = tiny(), config(updates=1, max_grad_norm=1e9)
    batch = hand_made_batch(model, (2, 4, 3), (1.0, -0.5, 0.0))
    expected = policy_gradient(model, batch, "sequences")
    after, _ = parameters_after(model, batch, c)
    close((after - flat(model.parameters())) / c.lr, expected)


def test_nothing_after_the_ending_matters():
    """Catches a mask with an off-by-one: the padding behind an ending may hold anything.

    The update is that of plain forward passes of one row each, which have no padding.
    """
    model, c = tiny(), config(updates=1, max_grad_norm=1e9)
    batch = hand_made_batch(model)
    other = batch._replace(ids=torch.where(batch.mask, batch.ids, 77),
                           old_logprobs=torch.where(batch.mask, batch.old_logprobs, -3.0))
    a, b = parameters_after(model, batch, c)[0], parameters_after(model, other, c)[0]
    expected = flat(model.parameters()) + c.lr * policy_gradient(model, batch, "sequences")
    close(a, expected)
    close(b, expected)
    changed = batch._replace(ids=torch.where(batch.ids == END, 77, batch.ids))
    assert (parameters_after(model, changed, c)[0] - a).abs().max() > 1e-6  # the ending matters


def test_the_loss_of_some_rows():
    """minibatch_loss: those rows' tokens alone, each row by its divisor; sums over its tokens."""
    model, c = tiny(), config(loss="rloo", entropy_coef=0.3, kl_coef=0.2, temperature=0.7)
    batch = hand_made_batch(model, (3, 6, 2, 4), (1.0, -1.0, 0.5, 2.0))
    batch = batch._replace(scores={"base": batch.old_logprobs - 0.3 * batch.mask})
    rows, divisors = torch.tensor([3, 0]), torch.tensor([2.0, 5.0])
    loss, sums = adapters.minibatch_loss(model, batch, rows, divisors, c)
    expected, kl_total = 0.0, 0.0
    for row, divisor in zip(rows, divisors):
        ids = batch.ids[row][batch.mask[row]]
        logits = forward_logits(model, batch.prompts[row], ids) / 0.7
        logprobs = token_logprobs(model, batch.prompts[row], ids, 0.7)
        d = batch.scores["base"][row][batch.mask[row]] - logprobs
        kl = d.exp() - d - 1
        terms = -batch.advantages[row, 0] * logprobs + 0.2 * kl - 0.3 * adapters.entropy(logits)
        expected, kl_total = expected + terms.sum() / divisor, kl_total + kl.sum().item()
    close(loss.item(), expected.item())
    assert sums["trained"] == 7 and sums["kl"] == pytest.approx(kl_total)
    assert sums["clip_high"] == sums["clip_low"] == 0 and "value_loss" not in sums


def test_clip_fractions_and_kl_count_over_all_updates():
    """Replay the updates by hand and count the tokens whose gradient the clip removed.

    By hand: the gradient of a token is -A w, and none beyond the bound that A pushes towards.
    """
    model, c = tiny(), config(updates=3, lr=0.1, eps_low=0.05, eps_high=0.1, seed=4,
                              max_grad_norm=1e9)
    batch = hand_made_batch(model, (3, 4, 3, 6, 5, 2), (1.0, -1.0, 0.5, 2.0, -0.7, -1.2))
    _, metrics = parameters_after(model, batch, c)
    copied, high, low, kl = copy.deepcopy(model), 0, 0, 0.0
    order = numpy_rng(streams.SHUFFLE, 4, 0).permutation(6).reshape(3, 2)
    for rows in order:
        gain = 0.0
        for i in rows:
            ids, old = batch.ids[i][batch.mask[i]], batch.old_logprobs[i][batch.mask[i]]
            ratio = (token_logprobs(copied, batch.prompts[i], ids) - old).exp()
            A = batch.advantages[i, 0]
            too_high, too_low = (ratio > 1.1) & (A > 0), (ratio < 0.95) & (A < 0)
            high, low = high + int(too_high.sum()), low + int(too_low.sum())
            # The samples are the old policy's: this estimates KL(old || new).
            kl += (ratio - 1 - ratio.log()).sum().item()
            gain = gain + (A * ratio)[~(too_high | too_low)].sum() / len(rows)
        parameters = list(copied.parameters())
        with torch.no_grad():
            for parameter, slope in zip(parameters, torch.autograd.grad(gain, parameters)):
                parameter += c.lr * slope
    tokens = int(batch.mask.sum())
    assert high > 0 and low > 0 and high != low
    assert metrics["clip_high"] == pytest.approx(high / tokens)
    assert metrics["clip_low"] == pytest.approx(low / tokens)
    assert metrics["approx_kl"] == pytest.approx(kl / tokens)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_clips_are_counted_at_the_losses_own_bounds(temperature):
    """One row above the upper bound, one below the lower, one between: each where A wants it."""
    model = tiny()
    c = config(eps_low=0.1, eps_high=0.5, updates=1, temperature=temperature)
    batch = hand_made_batch(model, (3, 3, 3, 3), (1.0, 1.0, -1.0, -1.0))
    now = torch.stack([token_logprobs(model, prompt, ids, temperature).detach()
                       for prompt, ids in zip(batch.prompts, batch.ids)])
    ratio = torch.tensor([1.6, 1.4, 0.85, 0.95], **f64)[:, None]
    metrics = parameters_after(model, batch._replace(old_logprobs=now - ratio.log()), c)[1]
    assert metrics["clip_high"] == metrics["clip_low"] == 3 / 12


@pytest.mark.parametrize("dropped", [
    [True, True, True, True, True, True], [False] * 6, [True, False, True, False, False, True]])
def test_what_is_counted_of_some_tokens(dropped):
    """Sums by hand: KL(old || new) by k3, and what the loss says that it dropped, by the sign of A.

    A token without advantage had no gradient to lose. A loss that never clips drops nothing,
    however far the ratio is from 1.
    """
    ratio = torch.tensor([1.5, 0.5, 3.0, 0.2, 1.0, 4.0], **f64)
    A, old = [1.0, -1.0, 0.0, 0.0, 2.0, -0.5], torch.linspace(-3, -1, 6, **f64)
    sums = rlvr.diagnose(old + ratio.log(), old, torch.tensor(A, **f64), torch.tensor(dropped))
    assert sums["trained"] == 6
    assert sums["approx_kl"] == pytest.approx(sum(w - 1 - math.log(w) for w in ratio.tolist()))
    assert sums["clip_high"] == sum(a > 0 for a, gone in zip(A, dropped) if gone)
    assert sums["clip_low"] == sum(a < 0 for a, gone in zip(A, dropped) if gone)


def test_metrics_of_trained_tokens():
    """A row without advantage is no part of approx_kl; clip fractions are of all tokens."""
    model, c = tiny(), config(updates=1, eps_high=0.1)
    batch = hand_made_batch(model, (3, 6, 2), (1.0, 0.0, 1.0))
    moved = batch._replace(old_logprobs=batch.old_logprobs - 0.3 * batch.mask)
    metrics = parameters_after(model, moved, c)[1]
    assert metrics["clip_high"] == pytest.approx(5 / 11) and metrics["clip_low"] == 0
    assert metrics["approx_kl"] == pytest.approx(math.exp(0.3) - 1 - 0.3)
    batch = hand_made_batch(model, (3, 6, 2), (-1.0, 0.0, -1.0))
    moved = batch._replace(old_logprobs=batch.old_logprobs + 0.9 * batch.mask)
    metrics = parameters_after(model, moved, c)[1]
    assert metrics["clip_low"] == pytest.approx(5 / 11) and metrics["clip_high"] == 0


def test_first_update_has_ratio_one_and_later_ones_clip():
    model = tiny(scale=6.0)
    batch = hand_made_batch(model, (3, 4, 3, 6), (1.0, -1.0, 0.5, -2.0))
    once, often = (parameters_after(model, batch, config(updates=n, lr=0.3))[1] for n in (1, 4))
    assert once["clip_high"] == once["clip_low"] == 0 and abs(once["approx_kl"]) < 1e-20
    assert often["clip_high"] + often["clip_low"] > 0 and often["approx_kl"] > 1e-6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_equal_rewards_move_nothing(optimizer):
    """p = 0: the reward never pays, the parameters stay, bit for bit, weight decay included."""
    model, c = tiny(), config(p=0.0, optimizer=optimizer)
    before = flat(model.parameters()).clone()
    batch, metrics, _ = adapters.rollout(model, c, pool())
    metrics |= adapters.update(model, run.make_optimizers(c, model, ()), batch, c)
    assert torch.equal(before, flat(model.parameters()))
    assert metrics["no_signal"] == 1 and metrics["reward"] == 0
    assert metrics["grad_norm"] == 0 == metrics["clip_high"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_equal_rewards_move_nothing_after_others_did(optimizer):
    """A batch without a signal after one that had some: the parameters stay, bit for bit.

    Catches gradients of zeros in place of none, by which AdamW goes on: its momentum, its decay.
    """
    model, c = tiny(), config(optimizer=optimizer, updates=1)
    optimizers, batch = run.make_optimizers(c, model, ()), hand_made_batch(model)
    first = flat(model.parameters()).clone()
    adapters.update(model, optimizers, batch, c)
    moved = flat(model.parameters()).clone()
    assert not torch.equal(first, moved)
    silent = batch._replace(advantages=0 * batch.advantages)
    adapters.update(model, optimizers, silent, c, 1)
    assert torch.equal(moved, flat(model.parameters()))


@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_which_losses_learn_from_equal_rewards(loss):
    """Those with a baseline do not move where all rewards are equal; the others do.

    PPO has one where its critic is right. All wrong moves everything but PSR, all right everything
    but NSR: that is what they are.
    """
    moved = {}
    for p in (0.0, 1.0):
        model, c = tiny(), config(loss=loss, p=p, updates=1)
        helpers = {"critic": make_critic(p)} if loss == "ppo" else {}
        batch, metrics, _ = adapters.rollout(model, c, pool(), **helpers)
        before = flat(model.parameters()).clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        adapters.update(model, [optimizer], batch, c, **helpers)
        moved[p] = not torch.equal(before, flat(model.parameters()))
        assert metrics["no_signal"] == (0 if moved[p] else 1)
    assert moved == {0.0: loss in ("reinforce", "nsr", "w_reinforce"),
                     1.0: loss in ("reinforce", "psr", "w_reinforce")}


def test_sampling_temperature_is_scored_too():
    """At T = 0.5 the first ratio is 1 as well: the loss scores under what was sampled from."""
    model, c = tiny(), config(temperature=0.5, updates=1)
    batch, _, _ = adapters.rollout(model, c, pool())
    assert abs(parameters_after(model, batch, c)[1]["approx_kl"]) < 1e-18


def test_the_norm_is_clipped_and_the_unclipped_one_is_shown():
    """An update of norm above --max-grad-norm is scaled down to it; below it is left alone."""
    model = tiny()
    batch = hand_made_batch(model, (2, 4, 3), (1.0, -0.5, 2.0))
    norm = policy_gradient(model, batch, "sequences").norm().item()
    for bound in (norm / 10, norm * 10):
        c = config(updates=1, max_grad_norm=bound)
        after, metrics = parameters_after(model, batch, c)
        moved = (after - flat(model.parameters())).norm().item() / c.lr
        assert moved == pytest.approx(min(norm, bound), rel=1e-4)
        assert metrics["grad_norm"] == pytest.approx(norm)


def test_the_norm_shown_is_the_mean_over_updates():
    model, c = tiny(), config(updates=2, lr=1e-9)
    batch = hand_made_batch(model, (2, 4, 3, 5), (1.0, -0.5, 2.0, 0.7))
    norms = []
    for rows in numpy_rng(streams.SHUFFLE, c.seed, 0).permutation(4).reshape(2, 2):
        chosen = torch.zeros(4, 1, **f64)
        chosen[rows] = 2.0                            # a minibatch has two of the four rows
        part = batch._replace(advantages=batch.advantages * chosen)
        norms.append(policy_gradient(model, part, "sequences").norm().item())
    metrics = parameters_after(model, batch, c)[1]
    assert metrics["grad_norm"] == pytest.approx(sum(norms) / 2, rel=1e-6)


def test_shuffling_is_the_steps():
    """Each row once in each step; the rows of a minibatch are others in the next."""
    seen, original = [], rlvr.minibatch_loss
    model, c = tiny(), config(updates=2, seed=3, lr=1e-9)
    batch = hand_made_batch(model, (3,) * 6, (1.0,) * 6)
    for step in (0, 5):
        optimizer = torch.optim.SGD(model.parameters(), lr=c.lr)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rlvr, "minibatch_loss", lambda *args: (
                seen.append(sorted(args[2].tolist())) or original(*args)))
            adapters.update(model, [optimizer], batch, c, step)
        order = numpy_rng(streams.SHUFFLE, 3, step).permutation(6).reshape(2, 3)
        assert seen[-2:] == [sorted(rows) for rows in order.tolist()]
    assert seen[0] != seen[2]


def test_a_micro_batch_has_its_size(monkeypatch):
    sizes, original = [], rlvr.minibatch_loss
    monkeypatch.setattr(rlvr, "minibatch_loss", lambda *args: (
        sizes.append(len(args[2])) or original(*args)))
    model = tiny()
    batch = hand_made_batch(model, (3,) * 7, (1.0,) * 6 + (0.0,))
    parameters_after(model, batch, config(updates=1, micro_batch=4))
    assert sizes == [4, 2]                            # the row without advantage needs no pass


@pytest.mark.parametrize("device, size", [("cpu", 16), ("cuda", 512)])
def test_micro_batches_unless_asked(device, size, monkeypatch):
    """Sixteen on a CPU, and all that fits on a GPU."""
    asked = []
    monkeypatch.setattr(machine, "choose_micro_batch", lambda c, where, on_cpu: (
        asked.append((where, on_cpu)) or on_cpu))
    parameters_after(tiny(), hand_made_batch(tiny()), config(updates=1))
    assert asked == [(CPU, 16)]
    monkeypatch.undo()
    assert machine.choose_micro_batch(config(), torch.device(device), rlvr.MICRO_BATCH) == size


def test_a_gradient_that_is_no_number_ends_the_run():
    model = tiny()
    batch = hand_made_batch(model)
    broken = batch._replace(advantages=batch.advantages * torch.inf)
    with pytest.raises(FloatingPointError, match="diverged in rollout batch 7"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        adapters.update(model, [optimizer], broken, config(updates=1), step=7)


@pytest.mark.parametrize("bad", [1, 2])
def test_nothing_is_saved_of_a_batch_that_diverged(base, tmp_path, monkeypatch, capsys, bad):
    """In the first or the last update of batch 1: the run is as after batch 0, and goes on.

    Catches a check of the gradients that comes after the saving.
    """
    original, calls, flags = rlvr.minibatch_loss, [], ["--loss", "reinforce", "--steps"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def diverge(*args):
        loss, sums = original(*args)
        calls.append(1)
        return (loss * torch.inf if len(calls) == bad else loss), sums

    assert train(base, whole, *flags, 2) == train(base, parts, *flags, 1) == 0
    before = files(parts)
    monkeypatch.setattr(rlvr, "minibatch_loss", diverge)
    assert train(base, parts, *flags, 2) == 1 and len(calls) == 2
    assert "diverged in rollout batch 1" in capsys.readouterr().err.splitlines()[-1]
    after = files(parts)
    assert all(after[name] == before[name] for name in ("model.pt", "metrics.csv"))
    monkeypatch.undo()
    assert train(base, parts, *flags, 2) == 0
    assert (parts / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert torch.equal(weights(parts / "model.pt"), weights(whole / "model.pt"))


# --- divisors, micro-batches


def policy_gradient(model, batch, aggregate):
    """sum of A d log pi over all tokens, rows divided as `aggregate` says, by plain passes."""
    total, rows, tokens = 0.0, len(batch.ids), int(batch.mask.sum())
    signal = sum(int(mask.sum()) for mask, advantages in zip(batch.mask, batch.advantages)
                 if any(advantages.tolist()))
    for prompt, ids, mask, advantages in zip(batch.prompts, batch.ids, batch.mask,
                                             batch.advantages):
        divisor = {"sequences": rows, "length": rows * int(mask.sum()), "tokens": tokens,
                   "signal": signal}
        scores = advantages[mask] * token_logprobs(model, prompt, ids[mask])
        total = total + scores.sum() / divisor[aggregate]
    return flat(torch.autograd.grad(total, list(model.parameters())))


AGGREGATES = ("sequences", "length", "tokens", "signal")


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("advantages", [(1.0, -0.5, 0.0, 2.0), (0.0, 0.0, 0.7, 0.0),
                                        (0.0, -1.0, 0.0, -1.0), (0.0, 0.0, 0.0, 0.0)])
def test_divisors_by_brute_force(aggregate, advantages):
    """One update on rows of which some have no advantage: in `signal` those do not count at all."""
    model = tiny()
    batch = hand_made_batch(model, (2, 4, 3, 5), advantages)
    c = config(aggregate=aggregate, updates=1, max_grad_norm=1e9)
    after, _ = parameters_after(model, batch, c)
    moved = (after - flat(model.parameters())) / c.lr
    expected = policy_gradient(model, batch, aggregate) if any(advantages) else 0 * moved
    close(moved, expected)


def keep_rows(batch, kept):
    """Some rows of a batch."""
    return batch._replace(prompts=[batch.prompts[row] for row in kept], **{
        name: getattr(batch, name)[kept]
        for name in ("ids", "mask", "old_logprobs", "advantages")})


@pytest.mark.parametrize("loss, signed", [("psr", 1.0), ("nsr", -1.0)])
def test_signal_is_as_if_the_other_rows_were_not_there(loss, signed):
    """The code of 2506.01347 drops them from the batch: PSR the wrong ones, NSR the right ones."""
    model, lengths, right = tiny(), (2, 4, 3, 5, 6), torch.tensor([1, 0, 0, 1, 0], **f64)
    paid = right if signed > 0 else 1 - right
    whole = hand_made_batch(model, lengths, (signed * paid).tolist())
    chosen = paid.nonzero()[:, 0].tolist()
    dropped = keep_rows(whole, chosen)
    results = {}
    for name, batch in (("signal", whole), ("tokens", dropped), ("other", whole)):
        c = config(loss=loss, updates=1, max_grad_norm=1e9,
                   aggregate="tokens" if name == "other" else name)
        results[name], _ = parameters_after(model, batch, c)
    close(results["signal"], results["tokens"])
    assert (results["signal"] - results["other"]).abs().max() > 1e-5


@pytest.mark.parametrize("flags", [{"kl_coef": 0.1}, {"entropy_coef": 0.1}, {"loss": "ppo"}])
def test_a_minibatch_without_signal(flags):
    """Its policy has no reason to move; the other terms, if there are any, stay finite.

    Catches a division by the 0 tokens of no row. It happens: no right sample, and PSR.
    """
    model, c = tiny(), config(aggregate="signal", updates=1, **flags)
    batch = hand_made_batch(model, (2, 4), (0.0, 0.0))
    batch = batch._replace(scores={"base": batch.old_logprobs - 0.3 * batch.mask,
                                   "values": 0.0 * batch.mask})
    critic = make_critic() if flags.get("loss") == "ppo" else None
    optimizer = torch.optim.SGD(model.parameters(), lr=c.lr)
    metrics = adapters.update(model, [optimizer], batch, c, critic=critic)
    assert flat(model.parameters()).isfinite().all()
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("loss", adapters.LOSSES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_length_bias(loss, aggregate):
    """Only `length` (GRPO's eq. 3) gives a token of a short response more weight than a long one's.

    With equal advantages and lengths 2 and 4 the weights are 1/N each for `sequences`, 1/2N and
    1/4N for `length`, one over all tokens for `tokens` and here for `signal`; where one row alone
    has an advantage `signal` divides by its tokens only. The loss does not matter: its bias is in
    the divisor. Catches a "Dr. GRPO" that only drops the std.
    """
    model, c = tiny(), config(loss=loss, aggregate=aggregate, updates=1, max_grad_norm=1e9)
    batch = hand_made_batch(model, (2, 4), (1.0, 1.0))
    before = flat(model.parameters())
    after, _ = parameters_after(model, batch, c)
    close((after - before) / c.lr, policy_gradient(model, batch, aggregate))
    alone = [batch._replace(advantages=batch.advantages * torch.tensor(only, **f64)[:, None])
             for only in ((1.0, 0.0), (0.0, 1.0))]
    per_row = [(parameters_after(model, one, c)[0] - before) / c.lr for one in alone]
    unbiased = [policy_gradient(model, one, "sequences") for one in alone]
    weight = [(torch.dot(a, b) / torch.dot(b, b)).item() for a, b in zip(per_row, unbiased)]
    biased = aggregate in ("length", "signal")
    assert weight[0] / weight[1] == pytest.approx(2.0 if biased else 1.0)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_micro_batches_change_nothing(loss, aggregate):
    """Catches micro-batches that are each divided by their own size, and metrics of the last one.

    All terms are on.
    """
    model = tiny()
    batch = hand_made_batch(model, (2, 4, 3, 6, 5, 2, 2), (1.0, -1.0, 0.5, 2.0, -0.7, 0.0, -1.2))
    batch = batch._replace(scores={"base": batch.old_logprobs - 0.3 * batch.mask,
                                   "values": 0.1 * batch.mask})
    results = []
    for size in (1, 2, 3, 100):
        c = config(loss=loss, aggregate=aggregate, updates=2, micro_batch=size, kl_coef=0.1,
                   lr=0.1 if aggregate == "sequences" else 0.3, entropy_coef=0.05)
        copied, critic = copy.deepcopy(model), make_critic() if loss == "ppo" else None
        trained = [*copied.parameters(), *(critic.parameters() if critic is not None else ())]
        optimizer = torch.optim.SGD(trained, lr=c.lr)
        metrics = adapters.update(copied, [optimizer], batch, c, critic=critic)
        results.append((flat(trained), metrics))
    first = results[0][1]
    assert (first["clip_high"] + first["clip_low"] > 0) == (loss in adapters.CLIPPED)
    for parameters, metrics in results[1:]:
        close(parameters, results[0][0])
        assert metrics == pytest.approx(first, abs=1e-10)


def test_divisors_are_of_the_minibatch():
    """Not of the batch: with two updates each has its own rows' number and tokens."""
    lengths, rows = torch.tensor([2, 5, 3, 4]), torch.tensor([3, 0])
    signal = torch.tensor([True, True, True, False])
    for aggregate, expected in (("sequences", [2, 2]), ("length", [8, 4]), ("tokens", [6, 6]),
                                ("signal", [2, 2])):
        divisors = rlvr.choose_divisors(lengths, rows, signal, aggregate)
        assert divisors[rows].tolist() == expected


# --- the terms that are off unless asked for


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_kl_term(temperature):
    """Its update is lr kl_coef times the gradient of the mean over rows of the sum of k3.

    Both are the distributions that are sampled from; the base's log-probabilities come with the
    rollout, under the same temperature.
    """
    base, model = tiny(end=2 * temperature), tiny(1, end=2 * temperature)
    c = config(kl_coef=0.7, p=0.0, updates=1, max_grad_norm=1e9, temperature=temperature)
    batch, _, _ = adapters.rollout(model, c, pool(), base=base)
    assert batch.mask.sum(1).min() < batch.mask.sum(1).max()
    logprobs, of_base = (torch.cat([
        token_logprobs(m, prompt, ids[mask], temperature)
        for prompt, ids, mask in zip(batch.prompts, batch.ids, batch.mask)])
        for m in (model, base))
    close(batch.scores["base"][batch.mask], of_base.detach())
    ratio = (of_base.detach() - logprobs).exp()
    k3 = ratio - 1 - ratio.log()
    gradients = torch.autograd.grad(-0.7 * k3.sum() / len(batch.ids), list(model.parameters()))
    after, metrics = parameters_after(model, batch, c)
    close((after - flat(model.parameters())) / c.lr, flat(gradients))
    assert metrics["kl"] == pytest.approx(k3.mean().item())


def test_kl_term_pulls_towards_the_base():
    """At the base it does nothing; away from it, it leads back, though no row has an advantage."""
    base = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, 1, 8, 2, scale=4.0)
    c = config(kl_coef=1.0, p=0.0, updates=1, lr=0.3)
    model = copy.deepcopy(base)
    with torch.no_grad():
        noise = torch.Generator().manual_seed(0)
        model.head.weight += 0.3 * torch.randn(model.head.weight.shape, generator=noise, **f64)
    kl = {}
    for name, policy in (("at", copy.deepcopy(base)), ("away", model)):
        kl[name] = []
        for step in range(12):
            batch, _, _ = adapters.rollout(policy, c, pool(), step, base=base)
            assert not batch.advantages.any()
            before = flat(policy.parameters()).clone()
            optimizer = torch.optim.SGD(policy.parameters(), lr=c.lr)
            kl[name].append(adapters.update(policy, [optimizer], batch, c, step)["kl"])
            if name == "at":
                close(before, flat(policy.parameters()), 1e-9)
    assert max(kl["at"]) < 1e-12
    assert kl["away"][0] > 0.05 and kl["away"][-1] < 0.5 * kl["away"][0]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_bonus(temperature):
    """Its update is lr times the gradient of the mean over rows of the sum over tokens of H.

    H is of the distribution that is sampled from.
    """
    model, c = tiny(), config(entropy_coef=0.7, updates=1, max_grad_norm=1e9,
                              temperature=temperature)
    batch = hand_made_batch(model, (2, 4, 3), (0.0, 0.0, 0.0))
    logits = adapters.response_logits(model, batch.prompts, batch.ids, batch.mask) / temperature
    H = -(logits.softmax(-1) * logits.log_softmax(-1)).sum()
    expected = flat(torch.autograd.grad(0.7 * H / 3, list(model.parameters())))
    after, _ = parameters_after(model, batch, c)
    close((after - flat(model.parameters())) / c.lr, expected)


# --- PPO's critic


def test_critic_learns_a_known_value_function():
    """Rewards are 0.2 after one prompt and 0.9 after another: V goes there, the advantage to 0."""
    model = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, 1, 32, 2, scale=4.0)
    c = config(loss="ppo", updates=4, lr=1e-12, eps_value=0.1)
    batch = hand_made_batch(model, (3, 4, 3, 4), (0.0,) * 4)
    rewards = torch.tensor([0.2, 0.9, 0.2, 0.9], **f64)
    critic = make_critic(width=32)
    optimizers = [torch.optim.SGD(model.parameters(), lr=c.lr),
                  torch.optim.AdamW(critic.parameters(), lr=0.02, weight_decay=0.0)]
    beside, = adapters.make_objective(model, c, critic).companions
    for step in range(60):
        scores = beside.score(model, batch, step)
        values = scores["values"]
        advantages = adapters.gae(rewards, values, batch.mask, 1.0, 1.0)
        current = batch._replace(advantages=advantages, scores=scores)
        metrics = adapters.update(model, optimizers, current, c, step, critic)
    assert (values - rewards[:, None] * batch.mask).abs().max() < 0.01
    assert advantages.abs().max() < 0.01 and metrics["value_loss"] < 1e-4


def test_one_step_of_the_critic():
    """Bias and weights move by lr times the mean over rows of the sum over tokens of (V - R) h.

    But not where V has moved too far. The trunk does not hear of it: without advantages it stays
    as it is, bit for bit, however wrong the critic.
    """
    model, c = tiny(), config(loss="ppo", updates=1, eps_value=0.2, eps_low=2.0, eps_high=1e9)
    batch, critic = hand_made_batch(model, (3, 4), (0.0, 0.0)), make_critic()
    rows = zip(batch.prompts, batch.ids, batch.mask)
    hidden = torch.cat([
        model(torch.tensor(prompt + ids[mask].tolist())[None])[0, len(prompt) - 1:-1]
        for prompt, ids, mask in rows]).detach()
    values = critic(hidden)[:, 0].detach()
    moved = torch.tensor([0.0, 0.3, -0.3, 0.1, 0.3, -0.3, 0.0], **f64)          # V - V_old
    returns = values + torch.tensor([0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 0.0], **f64)
    # 0 where it moved towards R by more than 0.2
    learns = torch.tensor([1, 0, 1, 1, 1, 0, 1], **f64)
    zeros = torch.zeros(batch.mask.shape, **f64)
    old = zeros.masked_scatter(batch.mask, values - moved)
    target = zeros.masked_scatter(batch.mask, returns)
    before, error = flat(model.parameters()).clone(), (values - returns) * learns
    expected = [critic.weight - 0.1 * error[None] @ hidden / 2, critic.bias - 0.1 * error.sum() / 2]
    optimizers = [torch.optim.SGD(model.parameters(), lr=1.0),
                  torch.optim.SGD(critic.parameters(), lr=0.1)]
    # The returns are advantages + values. The policy's part of the advantages is taken out by a
    # ratio of 0: exp(-1e9).
    gone = batch._replace(advantages=target - old, scores={"values": old},
                          old_logprobs=torch.full(batch.mask.shape, 1e9, **f64))
    metrics = adapters.update(model, optimizers, gone, c, critic=critic)
    close(critic.weight, expected[0])
    close(critic.bias, expected[1])
    assert torch.equal(before, flat(model.parameters()))
    near = (values - moved) + moved.clamp(-0.2, 0.2)
    losses = torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2
    assert metrics["value_loss"] == pytest.approx(losses.mean().item())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimizers(kind):
    """The policy's has the policy's parameters and --lr, the critic's its own and --lr-value."""
    model, c = tiny(), config(loss="ppo", optimizer=kind, lr=0.3, lr_value=0.4)
    critic, = bind_loss(LOSSES["ppo"], list_values(c) | {"base": tiny(1)}).companions
    policy, value = run.make_optimizers(c, model, (critic,))
    assert type(policy) is {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind]
    assert type(value) is torch.optim.AdamW
    for optimizer, of, lr in ((policy, model, 0.3), (value, critic.head, 0.4)):
        group, = optimizer.param_groups
        assert group["lr"] == lr
        assert [id(p) for p in group["params"]] == [id(p) for p in of.parameters()]
    assert value.param_groups[0]["weight_decay"] == 0
    assert policy.param_groups[0].get("momentum", 0) == 0
    assert len(run.make_optimizers(c, model, ())) == 1


# --- the run


def test_shares_by_kind_reach_the_tables(base, tmp_path):
    """mixed-code: shares by kind in metrics.csv, summary.json and curves.csv; an empty cell where a
    batch has no prompt of a kind is no zero."""
    model, _ = load_checkpoint(Path(base), CPU)
    save_checkpoint(tmp_path / "mixed.pt", model, corpus="mixed-code")
    flags = ["--prompts", "1", "--updates", "1", "--steps", "6"]
    assert train(tmp_path / "mixed.pt", tmp_path / "run", *flags) == 0
    rows = read_rows(tmp_path / "run")
    for row in rows:
        cells = row["code_share_sums"], row["code_share_products"]
        assert sorted(cells) == ["", row["code_share"]]
    summary = json.loads((tmp_path / "run/summary.json").read_text("utf-8"))
    assert {"code_share_sums", "greedy_text_share_products"} <= set(summary["after"])
    run, curve = report.read_run(tmp_path / "run")
    assert run["after_code_share_sums"] == summary["after"]["code_share_sums"]
    assert [row["code_share_sums"] for row in curve] == [
        float(row["code_share_sums"]) if row["code_share_sums"] else None for row in rows]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_trained(base, tmp_path, optimizer):
    """`ends` leaves every block as it is, decay included, also after a resume, and nothing else;
    the norm that is clipped is of what is trained."""
    norms, before = {}, load_checkpoint(Path(base), CPU)[0].state_dict()
    for trained in ("all", "ends"):
        flags = ["--optimizer", optimizer, "--lr", "0.01", "--trained", trained, "--reward", "code"]
        assert train(base, tmp_path / trained, *flags, "--steps", "1") == 0
        norms[trained] = float(read_rows(tmp_path / trained)[0]["grad_norm"])
        assert train(base, tmp_path / trained, *flags, "--steps", "2") == 0
        after = load_checkpoint(tmp_path / trained / "model.pt", CPU)[0].state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        ends = {"embedding.weight", "norm.weight", "head.weight"}
        assert moved == (set(before) if trained == "all" else ends)
    assert 0 < norms["ends"] < norms["all"]


def recorded_rollouts(monkeypatch):
    """What each call of `rollout` was given, with a copy of the policy."""
    seen, original = [], rlvr.rollout
    monkeypatch.setattr(rlvr, "rollout", lambda *args: (
        seen.append((copy.deepcopy(args[0]), *args[1:])) or original(*args)))
    return seen


def test_the_loop_is_its_parts(base, tmp_path):
    """The weights and tables of four batches, replayed from the base by rollout and update."""
    flags = ["--loss", "ppo", "--kl-coef", "0.1", "--reward", "format", "--seed", "3"]
    assert train(base, tmp_path / "run", *flags) == 0
    c = rlvr.TrainConfig(base=base, loss="ppo", kl_coef=0.1, reward="format", seed=3, steps=4,
                         prompts=3, group=4, updates=2, pool=9, max_new_tokens=12,
                         num_ops=task.EASY)
    reference, _ = load_checkpoint(Path(base), CPU)
    model, _ = load_checkpoint(Path(base), CPU)
    given = list_values(c) | {"base": reference, "policy": model}
    objective = bind_loss(LOSSES["ppo"], given)
    critic = objective.companions[0].head
    assert not critic.weight.any() and not critic.bias.any()
    optimizers = run.make_optimizers(c, model, objective.companions)
    asked, samples = run.Task(CORPUS, make_pool(c, model), rewards.build_reward("format")), []
    for step, row in enumerate(read_rows(tmp_path / "run")):
        batch = rlvr.rollout(model, asked, c, step, objective)
        metrics = measures.measure_batch(CORPUS, batch)
        metrics |= rlvr.update(model, optimizers, batch, c, step, objective)
        readable = measures.show_samples(batch, step)
        assert {"step": step, **metrics} == {
            key: pytest.approx(float(value), rel=1e-4, abs=1e-6) if value else None
            for key, value in row.items()}
        samples += readable if step == 0 else []
    replayed = flat(model.state_dict().values())
    torch.testing.assert_close(weights(tmp_path / "run/model.pt"), replayed, rtol=1e-4, atol=1e-6)
    assert (tmp_path / "run/samples.txt").read_text("utf-8") == "\n".join(samples)
    saved = load_run(tmp_path / "run")["train"]
    torch.testing.assert_close(saved["stateful"][2]["weight"], critic.weight.detach(),
                               rtol=1e-4, atol=1e-6)
    assert critic.weight.any()


def strip_seconds(value: dict) -> dict:
    return {key: part for key, part in value.items() if key != "seconds"}


def assert_same_state(a: dict, b: dict) -> None:
    """Two training states, the clock aside, equal to the last bit."""
    assert set(a) == set(b)
    for key in set(a) - {"stateful", "seconds"}:
        assert a[key] == b[key], key
    assert repr(a["stateful"]) == repr(b["stateful"])
    assert set(a["seconds"]) == set(b["seconds"])


@pytest.mark.parametrize("flags", [
    "--optimizer sgd", "--optimizer adamw --lr 0.001",
    "--loss ppo --gae-lambda 0.9 --kl-coef 0.1 --reward format",
    "--loss nsr --reward majority", "--loss reinforce --reward incorrect+random --num-ops 1 2"])
def test_resume_is_bit_for_bit(base, tmp_path, flags, monkeypatch):
    """n steps == k, stop, resume, n - k: weights, tables, summary and everything that is kept.

    Catches an optimizer, a critic or a random state that is not saved, a repeated batch, a pool or
    labels that are made again.
    """
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(base, whole, *flags.split()) == 0
    assert train(base, parts, *flags.split(), "--steps", "1") == 0
    first = load_run(parts)["train"]
    with monkeypatch.context() as patch:
        patch.setattr(run, "make_pool", None)               # it is in the checkpoint
        assert train(base, parts, *flags.split()) == 0
    for name in ("metrics.csv", "samples.txt", "answers.json"):
        assert (whole / name).read_text("utf-8") == (parts / name).read_text("utf-8")
    assert torch.equal(weights(whole / "model.pt"), weights(parts / "model.pt"))
    a, b = load_run(whole)["train"], load_run(parts)["train"]
    assert_same_state(a, b)
    assert first["pool"] == b["pool"] and first["before"] == b["before"]
    assert all(b["seconds"][name] > first["seconds"][name] for name in b["seconds"])
    summaries = [strip_seconds(read_json(run / "summary.json")) for run in (whole, parts)]
    assert summaries[0] == summaries[1]


def test_what_is_kept(base, tmp_path):
    """Every part of the state beside the weights, against what it is made from."""
    flags = ["--reward", "majority", "--loss", "ppo", "--seed", "4", "--optimizer", "adamw"]
    assert train(base, tmp_path / "run", *flags) == 0
    checkpoint = load_run(tmp_path / "run")
    state, summary = checkpoint["train"], read_json(tmp_path / "run/summary.json")
    assert checkpoint["corpus"] == "good-code"
    assert set(state) == {"config", "step", "rows", "samples", "stateful", "pool", "before",
                          "correct", "modes", "seconds", "answers", "machine"}
    assert state["step"] == 4 and [row["step"] for row in state["rows"]] == [0, 1, 2, 3]
    c = rlvr.TrainConfig(base=base, reward="majority", seed=4, pool=9, num_ops=task.EASY,
                         max_new_tokens=12)
    model, _ = load_checkpoint(Path(base), CPU)
    made = make_pool(c, model)
    assert state["pool"] == [(task.render_problem(problem), label) for problem, label in made]
    assert any(label is not None for _, label in made)
    assert state["before"] == summary["before"] and state["seconds"] == strip_total(summary)
    key, sampling = (streams.EVALUATION, 0), Sampling(max_new_tokens=12)
    answers = evaluation.answer_problems(
        model, CORPUS, evaluation.draw_evaluation(5, "evaluation", task.EASY), 2, key, sampling)
    assert state["correct"] == answers.correct.tolist()
    assert state["modes"] == answers.modes.tolist() != state["correct"]
    assert len(state["stateful"]) == 3                       # policy's, critic's, the critic
    assert all("exp_avg" in thing["state"][0] for thing in state["stateful"][:2])
    machine = {"threads", "device", "micro_batch"}
    names = set(describe_options(rlvr.TrainConfig)) - {"out", "steps"} - machine
    own = {"gamma", "gae_lambda", "eps_low", "eps_high", "lr_value", "eps_value", "votes"}
    assert set(state["config"]) == names | own


def strip_total(summary: dict) -> dict:
    return {key: value for key, value in summary["seconds"].items() if key != "total"}


def test_a_resumed_policy_is_the_saved_one(base, tmp_path, monkeypatch):
    """Catches a reference that follows the policy, or a policy that starts at the base again."""
    seen = recorded_rollouts(monkeypatch)
    for steps in ("2", "4"):
        assert train(base, tmp_path / "run", "--loss", "ppo", "--kl-coef", "0.1", "--steps",
                     steps) == 0
    reference = weights(base)
    assert [args[3] for args in seen] == [0, 1, 2, 3]
    policies = [flat(args[0].state_dict().values()) for args in seen]
    assert torch.equal(policies[0], reference)
    assert all(not torch.equal(a, b) for a, b in zip(policies, policies[1:]))
    for _, asked, _, _, objective in seen:
        critic, anchor = objective.companions
        assert torch.equal(flat(anchor.base.state_dict().values()), reference)
        assert asked.corpus is CORPUS and len(asked.pool) == 9
    assert critic.head.weight.any() and critic.head.bias.any()


def test_before_and_after_are_what_evaluate_says(base, tmp_path, monkeypatch):
    """The same problems and random numbers before and after, and the flags --eval-... passed on."""
    asked, original, compared = [], evaluation.evaluate, []
    monkeypatch.setattr(run, "gain", lambda *args: compared.append(args) or {"total": 7})
    monkeypatch.setattr(run, "evaluate", lambda *args: asked.append(args) or original(*args))
    out = tmp_path / "run"
    assert train(base, out, *"--eval-problems 7 --eval-samples 4 --eval-split probe --eval-num-ops "
                 "6 2 --temperature 0.5 --seed 9 --reward code --lr 0.3".split()) == 0
    problems = evaluation.draw_evaluation(7, "probe", (6, 2))
    for args in asked:
        _, of_corpus, drawn, samples, ks, key, sampling, reference = args
        assert of_corpus is CORPUS and drawn == problems and samples == 4 and ks == [1, 2, 4]
        assert key == (streams.EVALUATION, 0) and sampling == Sampling(max_new_tokens=12)
        assert torch.equal(flat(reference.parameters()), weights(base))
    summary = read_json(out / "summary.json")
    key, sampling = (streams.EVALUATION, 0), Sampling(max_new_tokens=12)
    answers = {}
    reference, _ = load_checkpoint(Path(base), CPU)
    for when, path in (("before", base), ("after", out / "model.pt")):
        model, _ = load_checkpoint(Path(path), CPU)
        numbers, answers[when] = original(model, CORPUS, problems, 4, [1, 2, 4], key, sampling,
                                          reference)
        assert summary[when].pop("pass_at_k") == pytest.approx(numbers.pop("pass_at_k"))
        assert summary[when] == pytest.approx(numbers, abs=1e-6)
    assert summary["before"]["kl_to_base"] == pytest.approx(0, abs=1e-6)
    assert summary["after"]["kl_to_base"] > 1e-6
    (*numbers, modes), = compared
    assert [n["kl_to_base"] for n in numbers] == [summary[when]["kl_to_base"]
                                                  for when in ("before", "after")]
    assert modes == ("code", "text") and summary["gain"] == {"total": 7}
    switches = adapters.count_switches(answers["before"], answers["after"], CORPUS.modes)
    assert {name: pytest.approx(cell) for name, cell in switches.items()} == summary["switches"]
    assert switches["text->code"][0] != switches["code->text"][0]


@pytest.mark.parametrize("samples, ks", [(1, [1]), (2, [1, 2]), (7, [1, 2, 4]),
                                         (8, [1, 2, 4, 8])])
def test_pass_at_k_is_for_powers_of_two(samples, ks, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "evaluate", lambda *args: asked.append(args))
    c = config(eval_samples=samples)
    run.Run(c, "good-code", ["problem"], *[None] * 8).evaluate()
    assert asked[0][2] == ["problem"] and asked[0][4] == ks


def test_summary_by_hand(base, tmp_path, capsys):
    """It says of the run what the flags and metrics.csv say; and the line that is printed."""
    assert train(base, tmp_path / "run", "--reward", "format", "--loss", "dr_grpo", "--seed", "3",
                 "--lr", "0.005", "--eps", "0.01") == 0
    summary, rows = read_json(tmp_path / "run/summary.json"), read_rows(tmp_path / "run")
    said = {key: summary[key] for key in ("base", "reward", "loss", "seed", "steps")}
    assert said == {"base": base, "reward": "format", "loss": "dr_grpo", "seed": 3, "steps": 4}
    assert set(summary) == {*said, "before", "after", "gain", "switches", "clip", "seconds"}
    for side in ("high", "low"):
        mean = statistics.mean(float(row[f"clip_{side}"]) for row in rows)
        assert summary["clip"][side] == pytest.approx(mean)
    assert summary["clip"]["high"] != summary["clip"]["low"]
    seconds = summary["seconds"]
    assert set(seconds) == {"total", "rollout", "update", "evaluate"}
    assert all(value > 0 for value in seconds.values())
    assert seconds["total"] == pytest.approx(sum(strip_total(summary).values()))
    before, after = summary["before"], summary["after"]
    moved = ", ".join(f"{name} {before[key]:.3f} -> {after[key]:.3f}" for name, key in (
        ("accuracy", "accuracy"), ("greedy", "greedy_accuracy"), ("code", "code_share"),
        ("text", "text_share")))
    assert after["ended"] < 0.9           # 12 tokens are too few for a program
    moved += f", {1 - after['ended']:.1%} of the answers cut by --max-new-tokens"
    line = f"{base}, reward format, loss dr_grpo, seed 3: {moved}, {seconds['total']:.0f} s"
    assert line in capsys.readouterr().out.splitlines()


def test_switches_of_an_unmoved_policy(base, tmp_path):
    """p = 0 leaves the base as it is: no changed pair, no gain, no KL."""
    assert train(base, tmp_path / "run", "--p", "0") == 0
    assert torch.equal(weights(tmp_path / "run/model.pt"), weights(base))
    summary = read_json(tmp_path / "run/summary.json")
    assert summary["before"] == summary["after"]
    for name, (share, points) in summary["switches"].items():
        old, new = name.split("->")
        assert points == 0 and (old == new or share == 0)
        assert old != new or share == pytest.approx(summary["before"][f"{old}_share"])


def test_samples_are_kept_every_fifth_batch(base, tmp_path):
    """Of steps 0 and 5 here, four each; each says what it is."""
    assert train(base, tmp_path / "run", "--steps", "7") == 0
    lines = (tmp_path / "run/samples.txt").read_text("utf-8").splitlines()
    heads = [line for line in lines if line.startswith("step ")]
    assert [int(head.split()[1]) for head in heads] == [0] * 4 + [5] * 4


def test_everything_is_saved_after_every_batch(base, tmp_path, monkeypatch):
    """metrics.csv, samples.txt and model.pt are whole when the next batch begins."""
    seen, original, out = [], rlvr.rollout, tmp_path / "run"

    def rollout(*args):
        if args[3] > 0:
            state = load_run(out)["train"]
            seen.append((len(read_rows(out)), state["step"], (out / "samples.txt").exists(),
                         torch.equal(weights(out / "model.pt"),
                                     flat(args[0].state_dict().values()))))
        return original(*args)

    monkeypatch.setattr(rlvr, "rollout", rollout)
    assert train(base, out) == 0
    assert seen == [(n, n, True, True) for n in (1, 2, 3)]


def test_the_clock_books_each_stage(base, tmp_path, monkeypatch):
    """Sampling, updates and evaluation apart, in seconds of a clock that a stage moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    for owner, name, seconds in ((rlvr, "rollout", 1.0), (rlvr, "update", 10.0),
                                 (run.Run, "evaluate", 100.0), (run, "make_pool", 1000.0),
                                 (run.Run, "save", 10_000.0)):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, original=original, seconds=seconds: (
            now.__setitem__(0, now[0] + seconds), original(*args))[1])
    # To save a step is part of its update; to save the summary's evaluation is nobody's. What a
    # resumed run says is the sum over all its parts; it evaluated before, and after each of them.
    for part, steps in enumerate((1, 3, 4), 1):
        assert train(base, tmp_path / "run", "--steps", steps) == 0
        seconds = read_json(tmp_path / "run/summary.json")["seconds"]
        parts = {"rollout": 1000.0 + steps, "update": 10_010.0 * steps,
                 "evaluate": 100.0 * (1 + part)}
        assert seconds == {**parts, "total": sum(parts.values())}


# --- interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves(base, finished, tmp_path, monkeypatch, number):
    """In the second batch: exit code 130, both batches are there, the same command goes on."""
    original, calls = rlvr.update, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            interrupt(number)
        return original(*args)

    monkeypatch.setattr(rlvr, "update", interrupted)
    assert train(base, tmp_path / "run") == 130
    assert len(read_rows(tmp_path / "run")) == 2
    assert not (tmp_path / "run/summary.json").exists()
    monkeypatch.undo()
    assert train(base, tmp_path / "run") == 0
    metrics = (tmp_path / "run/metrics.csv").read_bytes()
    assert metrics == (finished / "metrics.csv").read_bytes()


def test_kill_between_two_files_loses_nothing(base, finished, tmp_path, monkeypatch):
    """A crash right after model.pt was renamed: metrics.csv is a batch behind, then whole again."""
    replace, renamed = os.replace, []

    def crash(source, target):
        replace(source, target)
        renamed.append(Path(target).name)
        if renamed.count("model.pt") == 2 and renamed[-1] == "model.pt":
            raise RuntimeError("power cut")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(RuntimeError):
        train(base, tmp_path / "run")
    monkeypatch.undo()
    assert len(read_rows(tmp_path / "run")) == 1
    assert train(base, tmp_path / "run") == 0
    for name in ("metrics.csv", "samples.txt"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_a_longer_run_has_no_summary_of_the_shorter(base, finished, tmp_path, monkeypatch):
    """Interrupted in its last evaluation, it is not finished because of the summary before."""
    assert train(base, tmp_path / "run", "--steps", "1") == 0

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "gain", interrupted)
    assert train(base, tmp_path / "run") == 130
    assert not (tmp_path / "run/summary.json").exists()
    monkeypatch.undo()
    assert train(base, tmp_path / "run") == 0
    assert read_json(tmp_path / "run/summary.json")["steps"] == 4
    metrics = (tmp_path / "run/metrics.csv").read_bytes()
    assert metrics == (finished / "metrics.csv").read_bytes()


def test_a_run_without_its_summary_finishes(base, finished, tmp_path, monkeypatch):
    """All batches are done: it evaluates again and samples nothing."""
    assert train(base, tmp_path / "run") == 0
    (tmp_path / "run/summary.json").unlink()
    monkeypatch.setattr(rlvr, "rollout", None)
    assert train(base, tmp_path / "run") == 0
    a, b = (strip_seconds(read_json(out / "summary.json")) for out in (finished, tmp_path / "run"))
    assert a == b


def test_divergence_is_one_line(base, tmp_path, capsys):
    """An absurd step size ends with a line and exit code 1; the last good state is readable."""
    for updates in ("1", "2"):   # noticed by the next rollout, or by the next update
        out = tmp_path / updates
        assert train(base, out, "--lr", "1e30", "--updates", updates) == 1
        assert "diverged" in capsys.readouterr().err.splitlines()[-1]
        assert not (out / "summary.json").exists()
        if (out / "model.pt").exists():
            load_checkpoint(out / "model.pt", CPU)
        else:
            assert updates == "2"


def test_config_is_what_was_used(base, tmp_path):
    """Catches a logged value that is not the optimizer's, and defaults resolved but not written."""
    out = tmp_path / "run"
    flags = "--loss ppo --lr-value 0.4 --lr 0.037 --eps 0.11 --optimizer adamw"
    assert train(base, out, *flags.split()) == 0
    said = read_json(out / "config.json")
    optimizer = load_run(out)["train"]["stateful"][0]
    assert said["lr"] == optimizer["param_groups"][0]["lr"] == 0.037
    assert "exp_avg" in optimizer["state"][0]
    assert said["eps_low"] == said["eps_high"] == 0.11
    assert said["num_ops"] == [1, 2, 3, 4, 5] and said["device"] in ("cpu", "cuda")
    assert said["command"].startswith(f"python rlvr.py train --base {base} --out ")
    assert said["command"].endswith(flags)
    assert said["parameters"] == len(weights(base)) and said["torch"] == torch.__version__
    read = read_options(rlvr.TrainConfig, *LOSSES["ppo"].functions,
                        *REWARDS["random"].functions)
    assert set(said) == read.keys() | {"parameters", "torch", "command", "base_fingerprint"}
    assert said["base_fingerprint"] == hashlib.sha256(Path(base).read_bytes()).hexdigest()[:16]
    assert said["prompts"] == 3 and said["seed"] == 1


def test_finished_work_is_kept(base, finished, capsys):
    before = files(finished)
    assert train(base, finished) == 0 and files(finished) == before
    assert f"{finished} is finished already" in capsys.readouterr().out
    assert json.loads((finished / "summary.json").read_text("utf-8"))["steps"] == 4
