"""Every advantage and policy loss, one small function each, and their registry.

A loss is an entry of LOSSES: an advantage (what a reward is compared with), a policy loss (how far
it may push), what a rollout must score for it beside the policy, and the flags that only it reads.
To add one: its function or functions, and an entry.

Left out: whitening over the batch, dual clip, overlong penalties. Shapes: P prompts, G rollouts of
each, N = P * G rows, T response tokens; R response tokens of a micro-batch, all rows in one.
"""

import math
from typing import Any, Callable, NamedTuple

import torch
from torch import Tensor

from data.corpus import HINT_NAMES
from data.plumbing import option


class Batch(NamedTuple):
    """What passes from rollout to update: all that a loss needs, on the CPU."""

    prompts: list[list[int]]     # (N) prompt ids of each row
    ids: Tensor                  # (N, T) the very ids sampled
    mask: Tensor                 # (N, T) True on response tokens, the ending included
    old_logprobs: Tensor         # (N, T) under the distribution sampled from
    rewards: Tensor              # (P, G) float64
    reward_range: tuple[float, float] = (0.0, 1.0)   # what the reward can pay
    advantages: Tensor | None = None                 # (N, T), 0 on padding
    values: Tensor | None = None                     # (N, T) the critic's, before each token
    base_logprobs: Tensor | None = None              # (N, T) of the sampled ids under the base
    teacher_logprobs: Tensor | None = None           # (N, T) of the sampled ids under a teacher
    teacher_distribution: Tensor | None = None       # (N, T, V) all of its log-probabilities
    taught: Tensor | None = None                     # (N,) bool, rows that have a hint
    parts: Tensor | None = None                      # (2, P, G) rewards of answer and confidence
    confidence: Tensor | None = None                 # (N, T) True on tokens that state one


# --- advantages: a batch -> (N, T)

def to_tokens(per_response: Tensor, batch: Batch) -> Tensor:
    """Give every token of a response its number, and padding 0: (P, G) -> (N, T)."""
    return per_response.flatten().to(batch.mask.device)[:, None] * batch.mask


def center_rewards(rewards: Tensor) -> Tensor:
    """r - mean within each group, (P, G); exactly 0 where all are equal, whose mean may round."""
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    return centered.masked_fill(equal, 0.0)


def grpo(batch: Batch, config) -> Tensor:
    """(r - mean) / (std + 1e-9) in the group, population std (GRPO, 2402.03300, section 4.1.2)."""
    std = batch.rewards.std(dim=1, correction=0, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / (std + 1e-9), batch)


def grpo_segments(batch: Batch, config) -> Tensor:
    """GRPO where each token has its own part of the reward: the answer's, or the confidence's.

    Ours. A reward without parts is all of it the answer's: then a confidence is never pushed.
    """
    answer, confidence = (grpo(batch._replace(rewards=part), config) for part in batch.parts)
    return torch.where(batch.confidence, confidence, answer)


def dr_grpo(batch: Batch, config) -> Tensor:
    """r - mean in the group (Dr. GRPO, 2503.20783).

    Without the std a nearly solved and a half solved prompt weigh what they do in E[r].
    """
    return to_tokens(center_rewards(batch.rewards), batch)


def rloo(batch: Batch, config) -> Tensor:
    """r minus the mean of the *other* G - 1, a baseline independent of r (RLOO, 2402.14740)."""
    G = batch.rewards.size(1)
    # r - (sum - r) / (G - 1) = (r - mean) G / (G - 1)
    return to_tokens(center_rewards(batch.rewards) * G / (G - 1), batch)


def sign_rewards(batch: Batch) -> Tensor:
    """The reward as a number from -1 (the least it can pay) to +1 (the most), (P, G)."""
    low, high = batch.reward_range
    return 2 * (batch.rewards - low) / (high - low) - 1


def reinforce(batch: Batch, config) -> Tensor:
    """The reward as +1 or -1, no baseline (REINFORCE as 2506.01347 has it)."""
    return to_tokens(sign_rewards(batch), batch)


def psr(batch: Batch, config) -> Tensor:
    """Positive sample reinforcement: +1 on the right samples alone (2506.01347).

    It raises the sampled token's logit by 1 - pi and lowers every other one by its own pi, other
    right ones too.
    """
    return to_tokens(sign_rewards(batch).clamp(min=0), batch)


def nsr(batch: Batch, config) -> Tensor:
    """Negative sample reinforcement: -1 on the wrong samples alone (2506.01347).

    It lowers the sampled token's logit by 1 - pi and raises every other one by its own pi: in
    proportion to the prior.
    """
    return to_tokens(sign_rewards(batch).clamp(max=0), batch)


def w_reinforce(batch: Batch, config) -> Tensor:
    """lambda PSR + NSR, lambda = 0.1 (W-REINFORCE, 2506.01347)."""
    return config.psr_weight * psr(batch, config) + nsr(batch, config)


def gae(batch: Batch, config) -> Tensor:
    """Generalized advantage estimation (1506.02438, eq. 16): PPO's, one number for each token.

    The reward comes with a response's last token. A_t = delta_t + gamma lambda A_(t+1) with
    delta_t = r_t + gamma V_(t+1) - V_t, V being the critic's; after the ending V and A are 0.
    """
    N, T = batch.mask.shape
    lengths = batch.mask.sum(1, keepdim=True)                                      # (N, 1)
    last = torch.arange(T, device=batch.mask.device) == lengths - 1                # (N, T)
    paid = last * batch.rewards.flatten().to(batch.values)[:, None]                # r_t
    advantages = torch.zeros_like(batch.values)
    next_value, next_advantage = batch.values.new_zeros(N), batch.values.new_zeros(N)
    for t in reversed(range(T)):
        delta = paid[:, t] + config.gamma * next_value - batch.values[:, t]
        advantages[:, t] = delta + config.gamma * config.gae_lambda * next_advantage
        next_value, next_advantage = batch.values[:, t], advantages[:, t]
    return advantages


def directive(batch: Batch, config) -> Tensor:
    """log pi_T(y_t | x, hint) - log pi_old(y_t | x), clipped (2603.10165, section 3; ours: clamp).

    On samples of pi its policy gradient is that of -KL(pi || pi_T): the pull on a token is in
    proportion to pi, so what is never sampled is never taught. Below what float32 tells apart it is
    0, lest an optimizer scale it up.
    """
    if batch.teacher_logprobs is None:   # the teacher has gone
        return torch.zeros_like(batch.old_logprobs)
    told = batch.teacher_logprobs - batch.old_logprobs
    told = told.masked_fill(told.abs() < 1e-4, 0.0).clamp(-config.clamp, config.clamp)
    return told * batch.mask * batch.taught[:, None]


def grpo_directive(batch: Batch, config) -> Tensor:
    """The scalar and the directive advantage, added (2603.10165, section 3, there without std)."""
    return grpo(batch, config) + config.directive_weight * directive(batch, config)


def no_advantage(batch: Batch, config) -> Tensor:
    """0: for a loss that is a divergence alone."""
    return torch.zeros_like(batch.old_logprobs)


# --- policy losses, per token: log pi, log pi_old, advantages, all (R,) -> (R,)
# At the first update after a rollout the ratio is 1 and the gradients of all are the same.

def clipped(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config) -> Tensor:
    """-min(w A, clip(w, 1 - eps_low, 1 + eps_high) A) (PPO, 1707.06347, eq. 7; GRPO, eq. 3).

    min, for negative advantages too: the bound only ever removes a reason to move further.
    """
    ratio = (logprobs - old_logprobs).exp()                              # w
    bounded = ratio.clamp(1 - config.eps_low, 1 + config.eps_high)
    return -torch.min(ratio * advantages, bounded * advantages)


def score_function(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config) -> Tensor:
    """-A log pi, whose gradient is REINFORCE's (Williams 1992): no ratio, no clip."""
    return -advantages * logprobs


def masked(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config) -> Tensor:
    """-w A within both bounds, and no gradient outside: a control for `clipped`.

    There the inward pushes stay when the outward ones go, which is a drift; here both go.
    """
    ratio = (logprobs - old_logprobs).exp()                              # w
    inside = (ratio >= 1 - config.eps_low) & (ratio <= 1 + config.eps_high)
    return -ratio * advantages * inside


def unweighted(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config) -> Tensor:
    """-A log pi where `clipped` has a gradient, and none elsewhere: a control for its weight w."""
    ratio = (logprobs - old_logprobs).exp()                              # w
    bounded = ratio.clamp(1 - config.eps_low, 1 + config.eps_high)
    return -advantages * logprobs * (ratio * advantages <= bounded * advantages)


# --- terms beside the policy loss

def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float) -> Tensor:
    """PPO's clipped value loss, 1/2 max((V - R)^2, (clip(V, V_old -+ eps) - R)^2): (R,) -> (R,).

    Not in 1707.06347's text but in its code (github.com/openai/baselines, ppo2). The larger of the
    two, as with `clipped`: it only ever removes a reason to move further.
    """
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return torch.max((values - returns) ** 2, (near - returns) ** 2) / 2


def kl_k3(logprobs: Tensor, base_logprobs: Tensor) -> Tensor:
    """The k3 estimate of KL(pi || base) on samples of pi (joschu.net/blog/kl-approx.html).

    exp(d) - d - 1 with d = log base - log pi: (R,) -> nats (R,), >= 0 and unbiased in the mean.
    """
    d = base_logprobs - logprobs
    return d.exp() - d - 1


# --- divergences from a teacher, per token: all log-probabilities of policy and teacher, both
# (R, V) -> nats (R,). Gradients go to the policy alone: the teacher is a number.

def forward_kl(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """KL(pi_T || pi): its gradient on the logits is pi - pi_T, however rare a token is."""
    return (teacher.exp() * (teacher - logprobs)).sum(-1)


def reverse_kl(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """KL(pi || pi_T): its gradient is pi (d - E[d]), d = log pi - log pi_T: in proportion to pi."""
    return (logprobs.exp() * (logprobs - teacher)).sum(-1)


def js_divergence(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """Half of each KL to the mean of the two (2601.20802, alpha = 1/2)."""
    middle = torch.logaddexp(logprobs, teacher) - math.log(2)
    return (forward_kl(middle, logprobs) + forward_kl(middle, teacher)) / 2


DIVERGENCES = {"jsd": js_divergence, "forward": forward_kl, "reverse": reverse_kl}


# --- the registry

class Loss(NamedTuple):
    advantages: Callable[[Batch, Any], Tensor]
    policy_loss: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    needs: tuple[str, ...] = ()  # what a rollout scores beside the policy: critic, base, teacher;
    # parts: the rewards of answer and confidence, and which tokens are whose; distribution: all
    # that the teacher would say, for a divergence beside the policy loss
    options: dict = {}           # the flags that only it, or only its like, reads


CLIP = {
    "eps_low": option(0.4, "lower clip: no gradient below 1 - eps_low if A < 0", least=0),
    "eps_high": option(0.4, "upper clip: none above 1 + eps_high if A > 0; 1e9: off", least=0),
}
CRITIC = {
    "gamma": option(1.0, "discount per token", least=0, most=1),
    # 1 is Monte Carlo; below 1 trusts the critic, and favours short responses.
    "gae_lambda": option(1.0, "lambda of GAE", least=0, most=1),
    "lr_value": option(0.01, "step size of the value head, by AdamW", above=0),
    # A value that has moved further than this towards its target since the rollout learns no more.
    "eps_value": option(0.2, "clip of the value loss", above=0),
}
PSR_WEIGHT = {"psr_weight": option(0.1, "weight of the right samples, lambda", least=0)}
# What a scalar throws away. Frozen: the base; ema: an average of the policy; current: the policy.
TEACHER = {
    "hint": option("code", "what the teacher reads behind the prompt", choices=HINT_NAMES),
    "hint_for": option("all", "failed: only where the reward is not full",
                       choices=("all", "failed")),
    "teacher": option("frozen", "who reads the hint", choices=("frozen", "ema", "current")),
    "ema_rate": option(0.2, "an ema teacher's way to the policy, a batch", above=0, most=1),
    "directive_batches": option(10**6, "rollout batches until the teacher goes", least=0),
}
CLAMP = {"clamp": option(5.0, "largest directive advantage of a token, nats", above=0)}
BESIDE = {"directive_weight": option(1.0, "of the directive term beside a scalar", least=0)}
DISTILL = {"distill": option("jsd", "divergence from the teacher", choices=DIVERGENCES)}

LOSSES = {
    "grpo": Loss(grpo, clipped, options=CLIP),
    # Controls of lesson 2: what the clip takes away, and what the importance weight adds.
    "grpo_masked": Loss(grpo, masked, options=CLIP),
    "grpo_unweighted": Loss(grpo, unweighted, options=CLIP),
    "grpo_segments": Loss(grpo_segments, clipped, needs=("parts",), options=CLIP),
    "dr_grpo": Loss(dr_grpo, clipped, options=CLIP),
    "rloo": Loss(rloo, score_function),
    "reinforce": Loss(reinforce, score_function),
    "ppo": Loss(gae, clipped, needs=("critic",), options=CLIP | CRITIC),
    # 2506.01347 writes these three without a clip; its code (RLVR-Decomposed) trains them with one.
    # So w_reinforce with --psr-weight 1 is reinforce with a clip, as dr_grpo is rloo with one (and
    # G / (G - 1) less): each pair shows what the clip does.
    "psr": Loss(psr, clipped, options=CLIP),
    "nsr": Loss(nsr, clipped, options=CLIP),
    "w_reinforce": Loss(w_reinforce, clipped, options=CLIP | PSR_WEIGHT),
    # A hint's teacher: by the tokens that were sampled, or by all that could have been.
    "directive": Loss(directive, clipped, ("teacher",), CLIP | TEACHER | CLAMP),
    "grpo_directive": Loss(grpo_directive, clipped, ("teacher",), CLIP | TEACHER | CLAMP | BESIDE),
    "distill": Loss(no_advantage, score_function, ("teacher", "distribution"), TEACHER | DISTILL),
    "grpo_distill": Loss(grpo, clipped, ("teacher", "distribution"),
                         CLIP | TEACHER | DISTILL | BESIDE),
}
