"""The two drifts of lesson 2: each step of the derivation against a sum, an integral or a bandit.

float64 throughout; the bandit is held to the project's loss in test_lesson_clips.py.
"""

import doctest
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessons import chance, drift
from lessons.bandit import OFF, first_arm
from tests import adapters
from tests.helpers import f64

# --- PPO's clip


def expected_step(pi, old, p, eps, pulls):
    """E[dz] of one update by clipped GRPO on `pulls` pulls, over all pulls and all coins."""
    z, total, s = pi.log().requires_grad_(), torch.zeros(len(pi), **f64), 0.0
    for arms in itertools.product(range(len(pi)), repeat=pulls):
        for coins in itertools.product((0.0, 1.0), repeat=pulls):
            chance = math.prod(old[a].item() for a in arms)
            chance *= math.prod(p if coin else 1 - p for coin in coins)
            advantages = adapters.advantages("grpo", torch.tensor([coins], **f64))[0]
            logprobs = z.log_softmax(-1)[list(arms)]
            loss = adapters.policy_loss("grpo", logprobs, old.log()[list(arms)], advantages, eps,
                                        eps)
            total -= chance * torch.autograd.grad(loss.mean(), z)[0]
            s += chance * advantages.clamp(min=0).mean().item()
    return total, s


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("ratios", [(1.0, 1.0, 1.0), (1.5, 0.9, 0.85), (1.1, 0.5, 1.15)])
def test_the_clip_only_takes_outward_pushes(p, ratios):
    """E[dz_a] = s pi_a (c_a - sum_b pi_b c_b): c is -1 above the upper wall, +1 below the lower
    one, 0 between; s = E[A+]. So between the walls nothing drifts, whatever p is. By exact sums
    over a bandit of three arms; catches a drift that is there without a wall, and a wrong sign."""
    old = torch.tensor([0.5, 0.3, 0.2], **f64)
    pi = old * torch.tensor(ratios, **f64)
    pi = pi / pi.sum()
    w, eps = pi / old, 0.2
    found, s = expected_step(pi, old, p, eps, pulls=3)
    c = (w < 1 - eps).double() - (w > 1 + eps).double()
    assert bool(c.any()) == (ratios != (1.0, 1.0, 1.0))
    assert torch.allclose(found, s * pi * (c - pi @ c), atol=1e-12)


def integrate(f, a, b):
    x = np.linspace(a, b, 20_001)
    y = f(x)
    return (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()           # np.trapezoid is numpy 2's


@given(st.floats(0.01, 0.9), st.floats(0.01, 3.0))
def test_wall_drift_is_its_integral(low, high):
    """The closed form against quadrature; both densities."""
    a, b = math.log(1 - low), math.log(1 + high)
    for weighted, density in ((True, lambda x: np.exp(-2 * x)), (False, np.ones_like)):
        mass = integrate(density, a, b)
        expected = -integrate(lambda x, f=density: x * f(x), a, b) / mass
        assert drift.wall_drift(low, high, weighted) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_wall_drift_goes_as_eps_squared():
    """7/6 with the weight, 1/2 without; nothing without it where bounds are equal in logits."""
    assert drift.wall_drift(1e-3, 1e-3) / 1e-6 == pytest.approx(7 / 6, abs=1e-4)
    assert drift.wall_drift(1e-3, 1e-3, weighted=False) / 1e-6 == pytest.approx(1 / 2, abs=1e-4)
    assert drift.wall_drift(0.4, 1 / 0.6 - 1, weighted=False) == pytest.approx(0, abs=1e-12)
    assert drift.wall_drift(0.4, 1 / 0.6 - 1) > 0.1


def batch_drift(loss, eps_high=0.2, p=0.5, eps=0.2):
    """Of one long batch, in small steps, of a habit against one rare arm: (drift, error)."""
    shares = first_arm((0.98, 0.02), eps, batches=1, samples=2048 * 400, updates=400, p=p,
                       group=2048, eps_high=eps_high, loss=loss, lr=7.0, seeds=4000)
    moved = np.log(shares[1] / (1 - shares[1])) - np.log(0.98 / 0.02)
    return moved.mean(), moved.std() / math.sqrt(len(moved))


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_the_walls_of_a_bandit_are_those_of_the_formula(p):
    """Walk, walls and density e^(-2x), in 4,000 seeds; the controls that take one cause each."""
    wanted = drift.wall_drift(0.2, 0.2)
    for loss, eps_high, expected, tolerance in (
            ("grpo", 0.2, wanted, 0.15 * wanted),
            ("grpo_unweighted", 0.2, drift.wall_drift(0.2, 0.2, weighted=False), 0.15 * wanted),
            ("grpo_unweighted", 0.25, 0.0, 0.15 * wanted)):
        found, error = batch_drift(loss, eps_high, p)
        assert abs(found - expected) < tolerance + 3 * error, loss


@pytest.mark.slow
def test_no_drift_without_walls():
    """No clip at all, in the logits of two arms; a mask of both signs leaves it at that."""
    for loss, eps in (("grpo", OFF), ("grpo_masked", 0.2)):
        found, error = batch_drift(loss, eps, eps=eps)
        assert abs(found) < 0.005 + 3 * error, loss


# --- the norm clip


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_norm_drift(p):
    """The formula against a bandit of one update that is always scaled down: sign, size, symmetry.

    The arm with the smaller gradient gains below p = 1/2, and loses as much above.
    """
    prior, kappa, rest, n, lr = (0.6, 0.4), 1.0, (40.0, 400.0), 400, 0.01
    moved = 1 - np.array(prior)
    norms = [kappa * 2 * gone ** 2 + more for gone, more in zip(moved, rest)]
    step = drift.norm_drift(prior, norms, p, n, max_norm=0.01)
    shares = first_arm(prior, OFF, batches=1, samples=n, updates=1, p=p, group=n, lr=lr,
                       kappa=kappa, max_norm=0.01, rest=rest, seeds=100_000)
    logits = np.log(shares[1] / (1 - shares[1])) - np.log(0.6 / 0.4)
    error = logits.std() / math.sqrt(len(logits))
    expected = lr * kappa * (step[0] - step[1])
    assert abs(logits.mean() - expected) < 0.1 * abs(expected) + 3 * error
    assert np.sign(expected) == np.sign(0.5 - p) and (p == 0.5 or abs(expected) > 6 * error)
    mirrored = drift.norm_drift(prior, norms, 1 - p, n, max_norm=0.01)
    assert np.allclose(step, -np.array(mirrored))


def test_without_the_norm_clip_p_does_not_matter():
    """No clip of any kind: no drift at p = 0.1 or 0.9 either."""
    for p in (0.1, 0.9):
        shares = first_arm((0.6, 0.4), OFF, batches=1, samples=400, updates=1, p=p, group=400,
                           lr=0.01, rest=(40.0, 400.0), seeds=100_000)
        logits = np.log(shares[1] / (1 - shares[1])) - np.log(0.6 / 0.4)
        assert abs(logits.mean()) < 3.5 * logits.std() / math.sqrt(len(logits))


# --- the estimates


def test_cut_path():
    """Until the share first leaves [0.05, 0.95]; where it began does not count; a share of 1."""
    assert drift.cut_path([0.5, 0.6, 0.7]) == (pytest.approx(math.log(0.7 / 0.3)), 2)
    assert drift.cut_path([0.5, 0.96, 0.2]) == (pytest.approx(math.log(0.96 / 0.04)), 1)
    assert drift.cut_path([0.97, 0.5, 0.04]) == (pytest.approx(
        math.log(0.04 / 0.96) - math.log(0.97 / 0.03)), 2)
    assert drift.cut_path([0.5, 1.0])[0] == pytest.approx(math.log(0.999 / 0.001))


def walks(rng, seeds, step):
    z = np.cumsum(rng.normal(step, 0.3, (seeds, 20)), axis=1)
    shares = 1 / (1 + np.exp(-np.concatenate([np.full((seeds, 1), 0.6), 0.6 + z], axis=1)))
    return shares.tolist()


@pytest.mark.parametrize("step", [0.0, 0.15, -0.1])
def test_estimate_drift(step):
    """Of walks that are cut where they leave: not off, as the mean of moved / batches would be;
    and its error is that of repeated experiments."""
    rng = np.random.default_rng(0)
    found = np.array([drift.estimate_drift(walks(rng, 8, step)) for _ in range(500)])
    assert found[:, 0].mean() == pytest.approx(step, abs=0.01)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.12)


def test_estimate_drift_by_hand():
    """Paths of 3 batches and of 1: 2 logits in 4. The mean of the two ratios would be 2/3."""
    one = 1 / (1 + math.exp(-1))
    found, error = drift.estimate_drift([[0.5, 0.5, 0.5, one], [0.5, one]])
    assert found == pytest.approx(1 / 2)
    assert error == pytest.approx(math.sqrt(2 * (0.5 ** 2 + 0.5 ** 2)) / 4)


def test_estimate_step():
    one = 1 / (1 + math.exp(-1))
    assert drift.estimate_step([[0.5, one, 0.5], [0.5, 0.5]]) == pytest.approx(2 / 3)
    assert drift.estimate_step([[0.5, 0.99, 0.5]]) == pytest.approx(math.log(99))


def test_student():
    """A printed table's, and the few that other lessons have; of very many seeds the normal's."""
    printed = {2: 12.706, 3: 4.303, 4: 3.182, 6: 2.571, 8: 2.365, 11: 2.228, 16: 2.131, 24: 2.069}
    for seeds, t in (printed | chance.STUDENT).items():
        assert chance.find_student(seeds) == pytest.approx(t, abs=6e-4)
    assert chance.find_student(10**6) == pytest.approx(1.95996, abs=1e-4)


def test_the_interval_of_a_drift_covers_it():
    """In 95% of experiments of 8 seeds; two standard errors do so in about 91%."""
    rng = np.random.default_rng(1)
    found = np.array([drift.estimate_drift(walks(rng, 8, 0.05)) for _ in range(3000)])
    off = np.abs(found[:, 0] - 0.05) / found[:, 1]
    assert np.mean(off < chance.find_student(8)) == pytest.approx(0.95, abs=0.015)
    assert np.mean(off < 2) < 0.93


def test_docstring_examples():
    assert doctest.testmod(drift).failed == doctest.testmod(chance).failed == 0
