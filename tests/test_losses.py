"""Advantages, policy losses, value loss and KL: each against a formula derived by hand.

Against central differences too, and against the others, in float64. How they meet a rollout and
an update is in test_rlvr.py.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import losses
import rlvr
from companions.segments import Segments
from companions.teacher import DIVERGENCES, Distiller, Teacher
from data.corpus import HINT_NAMES
from plumbing.flags import bind, read_options
from tests import adapters
from tests.helpers import close, f64

GROUP_LOSSES = ("grpo", "dr_grpo", "rloo")           # compare a reward with its group

# --- the registry


def test_options():
    """Default and bounds of every flag that only losses read, and which of them reads it."""
    clip = {"eps_low": (0.4, {"least": 0}), "eps_high": (0.4, {"least": 0})}
    critic = {"gamma": (1.0, {"least": 0, "most": 1}), "gae_lambda": (1.0, {"least": 0, "most": 1}),
              "lr_value": (0.01, {"above": 0}), "eps_value": (0.2, {"above": 0})}
    expected = {"grpo": clip, "dr_grpo": clip, "rloo": {}, "reinforce": {}, "psr": clip,
                "nsr": clip, "w_reinforce": clip | {"psr_weight": (0.1, {"least": 0})},
                "ppo": clip | critic, "grpo_masked": clip, "grpo_unweighted": clip,
                "grpo_segments": clip}
    teacher = {"hint": ("code", {"choices": HINT_NAMES}),
               "hint_for": ("all", {"choices": ("all", "failed")}),
               "teacher": ("frozen", {"choices": ("frozen", "ema", "current")}),
               "ema_rate": (0.2, {"above": 0, "most": 1}),
               "directive_batches": (10 ** 6, {"least": 0})}
    beside = {"directive_weight": (1.0, {"least": 0})}
    token = clip | teacher | {"clamp": (5.0, {"above": 0})}
    full = teacher | {"distill": ("jsd", {"choices": DIVERGENCES})} | beside
    narrow = {"eps_low": (3e-4, {"least": 0}), "eps_high": (4e-4, {"least": 0})}
    expected |= {"directive": token, "grpo_directive": token | beside, "distill": full,
                 "grpo_distill": clip | full, "gspo": narrow}
    companions = {"ppo": (losses.Critic,), "grpo_segments": (Segments,), "directive": (Teacher,),
                  "grpo_directive": (Teacher,), "distill": (Distiller,),
                  "grpo_distill": (Distiller,)}
    for name in expected:    # a user may add others
        entry = rlvr.LOSSES[name]
        found = {flag: (option.default, {check: value for check, value in
                                         option.flag._asdict().items()
                                         if check != "help" and value is not None})
                 for flag, option in read_options(*entry.functions).items()}
        assert found == expected[name], name
        assert entry.companions == companions.get(name, ())


# --- advantages


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8),
       st.lists(st.floats(-1, 1), min_size=8, max_size=8), st.integers(1, 3))
def test_each_segment_has_its_own_reward(answer, confidence, span):
    """The answer's tokens get GRPO's advantage of their part, the confidence's that of theirs.

    Catches one part for both, parts swapped, and a group that is not the part's own.
    """
    parts = torch.tensor([answer, confidence], **f64).reshape(2, 2, 4)
    mask = torch.ones(8, 5, dtype=torch.bool)
    mask[::2, 4] = False
    marked = torch.zeros_like(mask)
    marked[:, 4 - span:] = True
    batch = adapters.make_batch(parts.sum(0), mask)._replace(
        scores={"parts": parts, "confidence": marked & mask})
    found = adapters.token_advantages("grpo_segments", batch)
    for part, tokens in zip(parts, (~marked, marked)):
        expected = adapters.advantages("grpo", part).flatten()[:, None]
        close(found[tokens], (expected * mask)[tokens])


@given(st.lists(st.lists(st.floats(-2, 2), min_size=4, max_size=4), min_size=1, max_size=3))
def test_group_advantages(rows):
    """The definitions: population std in GRPO, none in Dr. GRPO, the mean of the others in RLOO."""
    result = {loss: adapters.advantages(loss, torch.tensor(rows, **f64)).tolist()
              for loss in GROUP_LOSSES}
    for i, row in enumerate(rows):
        mean = sum(row) / 4
        std = math.sqrt(sum((r - mean) ** 2 for r in row) / 4)
        for j, r in enumerate(row):
            expected = {"grpo": 0.0 if len(set(row)) == 1 else (r - mean) / (std + 1e-9),
                        "dr_grpo": r - mean, "rloo": r - sum(row[:j] + row[j + 1:]) / 3}
            for loss in GROUP_LOSSES:
                assert result[loss][i][j] == pytest.approx(expected[loss], rel=1e-6, abs=1e-6), loss


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (2.0, 5.0)])
@pytest.mark.parametrize("loss, right, wrong", [
    ("reinforce", 1, -1), ("psr", 1, 0), ("nsr", 0, -1), ("w_reinforce", 0.1, -1)])
def test_sign_advantages(loss, right, wrong, low, high):
    """2506.01347: PSR keeps the right samples, NSR the wrong ones *with a minus*, W-REINFORCE both.

    No group, no baseline; whatever the range that the reward pays in.
    """
    paid = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], **f64)
    rewards = low + (high - low) * paid
    close(adapters.advantages(loss, rewards, (low, high)), right * paid + wrong * (1 - paid))
    if loss == "w_reinforce":     # with both at 1 it is REINFORCE
        close(adapters.advantages(loss, rewards, (low, high), psr_weight=1.0), 2 * paid - 1)


def test_a_middle_reward_has_no_sign():
    """Halfway between the least and the most a reward can pay is 0: no reason to move."""
    for row in ([-1.0, 0.0, 0.5, 1.0], [-0.5, 0.0, 0.25]):    # the range need not be reached
        rewards = torch.tensor([row], **f64)
        close(adapters.advantages("reinforce", rewards, (-1.0, 1.0)), rewards)
        close(adapters.advantages("psr", rewards, (-1.0, 1.0)), rewards.clamp(min=0))
        close(adapters.advantages("nsr", rewards, (-1.0, 1.0)), rewards.clamp(max=0))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, -7.7])
@pytest.mark.parametrize("size", [2, 3, 16])
@pytest.mark.parametrize("loss", GROUP_LOSSES)
def test_equal_rewards_give_exactly_zero(loss, value, size):
    """Catches NaN from an unbiased std, and a rounded mean that is then divided by 1e-9."""
    rewards = torch.full((2, size), value, **f64)
    assert adapters.advantages(loss, rewards).tolist() == [[0.0] * size] * 2


@pytest.mark.parametrize("gap", [1.0, 2.0 ** -20, 2.0 ** -30, 2.0 ** -40])
def test_nearly_equal_rewards_count_in_full(gap):
    """Only equal rewards have no advantage. Catches a threshold below which a gap is none.

    All sums of rewards are exact here, so hardly anything is lost to rounding.
    """
    row = [0.0, gap, gap, 2 * gap]
    std = gap * math.sqrt(1 / 2)
    expected = {"grpo": [(r - gap) / (std + 1e-9) for r in row], "dr_grpo": [-gap, 0, 0, gap],
                "rloo": [-4 / 3 * gap, 0, 0, 4 / 3 * gap]}
    for loss in GROUP_LOSSES:
        found = adapters.advantages(loss, torch.tensor([row], **f64))[0].tolist()
        assert found == pytest.approx(expected[loss], rel=1e-12, abs=0), loss


def test_a_group_of_one_has_no_advantage():
    assert adapters.advantages("grpo", torch.tensor([[0.7]], **f64)).tolist() == [[0.0]]


@pytest.mark.parametrize("loss, scale, numbers", [
    ("grpo", 2 ** -0.5, [-2, 1, 1, 2, -1, -1]), ("dr_grpo", 1 / 3, [-2, 1, 1, 2, -1, -1]),
    ("rloo", 1 / 2, [-2, 1, 1, 2, -1, -1]), ("reinforce", 1, [-1, 1, 1, 1, -1, -1]),
    ("psr", 1, [0, 1, 1, 1, 0, 0]), ("nsr", 1, [-1, 0, 0, 0, -1, -1]),
    ("w_reinforce", 0.1, [-10, 1, 1, 1, -10, -10])])
def test_every_token_of_a_response_has_its_number(loss, scale, numbers):
    """(P, G) -> (N, T): row p * G + g is response g to prompt p; padding has 0."""
    rewards = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], **f64)
    lengths = [2, 4, 1, 3, 4, 2]
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    found = adapters.token_advantages(loss, adapters.make_batch(rewards, mask))
    for row, length, number in zip(found.tolist(), lengths, numbers):
        assert row[:length] == pytest.approx([scale * number] * length, rel=1e-8, abs=0)
        assert row[length:] == [0.0] * (4 - length)


# --- policy losses: gradients on a categorical policy with logits z, one token per sample

logits = st.lists(st.floats(-2, 2), min_size=4, max_size=4).map(
    lambda row: torch.tensor(row, **f64))
samples = st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2)), min_size=1, max_size=6)


def losses_of(loss, z, z_old, drawn, eps_low=0.2, eps_high=0.3):
    """(R,) losses of drawn (token, advantage) under softmax(z), sampled from softmax(z_old)."""
    tokens = torch.tensor([a for a, _ in drawn])
    advantages = torch.tensor([A for _, A in drawn], **f64)
    return adapters.policy_loss(loss, z.log_softmax(-1)[tokens], z_old.log_softmax(-1)[tokens],
                                advantages, eps_low, eps_high)


def gradient(f, z):
    z = z.clone().requires_grad_()
    f(z).backward()
    return z.grad


def central_differences(f, z, h=1e-5):
    steps = h * torch.eye(len(z), **f64)
    return torch.stack([(f(z + step) - f(z - step)) / (2 * h) for step in steps])


def is_clipped(ratio, advantage):
    return (advantage > 0 and ratio > 1.3) or (advantage < 0 and ratio < 0.8)


@pytest.mark.parametrize("loss", adapters.LOSSES)
@given(logits, logits, samples)
def test_gradient_of_every_policy_loss(loss, z, z_old, drawn):
    """-A w (onehot - pi): w is 1 for -A log pi; else the ratio, or 0 where the clip is active."""
    pi, old = z.softmax(-1), z_old.softmax(-1)
    expected, at_a_bound = torch.zeros(4, **f64), False
    for token, A in drawn:
        ratio = (pi[token] / old[token]).item()
        at_a_bound |= min(abs(ratio - 1.3), abs(ratio - 0.8)) < 1e-3
        weight = 0.0 if is_clipped(ratio, A) else ratio
        weight = weight if loss in adapters.CLIPPED else 1.0
        expected -= A * weight * (torch.eye(4, **f64)[token] - pi)
    if at_a_bound:
        return                                        # no derivative there

    def total(x):
        return losses_of(loss, x, z_old, drawn).sum()

    close(gradient(total, z), expected)
    close(central_differences(total, z), expected, 1e-7)


@pytest.mark.parametrize("loss", adapters.LOSSES)
@pytest.mark.parametrize("advantage", [1.5, -1.5])
@pytest.mark.parametrize("ratio", [0.5, 0.79, 0.81, 1.0, 1.29, 1.31, 2.0])
def test_four_quadrants_of_the_clip(loss, advantage, ratio):
    """Zero exactly where the ratio has moved too far in the direction that the advantage wants.

    Catches `max` for negative advantages, and lower and upper bound swapped (0.2 and 0.3 here).
    """
    logprob = torch.tensor([-1.0 + math.log(ratio)], requires_grad=True, **f64)
    old, advantages = torch.tensor([-1.0], **f64), torch.tensor([advantage], **f64)
    adapters.policy_loss(loss, logprob, old, advantages, 0.2, 0.3).sum().backward()
    expected = 0.0 if is_clipped(ratio, advantage) else -advantage * ratio
    close(logprob.grad.item(), expected if loss in adapters.CLIPPED else -advantage)


@pytest.mark.parametrize("loss", adapters.LOSSES)
@given(logits, samples)
def test_first_update_is_reinforce_for_all(loss, z, drawn):
    """At the first update after a rollout the ratio is 1: no bug, all gradients are REINFORCE's."""
    close(gradient(lambda x: losses_of(loss, x, z, drawn).sum(), z),
          gradient(lambda x: -sum(A * x.log_softmax(-1)[a] for a, A in drawn), z))


@pytest.mark.parametrize("name", ["grpo_masked", "grpo_unweighted"])
@given(logits, logits, samples)
def test_gradient_of_the_controls(name, z, z_old, drawn):
    """-A w (onehot - pi): masked has w = ratio within both bounds, whatever the sign of A, and 0
    outside; unweighted has w = 1 where PPO's clip is not active. And they are grpo's advantages."""
    pi, old = z.softmax(-1), z_old.softmax(-1)
    tokens, A = torch.tensor([a for a, _ in drawn]), torch.tensor([A for _, A in drawn], **f64)
    ratios = (pi / old)[tokens]
    if ((ratios - 1.3).abs().minimum((ratios - 0.8).abs()) < 1e-3).any():
        return                                        # no derivative there
    expected = torch.zeros(4, **f64)
    for token, advantage, ratio in zip(tokens, A, ratios):
        weight = {"grpo_masked": ratio * (0.8 < ratio < 1.3),
                  "grpo_unweighted": float(not is_clipped(ratio, advantage))}[name]
        expected -= advantage * weight * (torch.eye(4, **f64)[token] - pi)

    def total(x):
        logprobs, old_logprobs = x.log_softmax(-1)[tokens], z_old.log_softmax(-1)[tokens]
        return adapters.policy_loss(name, logprobs, old_logprobs, A, 0.2, 0.3).sum()

    close(gradient(total, z), expected)
    assert losses.LOSSES[name].advantages is losses.grpo


# --- what NSR and PSR do to a distribution (2506.01347's token-level gradients)


def descent_step(loss, reward, z, token):
    """(V,) what one sample with this reward adds to the logits per unit of step size, at first."""
    advantage = adapters.advantages(loss, torch.tensor([[reward]], **f64)).item()
    return -gradient(lambda x: losses_of(loss, x, z, [(token, advantage)]).sum(), z)


@given(logits, st.integers(0, 3), st.floats(0.01, 0.5))
def test_nsr_redistributes_in_proportion_to_the_prior(z, wrong, lr):
    """A wrong token's logit falls by 1 - pi, every other one rises by its own pi.

    So the token loses probability, and among the others the odds of u against v move by
    exp(lr (pi_u - pi_v)): what was likelier before gains on what was not. A right one moves none.
    """
    step, pi = descent_step("nsr", 0.0, z, wrong), z.softmax(-1)
    after = (z + lr * step).softmax(-1)
    close(step, pi - torch.eye(4, **f64)[wrong])
    assert after[wrong] < pi[wrong]
    for u, v in itertools.combinations(sorted({0, 1, 2, 3} - {wrong}), 2):
        close((after[u] / after[v]).log() - (pi[u] / pi[v]).log(), lr * (pi[u] - pi[v]))
    assert not descent_step("nsr", 1.0, z, wrong).any()


@given(logits, st.integers(0, 3), st.floats(0.01, 0.5))
def test_psr_concentrates(z, right, lr):
    """A right token's logit rises by 1 - pi, *every* other one falls by its own pi, right ones too.

    The token's odds against v grow by exp(lr (1 - pi + pi_v)), most against its closest rival. A
    wrong one moves nothing.
    """
    step, pi = descent_step("psr", 1.0, z, right), z.softmax(-1)
    after = (z + lr * step).softmax(-1)
    close(step, torch.eye(4, **f64)[right] - pi)
    assert after[right] > pi[right]
    for v in {0, 1, 2, 3} - {right}:
        close((after[right] / after[v]).log() - (pi[right] / pi[v]).log(),
              lr * (1 - pi[right] + pi[v]))
    assert not descent_step("psr", 0.0, z, right).any()


def expected_gradient(loss, z, right, G):
    """The exact expectation of a loss's gradient over all groups of G samples; `right` is paid."""
    pi = z.softmax(-1)

    def total(x):
        result = 0.0
        for group in itertools.product(range(len(z)), repeat=G):
            rewards = torch.tensor([[float(v in right) for v in group]], **f64)
            advantages = adapters.advantages(loss, rewards)[0].tolist()
            terms = losses_of(loss, x, z, list(zip(group, advantages)))
            result = result + pi[list(group)].prod() * terms.sum() / G
        return result
    return gradient(total, z)


@pytest.mark.parametrize("right", [{0}, {1, 2}, {0, 2, 3}])
@pytest.mark.parametrize("z", [[0.0, 0.0, 0.0, 0.0], [1.5, -1.0, 0.3, -0.2]])
def test_on_policy_all_but_grpo_are_the_same_gradient_in_expectation(z, right):
    """r, r - 1 and 2r - 1 differ by a constant, and E[constant d log pi] = 0: only noise changes.

    So the exact expectation over all samples (over all groups of 3, for the losses that look at a
    group) is d E[r], times 2 for REINFORCE, 1.1 for W-REINFORCE, (G - 1) / G for Dr. GRPO, whose
    baseline includes the reward itself.
    """
    z = torch.tensor(z, **f64)
    truth = -gradient(lambda x: -sum(x.softmax(-1)[v] for v in right), z)      # of E[r]
    for loss, scale in {"psr": 1, "nsr": 1, "reinforce": 2, "w_reinforce": 1.1}.items():
        close(-expected_gradient(loss, z, right, 1), scale * truth)
    close(-expected_gradient("rloo", z, right, 3), truth)
    close(-expected_gradient("dr_grpo", z, right, 3), truth * 2 / 3)


def test_grpos_std_is_another_objective():
    """Divided by the std, a prompt solved 2% of the time pulls 1.4 times as hard, for what it can
    gain, as one solved half of the time.

    Dr. GRPO pulls (G - 1) / G at both. Two tokens, one right, groups of 8, exactly.
    """
    scale = {}
    for p in (0.02, 0.5):
        z = torch.tensor([p, 1 - p], **f64).log()
        truth = -gradient(lambda x: x.softmax(-1)[0], z)
        for loss in ("grpo", "dr_grpo"):
            scale[loss, p] = (expected_gradient(loss, z, {0}, 8) / truth)[0].item()
    assert scale["grpo", 0.02] / scale["grpo", 0.5] == pytest.approx(1.38, abs=0.01)
    for p in (0.02, 0.5):
        assert scale["dr_grpo", p] == pytest.approx(7 / 8)


# --- PPO: GAE and the critic


def random_values(lengths, seed=0):
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(seed)
    return mask, torch.randn(mask.shape, generator=generator, **f64) * mask


@pytest.mark.parametrize("gamma, lam", [(1.0, 1.0), (0.9, 1.0), (1.0, 0.0), (0.8, 0.5),
                                        (0.97, 0.95)])
def test_gae_is_its_closed_form(gamma, lam):
    """A_t = sum over l of (gamma lam)^l delta_(t+l), row by row, and 0 on padding.

    Catches a value that leaks across an ending.
    """
    lengths, rewards = [3, 1, 5], [1.0, -0.5, 0.3]
    mask, values = random_values(lengths)
    advantages = adapters.gae(torch.tensor(rewards, **f64), values, mask, gamma, lam)
    for i, (T, reward) in enumerate(zip(lengths, rewards)):
        V = [*values[i, :T].tolist(), 0.0]
        delta = [(reward if t == T - 1 else 0.0) + gamma * V[t + 1] - V[t] for t in range(T)]
        expected = [sum((gamma * lam) ** (u - t) * delta[u] for u in range(t, T))
                    for t in range(T)]
        close(advantages[i, :T], expected)
        assert not advantages[i, T:].any()


def test_gae_at_its_ends():
    """lambda = 1 is Monte Carlo: discounted reward minus value. lambda = 0 is the TD error."""
    mask, values = random_values([4])
    reward = torch.tensor([0.7], **f64)
    discounted = 0.7 * 0.9 ** torch.tensor([3, 2, 1, 0], **f64)
    close(adapters.gae(reward, values, mask, 0.9, 1.0)[0], discounted - values[0])
    following = torch.tensor([*values[0, 1:].tolist(), 0.7], **f64)
    close(adapters.gae(reward, values, mask, 1.0, 0.0)[0], following - values[0])


def test_gae_below_one_favours_short_responses():
    """With no values yet, a first token gets lambda^(T - 1) of the reward; at 1 all of it."""
    mask, values = random_values([2, 4])
    for lam, first in ((1.0, [1.0, 1.0]), (0.5, [0.5, 0.125])):
        close(adapters.gae(torch.ones(2, **f64), 0 * values, mask, 1.0, lam)[:, 0], first)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_value_loss_gradient(value, old, target):
    """V - R, and 0 where V has moved more than eps towards R; never 0 where it moved away."""
    near = min(max(value, old - 0.2), old + 0.2)
    gap = abs(value - target) - abs(near - target)
    if abs(abs(value - old) - 0.2) < 1e-3 or abs(gap) < 1e-3 < abs(value - old) - 0.2:
        return                                        # no derivative there

    def f(v):
        return adapters.value_loss(v, torch.tensor([old], **f64), torch.tensor([target], **f64),
                                   0.2).sum()

    v = torch.tensor([value], **f64)
    expected = value - target if gap >= 0 or abs(value - old) < 0.2 else 0.0
    close(gradient(f, v), [expected])
    close(central_differences(f, v), [expected], 1e-7)


# --- KL and entropy


def test_k3_in_expectation_is_the_exact_kl():
    """Catches a swapped direction: KL(p || q) and KL(q || p) differ here by 0.1."""
    p, q = torch.tensor([0.8, 0.1, 0.1], **f64), torch.tensor([0.3, 0.3, 0.4], **f64)
    close((p * adapters.kl_k3(p.log(), q.log())).sum(), (p * (p / q).log()).sum())
    assert abs((p * (p / q).log()).sum() - (q * (q / p).log()).sum()) > 0.05
    assert (adapters.kl_k3(p.log(), q.log()) >= 0).all()


@given(logits, logits, st.integers(0, 3))
def test_gradient_of_the_kl_term(z, z_base, token):
    """k3 on a sample: (1 - base / pi)(onehot - pi). Its mean is that of KL(base || pi).

    So says the algebra: E_pi[(1 - base / pi)(onehot - pi)] = pi - base. k3 is the right *value* of
    KL(pi || base) and GRPO differentiates it all the same; this pins what it pulls towards.
    """
    pi, base = z.softmax(-1), z_base.softmax(-1)

    def f(x, v=token):
        return adapters.kl_k3(x.log_softmax(-1)[v], z_base.log_softmax(-1)[v])

    expected = (1 - base[token] / pi[token]) * (torch.eye(4, **f64)[token] - pi)
    close(gradient(f, z), expected)
    close(central_differences(f, z), expected, 1e-6)
    mean = sum(pi[v] * gradient(lambda x, v=v: f(x, v), z) for v in range(4))
    close(mean, pi - base)
    close(mean, gradient(lambda x: (base * (base.log() - x.log_softmax(-1))).sum(), z))


@given(logits)
def test_gradient_of_the_entropy(z):
    """dH / dz = -pi (log pi + H)."""
    pi = z.softmax(-1)
    H = -(pi * pi.log()).sum()
    close(gradient(adapters.entropy, z), -pi * (pi.log() + H))
    close(central_differences(adapters.entropy, z), -pi * (pi.log() + H), 1e-7)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
def test_gspo(lengths, seed):
    """Value and gradient of min(s A, clip(s) A), s = exp(mean log ratio) of a response (eq. 5)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor([row for row, length in enumerate(lengths) for _ in range(length)])
    A = torch.randn(len(lengths), generator=generator, **f64)
    old = torch.zeros(len(rows), **f64)
    new = 0.001 * torch.randn(len(rows), generator=generator, **f64)

    def by_sequence(x):
        s = torch.stack([x[rows == row].mean().exp() for row in range(len(lengths))])
        return -torch.min(s * A, s.clamp(1 - 3e-4, 1 + 4e-4) * A).sum()

    def ours(x):
        return losses.gspo(x, old, A[rows], rows)[0].sum()

    close(ours(new), by_sequence(new))
    close(gradient(ours, new), gradient(by_sequence, new))
    s = torch.stack([new[rows == row].mean().exp() for row in range(len(lengths))])
    outward = torch.where(A > 0, s > 1 + 4e-4, s < 1 - 3e-4)
    assert torch.equal(losses.gspo(new, old, A[rows], rows)[1], outward[rows])


@pytest.mark.parametrize("name, dropped", [
    ("grpo", [True, False, False, False, True]),
    ("grpo_unweighted", [True, False, False, False, True]),
    ("grpo_masked", [True, True, False, True, True]), ("rloo", [False] * 5)])
def test_a_loss_says_what_it_clipped(name, dropped):
    """Ratios above, below and inside, by both signs: outward alone, or both ways.

    Where A is 0 there is no gradient to take: `clipped` says so; `masked` does not look at A.
    """
    old, A = torch.zeros(5, **f64), torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0], **f64)
    new = torch.tensor([1.5, 0.5, 1.1, 1.5, 0.5], **f64).log()
    function = bind(losses.LOSSES[name].policy_loss, {"eps_low": 0.2, "eps_high": 0.3})
    rows = torch.zeros(5, dtype=torch.long)
    assert function(new, old, A, rows)[1].tolist() == dropped
    assert name == "grpo_masked" or not function(new, old, 0 * A, rows)[1].any()
