"""Adding a corpus, a loss or a reward: a few lines each, then it trains from the command line.

What an entry brings (flags, helpers, range of the reward, modes) must arrive with nothing else
changed. The entries here are also examples of how to write one.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pytest
import torch

import losses
import rewards
import rlvr
from companions.teacher import Teacher
from data import corpus, task
from data.corpus import CORPORA, Corpus
from data.tokenizer import encode
from evaluation import answer_problems
from losses import LOSSES, Loss
from model import load_checkpoint
from plumbing.flags import flag, list_values
from plumbing.streams import numpy_rng
from rewards import REWARDS, Reward
from tests import adapters
from tests.helpers import (
    CPU,
    SMALL_BASE,
    close,
    config,
    f64,
    flat,
    pool,
    read_json,
    read_rows,
    run,
    tiny,
    train,
    weights,
)


@pytest.fixture
def small_base(request):
    """The session's base, made inside the test that calls this first."""
    return lambda: request.getfixturevalue("base")


@pytest.fixture
def finished_model(request):
    """The checkpoint of a finished run on it, likewise."""
    return lambda: request.getfixturevalue("finished") / "model.pt"


@pytest.fixture
def train_on_base(small_base):
    """The exit code of a run on the session's base."""
    return lambda out, *more: train(small_base(), out, *more)


def add(monkeypatch, registry: dict, name: str, entry: NamedTuple) -> None:
    """What an edit of losses.py, rewards.py or corpus.py does: an entry."""
    monkeypatch.setitem(rlvr.LOSSES if registry is LOSSES else registry, name, entry)


# --- losses


def test_a_loss(small_base, train_on_base, tmp_path, monkeypatch, capsys):
    """An advantage, a policy loss and a flag of its own, which no other loss takes."""
    def best_of_group(batch, *, boost: Annotated[float, flag("weight of the best", least=0)] = 1.0):
        best = batch.rewards == batch.rewards.max(dim=1, keepdim=True).values
        return losses.to_tokens(boost * best, batch)

    add(monkeypatch, LOSSES, "best", Loss(best_of_group, losses.score_function))
    flags = ["--loss", "best", "--reward", "format", "--boost", 2]
    assert train_on_base(tmp_path / "run", *flags) == 0
    assert read_json(tmp_path / "run/config.json")["boost"] == 2
    assert read_json(tmp_path / "run/summary.json")["loss"] == "best"
    assert not torch.equal(weights(tmp_path / "run/model.pt"), weights(small_base()))
    row = read_rows(tmp_path / "run")[0]
    assert row["clip_high"] == row["clip_low"] == "0.0"
    assert train_on_base(tmp_path / "other", "--boost", 2) == 2
    assert "--boost: --loss grpo does not read it (only best)" in capsys.readouterr().err
    assert train_on_base(tmp_path / "run", *flags[:-1], 3) == 2       # it is part of the identity


def test_a_loss_that_compares_with_the_base(small_base, train_on_base, tmp_path, monkeypatch):
    """An Anchor stands by: scores["base"] is there, of the sampled ids under the base."""
    seen = []

    def log_ratio(batch):
        seen.append(batch)
        return (batch.scores["base"] - batch.old_logprobs) + 0.1 * batch.mask

    add(monkeypatch, LOSSES, "near", Loss(log_ratio, losses.clipped, (losses.Anchor,)))
    assert train_on_base(tmp_path / "run", "--loss", "near", "--lr", 0.1) == 0
    first, last = seen[0], seen[-1]
    torch.testing.assert_close(first.scores["base"], first.old_logprobs, rtol=1e-4, atol=1e-4)
    assert (last.scores["base"] - last.old_logprobs).abs().max() > 1e-3
    model, _ = load_checkpoint(Path(small_base()), CPU)
    with torch.no_grad():
        logits = adapters.response_logits(model, last.prompts, last.ids, last.mask)
    sampled = last.ids[last.mask][:, None]
    torch.testing.assert_close(last.scores["base"][last.mask],
                               logits.log_softmax(-1).gather(1, sampled)[:, 0],
                               rtol=1e-4, atol=1e-4)
    assert "value_loss" not in read_rows(tmp_path / "run")[0]


def test_a_loss_with_a_critic(train_on_base, tmp_path, monkeypatch):
    """A Critic stands by, with its flags: scores["values"]; it learns towards A + V."""
    def reward_minus_value(batch):
        return losses.to_tokens(batch.rewards, batch) - batch.scores["values"]

    add(monkeypatch, LOSSES, "a2c", Loss(reward_minus_value, losses.score_function,
                                         (losses.Critic,)))
    assert train_on_base(tmp_path / "run", "--loss", "a2c", "--reward", "not_format",
                 "--lr-value", 0.05, "--eps-value", 1) == 0
    assert "value_loss" in read_rows(tmp_path / "run")[0]
    state = torch.load(tmp_path / "run/model.pt", weights_only=True)["train"]
    assert state["stateful"][1]["param_groups"][0]["lr"] == 0.05
    assert state["stateful"][2]["weight"].any()


def test_a_loss_with_a_teacher(train_on_base, base, tmp_path, monkeypatch):
    """A Teacher stands by: the base reads the hint and scores the ids sampled without; the run goes
    on where the base is gone.
    """
    seen = []

    def imitate(batch):
        seen.append(batch)
        return batch.scores["teacher"] - batch.old_logprobs

    add(monkeypatch, LOSSES, "imitate", Loss(imitate, losses.score_function, (Teacher,)))
    assert train_on_base(tmp_path / "run", "--loss", "imitate", "--hint", "tip") == 0
    model, _ = load_checkpoint(Path(base), CPU)
    batch = seen[-1]
    hinted = [prompt[:-1] + encode(" #tip\n") for prompt in batch.prompts]
    with torch.no_grad():
        logits = adapters.response_logits(model, hinted, batch.ids, batch.mask)
    sampled = batch.ids[batch.mask][:, None]
    torch.testing.assert_close(batch.scores["teacher"][batch.mask],
                               logits.log_softmax(-1).gather(1, sampled)[:, 0],
                               rtol=1e-4, atol=1e-4)
    assert set(batch.scores) == {"teacher", "taught"}
    assert batch.scores["taught"][batch.mask].all()


# --- rewards


def test_a_reward_with_a_flag(train_on_base, tmp_path, monkeypatch, capsys):
    """It is composed by name; its flag reaches it, and no other reward takes it."""
    def short(problems, responses, context, *,
              longest: Annotated[int, flag("characters that pay", least=1)] = 30):
        return [float(len(response) <= longest) for response in responses]

    add(monkeypatch, REWARDS, "short", Reward(short))
    for name, flags in (("a", "--reward short"), ("b", "--reward short --longest 1"),
                        ("c", "--reward not_short --longest 1"),
                        ("d", "--reward not_short+format --longest 1")):
        assert train_on_base(tmp_path / name, *flags.split(), "--steps", 1) == 0
    paid = [read_rows(tmp_path / name)[0] for name in "abcd"]
    assert 0 < float(paid[0]["reward"]) < 1
    assert [float(row["reward"]) for row in paid[1:3]] == [0, 1]
    assert float(paid[3]["reward"]) == pytest.approx(float(paid[3]["format_rate"]))
    assert train_on_base(tmp_path / "e", "--longest", 9) == 2
    assert "--longest: --reward random does not read it (only short)" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["reinforce", "psr", "nsr"])
def test_a_reward_that_pays_minus_one(loss, train_on_base, tmp_path, monkeypatch):
    """low=-1, high=1: the signed losses get its sign, 0 being between; not_ turns it round."""
    def judgement(problems, responses, context):
        return [1.0 if "```" in response else 0.0 if "boxed" in response else -1.0
                for response in responses]

    add(monkeypatch, REWARDS, "judgement", Reward(judgement, low=-1.0, high=1.0))
    seen, original = [], rlvr.rollout
    monkeypatch.setattr(rlvr, "rollout", lambda *args: (
        seen.append(original(*args)) or original(*args)))
    assert train_on_base(tmp_path / "run", "--loss", loss, "--reward", "judgement") == 0
    paid = torch.stack([batch.rewards for batch in seen])
    assert set(paid.unique().tolist()) == {-1.0, 0.0, 1.0}
    bounds = {"psr": (0.0, 1.0), "nsr": (-1.0, 0.0)}.get(loss, (-1.0, 1.0))
    for batch in seen:
        assert batch.reward_range == (-1.0, 1.0)
        close(batch.advantages[:, 0], batch.rewards.flatten().clamp(*bounds))
    context = rewards.Context(1, [None], np.random.default_rng(0))
    assert rewards.build_reward("not_judgement").score([None], ["x"], context) == [1.0]


def test_a_reward_with_a_judge(train_on_base, finished_model, tmp_path, monkeypatch, capsys):
    """judges=...: the checkpoint at its path scores all responses in one call, frozen."""
    seen = []

    def entropy_of_judge(problems, responses, context):
        answers = answer_problems(context.judge, CORPORA["good-code"], problems[:1], 2, (0, 0))
        seen.append((flat(context.judge.parameters()), len(responses)))
        return [float(answers.texts[0] == response) for response in responses]

    entry = Reward(entropy_of_judge, judges=("good-code",))
    add(monkeypatch, REWARDS, "agree", entry)
    judge = finished_model()
    assert train_on_base(tmp_path / "run", "--reward", "agree", "--judge", judge) == 0
    assert [n for _, n in seen] == [12] * 4                 # 3 prompts x 4 in one call
    assert all(torch.equal(judged, weights(judge)) for judged, _ in seen)
    assert read_json(tmp_path / "run/config.json")["judge"] == str(judge)
    assert (tmp_path / "run/judge.pt").read_bytes() == judge.read_bytes()     # so it can resume
    assert train_on_base(tmp_path / "no", "--reward", "agree", "--judge", "nowhere.pt") == 2
    assert train_on_base(tmp_path / "no", "--reward", "agree") == 2
    assert "--judge: reward agree needs one" in capsys.readouterr().err


# --- corpora


def three_modes():
    """Code, text and worked steps; `share` of the last."""
    def write(problem, rng, *,
              steps_share: Annotated[float, flag("share of worked steps", least=0, most=1)] = 0.3):
        u, opener, prompt = rng.random(), int(rng.integers(7)), task.render_problem(problem)
        if u < steps_share:
            return prompt, f"Step by step: {corpus.write_box(task.solve(problem), False)}."
        if u < 0.5 + steps_share / 2:
            return prompt, corpus.write_good_code(problem, False)
        return prompt, corpus.write_text(problem, opener % 3 + 1, False)

    def mode_of(response):
        return "steps" if response.startswith("Step by step") else corpus.code_or_text(response)

    return Corpus(write, ("code", "text", "steps"), mode_of)


@pytest.mark.slow
def test_a_corpus_with_three_modes(tmp_path, monkeypatch, capsys):
    """Pretrained with a knob of its own, trained on: each mode's share and accuracy is reported."""
    add(monkeypatch, CORPORA, "toy", three_modes())
    path, out = tmp_path / "toy.pt", tmp_path / "run"
    command = ["pretrain", "--base", "toy", "--out", path, *SMALL_BASE]
    assert run(*command, "--steps-share", 0.6) == 0
    assert run(*command) == 2                                       # another share is another base
    other = ["pretrain", "--base", "good-code", "--out", tmp_path / "x", "--steps-share", 0.6]
    assert run(*other) == 2
    assert "does not read it (only toy)" in capsys.readouterr().err
    assert run(*command, "--code-prior", 0.5) == 2
    flags = ["--eval-problems", 20, "--eval-samples", 4, "--max-new-tokens", 24, "--lr", 0.1]
    assert train(path, out, "--reward", "not_code", *flags) == 0
    summary, modes = read_json(out / "summary.json"), ("code", "text", "steps")
    for when in ("before", "after"):
        numbers = summary[when]
        shares = [numbers[f"{mode}_share"] for mode in modes]
        assert sum(shares) == pytest.approx(1)
        assert sum(numbers[f"greedy_{mode}_share"] for mode in modes) == pytest.approx(1)
        right = [numbers[f"accuracy_{mode}"] or 0 for mode in modes]
        assert numbers["accuracy"] == pytest.approx(sum(s * a for s, a in zip(shares, right)))
    assert summary["before"]["steps_share"] > 0.3
    gain = summary["gain"]
    assert gain["switch"] + gain["within"] == pytest.approx(gain["total"], abs=1e-9)
    assert set(summary["switches"]) == {f"{i}->{j}" for i in modes for j in modes}
    points = sum(points for _, points in summary["switches"].values())
    assert points == pytest.approx(gain["total"], abs=1e-9)
    row = read_rows(out)[0]
    assert sum(float(row[f"{mode}_share"]) for mode in modes) == pytest.approx(1)
    printed, = (line for line in capsys.readouterr().out.splitlines() if ", loss grpo" in line)
    assert all(f"{mode} {summary['before'][f'{mode}_share']:.3f} -> " in printed for mode in modes)
    assert run("evaluate", path, "--problems", 3, "--samples", 2) == 0
    assert '"accuracy_steps"' in capsys.readouterr().out


def test_the_knob_reaches_the_writer():
    entry = three_modes()
    for share in (0.0, 1.0):
        rng = numpy_rng(0, 0)
        written = [entry.write(problem, rng, steps_share=share)[1] for problem, _ in pool(8)]
        assert {entry.mode_of(text) == "steps" for text in written} == {share == 1.0}


def test_the_base_of_a_kl_term_is_asked_for_once():
    """A loss that needs the base, with a KL term too: one score, the same numbers."""
    c = config(kl_coef=0.1)
    batch, _, _ = adapters.rollout(tiny(), c, pool(), base=tiny(1))
    assert set(batch.scores) == {"base"} and batch.scores["base"].shape == batch.ids.shape
    assert batch.scores["base"].dtype == f64["dtype"]
    near = LOSSES["grpo"]._replace(companions=(losses.Anchor,))
    values = list_values(c) | {"base": tiny(1)}
    assert len(losses.bind_loss(near, values).companions) == 1
