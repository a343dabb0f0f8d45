"""The only door from the tests to an implementation: as a student, make these functions call your own code.

Shapes: P prompts, G rollouts of each, N = P * G rows, T response tokens, V vocabulary, R response tokens in a flat row.
Everything must work in float64, which the tests use for ground truth.
"""

import torch
from torch import Tensor

import model
import rewards
import rlvr
from data import task


# --- the task and its tokenizer

def running_values(start: int, ops: list[tuple[str, int]]) -> list[int]:
    """Values after each operation, all modulo 100."""
    return task.running_values(task.Problem(start, tuple(ops)))


# --- the transformer and its sampler

def make_model(seed: int, vocabulary_size: int = 20, layers: int = 2, width: int = 16, heads: int = 2, scale: float = 8.0) -> torch.nn.Module:
    """A float64 model with weights `scale` times larger than usual, so that its distributions are far from uniform."""
    torch.manual_seed(seed)
    transformer = model.Transformer(model.ModelConfig(vocabulary_size, layers, width, heads)).double()
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    return transformer


def full_logits(transformer: torch.nn.Module, ids: Tensor) -> Tensor:
    """Logits (B, T, V) of unpadded token ids (B, T), without a cache."""
    return transformer.head(transformer(ids))


def cached_logits(transformer: torch.nn.Module, prompts: list[list[int]], continuation: Tensor) -> Tensor:
    """Logits (B, 1 + T, V) after reading left-padded prompts at once, then `continuation` (B, T) one token at a time."""
    longest = max(map(len, prompts))
    start = torch.tensor([longest - len(prompt) for prompt in prompts])
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    cache = model.KVCache(transformer.config, start, like=transformer.head.weight)
    steps = [transformer(ids, cache)[:, -1]]
    for t in range(continuation.size(1)):
        steps.append(transformer(continuation[:, t:t + 1], cache)[:, -1])
    return transformer.head(torch.stack(steps, dim=1))


def sample(transformer, prompts: list[list[int]], n: int, end: int, seed: int, **options) -> model.Rollouts:
    """ids, mask, logprobs, entropy, all (N, T): n responses to each prompt; options: max_new_tokens, temperature, top_k, top_p."""
    return model.sample(transformer, prompts, n, end, generator=torch.Generator().manual_seed(seed), **options)


def response_logits(transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor) -> Tensor:
    """Logits (R, V) that predict ids[mask], differentiable; prompts has one entry per row of ids."""
    return transformer.head(model.response_hidden(transformer, prompts, ids, mask))


def sampling_logprobs(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Log-probabilities (..., V) of the distribution sampled from."""
    return model.sampling_logprobs(logits, temperature, top_k, top_p)


def entropy(logits: Tensor) -> Tensor:
    """(..., V) -> (...) in nats."""
    return model.entropy(logits)


# --- advantage, loss, estimators

LOSSES = ("grpo", "dr_grpo", "rloo", "reinforce", "psr", "nsr", "w_reinforce", "ppo")
CLIPPED = ("grpo", "dr_grpo", "psr", "nsr", "w_reinforce", "ppo")  # the others are -A log pi


def advantages(loss: str, rewards: Tensor, **config) -> Tensor:
    """(P, G) -> (P, G), of every loss but ppo; config: fields of rlvr.TrainConfig, such as psr_weight."""
    return rlvr.LOSSES[loss].advantages(rewards, rlvr.TrainConfig(**config))


def policy_loss(loss: str, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, eps_low: float = 0.2, eps_high: float = 0.3) -> Tensor:
    """Per-token loss (R,), before any divisor."""
    return rlvr.LOSSES[loss].policy_loss(logprobs, old_logprobs, advantages, rlvr.TrainConfig(eps_low=eps_low, eps_high=eps_high))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """PPO's advantages (N, T) of rewards (N,) paid with the last token; values (N, T), 0 on padding."""
    return rlvr.gae(rewards, values, mask, gamma, lam)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float) -> Tensor:
    """PPO's clipped value loss per token, (R,)."""
    return rlvr.value_loss(values, old_values, returns, eps_value)


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate of KL(pi || ref) per sample of pi, (R,)."""
    return rlvr.kl_k3(logprobs, ref_logprobs)


def pass_at_k(n: int, c: int, k: int) -> float:
    return rlvr.pass_at_k(n, c, k)


def gain(before: dict, after: dict) -> dict:
    """{"total", "switch", "within"} from two evaluations."""
    return rlvr.gain(before, after)


# --- the loop

def update(transformer, optimizers: list, batch: rlvr.Batch, config: rlvr.TrainConfig, step: int = 0, critic=None) -> dict:
    """All updates on one rollout batch, in place; returns the metrics."""
    return rlvr.update(transformer, optimizers, batch, config, step, critic)


def rollout(transformer, config: rlvr.TrainConfig, pool: list, step: int = 0, base=None, critic=None):
    """(batch, metrics, readable samples)."""
    return rlvr.rollout(transformer, config, pool, step, base, critic)


# --- rewards

def reward(name: str, problem: task.Problem, responses: list[str], label: str | None = None, p: float = 0.5, seed: int = 0) -> list[float]:
    """The rewards of one prompt's group of responses."""
    return rewards.get(name)(problem, responses, rewards.Context(label, rlvr.numpy_rng(seed), p))
