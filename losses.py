"""Every advantage and policy loss, one small function each, and their registry.

A loss is an entry of LOSSES: an advantage (what a reward is compared with), a policy loss (how far
it may push), and who stands beside the policy for it. Its flags are their keyword-only arguments.
To add one: its function or functions, and an entry.

Left out: whitening over the batch, dual clip, overlong penalties. Shapes: P prompts, G rollouts of
each, N = P * G rows, T response tokens; R response tokens of a micro-batch, all rows in one.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Callable, Iterator, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model import Transformer, score_tokens, token_logprobs
from plumbing.flags import bind, flag, option
from plumbing.messages import InputError


class Batch(NamedTuple):
    """One rollout batch: what was sampled and what it is worth, on the CPU."""

    prompts: list[list[int]]     # (N) prompt ids of each row
    ids: Tensor                  # (N, T) the very ids sampled
    mask: Tensor                 # (N, T) True on response tokens, the ending included
    old_logprobs: Tensor         # (N, T) under the distribution sampled from
    rewards: Tensor              # (P, G) float64; row i belongs to prompt i // G
    reward_range: tuple[float, float] = (0.0, 1.0)   # what the reward can pay
    problems: list = []                              # (N)
    responses: list[str] = []                        # (N)
    labels: list = []                                # (N) that a reward compares with, or None
    entropy: Tensor | None = None                    # (N, T) nats, 0 on padding
    scores: dict[str, Tensor] = {}                   # what companions say of it, (N, T, ...) each
    advantages: Tensor | None = None                 # (N, T), 0 on padding


ROW_LISTS = ("prompts", "problems", "responses", "labels")
TOKEN_TENSORS = ("ids", "mask", "old_logprobs", "entropy")


def check_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    """InputError if a tensor has another shape: torch would stretch it without a word."""
    if tensor.shape != like.shape:
        raise InputError(f"{what} {tuple(tensor.shape)}, not {tuple(like.shape)}")


def select_groups(batch: Batch, kept: Tensor) -> Batch:
    """The groups for which `kept` (P,) is True, of a batch that has no scores yet."""
    rows = kept.repeat_interleave(batch.rewards.size(1))                           # (N,)
    lists = {name: [item for item, keep in zip(getattr(batch, name), rows.tolist()) if keep]
             for name in ROW_LISTS}
    tensors = {name: getattr(batch, name)[rows] for name in TOKEN_TENSORS}
    return batch._replace(**lists, **tensors, rewards=batch.rewards[kept])


def join_batches(batches: list[Batch]) -> Batch:
    """One batch of the groups of several that have no scores yet, padded to the longest T."""
    T = max(batch.ids.size(1) for batch in batches)
    lists = {name: [item for batch in batches for item in getattr(batch, name)]
             for name in ROW_LISTS}
    tensors = {name: torch.cat([F.pad(getattr(batch, name), (0, T - batch.ids.size(1)))
                                for batch in batches]) for name in TOKEN_TENSORS}
    rewards = torch.cat([batch.rewards for batch in batches])
    return batches[0]._replace(**lists, **tensors, rewards=rewards)


class Tokens(NamedTuple):
    """The R response tokens of a micro-batch, as a term of the loss sees them."""

    hidden: Tensor       # (R, C)
    logits: Tensor       # (R, V)
    logprobs: Tensor     # (R,) of the sampled ids
    advantages: Tensor   # (R,)
    pick: Callable[[Tensor], Tensor]   # what (N, T, ...) of the batch has on them: (R, ...)


class Companion:
    """Who stands beside the policy while it trains. Every hook may be left as it is here.

    GRPO and its like have none. PPO has a critic, KL the base; teachers are in companions/. What it
    is made with it takes by name: flags of its own; `base`, `policy` and `reward`, as the run has
    them; or a field of TrainConfig.
    """

    trains = False        # do its terms train rows that have no advantage?
    optimizers = ()       # stepped with the policy's
    changing = ()         # modules that change beside the policy: a run saves them

    def present(self, step: int) -> bool:
        """Whether it takes part in a rollout batch."""
        return True

    def score(self, policy: Transformer, batch: Batch, step: int) -> dict[str, Tensor]:
        """After a rollout: what advantages and terms read of it, by name, (N, T, ...) each."""
        return {}

    def terms(self, batch: Batch, tokens: Tokens) -> Iterator[tuple[str, float, Tensor]]:
        """In a minibatch: what is added to the policy loss, (name, weight, nats (R,))."""
        return iter(())

    def follow(self, policy: Transformer) -> None:
        """After the updates of a rollout batch."""


# --- the flags of what follows: their type, bounds and help; a function says its default

PsrWeight = Annotated[float, flag("weight of the right samples, lambda", least=0)]
Gamma = Annotated[float, flag("discount per token", least=0, most=1)]
# 1 is Monte Carlo; below 1 trusts the critic, and favours short responses.
Lambda = Annotated[float, flag("lambda of GAE", least=0, most=1)]
EpsLow = Annotated[float, flag("lower clip: no gradient below 1 - eps_low if A < 0", least=0)]
EpsHigh = Annotated[float, flag("upper clip: none above 1 + eps_high if A > 0; 1e9: off", least=0)]


# --- advantages: a batch -> (N, T)

def to_tokens(per_response: Tensor, batch: Batch) -> Tensor:
    """Give every token of a response its number, and padding 0: (P, G) -> (N, T)."""
    return per_response.flatten().to(batch.mask.device)[:, None] * batch.mask


def center_rewards(rewards: Tensor) -> Tensor:
    """r - mean within each group, (P, G); exactly 0 where all are equal, whose mean may round."""
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    return centered.masked_fill(equal, 0.0)


def grpo(batch: Batch) -> Tensor:
    """(r - mean) / (std + 1e-9) in the group, population std (GRPO, 2402.03300, section 4.1.2)."""
    std = batch.rewards.std(dim=1, correction=0, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / (std + 1e-9), batch)


def dr_grpo(batch: Batch) -> Tensor:
    """r - mean in the group (Dr. GRPO, 2503.20783).

    Without the std a nearly solved and a half solved prompt weigh what they do in E[r].
    """
    return to_tokens(center_rewards(batch.rewards), batch)


def rloo(batch: Batch) -> Tensor:
    """r minus the mean of the *other* G - 1, a baseline independent of r (RLOO, 2402.14740)."""
    G = batch.rewards.size(1)
    # r - (sum - r) / (G - 1) = (r - mean) G / (G - 1)
    return to_tokens(center_rewards(batch.rewards) * G / (G - 1), batch)


def sign_rewards(batch: Batch) -> Tensor:
    """The reward as a number from -1 (the least it can pay) to +1 (the most), (P, G)."""
    low, high = batch.reward_range
    return 2 * (batch.rewards - low) / (high - low) - 1


def reinforce(batch: Batch) -> Tensor:
    """The reward as +1 or -1, no baseline (REINFORCE as 2506.01347 has it)."""
    return to_tokens(sign_rewards(batch), batch)


def psr(batch: Batch) -> Tensor:
    """Positive sample reinforcement: +1 on the right samples alone (2506.01347).

    It raises the sampled token's logit by 1 - pi and lowers every other one by its own pi, other
    right ones too.
    """
    return to_tokens(sign_rewards(batch).clamp(min=0), batch)


def nsr(batch: Batch) -> Tensor:
    """Negative sample reinforcement: -1 on the wrong samples alone (2506.01347).

    It lowers the sampled token's logit by 1 - pi and raises every other one by its own pi: in
    proportion to the prior.
    """
    return to_tokens(sign_rewards(batch).clamp(max=0), batch)


def w_reinforce(batch: Batch, *, psr_weight: PsrWeight = 0.1) -> Tensor:
    """lambda PSR + NSR, lambda = psr_weight (W-REINFORCE, 2506.01347)."""
    return psr_weight * psr(batch) + nsr(batch)


def gae(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """Generalized advantage estimation (1506.02438, eq. 16): PPO's, one number for each token.

    The reward comes with a response's last token. A_t = delta_t + gamma lambda A_(t+1) with
    delta_t = r_t + gamma V_(t+1) - V_t, V being the critic's; after the ending V and A are 0.
    """
    (N, T), values = batch.mask.shape, batch.scores["values"]
    lengths = batch.mask.sum(1, keepdim=True)                                      # (N, 1)
    last = torch.arange(T, device=batch.mask.device) == lengths - 1                # (N, T)
    paid = last * batch.rewards.flatten().to(values)[:, None]                      # r_t
    advantages = torch.zeros_like(values)
    next_value, next_advantage = values.new_zeros(N), values.new_zeros(N)
    for t in reversed(range(T)):
        delta = paid[:, t] + gamma * next_value - values[:, t]
        advantages[:, t] = delta + gamma * gae_lambda * next_advantage
        next_value, next_advantage = values[:, t], advantages[:, t]
    return advantages


# --- policy losses, per token: log pi, log pi_old, advantages, and the response of each token, all
# (R,) -> the loss (R,), and which tokens (R,) a clip took the gradient from.
# At the first update after a rollout the ratio is 1 and the gradients of all are the same.

def clipped(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
            eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """-min(w A, clip(w, 1 - eps_low, 1 + eps_high) A) (PPO, 1707.06347, eq. 7; GRPO, eq. 3).

    min, for negative advantages too: the bound only ever removes a reason to move further.
    """
    ratio = (logprobs - old_logprobs).exp()                              # w
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    loss = -torch.min(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages < ratio * advantages


def score_function(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor
                   ) -> tuple[Tensor, Tensor]:
    """-A log pi, whose gradient is REINFORCE's (Williams 1992): no ratio, no clip."""
    return -advantages * logprobs, torch.zeros_like(advantages, dtype=torch.bool)


def masked(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
           eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """-w A within both bounds, and no gradient outside: a control for `clipped`.

    There the inward pushes stay when the outward ones go, which is a drift; here both go.
    """
    ratio = (logprobs - old_logprobs).exp()                              # w
    inside = (ratio >= 1 - eps_low) & (ratio <= 1 + eps_high)
    return -ratio * advantages * inside, ~inside


def unweighted(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
               eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """-A log pi where `clipped` has a gradient, and none elsewhere: a control for its weight w."""
    _, dropped = clipped(logprobs, old_logprobs, advantages, rows, eps_low=eps_low,
                         eps_high=eps_high)
    return -advantages * logprobs * ~dropped, dropped


def gspo(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
         eps_low: EpsLow = 3e-4, eps_high: EpsHigh = 4e-4) -> tuple[Tensor, Tensor]:
    """-min(s A, clip(s) A), s the ratio of a response, per token (GSPO, 2507.18071, eq. 5 and 7).

    s = (pi / pi_old)^(1 / length). Each token has its length-th part, so that a response's sum up.
    """
    moved = logprobs - old_logprobs
    nothing = torch.zeros_like(moved)   # one place a token: there are no more responses
    lengths = nothing.index_add(0, rows, torch.ones_like(moved))[rows]   # (R,)
    log_s = nothing.index_add(0, rows, moved)[rows] / lengths            # (R,)
    loss, dropped = clipped(log_s, torch.zeros_like(log_s), advantages, rows, eps_low=eps_low,
                            eps_high=eps_high)
    return loss / lengths, dropped


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


# --- companions of these losses

@dataclass(kw_only=True)
class Critic(Companion):
    """PPO's: a linear value head that starts at 0. It reads the trunk and leaves it alone."""

    base: Transformer
    lr_value: float = option(0.01, "step size of the value head, by AdamW", above=0)
    # A value that has moved further than this towards its target since the rollout learns no more.
    eps_value: float = option(0.2, "clip of the value loss", above=0)
    trains = True

    def __post_init__(self):
        self.head = nn.Linear(self.base.config.width, 1, device=self.base.head.weight.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.changing = (self.head,)
        self.optimizers = (torch.optim.AdamW(self.head.parameters(), lr=self.lr_value,
                                             weight_decay=0.0),)

    def score(self, policy: Transformer, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"values": score_tokens(policy, batch.prompts, batch.ids, batch.mask,
                                       lambda hidden, _: self.head(hidden)[:, 0])}

    def terms(self, batch: Batch, tokens: Tokens) -> Iterator[tuple[str, float, Tensor]]:
        old = tokens.pick(batch.scores["values"])
        values = self.head(tokens.hidden.detach())[:, 0]   # PPO's policy differs by its A only
        yield "value_loss", 1.0, value_loss(values, old, tokens.advantages + old, self.eps_value)


@dataclass(kw_only=True)
class Anchor(Companion):
    """The base, for a KL term as in GRPO (eq. 4) or for a loss that compares with it.

    The term is an estimate: the samples are the old policy's; and on samples of pi the gradient of
    k3 is that of KL(base || pi).
    """

    base: Transformer
    temperature: float
    kl_coef: float

    @property
    def trains(self) -> bool:
        return self.kl_coef > 0

    def score(self, policy: Transformer, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"base": score_sampled(self.base, batch.prompts, batch, self.temperature)}

    def terms(self, batch: Batch, tokens: Tokens) -> Iterator[tuple[str, float, Tensor]]:
        if self.kl_coef:
            yield "kl", self.kl_coef, kl_k3(tokens.logprobs, tokens.pick(batch.scores["base"]))


def score_sampled(model: Transformer, prompts: list[list[int]], batch: Batch,
                  temperature: float) -> Tensor:
    """log pi (N, T) of the sampled ids under another model, which may read other prompts."""
    return score_tokens(model, prompts, batch.ids, batch.mask, lambda hidden, ids:
                        token_logprobs(model.head(hidden), ids, temperature))


# --- the registry

class Loss(NamedTuple):
    advantages: Callable[..., Tensor]                    # batch, *, flags
    policy_loss: Callable[..., tuple[Tensor, Tensor]]    # log pi, log pi_old, A, rows, *, flags
    companions: tuple[type[Companion], ...] = ()         # who stands beside the policy

    @property
    def functions(self) -> tuple[Callable, ...]:
        """Whose arguments are its flags."""
        return self.advantages, self.policy_loss, *self.companions


class Objective(NamedTuple):
    """A loss as a run uses it: its functions with their flags bound, its companions alive."""

    advantages: Callable[[Batch], Tensor]
    policy_loss: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    companions: tuple[Companion, ...] = ()

    def at(self, step: int) -> "Objective":
        """With those companions that take part in a rollout batch."""
        return self._replace(companions=tuple(companion for companion in self.companions
                                              if companion.present(step)))

    # What the companions do together

    @property
    def trains(self) -> bool:
        return any(companion.trains for companion in self.companions)

    def score(self, policy: Transformer, batch: Batch, step: int) -> Batch:
        for companion in self.companions:
            batch = batch._replace(scores=batch.scores | companion.score(policy, batch, step))
        return batch

    def terms(self, batch: Batch, tokens: Tokens) -> Iterator[tuple[str, float, Tensor]]:
        return chain.from_iterable(each.terms(batch, tokens) for each in self.companions)

    def follow(self, policy: Transformer) -> None:
        for companion in self.companions:
            companion.follow(policy)


def bind_loss(loss: Loss, values: dict[str, Any]) -> Objective:
    """The objective of a run; values: its flags, and the models that companions take by name."""
    kinds = loss.companions + ((Anchor,) if values["kl_coef"] else ())
    return Objective(bind(loss.advantages, values), bind(loss.policy_loss, values),
                     tuple(bind(kind, values)() for kind in dict.fromkeys(kinds)))


LOSSES = {
    "grpo": Loss(grpo, clipped),
    # Controls of lesson 2: what the clip takes away, and what the importance weight adds.
    "grpo_masked": Loss(grpo, masked),
    "grpo_unweighted": Loss(grpo, unweighted),
    "dr_grpo": Loss(dr_grpo, clipped),
    "rloo": Loss(rloo, score_function),
    "reinforce": Loss(reinforce, score_function),
    "ppo": Loss(gae, clipped, (Critic,)),
    "gspo": Loss(grpo, gspo),
    # 2506.01347 writes these three without a clip; its code (RLVR-Decomposed) trains them with one.
    # So w_reinforce with --psr-weight 1 is reinforce with a clip, as dr_grpo is rloo with one (and
    # G / (G - 1) less): each pair shows what the clip does.
    "psr": Loss(psr, clipped),
    "nsr": Loss(nsr, clipped),
    "w_reinforce": Loss(w_reinforce, clipped),
}
