"""The only door from the tests to an implementation: as a student, make these functions call yours.

Shapes: P prompts, G rollouts of each, N = P * G rows, T response tokens, V vocabulary, R response
tokens in a flat row. All must work in float64, which the tests use for ground truth.
"""

import numpy as np
import torch
from torch import Tensor

import evaluation
import losses
import measures
import model
import rewards
import rlvr
import run
from companions.teacher import Teacher
from data import task
from data.corpus import CORPORA
from plumbing.flags import bind, list_values

# --- the task


def compute_values(start: int, ops: list[tuple[str, int]]) -> list[int]:
    """Values after each operation, all modulo 100: (k,)."""
    return task.compute_values(task.Problem(start, tuple(ops)))


# --- the transformer, its cache and its sampler


def make_model(seed: int, vocabulary_size: int = 20, layers: int = 2, width: int = 16,
               heads: int = 2, scale: float = 8.0) -> torch.nn.Module:
    """A float64 model with weights `scale` times as large as usual: far from uniform."""
    torch.manual_seed(seed)
    shape = model.ModelConfig(vocabulary_size, layers, width, heads)
    transformer = model.Transformer(shape).double()
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    return transformer


def full_logits(transformer: torch.nn.Module, ids: Tensor) -> Tensor:
    """Logits (B, T, V) of unpadded token ids (B, T), without a cache."""
    return transformer.head(transformer(ids))


def make_cache(transformer: torch.nn.Module, prompts: list[list[int]]):
    """(cache, logits (B, V)) after reading left-padded prompts at once."""
    longest = max(map(len, prompts))
    start = torch.tensor([longest - len(prompt) for prompt in prompts])
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    cache = model.KVCache(transformer.config, start, like=transformer.head.weight)
    return cache, transformer.head(transformer(ids, cache)[:, -1])


def continue_cache(transformer: torch.nn.Module, cache, tokens: Tensor) -> Tensor:
    """Logits (B, T, V) after each of the next tokens (B, T), read at once."""
    return transformer.head(transformer(tokens, cache))


def select_rows(cache, rows: Tensor) -> None:
    """Keep the chosen rows of a cache, in that order; one may be chosen several times."""
    cache.select(rows)


def sample(transformer: torch.nn.Module, prompts: list[list[int]], n: int, end: int, seed: int,
           **options) -> model.Rollouts:
    """ids, mask, logprobs, entropy, all (N, T): n responses to each prompt.

    options: max_new_tokens, temperature, top_k, top_p.
    """
    generator = torch.Generator().manual_seed(seed)
    return model.sample_responses(transformer, prompts, n, end, generator=generator, **options)


def response_logits(transformer: torch.nn.Module, prompts: list[list[int]], ids: Tensor,
                    mask: Tensor) -> Tensor:
    """Logits (R, V) that predict ids[mask], differentiable; one prompt per row of ids (B, T)."""
    return transformer.head(model.response_hidden(transformer, prompts, ids, mask))


def sampling_logprobs(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                      top_p: float | None = None) -> Tensor:
    """Log-probabilities (..., V) of the distribution sampled from."""
    return model.sampling_logprobs(logits, temperature, top_k, top_p)


def entropy(logits: Tensor) -> Tensor:
    """(..., V) -> (...) in nats."""
    return model.entropy(logits)


# --- advantages, losses, estimators

LOSSES = ("grpo", "dr_grpo", "rloo", "reinforce", "psr", "nsr", "w_reinforce", "ppo")
CLIPPED = ("grpo", "dr_grpo", "psr", "nsr", "w_reinforce", "ppo")  # the others are -A log pi


def make_batch(rewards: Tensor, mask: Tensor, reward_range: tuple[float, float] = (0.0, 1.0),
               values: Tensor | None = None) -> losses.Batch:
    """A batch of which only rewards (P, G), mask and values (N, T) matter."""
    nothing = torch.zeros(mask.shape, dtype=torch.float64)
    prompts = [[0]] * len(mask)
    scores = {} if values is None else {"values": values}
    return losses.Batch(prompts, nothing.long(), mask, nothing, rewards, reward_range,
                        scores=scores)


def token_advantages(loss: str, batch: losses.Batch, **config) -> Tensor:
    """(N, T), 0 on padding; config: flags of the loss, such as psr_weight."""
    return rlvr.LOSSES[loss].advantages(batch, **config)


def advantages(loss: str, rewards: Tensor, reward_range: tuple[float, float] = (0.0, 1.0),
               **config) -> Tensor:
    """(P, G) -> (P, G), one number per response, of every loss but ppo."""
    mask = torch.ones(rewards.numel(), 1, dtype=torch.bool)
    batch = make_batch(rewards, mask, reward_range)
    return token_advantages(loss, batch, **config).reshape(rewards.shape)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """PPO's advantages (N, T) of rewards (N,) paid with the last token; values (N, T)."""
    batch = make_batch(rewards[:, None], mask, values=values)
    return token_advantages("ppo", batch, gamma=gamma, gae_lambda=lam)


def policy_loss(loss: str, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                eps_low: float = 0.2, eps_high: float = 0.3) -> Tensor:
    """Per-token loss (R,), before any divisor."""
    rows, eps = torch.zeros(len(logprobs), dtype=torch.long), {"eps_low": eps_low,
                                                               "eps_high": eps_high}
    function = bind(rlvr.LOSSES[loss].policy_loss, eps)
    return function(logprobs, old_logprobs, advantages, rows)[0]


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float) -> Tensor:
    """PPO's clipped value loss per token, (R,)."""
    return losses.value_loss(values, old_values, returns, eps_value)


def kl_k3(logprobs: Tensor, base_logprobs: Tensor) -> Tensor:
    """Estimate of KL(pi || base) per sample of pi, (R,)."""
    return losses.kl_k3(logprobs, base_logprobs)


# --- evaluation


def pass_at_k(n: int, c: int, k: int) -> float:
    return evaluation.pass_at_k(n, c, k)


def gain(before: dict, after: dict, modes: tuple[str, ...] = ("code", "text")) -> dict:
    """{"total", "switch", "within"} from two evaluations."""
    return evaluation.gain(before, after, modes)


def count_switches(before: evaluation.Answers, after: evaluation.Answers,
                   modes: tuple[str, ...]) -> dict:
    """{"text->code": [share, points], ...} from two sets of answers to the same problems."""
    return evaluation.count_switches(before, after, modes)


def kl_to_base(transformer: torch.nn.Module, base: torch.nn.Module,
               answers: evaluation.Answers) -> float:
    """Nats per response."""
    return evaluation.kl_to_base(transformer, base, answers)


def calibration(confidence: np.ndarray, right: np.ndarray) -> dict:
    """{"ece", "auroc", "brier", "confidence"} of confidences (M,) in [0, 1] and right (M,) bool."""
    return measures.measure_calibration(confidence, right)


# --- the loop


def make_objective(transformer: torch.nn.Module, config, critic=None, base=None,
                   teacher=None) -> losses.Objective:
    """The loss of a config, its flags bound; who stands beside the policy is who is given."""
    _, objective = run.bind_entries(config, rlvr.LOSSES[config.loss],
                                    transformer if base is None else base, transformer)
    for companion in objective.companions:
        if isinstance(companion, losses.Critic):
            companion.head = critic
        if teacher is not None and isinstance(companion, Teacher):
            companion.model = teacher
    return objective._replace(companions=tuple(
        companion for companion in objective.companions
        if critic is not None or not isinstance(companion, losses.Critic)))


def minibatch_loss(transformer: torch.nn.Module, batch: losses.Batch, rows: Tensor,
                   divisors: Tensor, config, critic=None) -> tuple[Tensor, dict]:
    """(loss, sums of metrics) of some rows (B,) of a batch, each divided by its divisor (B,)."""
    return rlvr.minibatch_loss(transformer, batch, rows, divisors, config,
                               make_objective(transformer, config, critic))


def update(transformer: torch.nn.Module, optimizers: list, batch: losses.Batch, config,
           step: int = 0, critic=None) -> dict:
    """All updates on one rollout batch, in place; returns the metrics."""
    return rlvr.update(transformer, optimizers, batch, config, step,
                       make_objective(transformer, config, critic).at(step))


def rollout(transformer: torch.nn.Module, config, pool: list, step: int = 0, judge=None,
            **beside) -> tuple[losses.Batch, dict, list[str]]:
    """(batch, metrics, readable samples); beside the policy: critic, base, teacher."""
    corpus = CORPORA["good-code"]
    reward = rewards.build_reward(config.reward, **list_values(config))
    batch = rlvr.rollout(transformer, run.Task(corpus, pool, reward, judge), config, step,
                         make_objective(transformer, config, **beside).at(step))
    return batch, measures.measure_batch(corpus, batch), measures.show_samples(batch, step)


# --- rewards


def reward(name: str, problem: task.Problem, responses: list[str], label: str | None = None,
           seed: int = 0, **config) -> list[float]:
    """The rewards of one prompt's group of responses, (G,); config: p, abstain_reward."""
    G = len(responses)
    context = rewards.Context(G, [label] * G, np.random.default_rng(seed))
    built = rewards.build_reward(name, **{"seed": 1} | config)
    return built.score([problem] * G, responses, context)
