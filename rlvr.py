"""RL with verifiable rewards, from scratch: pretrain a base, train it on a reward, measure what changed.

    python rlvr.py pretrain --base good-code                                  # a small transformer on clock arithmetic
    python rlvr.py train --base good-code --reward random --out runs/random   # GRPO on it
    python rlvr.py evaluate runs/random/model.pt
    python rlvr.py sample runs/random/model.pt "37 *4 +5 -2"
    python rlvr.py plot runs/random                                           # table and figure
    python rlvr.py probe runs/bases/good-code.pt                              # would a random reward lift it?

Read from top to bottom: options, losses, one rollout batch, one update, evaluation, the two training loops, files, command
line. Shapes: P prompts in a rollout batch, G rollouts of each, N = P * G rows, T response tokens, C width of the model,
V vocabulary; R is the number of response tokens of a micro-batch, all rows after one another.
"""

import argparse
import io
import math
import shlex
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import rewards as reward_functions
from data.corpus import BASES, CODE_PRIOR, OPENERS, documents, is_code
from data.figures import plot
from data.files import check_writable, stop_signals, to_csv, to_json, write
from data.options import Parser, add_options, number, option
from data.task import EASY, HARD, SPLITS, InputError, Problem, answer, draw, parse, render
from data.tokenizer import END, PAD, VOCABULARY_SIZE, decode, encode, encode_prompt
from model import ModelConfig, Rollouts, Transformer, entropy, response_hidden, sample, sampling_logprobs

# ---------------------------------------------------------------------------------------------------------------------
# Options: every one is a command-line flag, and its default is the recommended value.


@dataclass
class PretrainConfig:
    base: str = option("good-code", "which corpus (data/corpus.py)", choices=BASES)
    code_prior: float | None = option(None, f"share of code in the corpus (default {CODE_PRIOR}); no-code has none", least=0, most=1)
    text_openers: int = option(OPENERS, "over how many openers the corpus spreads its text; 1 makes it a single rival of the code", least=1, most=OPENERS)
    seed: int = option(0, "seed of the weights and the corpus", least=0)
    out: str | None = option(None, "checkpoint to write (default runs/bases/BASE.pt)")
    # the model: 175 thousand parameters
    layers: int = option(3, "transformer blocks", least=1)
    width: int = option(64, "width of the residual stream", least=1)
    heads: int = option(4, "attention heads", least=1)
    # the optimizer: Muon for the matrices inside the blocks needs half the steps of AdamW alone
    steps: int = option(1700, "optimizer steps, each on fresh documents", least=1)
    batch: int = option(96, "documents per step", least=1)
    lr_muon: float = option(0.02, "peak learning rate of Muon, for the matrices inside the blocks", above=0)
    lr_adamw: float = option(0.008, "peak learning rate of AdamW, for embedding, head and norms", above=0)
    warmup: int = option(50, "steps of linear warm-up", least=0)
    decay: float = option(0.9, "share of the steps at the end over which the learning rate falls linearly to 0", above=0, most=1)
    # the machine
    micro_batch: int = option(48, "documents per forward pass; changes speed and memory, not the gradient", least=1)
    threads: int | None = option(None, "CPU threads (default: all cores)", least=1)
    device: str = option("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))


@dataclass
class TrainConfig:
    base: str = option("good-code", "a base's name (runs/bases/NAME.pt) or a checkpoint's path")
    reward: str = option("random", "correct, majority, incorrect, format, random, code; A+B: both must pay; not_A: the opposite")
    loss: str = option("grpo", "advantage and policy loss, a pair of functions each", choices=(
        "grpo", "dr_grpo", "rloo", "reinforce", "ppo", "psr", "nsr", "w_reinforce"))
    seed: int = option(1, "seed of prompts, samples and random rewards", least=0)
    steps: int = option(20, "rollout batches", least=1)
    out: str = option("runs/train", "folder to write; the same command again resumes there")
    # the rollouts: 64 x 16 as in 2506.10947
    prompts: int = option(64, "prompts per rollout batch", least=1)
    group: int = option(16, "rollouts per prompt; the advantage compares them", least=2)
    temperature: float = option(1.0, "sampling temperature; the loss scores under it too", above=0)
    max_new_tokens: int = option(40, "longest response; a right one has at most 35 tokens", least=1)
    p: float = option(0.5, "probability that the random reward pays", least=0, most=1)
    pool: int = option(256, "training prompts to draw from, in epochs; 1 is one-shot RLVR (2504.20571)", least=1)
    num_ops: tuple[int, ...] | None = option(
        None, "numbers of operations k of the training prompts (default 1 2 3 4 5; 6 7 for incorrect)", many=True, choices=EASY + HARD)
    # the update: SGD, since AdamW gives the noise of a random reward the same step size as a signal
    updates: int = option(32, "updates per rollout batch; the first is on-policy, only later ones can clip", least=1)
    optimizer: str = option("sgd", "sgd (no momentum) or adamw", choices=("sgd", "adamw"))
    lr: float = option(0.015, "step size; reinforce, nsr and w_reinforce need a tenth where many prompts are beyond the model", above=0)
    eps_low: float = option(0.4, "lower clip (rloo and reinforce have none): ratios below 1 - eps_low get no gradient where the advantage is negative", least=0)
    eps_high: float = option(0.4, "upper clip: ratios above 1 + eps_high get none where it is positive; 1e9 turns a clip off", least=0)
    max_grad_norm: float = option(3.0, "gradient norm above which an update is scaled down", above=0)
    # the loss: what it divides by, and terms that are off unless asked for
    aggregate: str = option("sequences", "divide the sum over tokens by the number of sequences; or each sequence by its length first "
                            "(GRPO's eq. 3, biased towards short right and long wrong ones); or by all tokens (DAPO)", choices=("sequences", "length", "tokens"))
    kl_coef: float = option(0.0, "weight of the KL divergence from the base (k3, per token)", least=0)
    entropy_coef: float = option(0.0, "weight of the entropy bonus (per token)", least=0)
    psr_weight: float = option(0.1, "w_reinforce: weight of the right samples, lambda of 2506.01347", least=0)
    # PPO's critic
    gamma: float = option(1.0, "ppo: discount per token", least=0, most=1)
    gae_lambda: float = option(1.0, "ppo: lambda of GAE; 1 is Monte Carlo, below 1 trusts the critic", least=0, most=1)
    lr_value: float = option(0.01, "ppo: step size of the value head, by AdamW", above=0)
    eps_value: float = option(0.2, "ppo: a value that has moved further than this towards its target since the rollout learns no more", above=0)
    # the evaluation, before and after
    eval_problems: int = option(400, "evaluation problems, the same in every run", least=1)
    eval_samples: int = option(8, "samples of each at temperature 1; pass@k for the powers of 2 up to it", least=1)
    eval_split: str = option("evaluation", "which problems: no training prompt is in evaluation or probe", choices=SPLITS)
    eval_num_ops: tuple[int, ...] = option(EASY, "numbers of operations k of the evaluation problems", many=True, choices=EASY + HARD)
    # the machine
    micro_batch: int = option(16, "sequences per forward pass; changes speed and memory, not the gradient", least=1)
    threads: int | None = option(None, "CPU threads (default: all cores)", least=1)
    device: str = option("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))


def default_num_ops(reward: str) -> tuple[int, ...]:
    """Numbers of operations of the training prompts if no flag says so: `incorrect` needs prompts that the base gets wrong."""
    return HARD if reward_functions.uses(reward, reward_functions.WRONG_LABELS_ONLY) else EASY


def flags_of(config: dict) -> str:
    """The flags of a config.json that are not at their defaults, save those that a table names anyway or that do not matter."""
    own = {"base", "reward", "loss", "seed", "out", "micro_batch", "threads", "device"}
    flags = []
    for f in fields(TrainConfig):
        default = default_num_ops(config["reward"]) if f.name == "num_ops" else f.default
        value = config.get(f.name, default)
        value = tuple(value) if isinstance(value, list) else value
        if f.name not in own and value != default:
            text = f"{value:g}" if isinstance(value, float) else " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            flags.append(f"--{f.name.replace('_', '-')} {text}")
    return " ".join(flags)


LABEL_SAMPLES = 64  # rollouts of the base whose majority becomes a frozen label (2506.10947, section 2)
BASE_FOLDER = Path("runs/bases")
SAMPLED_ROWS = 8192  # rollouts sampled at once outside training; bounds the memory
SCORED_ROWS = 1024   # rollouts in a forward pass without gradient; the same

# Every random number comes from a generator made of (seed, purpose, step). So no generator's state has to be saved for a
# resumed run to be the same, and two rewards with one seed see the same prompts.
WEIGHTS, CORPUS, POOL, ORDER, SAMPLES, REWARD, SHUFFLE, LABELS, EVALUATION = range(9)


def numpy_rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def torch_rng(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


# ---------------------------------------------------------------------------------------------------------------------
# Advantages and losses. A loss is a pair of functions, see LOSSES: what a reward is compared with, and how far it may push.
# The advantages: rewards (P, G), row i being the group of prompt i of the batch -> (P, G), one number for all tokens of a response.


def grpo(rewards: Tensor, config: TrainConfig) -> Tensor:
    """(r - mean) / (std + 1e-9) within the group, population std (GRPO, 2402.03300, section 4.1.2). Exactly 0 if all are equal."""
    return dr_grpo(rewards, config) / (rewards.std(dim=1, correction=0, keepdim=True) + 1e-9)


def dr_grpo(rewards: Tensor, config: TrainConfig) -> Tensor:
    """r - mean: without the std, a nearly solved and a half solved prompt weigh what they do in E[r] (Dr. GRPO, 2503.20783)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred.masked_fill((rewards == rewards[:, :1]).all(dim=1, keepdim=True), 0.0)  # the mean of equals may round


def rloo(rewards: Tensor, config: TrainConfig) -> Tensor:
    """r minus the mean of the *other* G - 1, a baseline independent of r (RLOO, 2402.14740)."""
    G = rewards.size(1)
    return dr_grpo(rewards, config) * G / (G - 1)                 # = r - (sum - r) / (G - 1)


def reinforce(rewards: Tensor, config: TrainConfig) -> Tensor:
    """The reward as +1 or -1, no baseline (REINFORCE as 2506.01347 has it); a reward between 0 and 1 becomes one between."""
    return 2 * rewards - 1


def psr(rewards: Tensor, config: TrainConfig) -> Tensor:
    """Positive sample reinforcement: the right samples alone, +1 (2506.01347).

    A descent step raises the sampled token's logit by 1 - pi and lowers every other one by its own pi, other right ones too.
    """
    return reinforce(rewards, config).clamp(min=0)


def nsr(rewards: Tensor, config: TrainConfig) -> Tensor:
    """Negative sample reinforcement: the wrong samples alone, -1 (2506.01347).

    A descent step lowers the sampled token's logit by 1 - pi and raises every other one by its own pi: in proportion to the prior.
    """
    return reinforce(rewards, config).clamp(max=0)


def w_reinforce(rewards: Tensor, config: TrainConfig) -> Tensor:
    """lambda PSR + NSR, lambda = 0.1 (W-REINFORCE, 2506.01347)."""
    return config.psr_weight * psr(rewards, config) + nsr(rewards, config)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalized advantage estimation (1506.02438, eq. 16), PPO's advantage: one number per token.

    rewards (N,) come with a response's last token; values (N, T) are V before each token, 0 on padding; mask (N, T) -> (N, T).
    A_t = delta_t + gamma lam A_(t+1) with delta_t = r_t + gamma V_(t+1) - V_t; the value after the ending is 0.
    """
    N, T = mask.shape
    last = torch.arange(T, device=mask.device) == mask.sum(1, keepdim=True) - 1                  # (N, T)
    paid = last * rewards[:, None]                                                               # r_t
    advantages, ahead = torch.zeros_like(values), values.new_zeros(N, 2)                         # ahead: V, A of t + 1
    for t in reversed(range(T)):
        delta = paid[:, t] + gamma * ahead[:, 0] - values[:, t]
        advantages[:, t] = delta + gamma * lam * ahead[:, 1]
        ahead = torch.stack((values[:, t], advantages[:, t]), dim=1)
    return advantages


# The policy losses, per token: all (R,) -> (R,). At the first update after a rollout the ratio is 1 and their gradients are the same.


def clipped(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config: TrainConfig) -> Tensor:
    """The clipped surrogate of PPO (1707.06347, eq. 7) and GRPO (2402.03300, eq. 3), with a bound of its own on each side."""
    ratio = (logprobs - old_logprobs).exp()
    # min, for negative advantages too: the bound is pessimistic, it only ever removes a reason to move further.
    return -torch.min(ratio * advantages, ratio.clamp(1 - config.eps_low, 1 + config.eps_high) * advantages)


def score_function(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config: TrainConfig) -> Tensor:
    """-A log pi, whose gradient is REINFORCE's (Williams 1992): no ratio and no clip, as if each batch were on-policy."""
    return -advantages * logprobs


class Loss(NamedTuple):
    advantages: Callable[[Tensor, TrainConfig], Tensor] | None  # None: PPO's, from a critic, are `gae`
    policy_loss: Callable[[Tensor, Tensor, Tensor, TrainConfig], Tensor]


LOSSES = {
    "grpo": Loss(grpo, clipped),
    "dr_grpo": Loss(dr_grpo, clipped),
    "rloo": Loss(rloo, score_function),
    "reinforce": Loss(reinforce, score_function),
    "ppo": Loss(None, clipped),
    # 2506.01347 writes these three without a clip; its code (RLVR-Decomposed) trains them with one. So w_reinforce with
    # --psr-weight 1 is reinforce with a clip, as dr_grpo is rloo with one (and G / (G - 1) less): each pair shows what the clip does.
    "psr": Loss(psr, clipped),
    "nsr": Loss(nsr, clipped),
    "w_reinforce": Loss(w_reinforce, clipped),
}


# Options that only some losses read: to set one for another loss is a mistake.
READ_BY = {"psr_weight": ["w_reinforce"], **dict.fromkeys(("gamma", "gae_lambda", "lr_value", "eps_value"), ["ppo"]),
           **dict.fromkeys(("eps_low", "eps_high"), [name for name, loss in LOSSES.items() if loss.policy_loss is clipped])}


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float) -> Tensor:
    """PPO's clipped value loss, 1/2 max((V - R)^2, (clip(V, V_old -+ eps) - R)^2): all (R,) -> (R,).

    Not in 1707.06347's text but in the code that came with it (github.com/openai/baselines, ppo2). As with `clipped`, the larger of the
    two: it only ever removes a reason to move further.
    """
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return torch.max((values - returns) ** 2, (near - returns) ** 2) / 2


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The k3 estimate of KL(pi || ref) (joschu.net/blog/kl-approx.html), on samples of pi: exp(d) - d - 1 with d = log ref - log pi.

    Log-probabilities of the samples under both (R,) -> nats (R,), each >= 0 and unbiased in the mean.
    """
    d = ref_logprobs - logprobs
    return d.exp() - d - 1


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k (2107.03374, eq. 1) from n samples of which c are right: 1 - C(n-c, k) / C(n, k).

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 2, 2)
    (0.25, 0.8333333333333334)
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, not n={n}, c={c}, k={k}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


# ---------------------------------------------------------------------------------------------------------------------
# One rollout batch


class Batch(NamedTuple):
    """What passes from rollout to update: everything the loss needs, nothing it could re-compute differently."""

    prompts: list[list[int]]  # (N) prompt ids of each row
    ids: Tensor               # (N, T) the very ids sampled
    mask: Tensor              # (N, T) True on response tokens, the ending included
    old_logprobs: Tensor      # (N, T) under the distribution sampled from
    advantages: Tensor        # (N, T) one number for all tokens of a row, save PPO's
    ref_logprobs: Tensor | None = None  # (N, T) under the base; only if there is a KL term
    values: Tensor | None = None        # (N, T) PPO's critic, before each token; advantages + values is what it learns


def texts(rollouts: Rollouts) -> list[str]:
    """The N responses as text, for the rewards; training keeps the ids."""
    return [decode(ids[:length]) for ids, length in zip(rollouts.ids.tolist(), rollouts.mask.sum(1).tolist())]


def respond(model: Transformer, problems: list[Problem], n: int, key: tuple[int, ...], prefix: str = "",
            **sampling) -> list[tuple[list[str], Rollouts]]:
    """n responses to each problem, all made to begin with `prefix`, in chunks of at most SAMPLED_ROWS rows: the texts and the rollouts."""
    chunk, forced = max(1, SAMPLED_ROWS // n), encode(prefix)
    result = []
    for i in tqdm(range(0, len(problems), chunk), desc="sampling", leave=False, disable=None, delay=2):
        rollouts = sample(model, [encode_prompt(render(problem)) + forced for problem in problems[i:i + chunk]], n, END,
                          generator=torch_rng(*key, i), **sampling)
        result.append(([prefix + text for text in texts(rollouts)], rollouts))
    return result


def judged(problems: list[Problem], sampled: list[tuple[list[str], Rollouts]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What `respond` returns as (the texts (P * n), whether each is right (P, n), whether each is in code mode (P, n))."""
    responses = [text for chunk, _ in sampled for text in chunk]
    n = len(responses) // len(problems)
    right = np.array([reward_functions.is_correct(problems[i // n], text) for i, text in enumerate(responses)])
    return responses, right.reshape(-1, n), np.array([is_code(text) for text in responses]).reshape(-1, n)


def frozen_labels(model: Transformer, problems: list[Problem], key: tuple[int, ...], max_new_tokens: int) -> list[str | None]:
    """The model's majority answer to each problem over LABEL_SAMPLES samples at temperature 1."""
    responses = [text for chunk, _ in respond(model, problems, LABEL_SAMPLES, key, max_new_tokens=max_new_tokens) for text in chunk]
    return [reward_functions.majority_answer(responses[i:i + LABEL_SAMPLES]) for i in range(0, len(responses), LABEL_SAMPLES)]


def training_pool(config: TrainConfig, model: Transformer) -> list[tuple[Problem, str | None]]:
    """The training prompts with their frozen labels (None where the reward needs none)."""
    problems = draw(config.pool, "training", config.num_ops, numpy_rng(config.seed, POOL))
    if not reward_functions.uses(config.reward, reward_functions.LABELLED):
        return [(problem, None) for problem in problems]
    labels = frozen_labels(model, problems, (config.seed, LABELS), config.max_new_tokens)
    pool = list(zip(problems, labels))
    if reward_functions.uses(config.reward, reward_functions.WRONG_LABELS_ONLY):
        pool = [(problem, label) for problem, label in pool
                if label not in (None, str(answer(problem)))]
        if not pool:
            raise InputError(f"reward {config.reward}: the base's majority answer is right on all {config.pool} prompts of "
                             "the pool; take a larger --pool or a harder --num-ops")
    return pool


def order(config: TrainConfig, pool_size: int, step: int) -> np.ndarray:
    """Pool indices (P,) of one rollout batch: the pool in epochs, each shuffled anew; a prompt can stand in a batch twice."""
    positions = np.arange(step * config.prompts, (step + 1) * config.prompts)
    epochs = {epoch: numpy_rng(config.seed, ORDER, epoch).permutation(pool_size)
              for epoch in np.unique(positions // pool_size).tolist()}
    return np.array([epochs[i // pool_size][i % pool_size] for i in positions.tolist()])


@torch.no_grad()
def per_token(model: Transformer, prompts: list[list[int]], rollouts: Rollouts, read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """read(hidden (R, C), ids (R,)) -> (R,) on all rollouts, in chunks, as (N, T): 0 on padding."""
    result = torch.zeros_like(rollouts.logprobs)
    for i in range(0, len(prompts), SCORED_ROWS):
        ids, mask = rollouts.ids[i:i + SCORED_ROWS], rollouts.mask[i:i + SCORED_ROWS]
        result[i:i + SCORED_ROWS][mask] = read(response_hidden(model, prompts[i:i + SCORED_ROWS], ids, mask), ids[mask])
    return result


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log pi of the tokens that were sampled, under the distribution they were sampled from: (R, V), (R,) -> (R,)."""
    return sampling_logprobs(logits, temperature).gather(1, ids[:, None])[:, 0]


def rollout(model: Transformer, config: TrainConfig, pool: list[tuple[Problem, str | None]], step: int,
            base: Transformer | None = None, critic: nn.Linear | None = None) -> tuple[Batch, dict, list[str]]:
    """Sample a group for each prompt, reward it, compute advantages: the batch, its metrics, some samples to read.

    `base` is there if the loss has a KL term, `critic` if it is PPO's.
    """
    chosen = [pool[i] for i in order(config, len(pool), step)]
    prompts = [encode_prompt(render(problem)) for problem, _ in chosen]
    rollouts = sample(model, prompts, config.group, END, config.max_new_tokens, config.temperature,
                      generator=torch_rng(config.seed, SAMPLES, step))
    responses, G = texts(rollouts), config.group
    reward, rng = reward_functions.get(config.reward), numpy_rng(config.seed, REWARD, step)
    rewards = torch.tensor([reward(problem, responses[i * G:(i + 1) * G], reward_functions.Context(label, rng, config.p))
                            for i, (problem, label) in enumerate(chosen)], dtype=torch.float64)   # (P, G)
    rows, mask = [prompt for prompt in prompts for _ in range(G)], rollouts.mask
    values = ref_logprobs = None
    if critic is None:
        advantages = LOSSES[config.loss].advantages(rewards, config).flatten().to(mask.device)[:, None] * mask   # (N, T)
    else:
        values = per_token(model, rows, rollouts, lambda hidden, ids: critic(hidden)[:, 0])
        advantages = gae(rewards.flatten().to(values), values, mask, config.gamma, config.gae_lambda)
    if base is not None:
        ref_logprobs = per_token(base, rows, rollouts, lambda hidden, ids: token_logprobs(base.head(hidden), ids, config.temperature))

    tokens = mask.sum().item()
    correct = [reward_functions.is_correct(chosen[i // G][0], response) for i, response in enumerate(responses)]
    metrics = {"reward": rewards.mean().item(), "accuracy": np.mean(correct).item(),
               "code_share": np.mean([is_code(response) for response in responses]).item(),
               "format_rate": np.mean([reward_functions.boxed(response) is not None for response in responses]).item(),
               "entropy": rollouts.entropy.sum().item() / tokens,
               "mean_token_prob": rollouts.logprobs[mask].exp().mean().item(),
               "response_length": tokens / len(responses),
               "no_signal": (advantages.reshape(len(chosen), -1) == 0).all(dim=1).double().mean().item()}
    readable = [f"step {step} reward {rewards[i // G, i % G]:g} correct {int(correct[i])} | {render(chosen[i // G][0])}\n"
                f"{responses[i]}\n" for i in range(0, len(responses), max(1, len(responses) // 4))]
    batch = Batch(rows, rollouts.ids, mask, rollouts.logprobs, advantages.to(rollouts.logprobs), ref_logprobs, values)
    return batch, metrics, readable


# ---------------------------------------------------------------------------------------------------------------------
# The updates on one rollout batch


def update(model: Transformer, optimizers: list[torch.optim.Optimizer], batch: Batch, config: TrainConfig, step: int,
           critic: nn.Linear | None = None) -> dict:
    """Each row once, in `config.updates` random minibatches, one optimizer step each; returns metrics over all of them."""
    lengths, policy_loss = batch.mask.sum(1).cpu(), LOSSES[config.loss].policy_loss
    signal = (batch.advantages != 0).any(1).cpu()
    if config.kl_coef or config.entropy_coef or critic is not None:
        signal = torch.ones_like(signal)
    totals, norms = dict.fromkeys(("clip_high", "clip_low", "approx_kl", "trained", "kl", "value_loss"), 0.0), []
    for rows in np.array_split(numpy_rng(config.seed, SHUFFLE, step).permutation(len(batch.ids)), config.updates):
        rows = torch.from_numpy(rows)
        # What each row's sum over tokens is divided by. Not by anything of a micro-batch: the gradient does not depend on its size.
        divisor = {"sequences": torch.full_like(lengths, len(rows)), "length": len(rows) * lengths,
                   "tokens": lengths[rows].sum().expand_as(lengths)}[config.aggregate]                  # (N,)
        # A row without advantage has gradient 0: it counts in the divisor but needs no forward pass.
        # The others are sorted by length, so that a micro-batch has little padding.
        signal_rows = rows[signal[rows]]
        signal_rows = signal_rows[lengths[signal_rows].argsort(stable=True)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for i in range(0, len(signal_rows), config.micro_batch):
            micro = signal_rows[i:i + config.micro_batch]
            T = int(lengths[micro].max())
            ids, mask = batch.ids[micro, :T], batch.mask[micro, :T]                                    # (B, T)
            hidden = response_hidden(model, [batch.prompts[row] for row in micro.tolist()], ids, mask)  # (R, C)
            logits = model.head(hidden)                                                                # (R, V)
            logprobs = token_logprobs(logits, ids[mask], config.temperature)                           # (R,)
            old_logprobs, advantages = batch.old_logprobs[micro, :T][mask], batch.advantages[micro, :T][mask]
            with torch.no_grad():
                ratio = (logprobs - old_logprobs).exp()
                if policy_loss is clipped:
                    totals["clip_high"] += ((ratio > 1 + config.eps_high) & (advantages > 0)).sum().item()
                    totals["clip_low"] += ((ratio < 1 - config.eps_low) & (advantages < 0)).sum().item()
                totals["approx_kl"] += kl_k3(old_logprobs, logprobs).sum().item()  # KL(old || new): the samples are old's
                totals["trained"] += len(ratio)
            loss = policy_loss(logprobs, old_logprobs, advantages, config)                             # (R,)
            if critic is not None:
                # The critic reads the trunk and leaves it alone, so that PPO's policy differs from the others' by its advantage only.
                old_values = batch.values[micro, :T][mask]
                of_critic = value_loss(critic(hidden.detach())[:, 0], old_values, advantages + old_values, config.eps_value)
                totals["value_loss"] += of_critic.sum().item()
                loss = loss + of_critic
            if config.kl_coef:
                # As in GRPO (eq. 4). An estimate: the samples are the old policy's; and on samples of pi the gradient of k3 is that of KL(base || pi).
                kl = kl_k3(logprobs, batch.ref_logprobs[micro, :T][mask])
                totals["kl"] += kl.sum().item()
                loss = loss + config.kl_coef * kl
            if config.entropy_coef:
                loss = loss - config.entropy_coef * entropy(logits / config.temperature)
            (loss / divisor[micro].to(loss)[:, None].expand_as(mask)[mask]).sum().backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item())
        if not math.isfinite(norms[-1]):
            raise FloatingPointError(f"the policy diverged in rollout batch {step}: gradient norm {norms[-1]} (lower --lr)")
        for optimizer in optimizers:
            optimizer.step()
    tokens, trained = int(lengths.sum()), max(1, totals["trained"])
    return {"clip_high": totals["clip_high"] / tokens, "clip_low": totals["clip_low"] / tokens,
            "approx_kl": totals["approx_kl"] / trained, "grad_norm": float(np.mean(norms)),
            **({"kl": totals["kl"] / trained} if config.kl_coef else {}),
            **({"value_loss": totals["value_loss"] / trained} if critic is not None else {})}


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


@torch.no_grad()
def kl_to_base(model: Transformer, base: Transformer, problems: list[Problem], sampled: list[tuple[list[str], Rollouts]], n: int) -> float:
    """KL(pi || base) of whole responses in nats, on the first of n responses of pi to each problem (as `respond` returns them).

    The mean over responses of the exact KL of each next-token distribution, summed over the tokens: unbiased by the chain rule.
    """
    total, done = 0.0, 0
    for _, rollouts in sampled:
        ids, mask = rollouts.ids[::n], rollouts.mask[::n]
        prompts = [encode_prompt(render(problem)) for problem in problems[done:done + len(ids)]]
        pi, ref = (m.head(response_hidden(m, prompts, ids, mask)).log_softmax(-1) for m in (model, base))   # (R, V)
        total, done = total + (pi.exp() * (pi - ref)).sum().item(), done + len(ids)
    return total / len(problems)


def evaluation_problems(n: int, split: str, num_ops: tuple[int, ...], seed: int = 0) -> list[Problem]:
    """The problems that an evaluation asks; those of seed 0 are the same in every run, lesson and table."""
    return draw(n, split, num_ops, numpy_rng(EVALUATION, seed))


def evaluate(model: Transformer, problems: list[Problem], samples: int, ks: list[int], key: tuple[int, ...], temperature: float = 1.0,
             top_k: int | None = None, top_p: float | None = None, max_new_tokens: int = 40, base: Transformer | None = None) -> dict:
    """Sample each problem `samples` times and once greedily; see the README for every key. Absent values are None."""
    sampled = respond(model, problems, samples, key,
                      temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=max_new_tokens)
    _, greedy, _ = judged(problems, respond(model, problems, 1, key, temperature=0.0, max_new_tokens=max_new_tokens))
    responses, correct, code = judged(problems, sampled)
    boxes = [reward_functions.boxed(text) for text in responses]
    tokens = sum(rollouts.mask.sum().item() for _, rollouts in sampled)
    return {
        "accuracy": correct.mean().item(),
        "greedy_accuracy": greedy.mean().item(),
        "code_share": code.mean().item(),
        "accuracy_code": correct[code].mean().item() if code.any() else None,
        "accuracy_text": correct[~code].mean().item() if not code.all() else None,
        "format_rate": np.mean([box is not None for box in boxes]).item(),
        "entropy": sum(rollouts.entropy.sum().item() for _, rollouts in sampled) / tokens,
        "mean_token_prob": sum(rollouts.logprobs[rollouts.mask].exp().sum().item() for _, rollouts in sampled) / tokens,
        "kl_to_base": kl_to_base(model, base, problems, sampled, samples) if base is not None else None,
        "distinct_answers": np.mean([len(set(boxes[i:i + samples]) - {None}) for i in range(0, len(boxes), samples)]).item(),
        "pass_at_k": {str(k): np.mean([pass_at_k(samples, int(c), k) for c in correct.sum(axis=1)]).item() for k in ks},
        "n_problems": len(problems),
        "n_samples": samples,
    }


def gain(before: dict, after: dict) -> dict:
    """The change of accuracy, split into what comes from moving between the modes and what from getting better inside them.

    accuracy = s a_code + (1 - s) a_text with s the share of code. With bars for the mean of before and after,
    switch = ds (bar a_code - bar a_text), within = bar s da_code + (1 - bar s) da_text; they add up to the total exactly.
    A mode that occurs on one side only is taken to be as accurate there as on the other.
    """
    s = before["code_share"], after["code_share"]
    code, text = ([before[key], after[key]] for key in ("accuracy_code", "accuracy_text"))
    for a in code, text:
        a[0] = a[0] if a[0] is not None else a[1] if a[1] is not None else 0.0
        a[1] = a[1] if a[1] is not None else a[0]
    mean_s = (s[0] + s[1]) / 2
    return {"total": after["accuracy"] - before["accuracy"],
            "switch": (s[1] - s[0]) * ((code[0] + code[1]) - (text[0] + text[1])) / 2,
            "within": mean_s * (code[1] - code[0]) + (1 - mean_s) * (text[1] - text[0])}


# ---------------------------------------------------------------------------------------------------------------------
# Pretraining


def pretrain(config: PretrainConfig) -> None:
    """Next-token prediction on the responses of a corpus; writes a checkpoint to config.out, resumes from its .partial."""
    if config.base == "no-code" and config.code_prior is not None:
        raise InputError("--code-prior: the corpus of no-code has no code")
    if config.width % config.heads or config.width // config.heads % 2:
        raise InputError(f"--width {config.width} does not divide into {config.heads} heads of even width")
    device, out = start(config), Path(config.out or BASE_FOLDER / f"{config.base}.pt")
    partial = out.with_name(out.name + ".partial")
    same = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "device")}
    for path in (out, partial):
        if path.exists() and not same_flags(config, load(path, device)[1].get("pretrain"), same):
            raise InputError(f"{path} was pretrained with other flags: delete it or choose another --out")
    if out.exists():
        return print(f"{out} exists already")
    check_writable(out.parent)

    torch.manual_seed(int(numpy_rng(config.seed, WEIGHTS).integers(2**31)))
    model, checkpoint = Transformer(ModelConfig(VOCABULARY_SIZE, config.layers, config.width, config.heads)).to(device), None
    if partial.exists():
        model, checkpoint = load(partial, device)
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters() if not name.startswith("blocks") or p.dim() != 2]
    # Muon orthogonalises each matrix's momentum (kellerjordan.github.io/posts/muon): half the steps that AdamW alone needs.
    optimizers = [torch.optim.Muon(matrices, lr=config.lr_muon, weight_decay=0.01),
                  torch.optim.AdamW(others, lr=config.lr_adamw, betas=(0.9, 0.95), weight_decay=0.01, fused=True)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        1, (step + 1) / (config.warmup + 1), (config.steps - step) / (config.steps * config.decay))) for optimizer in optimizers]
    stateful, done = [*optimizers, *schedules], 0
    if checkpoint is not None:
        done = checkpoint["step"]
        for thing, saved in zip(stateful, checkpoint["stateful"]):
            thing.load_state_dict(saved)

    corpus = documents(config.base, config.steps * config.batch, CODE_PRIOR if config.code_prior is None else config.code_prior,
                       config.text_openers, numpy_rng(config.seed, CORPUS))
    with stop_signals() as stopped, tqdm(total=config.steps, initial=done, desc=f"pretrain {config.base}", disable=None) as bar:
        for step in range(done, config.steps):
            pairs = [(encode_prompt(prompt), encode(response) + [END])
                     for prompt, response in corpus[step * config.batch:(step + 1) * config.batch]]
            pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))  # rows of like length share a micro-batch: less padding
            tokens, total = sum(len(response) for _, response in pairs), 0.0
            for i in range(0, len(pairs), config.micro_batch):
                prompts, responses = zip(*pairs[i:i + config.micro_batch])
                ids = pad_sequence([torch.tensor(r) for r in responses], batch_first=True, padding_value=PAD).to(device)   # (B, T)
                logits = model.head(response_hidden(model, prompts, ids, ids != PAD))                                      # (R, V)
                loss = nn.functional.cross_entropy(logits, ids[ids != PAD], reduction="sum") / tokens
                loss.backward()
                total += loss.item()
            for optimizer, schedule in zip(optimizers, schedules):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            bar.set_postfix(loss=f"{total:.3f}", refresh=False)
            bar.update()
            if stopped or (step + 1) % 100 == 0:
                save_checkpoint(partial, model, base=config.base, pretrain=same, step=step + 1,
                                stateful=[thing.state_dict() for thing in stateful])
            if stopped:
                raise KeyboardInterrupt
    save_checkpoint(out, model, base=config.base, pretrain=same)
    partial.unlink(missing_ok=True)
    print(f"{config.base}: loss {total:.3f}, wrote {out}")


# ---------------------------------------------------------------------------------------------------------------------
# RL


METRICS = ("reward", "accuracy", "code_share", "format_rate", "entropy", "mean_token_prob", "response_length", "no_signal",
           "clip_high", "clip_low", "approx_kl", "grad_norm", "kl", "value_loss")  # the last two only where the loss has them


def base_path(base: str) -> Path:
    """The checkpoint of a base, given by its name (runs/bases/NAME.pt) or by its path."""
    named = BASE_FOLDER / f"{base}.pt"
    if base in BASES and not named.exists():
        raise InputError(f"base {base} is not pretrained yet: python rlvr.py pretrain --base {base}")
    return named if named.exists() else Path(base)


def train(config: TrainConfig, command: str = "") -> None:
    """RL on a base; writes config.json, metrics.csv, samples.txt, model.pt and summary.json into config.out, or resumes there."""
    config.num_ops = config.num_ops or default_num_ops(config.reward)
    if config.updates > config.prompts * config.group:
        raise InputError(f"--updates {config.updates} is more than the {config.prompts * config.group} rollouts of a batch")
    for name, losses in READ_BY.items():
        if config.loss not in losses and getattr(config, name) != getattr(TrainConfig, name):
            raise InputError(f"--{name.replace('_', '-')}: --loss {config.loss} does not read it (only {', '.join(losses)})")
    device, out = start(config), Path(config.out)
    check_writable(out)
    same = {k: v for k, v in asdict(config).items() if k not in ("out", "steps")}
    if (out / "model.pt").exists():
        model, info = load(out / "model.pt", device)
        state = info.get("train")
        if state is None or not same_flags(config, state["config"], same):
            raise InputError(f"{out} holds a run with other flags: choose another --out or delete it")
        if state["step"] > config.steps:
            raise InputError(f"{out} has {state['step']} rollout batches already, more than --steps {config.steps}")
        if state["step"] == config.steps and (out / "summary.json").exists():
            return print(f"{out} is finished already")
    else:
        state = None
        model, _ = load(base_path(config.base), device)
    base, _ = load(base_path(config.base), device)
    evaluation = evaluation_problems(config.eval_problems, config.eval_split, config.eval_num_ops)
    ks = [2 ** i for i in range(config.eval_samples.bit_length())]

    def evaluation_now() -> dict:
        return evaluate(model, evaluation, config.eval_samples, ks, (EVALUATION,), max_new_tokens=config.max_new_tokens, base=base)

    clock = Clock()
    if state is None:
        pool = training_pool(config, model)
        clock.lap("rollout")
        state = {"config": same, "step": 0, "rows": [], "samples": [], "before": evaluation_now(), "stateful": [],
                 "pool": [(render(problem), label) for problem, label in pool],
                 "seconds": {"rollout": 0.0, "update": 0.0, "evaluate": 0.0}}
        clock.lap("evaluate")
    pool = [(parse(problem), label) for problem, label in state["pool"]]
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    optimizers, critic = [kind(model.parameters(), lr=config.lr)], None
    if config.loss == "ppo":
        critic = nn.Linear(model.config.width, 1, device=device)
        nn.init.zeros_(critic.weight)
        nn.init.zeros_(critic.bias)
        optimizers.append(torch.optim.AdamW(critic.parameters(), lr=config.lr_value, weight_decay=0.0))
    stateful = optimizers + ([critic] if critic is not None else [])
    for thing, saved in zip(stateful, state["stateful"]):
        thing.load_state_dict(saved)
    write(out / "config.json", to_json({**asdict(config), "device": str(device), "lr": optimizers[0].param_groups[0]["lr"],
                                        "parameters": sum(p.numel() for p in model.parameters()),
                                        "torch": torch.__version__, "command": command}))

    def save() -> None:
        for name, seconds in clock.laps().items():
            state["seconds"][name] += seconds
        state["stateful"] = [thing.state_dict() for thing in stateful]
        save_checkpoint(out / "model.pt", model, base=config.base, train=state)
        write(out / "metrics.csv", to_csv(state["rows"]))
        write(out / "samples.txt", "\n".join(state["samples"]))

    if state["step"] < config.steps:
        (out / "summary.json").unlink(missing_ok=True)  # it is of a shorter run
    name = f"{config.base} {config.reward}"
    with stop_signals() as stopped, tqdm(total=config.steps, initial=state["step"], desc=name, disable=None) as bar:
        for step in range(state["step"], config.steps):
            batch, metrics, readable = rollout(model, config, pool, step, base if config.kl_coef else None, critic)
            clock.lap("rollout")
            metrics |= update(model, optimizers, batch, config, step, critic)
            clock.lap("update")
            state["rows"].append({"step": step, **{name: metrics[name] for name in METRICS if name in metrics}})
            state["samples"] += readable if step % 5 == 0 else []
            state["step"] = step + 1
            save()
            bar.set_postfix({metric: f"{metrics[metric]:.3f}" for metric in ("reward", "accuracy", "code_share")}, refresh=False)
            bar.update()
            if stopped:
                raise KeyboardInterrupt
    clock.lap("update")
    after = evaluation_now()
    clock.lap("evaluate")
    save()
    summary = {"base": config.base, "reward": config.reward, "loss": config.loss, "seed": config.seed, "steps": config.steps,
               "before": state["before"], "after": after, "gain": gain(state["before"], after),
               "clip": {side: float(np.mean([row[f"clip_{side}"] for row in state["rows"]])) for side in ("high", "low")},
               "seconds": {"total": sum(state["seconds"].values()), **state["seconds"]}}
    write(out / "summary.json", to_json(summary))
    before, seconds = state["before"], summary["seconds"]["total"]
    print(f"{config.base}, reward {config.reward}, loss {config.loss}, seed {config.seed}: accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}, "
          f"code share {before['code_share']:.2f} -> {after['code_share']:.2f}, {seconds:.0f} s")


# ---------------------------------------------------------------------------------------------------------------------
# Machine, checkpoints


class Clock:
    """Seconds spent per stage: `lap(name)` books the time since the last lap."""

    def __init__(self):
        self.last, self.booked = time.perf_counter(), {}

    def lap(self, name: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.booked[name] = self.booked.get(name, 0.0) + now - self.last
        self.last = now

    def laps(self) -> dict:
        booked, self.booked = self.booked, {}
        return booked


def start(config) -> torch.device:
    """Set threads and choose the device; `config` is a PretrainConfig, a TrainConfig or parsed arguments."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def same_flags(config, saved: dict | None, now: dict) -> bool:
    """Whether a checkpoint was made with the flags `now`; one that did not exist yet when it was made counts as its default."""
    return saved is not None and now == {f.name: saved.get(f.name, f.default) for f in fields(config) if f.name in now}


def save_checkpoint(path: Path, model: Transformer, **extra) -> None:
    content = io.BytesIO()
    torch.save({"model": asdict(model.config), "weights": model.state_dict(), **extra}, content)
    write(path, content.getvalue())


def load(path: Path, device: torch.device) -> tuple[Transformer, dict]:
    """The model of a checkpoint and all that was saved with it. Raises InputError for a file that is not one of ours, whole."""
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
        config, weights = ModelConfig(**checkpoint["model"]), checkpoint["weights"]
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror}") from None
    except Exception:  # torch.load raises many kinds for a truncated or foreign file
        raise InputError(f"{path} is not a checkpoint of this project, or it is truncated") from None
    if config.vocabulary_size != VOCABULARY_SIZE:
        raise InputError(f"{path} has {config.vocabulary_size} tokens, this vocabulary {VOCABULARY_SIZE}: pretrain it again")
    model = Transformer(config).to(device)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError):
        raise InputError(f"{path}: the weights do not have the shapes of its configuration {asdict(config)}") from None
    return model, checkpoint


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Flags that `evaluate` and `sample` share."""
    parser.add_argument("checkpoint", help="a .pt file written by pretrain or train")
    parser.add_argument("--temperature", type=number(float, least=0), default=1.0, help="0 is greedy (default 1)")
    parser.add_argument("--top-k", type=number(int, least=1), help="sample among the k most likely tokens")
    parser.add_argument("--top-p", type=number(float, above=0, most=1), help="sample from the most likely tokens of this mass")
    parser.add_argument("--max-new-tokens", type=number(int, least=1), default=40, help="longest response (default 40)")
    parser.add_argument("--seed", type=number(int, least=0), default=0,
                        help="seed of the samples, and in evaluate of the problems (default 0)")
    add_machine_options(parser)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=number(int, least=1), help="CPU threads (default: all cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one")


def evaluate_command(args: argparse.Namespace) -> None:
    if max(args.k) > args.samples:
        raise InputError(f"pass@{max(args.k)} needs at least {max(args.k)} samples a problem: --samples {args.samples} is too few")
    problems = evaluation_problems(args.problems, args.split, tuple(args.num_ops), args.seed)
    device = start(args)
    model, _ = load(Path(args.checkpoint), device)
    result = evaluate(model, problems, args.samples, sorted(set(args.k)), (EVALUATION, args.seed),
                      args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    print(to_json(result), end="")


def sample_command(args: argparse.Namespace) -> None:
    problem = parse(args.prompt)
    device = start(args)
    model, _ = load(Path(args.checkpoint), device)
    rollouts = sample(model, [encode_prompt(render(problem))], args.n, END, args.max_new_tokens,
                      args.temperature, args.top_k, args.top_p, torch_rng(args.seed, SAMPLES))
    for i, response in enumerate(texts(rollouts)):
        verdict = "correct" if reward_functions.is_correct(problem, response) else f"wrong, the answer is {answer(problem)}"
        print(f"--- {i + 1}: {verdict}, log-probability {rollouts.logprobs[i].sum():.2f}\n{response}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="rlvr.py", description="RL with verifiable rewards, from scratch: see README.md", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="pretrain|train|evaluate|sample|plot|probe")
    add_options(commands.add_parser("pretrain", allow_abbrev=False, help="make a base"), PretrainConfig)
    trainer = commands.add_parser("train", allow_abbrev=False, help="RL on a base")
    add_options(trainer, TrainConfig)
    trainer.add_argument("--eps", type=number(float, least=0), metavar="FLOAT", help="both clips at once")
    evaluator = commands.add_parser("evaluate", allow_abbrev=False, help="accuracy, modes and pass@k of a checkpoint, as JSON")
    add_checkpoint_options(evaluator)
    evaluator.add_argument("--samples", type=number(int, least=1), default=64, help="samples a problem (default 64)")
    evaluator.add_argument("--k", type=number(int, least=1), nargs="+", default=[1], help="pass@k for these k (default 1)")
    evaluator.add_argument("--problems", type=number(int, least=1), default=400, help="how many problems (default 400)")
    evaluator.add_argument("--num-ops", type=number(int), nargs="+", choices=EASY + HARD, default=EASY,
                           help="numbers of operations (default 1 2 3 4 5)")
    evaluator.add_argument("--split", choices=SPLITS, default="evaluation", help="which problems (default evaluation)")
    sampler = commands.add_parser("sample", allow_abbrev=False, help="print responses to a problem")
    add_checkpoint_options(sampler)
    sampler.add_argument("prompt", help="a problem such as '37 *4 +5 -2'")
    sampler.add_argument("-n", type=number(int, least=1), default=1, help="how many (default 1)")
    plotter = commands.add_parser("plot", allow_abbrev=False, help="table and figure of finished runs")
    plotter.add_argument("folders", nargs="+", metavar="DIR", help="folders written by train")
    plotter.add_argument("--out", default="runs", help="where to write results.csv, results.json and figure.png (default runs)")
    prober = commands.add_parser("probe", allow_abbrev=False, help="is a skill latent in a checkpoint? random rewards tell")
    prober.add_argument("checkpoint", help="a base's name, or a .pt file written by pretrain or train")
    prober.add_argument("--seeds", type=number(int, least=3, most=10), default=5, help="RL runs with a random reward (default 5)")
    prober.add_argument("--seed", type=number(int, least=0), default=1, help="seed of the first (default 1)")
    prober.add_argument("--out", help="folder of the runs and probe.json (default: the checkpoint's name without .pt, and -probe)")
    add_machine_options(prober)
    args = vars(parser.parse_args(arguments))
    command = args.pop("command")
    try:
        if command == "pretrain":
            pretrain(PretrainConfig(**args))
        elif command == "train":
            if (eps := args.pop("eps")) is not None:
                args["eps_low"] = args["eps_high"] = eps
            args["num_ops"] = tuple(args["num_ops"]) if args["num_ops"] else None
            args["eval_num_ops"] = tuple(args["eval_num_ops"])
            train(TrainConfig(**args), shlex.join(["python", "rlvr.py", *(sys.argv[1:] if arguments is None else arguments)]))
        elif command == "plot":
            plot(**args, flags_of=flags_of)
        elif command == "probe":
            from lessons.probe import probe  # here and not above, because it imports this file
            probe(**args)
        else:
            {"evaluate": evaluate_command, "sample": sample_command}[command](argparse.Namespace(**args))
    except InputError as error:
        print(f"rlvr.py: error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"rlvr.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was done is saved, the same command resumes", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
