"""The family of losses: each against a formula derived by hand, against central differences, and against the others. float64."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rlvr
from data import tokenizer
from tests import adapters
from tests.test_rlvr import close, config, f64, hand_made_batch, parameters_after, pool, tiny

GROUP_LOSSES = ("grpo", "dr_grpo", "rloo")           # compare a reward with its group
SIGN_LOSSES = ("reinforce", "psr", "nsr", "w_reinforce")


# --- advantages

@given(st.lists(st.lists(st.floats(-2, 2), min_size=4, max_size=4), min_size=1, max_size=3))
def test_group_advantages(rows):
    """Against the definitions, group by group: population std in GRPO, none in Dr. GRPO, the mean of the others in RLOO."""
    result = {loss: adapters.advantages(loss, torch.tensor(rows, **f64)).tolist() for loss in GROUP_LOSSES}
    for i, row in enumerate(rows):
        mean = sum(row) / 4
        std = math.sqrt(sum((r - mean) ** 2 for r in row) / 4)
        for j, r in enumerate(row):
            others = sum(row[:j] + row[j + 1:]) / 3
            expected = {"grpo": 0.0 if len(set(row)) == 1 else (r - mean) / (std + 1e-9), "dr_grpo": r - mean, "rloo": r - others}
            for loss in GROUP_LOSSES:
                assert result[loss][i][j] == pytest.approx(expected[loss], rel=1e-9, abs=1e-9), loss


@pytest.mark.parametrize("loss, right, wrong", [("reinforce", 1, -1), ("psr", 1, 0), ("nsr", 0, -1), ("w_reinforce", 0.1, -1)])
def test_sign_advantages(loss, right, wrong):
    """2506.01347: PSR keeps the right samples, NSR the wrong ones *with a minus*, W-REINFORCE both; no group, no baseline."""
    rewards = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], **f64)
    close(adapters.advantages(loss, rewards), torch.where(rewards == 1, torch.tensor(float(right), **f64), torch.tensor(float(wrong), **f64)))
    if loss == "w_reinforce":
        close(adapters.advantages(loss, rewards, psr_weight=1.0), adapters.advantages("reinforce", rewards))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, -7.7])
@pytest.mark.parametrize("size", [2, 3, 16])
@pytest.mark.parametrize("loss", GROUP_LOSSES)
def test_equal_rewards_give_exactly_zero(loss, value, size):
    """Catches NaN from an unbiased std, and a rounded mean that is then divided by 1e-9."""
    assert adapters.advantages(loss, torch.full((2, size), value, **f64)).tolist() == [[0.0] * size] * 2


def test_a_group_of_one_has_no_advantage():
    assert adapters.advantages("grpo", torch.tensor([[0.7]], **f64)).tolist() == [[0.0]]


@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_which_losses_learn_from_equal_rewards(loss):
    """The losses with a baseline do not move where all rewards are equal (PPO: where its critic is right); the others do.

    All wrong moves everything but PSR, all right everything but NSR: that is what they are.
    """
    moved = {}
    for p in (0.0, 1.0):
        model, c = tiny(), config(loss=loss, p=p, updates=1)
        critic = torch.nn.Linear(8, 1, **f64) if loss == "ppo" else None
        if critic is not None:
            torch.nn.init.zeros_(critic.weight)
            torch.nn.init.constant_(critic.bias, p)
        batch, metrics, _ = adapters.rollout(model, c, pool(), critic=critic)
        before = [x.clone() for x in model.parameters()]
        adapters.update(model, [torch.optim.SGD(model.parameters(), lr=1.0)], batch, c, critic=critic)
        moved[p] = not all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
        assert metrics["no_signal"] == (0 if moved[p] else 1)
    assert moved == {0.0: loss in ("reinforce", "nsr", "w_reinforce"), 1.0: loss in ("reinforce", "psr", "w_reinforce")}


# --- policy losses: gradients on a categorical policy with logits z, one token per sample

logits = st.lists(st.floats(-2, 2), min_size=4, max_size=4).map(lambda row: torch.tensor(row, **f64))
samples = st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2)), min_size=1, max_size=6)   # (token, advantage)


def losses_of(loss, z, z_old, drawn, eps_low=0.2, eps_high=0.3):
    """(R,) losses of the drawn tokens under the policy softmax(z), sampled from softmax(z_old)."""
    tokens, advantages = torch.tensor([a for a, _ in drawn]), torch.tensor([A for _, A in drawn], **f64)
    return adapters.policy_loss(loss, z.log_softmax(-1)[tokens], z_old.log_softmax(-1)[tokens], advantages, eps_low, eps_high)


def gradient(f, z):
    z = z.clone().requires_grad_()
    f(z).backward()
    return z.grad


def central_differences(f, z, h=1e-5):
    steps = h * torch.eye(len(z), **f64)
    return torch.stack([(f(z + step) - f(z - step)) / (2 * h) for step in steps])


@pytest.mark.parametrize("loss", adapters.LOSSES)
@given(logits, logits, samples)
def test_gradient_of_every_policy_loss(loss, z, z_old, drawn):
    """-A w (onehot - pi), w being 1 for -A log pi, and for the clipped losses the ratio, or 0 where the clip is active."""
    pi, old = z.softmax(-1), z_old.softmax(-1)
    expected, at_a_bound = torch.zeros(4, **f64), False
    for token, A in drawn:
        ratio = (pi[token] / old[token]).item()
        clipped = (A > 0 and ratio > 1.3) or (A < 0 and ratio < 0.8)
        at_a_bound |= min(abs(ratio - 1.3), abs(ratio - 0.8)) < 1e-3
        weight = 1.0 if loss not in adapters.CLIPPED else 0.0 if clipped else ratio
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
    """Catches `max` for negative advantages: zero exactly where the ratio has moved too far in the direction the advantage wants."""
    logprob = torch.tensor([-1.0 + math.log(ratio)], requires_grad=True, **f64)
    adapters.policy_loss(loss, logprob, torch.tensor([-1.0], **f64), torch.tensor([advantage], **f64), 0.2, 0.3).sum().backward()
    clipped = (advantage > 0 and ratio > 1.3) or (advantage < 0 and ratio < 0.8)
    close(logprob.grad.item(), -advantage if loss not in adapters.CLIPPED else 0.0 if clipped else -advantage * ratio)


@pytest.mark.parametrize("loss", adapters.LOSSES)
@given(logits, samples)
def test_first_update_is_reinforce_for_all(loss, z, drawn):
    """At the first update after a rollout the ratio is 1: that is no bug, and all gradients are REINFORCE's, -A d log pi."""
    close(gradient(lambda x: losses_of(loss, x, z, drawn).sum(), z), gradient(lambda x: -sum(A * x.log_softmax(-1)[a] for a, A in drawn), z))


# --- what NSR and PSR do to a distribution (2506.01347's token-level gradients)

def descent_step(loss, reward, z, token):
    """(V,) what one sample with this reward adds to the logits per unit of step size, at the first update after the rollout."""
    advantage = adapters.advantages(loss, torch.tensor([[reward]], **f64)).item()
    return -gradient(lambda x: losses_of(loss, x, z, [(token, advantage)]).sum(), z)


@given(logits, st.integers(0, 3), st.floats(0.01, 0.5))
def test_nsr_redistributes_in_proportion_to_the_prior(z, wrong, lr):
    """A wrong token's logit falls by 1 - pi, every other one rises by its own pi. So the token loses probability, and among the
    others the odds of u against v move by exp(lr (pi_u - pi_v)): what was likelier before gains on what was not. A right one moves nothing.
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
    """A right token's logit rises by 1 - pi, and *every* other one falls by its own pi, other right ones too: the token's odds
    against v grow by exp(lr (1 - pi + pi_v)), most against what was its closest rival. A wrong one moves nothing.
    """
    step, pi = descent_step("psr", 1.0, z, right), z.softmax(-1)
    after = (z + lr * step).softmax(-1)
    close(step, torch.eye(4, **f64)[right] - pi)
    assert after[right] > pi[right]
    for v in {0, 1, 2, 3} - {right}:
        close((after[right] / after[v]).log() - (pi[right] / pi[v]).log(), lr * (1 - pi[right] + pi[v]))
    assert not descent_step("psr", 0.0, z, right).any()


@given(logits, st.sets(st.integers(0, 3), min_size=1, max_size=3))
def test_on_policy_all_but_grpo_are_the_same_gradient_in_expectation(z, right):
    """r, r - 1 and 2r - 1 differ by a constant, and E[constant d log pi] = 0: a constant baseline changes the noise, not the mean.

    So the exact expectation over all samples (over all groups of 3, for the losses that look at a group) is d E[r], times 2 for
    REINFORCE, 1.1 for W-REINFORCE, (G - 1) / G for Dr. GRPO, whose baseline includes the reward itself.
    """
    truth = -gradient(lambda x: sum(x.softmax(-1)[v] for v in right), z)             # of the loss -E[r]
    for loss, scale in {"psr": 1, "nsr": 1, "reinforce": 2, "w_reinforce": 1.1}.items():
        close(expected_gradient(loss, z, right, 1), scale * truth)
    close(expected_gradient("rloo", z, right, 3), truth)
    close(expected_gradient("dr_grpo", z, right, 3), truth * 2 / 3)


def expected_gradient(loss, z, right, G):
    """The exact expectation of a loss's gradient over all groups of G samples of softmax(z), the tokens in `right` being paid."""
    pi = z.softmax(-1)

    def total(x):
        result = 0.0
        for group in itertools.product(range(len(z)), repeat=G):
            advantages = adapters.advantages(loss, torch.tensor([[float(v in right) for v in group]], **f64))[0].tolist()
            result = result + pi[list(group)].prod() * losses_of(loss, x, z, list(zip(group, advantages))).sum() / G
        return result
    return gradient(total, z)


def test_grpos_std_is_another_objective():
    """Divided by the std, a prompt that is solved 2% of the time pulls 1.4 times as hard, for what it can gain, as one solved half of the time.

    Dr. GRPO pulls (G - 1) / G at both. Two tokens, one right, groups of 8, exactly.
    """
    scale = {}
    for p in (0.02, 0.5):
        z = torch.tensor([p, 1 - p], **f64).log()
        truth = -gradient(lambda x: x.softmax(-1)[0], z)
        for loss in ("grpo", "dr_grpo"):
            scale[loss, p] = (expected_gradient(loss, z, {0}, 8) / truth)[0].item()
    assert scale["grpo", 0.02] / scale["grpo", 0.5] == pytest.approx(1.38, abs=0.01)
    assert scale["dr_grpo", 0.02] == pytest.approx(7 / 8) == scale["dr_grpo", 0.5]


# --- PPO: GAE and the critic

def random_values(lengths, seed=0):
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    values = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(seed), **f64) * mask
    return mask, values


@pytest.mark.parametrize("gamma, lam", [(1.0, 1.0), (0.9, 1.0), (1.0, 0.0), (0.8, 0.5), (0.97, 0.95)])
def test_gae_is_its_closed_form(gamma, lam):
    """A_t = sum over l of (gamma lam)^l delta_(t+l), row by row, and 0 on padding: catches a value that leaks across an ending."""
    lengths, rewards = [3, 1, 5], [1.0, -0.5, 0.3]
    mask, values = random_values(lengths)
    advantages = adapters.gae(torch.tensor(rewards, **f64), values, mask, gamma, lam)
    for i, (T, reward) in enumerate(zip(lengths, rewards)):
        V = [*values[i, :T].tolist(), 0.0]
        delta = [(reward if t == T - 1 else 0.0) + gamma * V[t + 1] - V[t] for t in range(T)]
        close(advantages[i, :T], [sum((gamma * lam) ** (l - t) * delta[l] for l in range(t, T)) for t in range(T)])
        assert not advantages[i, T:].any()


def test_gae_at_its_ends():
    """lambda = 1 is Monte Carlo: the discounted reward minus the value. lambda = 0 is the TD error."""
    mask, values = random_values([4])
    reward = torch.tensor([0.7], **f64)
    close(adapters.gae(reward, values, mask, 0.9, 1.0)[0], 0.7 * 0.9 ** torch.tensor([3, 2, 1, 0], **f64) - values[0])
    close(adapters.gae(reward, values, mask, 1.0, 0.0)[0], torch.tensor([*values[0, 1:].tolist(), 0.7], **f64) - values[0])


def test_gae_below_one_favours_short_responses():
    """Its length bias: with no values yet, the first token of a longer response gets lambda^(T - 1) of the reward; at lambda = 1 all of it."""
    mask, values = random_values([2, 4])
    for lam, first in ((1.0, [1.0, 1.0]), (0.5, [0.5, 0.125])):
        close(adapters.gae(torch.ones(2, **f64), 0 * values, mask, 1.0, lam)[:, 0], first)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_value_loss_gradient(value, old, target):
    """V - R, and 0 where V has moved more than eps towards R since the rollout; never 0 where it moved away."""
    if abs(abs(value - old) - 0.2) < 1e-3 or abs(abs(value - target) - abs(min(max(value, old - 0.2), old + 0.2) - target)) < 1e-3 < abs(value - old) - 0.2:
        return                                        # no derivative there

    def f(v):
        return adapters.value_loss(v, torch.tensor([old], **f64), torch.tensor([target], **f64), 0.2).sum()

    v = torch.tensor([value], **f64)
    near = min(max(value, old - 0.2), old + 0.2)
    expected = value - target if (value - target) ** 2 >= (near - target) ** 2 else 0.0
    close(gradient(f, v), [expected])
    close(central_differences(f, v), [expected], 1e-7)


def test_critic_learns_a_known_value_function():
    """Rewards are 0.2 after one prompt and 0.9 after another, always: V goes there at every token, and the advantage to 0.

    """
    model = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, layers=1, width=32, heads=2, scale=4.0)
    c = config(loss="ppo", updates=4, lr=1e-12, eps_value=0.1)
    batch = hand_made_batch(model, (3, 4, 3, 4), (0.0,) * 4)
    assert batch.prompts[0] == batch.prompts[2] != batch.prompts[1] == batch.prompts[3]
    rewards = torch.tensor([0.2, 0.9, 0.2, 0.9], **f64)
    torch.manual_seed(0)
    critic = torch.nn.Linear(32, 1, **f64)
    optimizers = [torch.optim.SGD(model.parameters(), lr=c.lr), torch.optim.AdamW(critic.parameters(), lr=0.01, weight_decay=0.0)]
    rollouts = rlvr.Rollouts(batch.ids, batch.mask, batch.old_logprobs, batch.old_logprobs)
    for step in range(80):
        values = rlvr.per_token(model, batch.prompts, rollouts, lambda hidden, ids: critic(hidden)[:, 0])
        advantages = adapters.gae(rewards, values, batch.mask, 1.0, 1.0)
        metrics = adapters.update(model, optimizers, batch._replace(advantages=advantages, values=values), c, step, critic)
    assert (values - rewards[:, None] * batch.mask).abs().max() < 0.01 and advantages.abs().max() < 0.01 and metrics["value_loss"] < 1e-4


def test_one_step_of_the_critic():
    """By hand: bias and weights move by lr times the mean over rows of the sum over tokens of (V - R) h, but where V has moved too far.

    The trunk does not hear of it: without advantages it stays as it is, bit for bit, however wrong the critic.
    """
    model, c = tiny(), config(loss="ppo", updates=1, eps_value=0.2)
    batch = hand_made_batch(model, (3, 4), (0.0, 0.0))
    torch.manual_seed(0)
    critic = torch.nn.Linear(8, 1, **f64)
    hidden = torch.cat([model(torch.tensor(prompt + ids[mask].tolist())[None])[0, len(prompt) - 1:-1]
                        for prompt, ids, mask in zip(batch.prompts, batch.ids, batch.mask)]).detach()
    values = critic(hidden)[:, 0].detach()
    moved = torch.tensor([0.0, 0.3, -0.3, 0.1, 0.3, -0.3, 0.0], **f64)             # V - V_old
    returns = values + torch.tensor([0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 0.0], **f64)
    learns = torch.tensor([1, 0, 1, 1, 1, 0, 1], **f64)                            # 0 where it moved towards R by more than 0.2
    old = torch.zeros(batch.mask.shape, **f64).masked_scatter(batch.mask, values - moved)
    target = torch.zeros(batch.mask.shape, **f64).masked_scatter(batch.mask, returns)
    before = [p.clone() for p in model.parameters()]
    expected = [critic.weight - 0.1 * ((values - returns) * learns)[None] @ hidden / 2, critic.bias - 0.1 * ((values - returns) * learns).sum() / 2]
    optimizers = [torch.optim.SGD(model.parameters(), lr=1.0), torch.optim.SGD(critic.parameters(), lr=0.1)]
    # The returns are advantages + values. The policy's part of the advantages is taken out by a ratio of 0: exp(-1e9).
    gone = batch._replace(advantages=target - old, values=old, old_logprobs=torch.full(batch.mask.shape, 1e9, **f64))
    adapters.update(model, optimizers, gone, config(**{**vars(c), "eps_low": 2.0, "eps_high": 1e9}), critic=critic)
    close(critic.weight, expected[0])
    close(critic.bias, expected[1])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


# --- the update: divisors, micro-batches, the terms that are off unless asked for

def policy_gradient(model, batch, aggregate):
    """sum of A d log pi over all tokens, each row divided as `aggregate` says: by a plain forward pass per row."""
    total, rows, tokens = 0.0, len(batch.ids), int(batch.mask.sum())
    for prompt, ids, mask, advantages in zip(batch.prompts, batch.ids, batch.mask, batch.advantages):
        sequence = torch.tensor(prompt + ids[mask].tolist())
        logprobs = adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:-1].log_softmax(-1).gather(1, ids[mask][:, None])[:, 0]
        weights = advantages[mask] / {"sequences": rows, "length": rows * int(mask.sum()), "tokens": tokens}[aggregate]
        total = total + torch.cat([g.flatten() for g in torch.autograd.grad((weights * logprobs).sum(), list(model.parameters()))])
    return total


@pytest.mark.parametrize("loss", adapters.LOSSES)
@pytest.mark.parametrize("aggregate", ["sequences", "length", "tokens"])
def test_length_bias(loss, aggregate):
    """Which has it: only `length` (GRPO's eq. 3) gives a token of a short response more weight than one of a long response.

    With equal advantages and lengths 2 and 4 the weights are 1/N each for `sequences`, 1/2N and 1/4N for `length`, one over all tokens
    for `tokens`. The loss does not matter: its bias is in the divisor. Catches a "Dr. GRPO" that only drops the std.
    """
    model, c = tiny(), config(loss=loss, aggregate=aggregate, updates=1, max_grad_norm=1e9)
    batch = hand_made_batch(model, (2, 4), (1.0, 1.0))
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, _ = parameters_after(model, batch, c)
    close((after - before) / c.lr, policy_gradient(model, batch, aggregate))
    short, long = (batch._replace(advantages=batch.advantages * torch.tensor(only, **f64)[:, None]) for only in ((1.0, 0.0), (0.0, 1.0)))
    per_row = [(parameters_after(model, one, c)[0] - before) / c.lr for one in (short, long)]
    unbiased = [policy_gradient(model, one, "sequences") for one in (short, long)]
    weights = [(torch.dot(a, b) / torch.dot(b, b)).item() for a, b in zip(per_row, unbiased)]
    assert weights[0] / weights[1] == pytest.approx(2.0 if aggregate == "length" else 1.0)


@pytest.mark.parametrize("aggregate", ["sequences", "length", "tokens"])
@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_micro_batches_change_nothing(loss, aggregate):
    """Catches micro-batches that are each divided by their own size, and metrics of the last micro-batch alone; all terms on."""
    model = tiny()
    lengths, advantages = (2, 4, 3, 6, 5, 2, 2), (1.0, -1.0, 0.5, 2.0, -0.7, 0.0, -1.2)
    batch = hand_made_batch(model, lengths, advantages)
    batch = batch._replace(ref_logprobs=batch.old_logprobs - 0.3 * batch.mask, values=0.1 * batch.mask)
    results = []
    for size in (1, 2, 3, 100):
        c = config(loss=loss, aggregate=aggregate, updates=2, lr=2.0 if aggregate == "sequences" else 6.0, micro_batch=size, kl_coef=0.1, entropy_coef=0.05)
        copied, critic = copy.deepcopy(model), None
        if loss == "ppo":
            torch.manual_seed(1)
            critic = torch.nn.Linear(8, 1, **f64)
        trained = [*copied.parameters(), *(critic.parameters() if critic is not None else ())]
        metrics = adapters.update(copied, [torch.optim.SGD(trained, lr=c.lr)], batch, c, critic=critic)
        results.append((torch.cat([p.detach().flatten() for p in trained]), metrics))
    assert (results[0][1]["clip_high"] + results[0][1]["clip_low"] > 0) == (loss in adapters.CLIPPED)
    for parameters, metrics in results[1:]:
        close(parameters, results[0][0])
        assert metrics == pytest.approx(results[0][1], abs=1e-10)


@given(logits, logits, st.integers(0, 3))
def test_gradient_of_the_kl_term(z, z_ref, token):
    """k3 on a sample: (1 - ref / pi)(onehot - pi). Its mean over samples of pi is the exact gradient of KL(pi || ref)? No: of KL(ref || pi).

    So says the algebra: E_pi[(1 - ref / pi)(onehot - pi)] = pi - ref. k3 is the right *value* of KL(pi || ref) and GRPO differentiates it all
    the same; this pins what it pulls towards.
    """
    pi, ref = z.softmax(-1), z_ref.softmax(-1)

    def f(x, v=token):
        return adapters.kl_k3(x.log_softmax(-1)[v], z_ref.log_softmax(-1)[v])

    expected = (1 - ref[token] / pi[token]) * (torch.eye(4, **f64)[token] - pi)
    close(gradient(f, z), expected)
    close(central_differences(f, z), expected, 1e-6)
    mean = sum(pi[v] * gradient(lambda x, v=v: f(x, v), z) for v in range(4))
    close(mean, pi - ref)
    close(mean, gradient(lambda x: (ref * (ref.log() - x.log_softmax(-1))).sum(), z))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_kl_term(temperature):
    """Its update is lr kl_coef times the gradient of the mean over rows of the sum over tokens of ref / pi - 1 - log(ref / pi).

    Both are the distributions that are sampled from; the base's log-probabilities come with the rollout, under the same temperature.
    """
    base, c = tiny(), config(kl_coef=0.7, p=0.0, updates=1, max_grad_norm=1e9, temperature=temperature)
    model = tiny(seed=1)
    batch, _, _ = adapters.rollout(model, c, pool(), base=base)
    logprobs, ref = ((adapters.response_logits(m, batch.prompts, batch.ids, batch.mask) / temperature).log_softmax(-1)
                     .gather(1, batch.ids[batch.mask][:, None])[:, 0] for m in (model, base))
    close(batch.ref_logprobs[batch.mask], ref.detach())
    ratio = (ref.detach() - logprobs).exp()
    k3 = ratio - 1 - ratio.log()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(-0.7 * k3.sum() / len(batch.ids), list(model.parameters()))])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, metrics = parameters_after(model, batch, c)
    close((after - before) / c.lr, expected)
    assert metrics["kl"] == pytest.approx(k3.mean().item())


def test_kl_term_pulls_towards_the_base():
    """At the base it does nothing; away from it, it leads back, though no row has an advantage."""
    base, c = tiny(), config(kl_coef=1.0, updates=1, lr=0.3)
    model = copy.deepcopy(base)
    with torch.no_grad():
        model.head.weight += 0.3 * torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(0), **f64)
    metrics = []
    for policy in (copy.deepcopy(base), model):
        for step in range(12):
            batch, _, _ = adapters.rollout(policy, config(p=0.0, kl_coef=1.0), pool(), step, base)
            assert not batch.advantages.any()
            before = [p.clone() for p in policy.parameters()]
            metrics.append(adapters.update(policy, [torch.optim.SGD(policy.parameters(), lr=c.lr)], batch, c, step))
            if policy is not model:
                for a, b in zip(before, policy.parameters()):
                    close(a, b, 1e-12)
    kl = [m["kl"] for m in metrics]
    assert max(kl[:12]) < 1e-12 and kl[12] > 0.05 and kl[-1] < 0.5 * kl[12]


def test_kl_to_base_of_whole_responses():
    """With one token it is the exact KL at the prompt; with two, its mean over samples is that of all pairs: the chain rule. 0 to itself."""
    problems = [problem for problem, _ in pool(2)]
    model, base = tiny(0, 2.0), tiny(1, 2.0)
    for length in (1, 2):
        prompts = [rlvr.encode_prompt(rlvr.render(problem)) for problem in problems]
        exact = 0.0
        for prompt in prompts:
            p, q = (adapters.full_logits(m, torch.tensor([prompt]))[0, -1].log_softmax(-1) for m in (model, base))
            exact += (p.exp() * (p - q)).sum() / 2
            if length == 2:
                after = torch.tensor([[*prompt, token] for token in range(len(p))])
                p2, q2 = (adapters.full_logits(m, after)[:, -1].log_softmax(-1) for m in (model, base))
                goes_on = torch.arange(len(p)) != tokenizer.END
                exact += (p.exp() * (p2.exp() * (p2 - q2)).sum(-1) * goes_on).sum() / 2
        estimates = []
        for i in range(100 if length == 2 else 1):
            sampled = rlvr.respond(model, problems, 3, (i,), max_new_tokens=length)
            estimates.append(rlvr.kl_to_base(model, base, problems, sampled, 3))
        mean, error = torch.tensor(estimates, **f64).mean(), (torch.tensor(estimates, **f64).std() / 10 if length == 2 else 1e-10)
        assert abs(mean - exact) < 5 * error and exact > 0.01
        assert rlvr.kl_to_base(model, model, problems, sampled, 3) == 0


@given(logits)
def test_gradient_of_the_entropy(z):
    """dH / dz = -pi (log pi + H)."""
    pi = z.softmax(-1)
    H = -(pi * pi.log()).sum()
    close(gradient(adapters.entropy, z), -pi * (pi.log() + H))
    close(central_differences(adapters.entropy, z), -pi * (pi.log() + H), 1e-7)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_bonus(temperature):
    """Its update is lr times the gradient of the mean over rows of the sum over tokens of H, of the distribution that is sampled from."""
    model, c = tiny(), config(entropy_coef=0.7, updates=1, max_grad_norm=1e9, temperature=temperature)
    batch = hand_made_batch(model, (2, 4, 3), (0.0, 0.0, 0.0))
    logits_ = adapters.response_logits(model, batch.prompts, batch.ids, batch.mask) / temperature
    H = -(logits_.softmax(-1) * logits_.log_softmax(-1)).sum()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(0.7 * H / 3, list(model.parameters()))])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    close((parameters_after(model, batch, c)[0] - before) / c.lr, expected)


# --- the rollout hands each loss what it needs

@pytest.mark.parametrize("loss", adapters.LOSSES)
def test_rollout_gives_every_token_its_advantage(loss):
    """One number for all tokens of a row, 0 on padding; PPO's are GAE of the critic's values before each token, at its own lambda."""
    model, c = tiny(), config(loss=loss, prompts=3, group=4, gamma=0.9, gae_lambda=0.8)
    critic = torch.nn.Linear(8, 1, **f64) if loss == "ppo" else None
    batch, _, _ = adapters.rollout(model, c, pool(), critic=critic)
    paid = torch.tensor([[float(x < 0.5) for x in row] for row in rlvr.numpy_rng(c.seed, rlvr.REWARD, 0).random((3, 4))], **f64)
    if loss != "ppo":
        return close(batch.advantages, adapters.advantages(loss, paid).flatten()[:, None] * batch.mask)
    for prompt, ids, mask, values in zip(batch.prompts, batch.ids, batch.mask, batch.values):
        hidden = model(torch.tensor(prompt + ids[mask].tolist())[None])[0, len(prompt) - 1:-1]
        close(values[mask], critic(hidden)[:, 0].detach())
        assert not values[~mask].any()
    close(batch.advantages, adapters.gae(paid.flatten(), batch.values, batch.mask, 0.9, 0.8))
