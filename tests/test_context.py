"""The bandit with kinds of prompts: against bandit.py, the project's loss by autograd, and by hand.

float64 throughout.
"""

import re

import numpy as np
import pytest
import torch

from data.corpus import CORPORA
from data.task import EASY, parse_problem, split_of
from lessons import context
from lessons.bandit import OFF, first_arm
from lessons.clips.kernel import measure_kernel
from model import save_checkpoint
from tests import adapters
from tests.helpers import f64
from tests.test_kernel import mean_logits, move, several_openers, some_problems

PRIOR, KAPPA, REST = (0.5, 0.3, 0.2), 1.7, (0.4, 5.0, 3.0)
PLAIN = {"p": 0.8, "group": 10, "eps_high": 0.3, "lr": 3.0, "max_norm": 0.25, "seeds": 5}


def make_kernel(kinds: int, cross: float) -> np.ndarray:
    """kappa for one opener in one kind, cross kappa between kinds, 0 between openers."""
    between = np.where(np.eye(kinds, dtype=bool), 1.0, cross)
    return KAPPA * np.einsum("kj,ab->kajb", between, np.eye(3))


@pytest.mark.parametrize("kinds, cross", [(1, 0.0), (3, 1.0)])
def test_one_kind_is_the_bandit(kinds, cross):
    """Also several that are alike and share all: the same pulls lead to the same shares, exactly.

    With both clips, on both sides, several batches; catches a step that is divided by the kinds.
    """
    found = context.play_kinds(np.full(kinds, 1 / kinds), np.array([PRIOR] * kinds),
                               make_kernel(kinds, cross), 0.2, 3, 160, 8, rest=np.array(REST),
                               **PLAIN)
    expected = first_arm(PRIOR, 0.2, 3, 160, 8, kappa=KAPPA, rest=REST, **PLAIN)
    assert found.shape == (4, 5, kinds, 3)
    shares = context.softmax(found)[..., 0]
    assert np.abs(shares - expected[..., None]).max() < 1e-12
    assert np.abs(expected[3] - expected[0]).min() > 1e-3


def test_kinds_that_share_nothing_are_bandits_apart():
    """A kind that never comes stays as it is, unless the kernel says that another moves it."""
    for cross, moves in ((0.0, False), (0.5, True)):
        found = context.play_kinds(np.array([1.0, 0.0]), np.array([PRIOR] * 2),
                                   make_kernel(2, cross), 0.2, 1, 160, 8, **PLAIN)
        assert (np.abs(found[1] - found[0])[:, 1].max() > 1e-3) == moves
        assert np.abs(found[1] - found[0])[:, 0].max() > 1e-2


WEIGHTS, PRIORS = np.array([0.6, 0.4]), np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
FEATURES = np.random.default_rng(3).normal(size=(6, 4)) * 0.8      # dz / dtheta, theta of 4
RESTS = np.array([[0.4, 5.0, 3.0], [0.2, 2.0, 1.0]])


def step_by_autograd(updates, old, max_norm):
    """The project's loss on the pulls of each update, torch's clip of the norm, SGD on theta.

    Each pull has a direction of its own, whose squared norm is `rest`.
    """
    features, z0 = torch.tensor(FEATURES), torch.tensor(np.log(PRIORS))
    theta, old = torch.zeros(4, **f64), torch.tensor(old).log()
    for rows, advantages in updates:
        cells = torch.tensor(rows[0] // 2)
        theta = theta.detach().requires_grad_()
        own = torch.zeros(len(cells), requires_grad=True, **f64)
        logits = z0 + (features @ theta).view(2, 3)
        logprobs = logits.log_softmax(-1).flatten()[cells]
        logprobs = logprobs + torch.tensor(RESTS).flatten()[cells].sqrt() * own
        adapters.policy_loss("grpo", logprobs, old.flatten()[cells],
                             torch.tensor(advantages[0]), 0.2, 0.3).mean().backward()
        torch.nn.utils.clip_grad_norm_([theta, own], max_norm)
        theta = theta - 2.0 * theta.grad
    return (z0 + (features @ theta.detach()).view(2, 3)).numpy()


def compare(monkeypatch, kernel, max_norm=0.25):
    """How far a batch of 8 updates leads from where autograd leads, at most in a logit."""
    updates, push = [], context.push
    monkeypatch.setattr(context, "push", lambda *args: updates.append(args[:2]) or push(*args))
    found = context.play_kinds(WEIGHTS, PRIORS, kernel, 0.2, 1, 160, 8, 0.8, group=10, lr=2.0,
                               eps_high=0.3, max_norm=max_norm, rest=RESTS, shuffled=True, seeds=1)
    monkeypatch.setattr(context, "push", push)
    assert len(updates) == 8
    return np.abs(found[1, 0] - step_by_autograd(updates, PRIORS, max_norm)).max()


@pytest.mark.parametrize("max_norm", [0.25, OFF])
def test_a_step_is_that_of_the_projects_loss(monkeypatch, max_norm):
    """A model whose logits are linear in four parameters, by autograd: K = features features^T.

    Two kinds, shuffled pulls, both clips. A bug is planted three times, and is seen: no kernel
    between kinds, bounds swapped, the norm of the opener's part without the kernel.
    """
    kernel = (FEATURES @ FEATURES.T).reshape(2, 3, 2, 3)
    assert compare(monkeypatch, kernel, max_norm) < 2e-5       # torch has norm + 1e-6
    apart = kernel * np.eye(2)[:, None, :, None]
    assert compare(monkeypatch, apart, max_norm) > 1e-2
    weigh = context.weigh
    monkeypatch.setattr(context, "weigh", lambda ratio, low, high, loss: weigh(
        ratio, high, low, loss))
    assert compare(monkeypatch, kernel, max_norm) > 1e-3


def test_pulls_are_compared_within_their_group():
    """Advantages are the project's on the same rewards; each group pulls by its kind's shares."""
    shares = np.array([[[0.98, 0.01, 0.01], [0.01, 0.01, 0.98]] * 2])
    rows, advantages = context.draw_pulls(np.random.default_rng(0), shares, 0.5, 200, 2)
    assert rows.shape == advantages.shape == (1, 800)
    groups, cells = np.divmod(rows[0], 6)
    assert groups.tolist() == sorted(groups.tolist()) and np.bincount(groups).tolist() == [200] * 4
    rewards = torch.tensor(cells % 2, **f64).view(4, 200)
    expected = adapters.advantages("grpo", rewards).flatten()
    assert np.abs(advantages[0] - expected.numpy()).max() < 1e-7
    arms = (cells // 2).reshape(4, 200)
    assert all((arms[i] == (0 if i % 2 == 0 else 2)).mean() > 0.9 for i in range(4))
    assert 0.4 < (cells % 2).mean() < 0.6


def test_shuffled_pulls_are_the_same_pulls(monkeypatch):
    """Each goes into one update, in another order."""
    seen, push = {}, context.push
    for shuffled in (False, True):
        batch = seen.setdefault(shuffled, [])
        monkeypatch.setattr(context, "push", lambda rows, paid, *more, kept=batch: kept.append(
            (rows, paid)) or push(rows, paid, *more))
        context.play_kinds(WEIGHTS, PRIORS, make_kernel(2, 0.5), 0.2, 1, 160, 8, 0.8, group=10,
                           shuffled=shuffled, seeds=2)
    plain, mixed = ([np.concatenate(part, axis=1) for part in zip(*seen[shuffled])]
                    for shuffled in (False, True))
    assert not np.array_equal(plain[0], mixed[0])
    for seed in range(2):
        pairs = [sorted(zip(rows[seed], paid[seed])) for rows, paid in (plain, mixed)]
        assert pairs[0] == pairs[1]


# --- what is measured of a base


def test_kinds_of_prompts():
    """Of mixed-code by first operator and first operand; of other bases one."""
    problems = [parse_problem(text) for text in ("1 +2", "3 -9 *4", "5 *8 +2", "6 *2", "7 -2")]
    found = context.split_contexts(CORPORA["mixed-code"], problems)
    assert found == {"products 0": [problems[3]], "products 6": [problems[2]],
                     "sums 0": [problems[0], problems[1], problems[4]]}
    assert context.split_contexts(CORPORA["good-code"], problems) == {"all": problems}


def test_the_kernel_between_kinds():
    """With one kind that of kernel.py; with two, how far a step for one moves the other.

    By central differences in float64.
    """
    model, problems = several_openers(), some_problems(4)
    arms, shares, kernel = context.measure_kernels(model, [problems])
    expected = measure_kernel(model, problems)
    assert torch.equal(arms, expected[0])
    assert torch.allclose(shares[0], expected[1]) and torch.allclose(kernel[0, :, 0], expected[2])
    groups = [problems[:1], problems[1:]]
    again, shares, kernel = context.measure_kernels(model, groups)
    assert torch.equal(arms, again) and kernel.shape == (2, len(arms), 2, len(arms))
    assert torch.allclose(shares[1], mean_logits(model, groups[1]).softmax(-1).mean(0)[arms])
    direction = torch.autograd.grad(mean_logits(model, groups[1])[:, arms[2]].mean(),
                                    list(model.parameters()))
    moved = []
    for step in (1e-7, -2e-7):
        move(model, direction, step)
        moved.append(mean_logits(model, groups[0])[:, arms].mean(0))
    assert torch.allclose((moved[0] - moved[1]) / 2e-7, kernel[0, :, 1, 2], rtol=1e-4, atol=1e-4)


def make_context(**changes) -> context.HabitByKind:
    """Two kinds: code is likelier on one, and right there and on the other."""
    return context.HabitByKind(["sums 0", "products 0"], ["code", "text", "text"], WEIGHTS, PRIORS,
                           make_kernel(2, 0.5), {"code": 0.5, "text": 9.0},
                           np.array([[1.0, 0.2, 0.3], [0.9, 0.1, 0.4]]))._replace(**changes)


def test_what_a_pull_has_beside_its_opener():
    """By hand: kappa |onehot - pi|^2 is taken from the norm of the mode, and nothing is below 0."""
    found = context.find_rest(make_context())
    for k, a, norm in ((0, 0, 0.5), (0, 2, 9.0), (1, 0, 0.5), (1, 1, 9.0)):
        gone = np.eye(3)[a] - PRIORS[k]
        assert found[k, a] == pytest.approx(max(0.0, norm - KAPPA * (gone ** 2).sum()))
    assert found[1, 0] == 0.0 < found[0, 0]


def test_what_a_run_should_do(monkeypatch):
    """Each flag reaches the bandit; accuracy by hand, before and after; up and down by 10 points.
    """
    asked, ends = {}, np.log(np.array([[PRIORS, PRIORS], [PRIORS[::-1], [PRIORS[0]] * 2]]))

    def play(weights, priors, kernel, eps, batches, samples, updates, p, **options):
        asked.update(options, eps=eps, sizes=(batches, samples, updates), p=p)
        return ends[[0, 0, 1]]                     # (3, seeds, K, A)

    monkeypatch.setattr(context, "play_kinds", play)
    found = context.predict(make_context(), seeds=2, lr=0.01, steps=30, p=0.1, eps_low=0.3,
                            eps_high=1e9, max_grad_norm=7.0)
    rest = asked.pop("rest")
    assert asked == {"eps": 0.3, "sizes": (30, 1024, 32), "p": 0.1, "group": 16, "eps_high": 1e9,
                     "lr": 0.01, "max_norm": 7.0, "shuffled": True, "seeds": 2}
    assert np.array_equal(rest, context.find_rest(make_context()))
    assert np.allclose(found.greedy, [[0.6 + 0.4 * 0.4] * 2, [0.6 * 0.3 + 0.4 * 0.9, 0.96]])
    assert np.allclose(found.habit, [[0.6, 0.6], [0.4, 1.0]])
    assert found.sampled[0, 0] == pytest.approx(0.6 * (0.6 + 0.06 + 0.03)
                                                + 0.4 * (0.18 + 0.03 + 0.2))
    assert found.count() == (0.5, 0.5)


def save(path, corpus="mixed-code"):
    save_checkpoint(path, several_openers().float(), corpus=corpus)
    return str(path)


def test_the_command(tmp_path, monkeypatch, capsys):
    """The whole way once, on a small base: training problems alone, a line for each base and cell.
    """
    asked, draw = [], context.draw_evaluation
    monkeypatch.setattr(context, "draw_evaluation", lambda *args, **more: asked.extend(
        draw(*args, **more)) or asked)
    for name, value in (("PROBLEMS", 10), ("NORMED", 2), ("SEEDS", 3), ("RARE", 0.03),
                        ("CELLS", {"default": {}, "p 0.9": {"p": 0.9, "steps": 2}})):
        monkeypatch.setattr(context, name, value)
    assert context.main([save(tmp_path / "tiny.pt")]) == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["base", "runs"] and [line[1] for line in lines[1:]] == [
        "default", "p 0.9"]
    assert {split_of(problem) for problem in asked} == {"training"}
    assert {len(problem.ops) for problem in asked} == set(EASY)


def test_the_command_refuses_bad_input(capsys):
    assert context.main(["nowhere"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "cannot read checkpoint" in output.err
    assert len(output.err.splitlines()) == 1
