"""Gradient norms inside a run, and the bandit that draws them: against sums written out."""

import itertools
import math
import re

import numpy as np
import pytest
import torch

import rlvr
from data.corpus import CORPORA
from lessons.bandit import first_arm
from lessons.clips import norms
from losses import LOSSES, bind_loss
from plumbing.flags import list_values
from run import Task
from tests.helpers import TINY_RUN, config, flat, hand_made_batch, make_pool, tiny, token_logprobs

# --- what is measured


def make_objective(settings):
    model = tiny()
    return bind_loss(LOSSES["grpo"], list_values(settings) | {"eps_low": 0.4, "eps_high": 0.4,
                                                              "base": model, "policy": model})


@pytest.mark.parametrize("advantage", [1.5, -3.0])
def test_a_rows_norm_is_that_of_its_own_loss(advantage):
    """On stale rows: sum over tokens of w (not clipped) d log pi, written out token by token.

    Catches: no weight, no mask, a mask that does not know the sign of A, A^2 left in or A alone
    divided out, the other row's tokens.
    """
    policy, settings = tiny(1), config()
    batch = hand_made_batch(policy, lengths=(3, 5), advantages=(advantage, 1.0))
    moved = torch.tensor([[0.1, 0.5, -0.7, 0.0, 0.0], [0.0] * 5], dtype=torch.float64)
    batch = batch._replace(old_logprobs=batch.old_logprobs - moved)
    probe = norms.Probe(policy, batch, settings, 0, make_objective(settings))
    total, dropped = 0.0, 0
    logprobs = token_logprobs(policy, batch.prompts[0], batch.ids[0, :3])
    for t in range(3):
        w = math.exp(moved[0, t].item())
        outward = w > 1.4 if advantage > 0 else w < 0.6
        dropped += outward
        total = total + (0.0 if outward else w) * logprobs[t]
    expected = flat(torch.autograd.grad(total, list(policy.parameters()))).square().sum().item()
    assert dropped == 1
    assert probe.measure_row(torch.tensor([0])) == pytest.approx(expected, rel=1e-9)


def take_step(probed: bool, seen: list):
    """The weights after one update of two minibatches of 8; with every row of each measured."""
    policy, settings = tiny(2), config(seed=5)
    objective = make_objective(settings)
    task = Task(CORPORA["good-code"], make_pool(settings, policy),
                rlvr.build_reward("random", p=0.5))
    batch = rlvr.rollout(policy, task, settings, 0, objective)
    optimizers = [torch.optim.SGD(policy.parameters(), lr=0.5)]
    if probed:
        probe = norms.Probe(policy, batch, settings, 0, objective)
        optimizers.append(probe)
        seen.append(probe)
    rlvr.update(policy, optimizers, batch, settings, 0, objective)
    return flat(policy.parameters())


def test_a_probe_changes_nothing_and_knows_its_rows(monkeypatch):
    """A gradient left in place, or rows of another minibatch than the one that is trained.

    All rows of a minibatch that have a signal are measured if so many are asked for.
    """
    calls, original = [], rlvr.minibatch_loss

    def note(policy, batch, rows, *rest):
        calls.append(rows.tolist())
        return original(policy, batch, rows, *rest)

    plain = take_step(False, [])
    monkeypatch.setattr(rlvr, "minibatch_loss", note)
    for most in (2, 100):
        monkeypatch.setattr(norms, "ROWS", most)
        calls.clear()
        seen = []
        assert torch.equal(take_step(True, seen), plain)
        measured = [[row for row, _ in rows] for rows in seen[0].measured]
        trained = [rows for rows in calls if len(rows) > 1]
        assert len(trained) == 2 and set(trained[0]).isdisjoint(trained[1])
        assert [len(rows) for rows in measured] == [min(most, len(rows)) for rows in trained]
        assert all(set(rows) <= set(others) for rows, others in zip(measured, trained))


def test_rows_count_until_the_drift_ends():
    """Those of the batches that a drift counts: not of the one whose rollouts have left."""
    def rows(*shares):
        return [{"step": step, "share": share} for step, share in enumerate(shares) for _ in "ab"]
    assert norms.cut_rows(rows(0.6, 0.9, 0.97, 0.9)) == rows(0.6, 0.9)
    assert norms.cut_rows(rows(0.6, 0.5, 0.02)) == rows(0.6, 0.5)
    assert norms.cut_rows(rows(0.6, 0.7)) == rows(0.6, 0.7)
    assert norms.cut_rows(rows(0.97, 0.7, 0.96)) == rows(0.97, 0.7)


def test_the_command(base, tmp_path, monkeypatch, capsys):
    """It writes a row for each measured response, of every update, and says what they are."""
    monkeypatch.chdir(tmp_path)
    small = {word[2:].replace("-", "_"): int(value)
             for word, value in zip(TINY_RUN[::2], TINY_RUN[1::2])}
    made = rlvr.make_config
    monkeypatch.setattr(norms, "make_config", lambda **flags: made(**small | flags))
    assert norms.main(["--base", base, "--seed", "3", "--threads", "1"]) == 0
    lines = (tmp_path / "runs/clips/norms.csv").read_text("utf-8").splitlines()
    assert lines[0] == "step,update,mode,share,square"
    cells = [line.split(",") for line in lines[1:]]
    assert {(int(step), int(update)) for step, update, *_ in cells} == set(
        itertools.product(range(4), range(2)))
    assert {mode for _, _, mode, _, _ in cells} <= {"code", "text"}
    assert all(float(square) > 0 for *_, square in cells)
    printed = capsys.readouterr().out
    assert re.search(r"mode +rows +mean +median", printed) and "wrote runs" in printed
    assert norms.main(["--base", base, "--seed", "3", "--threads", "1", "--out", "again.csv"]) == 0
    assert (tmp_path / "again.csv").read_text("utf-8").splitlines() == lines


@pytest.mark.parametrize("arguments", [["--p", "1.5"], ["--seed", "-1"], ["--base", "nowhere"]])
def test_bad_input_is_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = norms.main(arguments)
    except SystemExit as exit:
        code = exit.code
    assert code == 2 and len(capsys.readouterr().err.splitlines()) == 1


# --- the bandit that draws them

PRIOR, KAPPA, LR, MAX_NORM, P, EPS = (0.6, 0.4), 1.5, 3.0, 0.9, 0.3, 0.2
NORMS = [np.array([1.0, 9.0]), np.array([2.0, 60.0])]   # two kinds of pulls of each arm


def after_update(z, old, n, weigh_norms):
    """[(chance, logits)] after one update of n pulls, one group: every outcome, pull by pull."""
    pi = np.exp(z) / np.exp(z).sum()
    ratio, found = pi / old, []
    for pulls in itertools.product(itertools.product(range(2), (0, 1), range(2)), repeat=n):
        chance, gradient, square = 1.0, np.zeros(2), 0.0
        mean = sum(coin for _, coin, _ in pulls) / n
        std = math.sqrt(mean * (1 - mean))
        for arm, coin, kind in pulls:
            chance *= old[arm] * (P if coin else 1 - P) / 2
            A = (coin - mean) / std if std else 0.0
            clipped = ratio[arm] > 1 + EPS if A > 0 else ratio[arm] < 1 - EPS
            w = 0.0 if clipped else ratio[arm]
            own = np.eye(2)[arm] - pi
            gradient += A * w * own / n
            extra = NORMS[arm][kind] * (w ** 2 if weigh_norms else 1)
            square += A ** 2 * (extra - KAPPA * w ** 2 * own @ own) / n ** 2
        norm = math.sqrt(max(0.0, square + KAPPA * gradient @ gradient))
        scale = min(1.0, MAX_NORM / norm) if norm else 1.0
        found.append((chance, tuple((z + LR * KAPPA * scale * gradient).round(10))))
    return found


def expected_share(weigh_norms=False):
    """E[the first arm's share] after two updates of three pulls, by all of their outcomes."""
    old = np.array(PRIOR)
    states, total = {}, 0.0
    for chance, z in after_update(np.log(old), old, 3, weigh_norms):
        states[z] = states.get(z, 0.0) + chance
    for z, before in states.items():
        for chance, last in after_update(np.array(z), old, 3, weigh_norms):
            total += before * chance / (1 + math.exp(last[1] - last[0]))
    return total


def played_shares(norms):
    return first_arm(PRIOR, EPS, batches=1, samples=6, updates=2, p=P, group=3, lr=LR, kappa=KAPPA,
                     max_norm=MAX_NORM, norms=norms, seeds=400_000)[1]


@pytest.mark.slow
def test_drawn_norms_are_those_of_single_pulls():
    """The mean share after two updates, of which the second is stale, against all outcomes.

    Weights and masks are in a measured norm: one that is weighted again has another mean. So has
    one norm an arm, the mean of its two.
    """
    found = played_shares(NORMS)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - expected_share()) < 4 * error
    assert abs(expected_share(weigh_norms=True) - expected_share()) > 6 * error
    one = played_shares([kinds.mean(keepdims=True) for kinds in NORMS])
    assert abs(one.mean() - expected_share()) > 6 * error


def test_one_norm_an_arm_is_as_told_before():
    """On-policy, where nothing is weighted, norms that do not vary are `rest` and the own part."""
    pi, own = np.array(PRIOR), KAPPA * np.array([2 * 0.4 ** 2, 2 * 0.6 ** 2])
    total = np.array([5.0, 40.0])
    asked = {"batches": 5, "samples": 320, "updates": 1, "p": 0.2, "lr": 0.5, "kappa": KAPPA,
             "max_norm": 0.1, "seeds": 50}
    drawn = first_arm(tuple(pi), EPS, norms=list(total[:, None]), **asked)
    told = first_arm(tuple(pi), EPS, rest=tuple(total - own), **asked)
    assert drawn[1] == pytest.approx(told[1])          # later the own part is not that of the prior
    assert not np.allclose(drawn[1], first_arm(tuple(pi), EPS, **asked)[1])
