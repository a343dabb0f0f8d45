"""RL with verifiable rewards, from scratch: pretrain a base, train it on a reward, see what changed.

    python rlvr.py pretrain --base good-code            # a small transformer on clock arithmetic
    python rlvr.py train --base good-code --reward random --out runs/random       # GRPO on it
    python rlvr.py evaluate runs/random/model.pt
    python rlvr.py sample runs/random/model.pt "37 *4 +5 -2"

Read from top to bottom: options, answers of a model, one rollout batch, the updates on it,
evaluation, the run, the command line. Advantages and losses are in losses.py, rewards in
rewards.py, the model and its sampler in model.py.

Shapes: P prompts in a rollout batch, G rollouts of each, N = P * G rows, T response tokens,
C width of the model, V vocabulary; R response tokens of a micro-batch, all rows after one another.
"""

import argparse
import math
import shlex
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.corpus import CORPORA, is_code
from data.plumbing import (
    EVALUATION,
    LABELS,
    ORDER,
    POOL,
    REWARD,
    SAMPLES,
    SHUFFLE,
    InputError,
    Parser,
    add_options,
    check_writable,
    extend_config,
    number,
    numpy_rng,
    option,
    progress_bar,
    refuse_unread,
    run_command,
    same_flags,
    stop_signals,
    to_csv,
    to_json,
    torch_rng,
    write,
)
from data.pretrain import PretrainConfig, pretrain
from data.task import (
    EASY,
    HARD,
    SPLITS,
    Problem,
    draw_problems,
    parse_problem,
    render_problem,
    solve,
)
from data.tokenizer import END, decode, encode, encode_prompt
from losses import LOSSES, Batch, kl_k3, value_loss
from model import (
    Rollouts,
    Transformer,
    choose_device,
    entropy,
    load_checkpoint,
    locate_base,
    response_hidden,
    sample_responses,
    sampling_logprobs,
    save_checkpoint,
)
from rewards import REWARDS, Context, build_reward, find_majority, is_correct, parse_box, split_name

# --------------------------------------------------------------------------------------------------
# Options: every one is a flag, and its default is the recommended value.


@dataclass
class TrainConfig:
    base: str = option("good-code", "a base's name (runs/bases/NAME.pt) or a checkpoint's path")
    reward: str = option("random", f"{', '.join(REWARDS)}; A+B: both pay; not_A")
    loss: str = option("grpo", "advantage and policy loss (losses.py)", choices=LOSSES)
    seed: int = option(1, "seed of prompts, samples and random rewards", least=0)
    steps: int = option(20, "rollout batches", least=1)
    out: str = option("runs/train", "folder to write; the same command again resumes there")
    # the rollouts: 64 x 16 as in 2506.10947
    prompts: int = option(64, "prompts per rollout batch", least=1)
    group: int = option(16, "rollouts per prompt; the advantage compares them", least=2)
    temperature: float = option(1.0, "of sampling; the loss scores under it too", above=0)
    max_new_tokens: int = option(40, "longest response; a right one has at most 35", least=1)
    # 1 is one-shot RLVR (2504.20571)
    pool: int = option(256, "training prompts to draw from, in epochs", least=1)
    # default 1 2 3 4 5; 6 7 for incorrect, which needs prompts that the base gets wrong
    num_ops: tuple[int, ...] | None = option(None, "numbers of operations k of the training prompts",
                                             many=True, choices=EASY + HARD)
    # the update: SGD, since AdamW gives the noise of a random reward the step size of a signal;
    # the first update of a batch is on-policy, only later ones can clip
    updates: int = option(32, "updates per rollout batch", least=1)
    optimizer: str = option("sgd", "sgd (no momentum) or adamw", choices=("sgd", "adamw"))
    # reinforce, nsr and w_reinforce need a tenth where many prompts are beyond the model
    lr: float = option(0.015, "step size", above=0)
    max_grad_norm: float = option(3.0, "gradient norm to which an update is scaled down", above=0)
    # what the sum over tokens is divided by: the number of sequences; or each sequence by its length
    # first (GRPO's eq. 3, biased towards short right and long wrong ones); or all tokens (DAPO)
    aggregate: str = option("sequences", "divisor of the loss",
                            choices=("sequences", "length", "tokens"))
    # terms that are off unless asked for
    kl_coef: float = option(0.0, "weight of KL(policy || base) (k3, per token)", least=0)
    entropy_coef: float = option(0.0, "weight of the entropy bonus (per token)", least=0)
    # the evaluation, before and after
    eval_problems: int = option(400, "evaluation problems, the same in every run", least=1)
    eval_samples: int = option(8, "samples of each at T = 1; pass@k for powers of 2 up to it", least=1)
    eval_split: str = option("evaluation", "no training prompt is in evaluation or probe",
                             choices=SPLITS)
    eval_num_ops: tuple[int, ...] = option(EASY, "numbers of operations k of these problems",
                                           many=True, choices=EASY + HARD)
    # the machine; the size of a forward pass changes speed and memory, not the gradient
    micro_batch: int = option(16, "sequences per forward pass", least=1)
    threads: int | None = option(None, "CPU threads (default: all cores)", least=1)
    device: str = option("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))


TrainConfig = extend_config(TrainConfig, LOSSES, REWARDS)  # and the flags that single entries read


def default_num_ops(reward: str) -> tuple[int, ...]:
    """Numbers of operations of the training prompts if no flag says so."""
    return HARD if "wrong_labels" in build_reward(reward).needs else EASY


LABEL_SAMPLES = 64   # rollouts of the base whose majority is a frozen label (2506.10947, section 2)
SAMPLED_ROWS = 8192  # rollouts sampled at once outside training; bounds the memory
SCORED_ROWS = 1024   # rollouts in a forward pass without gradient; the same


# --------------------------------------------------------------------------------------------------
# Answers of a model


class Sampling(NamedTuple):
    """How an evaluation samples; the default is the model's own distribution."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    max_new_tokens: int = 40


class Answers(NamedTuple):
    """n responses to each of P problems."""

    problems: list[Problem]    # (P)
    texts: list[str]           # (P * n)
    rollouts: list[Rollouts]   # chunks, some problems each
    correct: np.ndarray        # (P, n) bool
    code: np.ndarray           # (P, n) bool


def decode_rollouts(rollouts: Rollouts) -> list[str]:
    """The N responses as text, for the rewards; training keeps the ids."""
    lengths = rollouts.mask.sum(1).tolist()
    return [decode(ids[:length]) for ids, length in zip(rollouts.ids.tolist(), lengths)]


def answer_problems(model: Transformer, problems: list[Problem], n: int, key: tuple[int, ...],
                    sampling: Sampling = Sampling(), prefix: str = "") -> Answers:
    """n responses to each problem, all made to begin with `prefix`; key: (purpose, seed) of the stream."""
    chunk = max(1, SAMPLED_ROWS // n)
    texts, chunks = [], []
    for i in progress_bar(iterable=range(0, len(problems), chunk), desc="sampling", leave=False, delay=2):
        prompts = [encode_prompt(render_problem(problem)) + encode(prefix)
                   for problem in problems[i:i + chunk]]
        rollouts = sample_responses(model, prompts, n, END, generator=torch_rng(*key, i),
                                    **sampling._asdict())
        texts += [prefix + text for text in decode_rollouts(rollouts)]
        chunks.append(rollouts)
    correct = [is_correct(problems[i // n], text) for i, text in enumerate(texts)]
    code = [is_code(text) for text in texts]
    shape = len(problems), n
    return Answers(problems, texts, chunks, np.reshape(correct, shape), np.reshape(code, shape))


def label_problems(model: Transformer, problems: list[Problem], config: TrainConfig) -> list[str | None]:
    """The model's majority answer to each problem over LABEL_SAMPLES samples at temperature 1."""
    answers = answer_problems(model, problems, LABEL_SAMPLES, (LABELS, config.seed),
                              Sampling(max_new_tokens=config.max_new_tokens))
    return [find_majority(answers.texts[i:i + LABEL_SAMPLES])
            for i in range(0, len(answers.texts), LABEL_SAMPLES)]


# --------------------------------------------------------------------------------------------------
# One rollout batch


def make_pool(config: TrainConfig, model: Transformer) -> list[tuple[Problem, str | None]]:
    """The training prompts with their frozen labels (None where the reward needs none)."""
    problems = draw_problems(config.pool, "training", config.num_ops, numpy_rng(POOL, config.seed))
    needs = build_reward(config.reward).needs
    if "labels" not in needs:
        return [(problem, None) for problem in problems]
    pool = list(zip(problems, label_problems(model, problems, config)))
    if "wrong_labels" in needs:
        pool = [(problem, label) for problem, label in pool if label not in (None, str(solve(problem)))]
        if not pool:
            raise InputError(f"reward {config.reward}: the base's majority answer is right on all "
                             f"{config.pool} prompts of the pool; take a larger --pool or a harder "
                             "--num-ops")
    return pool


def choose_prompts(config: TrainConfig, pool_size: int, step: int) -> np.ndarray:
    """Pool indices (P,) of one rollout batch: the pool in epochs, each shuffled anew.

    Where the pool is smaller than a batch, a prompt stands in it twice and is two groups.
    """
    positions = np.arange(step * config.prompts, (step + 1) * config.prompts)
    epochs = {epoch: numpy_rng(ORDER, config.seed, epoch).permutation(pool_size)
              for epoch in np.unique(positions // pool_size).tolist()}
    return np.array([epochs[i // pool_size][i % pool_size] for i in positions.tolist()])


@torch.no_grad()
def score_tokens(model: Transformer, prompts: list[list[int]], rollouts: Rollouts,
                 read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """read(hidden (R, C), ids (R,)) -> (R,) on all rollouts, in chunks, as (N, T): 0 on padding."""
    scores = torch.zeros_like(rollouts.logprobs)
    for i in range(0, len(prompts), SCORED_ROWS):
        rows = slice(i, i + SCORED_ROWS)
        ids, mask = rollouts.ids[rows], rollouts.mask[rows]
        scores[rows][mask] = read(response_hidden(model, prompts[rows], ids, mask), ids[mask])
    return scores


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log pi of the sampled tokens, under what they were sampled from: (R, V), (R,) -> (R,)."""
    return sampling_logprobs(logits, temperature).gather(1, ids[:, None])[:, 0]


def score_needs(model: Transformer, config: TrainConfig, rows: list[list[int]], rollouts: Rollouts,
                helpers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """What the loss needs beside the policy, as fields of a Batch, (N, T) each."""
    scores = {}
    for name in loss_needs(config):
        helper = helpers[name]
        if name == "critic":
            scores["values"] = score_tokens(
                model, rows, rollouts, lambda hidden, ids: helper(hidden)[:, 0])
        else:
            scores[f"{name}_logprobs"] = score_tokens(
                helper, rows, rollouts,
                lambda hidden, ids: token_logprobs(helper.head(hidden), ids, config.temperature))
    return scores


def loss_needs(config: TrainConfig) -> list[str]:
    """What a rollout scores beside the policy: what the loss asks for, and the base if there is a KL term."""
    needs = list(LOSSES[config.loss].needs)
    return needs + ["base"] * (config.kl_coef > 0 and "base" not in needs)


def rollout(model: Transformer, config: TrainConfig, pool: list[tuple[Problem, str | None]], step: int,
            helpers: dict[str, nn.Module]) -> tuple[Batch, dict, list[str]]:
    """Sample a group for each prompt, reward it, compute advantages.

    `helpers` has what loss and reward need beside the policy: critic, base, teacher, judge. Returns
    the batch, its metrics, and some samples to read.
    """
    chosen = [pool[i] for i in choose_prompts(config, len(pool), step)]
    prompts = [encode_prompt(render_problem(problem)) for problem, _ in chosen]
    rollouts = sample_responses(model, prompts, config.group, END, config.max_new_tokens,
                                config.temperature, generator=torch_rng(SAMPLES, config.seed, step))
    problems, labels = zip(*(pair for pair in chosen for _ in range(config.group)))       # (N) each
    responses, reward = decode_rollouts(rollouts), build_reward(config.reward)
    context = Context(config.group, list(labels), numpy_rng(REWARD, config.seed, step), config,
                      helpers.get("judge"))
    rewards = torch.tensor(reward.score(list(problems), responses, context), dtype=torch.float64)
    rows = [prompt for prompt in prompts for _ in range(config.group)]
    batch = Batch(rows, rollouts.ids, rollouts.mask, rollouts.logprobs,
                  rewards.reshape(-1, config.group), (reward.low, reward.high),
                  **score_needs(model, config, rows, rollouts, helpers))
    advantages = LOSSES[config.loss].advantages(batch, config).to(rollouts.logprobs)      # (N, T)
    batch = batch._replace(advantages=advantages)
    correct = [is_correct(problem, response) for problem, response in zip(problems, responses)]
    metrics = measure_rollouts(rollouts, responses, correct, batch)
    readable = [f"step {step} reward {rewards[i]:g} correct {int(correct[i])} | "
                f"{render_problem(problems[i])}\n{responses[i]}\n"
                for i in range(0, len(responses), max(1, len(responses) // 4))]
    return batch, metrics, readable


def measure_rollouts(rollouts: Rollouts, responses: list[str], correct: list[bool], batch: Batch) -> dict:
    """The metrics of a rollout batch."""
    tokens = rollouts.mask.sum().item()
    silent = (batch.advantages.reshape(len(batch.rewards), -1) == 0).all(dim=1)           # (P,)
    return {"reward": batch.rewards.mean().item(), "accuracy": np.mean(correct).item(),
            "code_share": np.mean([is_code(response) for response in responses]).item(),
            "format_rate": np.mean([parse_box(response) is not None for response in responses]).item(),
            "entropy": rollouts.entropy.sum().item() / tokens,
            "mean_token_prob": rollouts.logprobs[rollouts.mask].exp().mean().item(),
            "response_length": tokens / len(responses),
            "no_signal": silent.double().mean().item()}


# --------------------------------------------------------------------------------------------------
# The updates on one rollout batch


def row_weights(lengths: Tensor, rows: Tensor, aggregate: str) -> Tensor:
    """What each row's sum over tokens is divided by, (N,); lengths (N,), rows of the minibatch.

    Not by anything of a micro-batch: the gradient does not depend on its size.
    """
    if aggregate == "sequences":
        return torch.full_like(lengths, len(rows))
    if aggregate == "length":
        return len(rows) * lengths
    return lengths[rows].sum().expand_as(lengths)


def minibatch_loss(model: Transformer, batch: Batch, rows: Tensor, divisors: Tensor,
                   config: TrainConfig, critic: nn.Linear | None = None) -> tuple[Tensor, dict]:
    """The loss of some rows (B,) of a batch, each row's tokens summed and divided by its divisor (B,).

    Pure: returns the scalar loss and the sums of its metrics over the R response tokens.
    """
    T = int(batch.mask[rows].sum(1).max())
    ids, mask = batch.ids[rows, :T], batch.mask[rows, :T]                          # (B, T)
    hidden = response_hidden(model, [batch.prompts[row] for row in rows.tolist()], ids, mask)
    logits = model.head(hidden)                                                    # (R, V)
    logprobs = token_logprobs(logits, ids[mask], config.temperature)               # (R,)
    old_logprobs = batch.old_logprobs[rows, :T][mask]                              # (R,)
    advantages = batch.advantages[rows, :T][mask]                                  # (R,)
    loss_entry = LOSSES[config.loss]
    with torch.no_grad():
        ratio = (logprobs - old_logprobs).exp()                                    # (R,)
        # KL(old || new): the samples are old's.
        sums = {"trained": len(ratio), "approx_kl": kl_k3(old_logprobs, logprobs).sum().item()}
        if "eps_low" in loss_entry.options:
            high = (ratio > 1 + config.eps_high) & (advantages > 0)
            low = (ratio < 1 - config.eps_low) & (advantages < 0)
            sums |= {"clip_high": high.sum().item(), "clip_low": low.sum().item()}
    loss = loss_entry.policy_loss(logprobs, old_logprobs, advantages, config)      # (R,)
    if critic is not None:
        # The critic reads the trunk and leaves it alone, so that PPO's policy differs from the
        # others' by its advantage only.
        values, old_values = critic(hidden.detach())[:, 0], batch.values[rows, :T][mask]
        critic_loss = value_loss(values, old_values, advantages + old_values, config.eps_value)
        sums["value_loss"] = critic_loss.sum().item()
        loss = loss + critic_loss
    if config.kl_coef:
        # As in GRPO (eq. 4). An estimate: the samples are the old policy's; and on samples of pi
        # the gradient of k3 is that of KL(base || pi).
        kl = kl_k3(logprobs, batch.base_logprobs[rows, :T][mask])
        sums["kl"] = kl.sum().item()
        loss = loss + config.kl_coef * kl
    if config.entropy_coef:
        loss = loss - config.entropy_coef * entropy(logits / config.temperature)
    return (loss / divisors.to(loss)[:, None].expand_as(mask)[mask]).sum(), sums


def update(model: Transformer, optimizers: list[torch.optim.Optimizer], batch: Batch,
           config: TrainConfig, step: int, critic: nn.Linear | None = None) -> dict:
    """Each row once, in `config.updates` random minibatches, one optimizer step each.

    Returns the metrics over all of them. Raises FloatingPointError if the gradient is no number.
    """
    lengths = batch.mask.sum(1).cpu()
    # A row without advantage has gradient 0: it counts in the divisor but needs no forward pass.
    signal = (batch.advantages != 0).any(1).cpu()
    if config.kl_coef or config.entropy_coef or critic is not None:
        signal = torch.ones_like(signal)
    sums, norms = Counter(), []
    shuffled = numpy_rng(SHUFFLE, config.seed, step).permutation(len(batch.ids))
    for rows in np.array_split(shuffled, config.updates):
        rows = torch.from_numpy(rows)
        divisors = row_weights(lengths, rows, config.aggregate)                    # (N,)
        # Sorted by length, a micro-batch has little padding.
        trained = rows[signal[rows]]
        trained = trained[lengths[trained].argsort(stable=True)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for i in range(0, len(trained), config.micro_batch):
            micro = trained[i:i + config.micro_batch]
            loss, more = minibatch_loss(model, batch, micro, divisors[micro], config, critic)
            loss.backward()
            sums.update(more)
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item())
        if not math.isfinite(norms[-1]):
            raise FloatingPointError(f"the policy diverged in rollout batch {step}: gradient norm "
                                     f"{norms[-1]} (lower --lr)")
        for optimizer in optimizers:
            optimizer.step()
    return average_metrics(sums, norms, int(lengths.sum()))


def average_metrics(sums: Counter, norms: list[float], tokens: int) -> dict:
    """Metrics of all updates: clip fractions of all response tokens, the rest of the trained ones."""
    trained = max(1, sums["trained"])
    metrics = {"clip_high": sums["clip_high"] / tokens, "clip_low": sums["clip_low"] / tokens,
               "approx_kl": sums["approx_kl"] / trained, "grad_norm": float(np.mean(norms))}
    return metrics | {name: sums[name] / trained for name in ("kl", "value_loss") if name in sums}


# --------------------------------------------------------------------------------------------------
# Evaluation


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k (2107.03374, eq. 1) from n samples of which c are right: 1 - C(n-c, k) / C(n, k).

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 2, 2)
    (0.25, 0.8333333333333334)
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, not n={n}, c={c}, k={k}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


@torch.no_grad()
def kl_to_base(model: Transformer, base: Transformer, answers: Answers) -> float:
    """KL(pi || base) of whole responses in nats, on the first response of pi to each problem.

    The mean over responses of the exact KL of each next-token distribution, summed over the tokens:
    unbiased by the chain rule.
    """
    total, done, n = 0.0, 0, answers.correct.shape[1]
    for rollouts in answers.rollouts:
        ids, mask = rollouts.ids[::n], rollouts.mask[::n]
        prompts = [encode_prompt(render_problem(problem))
                   for problem in answers.problems[done:done + len(ids)]]
        logprobs, base_logprobs = (m.head(response_hidden(m, prompts, ids, mask)).log_softmax(-1)
                                   for m in (model, base))                         # (R, V) each
        total += (logprobs.exp() * (logprobs - base_logprobs)).sum().item()
        done += len(ids)
    return total / len(answers.problems)


def draw_evaluation(n: int, split: str, num_ops: tuple[int, ...], seed: int = 0) -> list[Problem]:
    """The problems that an evaluation asks; those of seed 0 are the same in every run and table."""
    return draw_problems(n, split, num_ops, numpy_rng(EVALUATION, seed))


def evaluate(model: Transformer, problems: list[Problem], samples: int, ks: list[int],
             key: tuple[int, ...], sampling: Sampling = Sampling(),
             base: Transformer | None = None) -> dict:
    """Sample each problem `samples` times and once greedily; what cannot be said is None."""
    answers = answer_problems(model, problems, samples, key, sampling)
    greedy = answer_problems(model, problems, 1, key, Sampling(0.0, max_new_tokens=sampling.max_new_tokens))
    correct, code = answers.correct, answers.code
    boxes = [parse_box(text) for text in answers.texts]
    groups = [set(boxes[i:i + samples]) - {None} for i in range(0, len(boxes), samples)]
    tokens = sum(rollouts.mask.sum().item() for rollouts in answers.rollouts)
    entropies = sum(rollouts.entropy.sum().item() for rollouts in answers.rollouts)
    probabilities = sum(r.logprobs[r.mask].exp().sum().item() for r in answers.rollouts)
    right = correct.sum(axis=1).tolist()                                           # (P)
    return {
        "accuracy": correct.mean().item(),
        "greedy_accuracy": greedy.correct.mean().item(),
        "code_share": code.mean().item(),
        "accuracy_code": correct[code].mean().item() if code.any() else None,
        "accuracy_text": correct[~code].mean().item() if not code.all() else None,
        "format_rate": np.mean([box is not None for box in boxes]).item(),
        "entropy": entropies / tokens,
        "mean_token_prob": probabilities / tokens,
        "kl_to_base": kl_to_base(model, base, answers) if base is not None else None,
        "distinct_answers": np.mean([len(group) for group in groups]).item(),
        "pass_at_k": {str(k): np.mean([pass_at_k(samples, c, k) for c in right]).item() for k in ks},
        "n_problems": len(problems),
        "n_samples": samples,
    }


def gain(before: dict, after: dict) -> dict:
    """The change of accuracy, split into moving between the modes and getting better inside them.

    accuracy = s a_code + (1 - s) a_text with s the share of code. With bars for the mean of before
    and after, switch = ds (bar a_code - bar a_text), within = bar s da_code + (1 - bar s) da_text;
    they add up to the total exactly. A mode that occurs on one side only is taken to be as accurate
    there as on the other.
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


# --------------------------------------------------------------------------------------------------
# The run


METRICS = ("reward", "accuracy", "code_share", "format_rate", "entropy", "mean_token_prob",
           "response_length", "no_signal", "clip_high", "clip_low", "approx_kl", "grad_norm",
           "kl", "value_loss")  # the last two only where the loss has them


class Clock:
    """Seconds spent per stage: `lap(name)` books the time since the last lap."""

    def __init__(self):
        self.last, self.booked = time.perf_counter(), Counter()

    def lap(self, name: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.booked[name] += now - self.last
        self.last = now


@dataclass
class Run:
    """A run in progress: `state` is what model.pt keeps beside the weights, so that it can resume."""

    config: TrainConfig
    model: Transformer
    helpers: dict[str, nn.Module]          # base, and what loss and reward need: critic, teacher, judge
    optimizers: list[torch.optim.Optimizer]
    pool: list[tuple[Problem, str | None]]
    state: dict
    clock: Clock = field(default_factory=Clock)

    @property
    def stateful(self) -> list:
        critic = self.helpers.get("critic")
        return self.optimizers + ([critic] if critic is not None else [])


def train(config: TrainConfig, command: str = "") -> None:
    """RL on a base, into config.out, or on from what is there.

    Writes config.json, metrics.csv, samples.txt and model.pt after every rollout batch, and
    summary.json at the end.
    """
    run = open_run(config, command)
    if run is None:
        return print(f"{config.out} is finished already")
    first = run.state["step"]
    bar = progress_bar(total=config.steps, initial=first, desc=f"{config.base} {config.reward}")
    with stop_signals() as stopped, bar:
        for step in range(first, config.steps):
            batch, metrics, readable = rollout(run.model, config, run.pool, step, run.helpers)
            run.clock.lap("rollout")
            metrics |= update(run.model, run.optimizers, batch, config, step, run.helpers.get("critic"))
            run.clock.lap("update")
            save_step(run, step, metrics, readable)
            shown = ("reward", "accuracy", "code_share")
            bar.set_postfix({name: f"{metrics[name]:.3f}" for name in shown}, refresh=False)
            bar.update()
            if stopped:
                raise KeyboardInterrupt
    finish_run(run)


def check_config(config: TrainConfig) -> None:
    """Raise InputError for flags that cannot be together."""
    if config.updates > config.prompts * config.group:
        raise InputError(f"--updates {config.updates} is more than the "
                         f"{config.prompts * config.group} rollouts of a batch")
    refuse_unread(config, "loss", LOSSES, [config.loss])
    refuse_unread(config, "reward", REWARDS, [term for term, _ in split_name(config.reward)])


def open_run(config: TrainConfig, command: str) -> Run | None:
    """Everything that stands before the first batch, new or resumed; None if the run is finished."""
    check_config(config)
    config.num_ops = config.num_ops or default_num_ops(config.reward)
    device, out = choose_device(config), Path(config.out)
    check_writable(out)
    saved = load_state(config, out, device)
    if saved is not None and saved[1]["step"] == config.steps and (out / "summary.json").exists():
        return None
    base, _ = load_checkpoint(locate_base(config.base), device)
    model = saved[0] if saved is not None else load_checkpoint(locate_base(config.base), device)[0]
    helpers = load_helpers(config, base, device)
    run = Run(config, model, helpers, make_optimizers(config, model, helpers), [], {})
    if saved is not None:
        run.state = saved[1]
    else:
        draw_evaluation(config.eval_problems, config.eval_split, config.eval_num_ops)  # may refuse
        run.pool = make_pool(config, model)
        run.clock.lap("rollout")
        run.state = {"config": resumable_flags(config), "step": 0, "rows": [], "samples": [],
                     "before": evaluate_run(run), "stateful": [],
                     "pool": [(render_problem(problem), label) for problem, label in run.pool],
                     "seconds": {"rollout": 0.0, "update": 0.0, "evaluate": 0.0}}
        run.clock.lap("evaluate")
    run.pool = [(parse_problem(problem), label) for problem, label in run.state["pool"]]
    for thing, state in zip(run.stateful, run.state["stateful"]):
        thing.load_state_dict(state)
    used = {**asdict(config), "device": str(device), "lr": run.optimizers[0].param_groups[0]["lr"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "torch": torch.__version__, "command": command}
    write(out / "config.json", to_json(used))
    if run.state["step"] < config.steps:
        (out / "summary.json").unlink(missing_ok=True)  # it is of a shorter run
    return run


def resumable_flags(config: TrainConfig) -> dict:
    """The flags that make a run what it is; the same run may be longer, or elsewhere."""
    return {k: v for k, v in asdict(config).items() if k not in ("out", "steps")}


def load_state(config: TrainConfig, out: Path, device: torch.device) -> tuple[Transformer, dict] | None:
    """Model and state of a run that is there to be resumed; None if there is none.

    Raises InputError if it is another one, or a longer one.
    """
    if not (out / "model.pt").exists():
        return None
    model, checkpoint = load_checkpoint(out / "model.pt", device)
    state = checkpoint.get("train")
    if state is None or not same_flags(config, state["config"], resumable_flags(config)):
        raise InputError(f"{out} holds a run with other flags: choose another --out or delete it")
    if state["step"] > config.steps:
        raise InputError(f"{out} has {state['step']} rollout batches already, more than --steps "
                         f"{config.steps}")
    return model, state


def load_helpers(config: TrainConfig, base: Transformer, device: torch.device) -> dict[str, nn.Module]:
    """The base, and whatever else loss and reward need.

    A critic is a linear value head that starts at 0. Teacher and judge are frozen checkpoints, whose
    path is the flag of that name: the entry that needs one has it among its options.
    """
    helpers = {"base": base}
    for need in {*loss_needs(config), *build_reward(config.reward).needs} & {"teacher", "judge"}:
        helpers[need], _ = load_checkpoint(Path(getattr(config, need)), device)
    if "critic" in loss_needs(config):
        helpers["critic"] = nn.Linear(base.config.width, 1, device=device)
        nn.init.zeros_(helpers["critic"].weight)
        nn.init.zeros_(helpers["critic"].bias)
    return helpers


def make_optimizers(config: TrainConfig, model: Transformer,
                    helpers: dict[str, nn.Module]) -> list[torch.optim.Optimizer]:
    """The policy's, and the critic's if there is one."""
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    optimizers = [kind(model.parameters(), lr=config.lr)]
    if "critic" in helpers:
        optimizers.append(torch.optim.AdamW(helpers["critic"].parameters(), lr=config.lr_value,
                                            weight_decay=0.0))
    return optimizers


def evaluate_run(run: Run) -> dict:
    """The evaluation of a run's model as it is now: the same problems and random numbers each time."""
    config = run.config
    problems = draw_evaluation(config.eval_problems, config.eval_split, config.eval_num_ops)
    ks = [2 ** i for i in range(config.eval_samples.bit_length())]
    return evaluate(run.model, problems, config.eval_samples, ks, (EVALUATION,),
                    Sampling(max_new_tokens=config.max_new_tokens), run.helpers["base"])


def save_run(run: Run) -> None:
    """Write all that a resume needs, and the tables; model.pt first, the others can be made again."""
    for name, seconds in run.clock.booked.items():
        run.state["seconds"][name] += seconds
    run.clock.booked.clear()
    run.state["stateful"] = [thing.state_dict() for thing in run.stateful]
    out = Path(run.config.out)
    save_checkpoint(out / "model.pt", run.model, base=run.config.base, train=run.state)
    write(out / "metrics.csv", to_csv(run.state["rows"]))
    write(out / "samples.txt", "\n".join(run.state["samples"]))


def save_step(run: Run, step: int, metrics: dict, readable: list[str]) -> None:
    """Book one rollout batch and save the run."""
    row = {name: metrics[name] for name in METRICS if name in metrics}
    run.state["rows"].append({"step": step, **row})
    run.state["samples"] += readable if step % 5 == 0 else []
    run.state["step"] = step + 1
    save_run(run)


def finish_run(run: Run) -> None:
    """Evaluate and write summary.json."""
    config, state = run.config, run.state
    run.clock.lap("update")
    after = evaluate_run(run)
    run.clock.lap("evaluate")
    save_run(run)
    before, seconds = state["before"], state["seconds"]
    clip = {side: float(np.mean([row[f"clip_{side}"] for row in state["rows"]]))
            for side in ("high", "low")}
    summary = {"base": config.base, "reward": config.reward, "loss": config.loss, "seed": config.seed,
               "steps": config.steps, "before": before, "after": after, "gain": gain(before, after),
               "clip": clip, "seconds": {"total": sum(seconds.values()), **seconds}}
    write(Path(config.out) / "summary.json", to_json(summary))
    print(f"{config.base}, reward {config.reward}, loss {config.loss}, seed {config.seed}: "
          f"accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}, code share "
          f"{before['code_share']:.2f} -> {after['code_share']:.2f}, {sum(seconds.values()):.0f} s")


# --------------------------------------------------------------------------------------------------
# Command line


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Flags that `evaluate` and `sample` share."""
    parser.add_argument("checkpoint", help="a .pt file written by pretrain or train")
    parser.add_argument("--temperature", type=number(float, least=0), default=1.0,
                        help="0 is greedy (default 1)")
    parser.add_argument("--top-k", type=number(int, least=1), help="sample among the k most likely tokens")
    parser.add_argument("--top-p", type=number(float, above=0, most=1),
                        help="sample from the most likely tokens of this mass")
    parser.add_argument("--max-new-tokens", type=number(int, least=1), default=40,
                        help="longest response (default 40)")
    parser.add_argument("--seed", type=number(int, least=0), default=0,
                        help="of the samples, and of evaluate's problems (default 0)")
    parser.add_argument("--threads", type=number(int, least=1), help="CPU threads (default: all cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="auto takes a GPU if there is one")


def read_sampling(args: argparse.Namespace) -> Sampling:
    return Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)


def pretrain_command(args: argparse.Namespace, command: str) -> None:
    pretrain(PretrainConfig(**vars(args)))


def train_command(args: argparse.Namespace, command: str) -> None:
    flags = vars(args)
    if (eps := flags.pop("eps")) is not None:
        flags["eps_low"] = flags["eps_high"] = eps
    flags["num_ops"] = tuple(flags["num_ops"]) if flags["num_ops"] else None
    flags["eval_num_ops"] = tuple(flags["eval_num_ops"])
    train(TrainConfig(**flags), command)


def evaluate_command(args: argparse.Namespace, command: str) -> None:
    if max(args.k) > args.samples:
        raise InputError(f"pass@{max(args.k)} needs at least {max(args.k)} samples a problem: "
                         f"--samples {args.samples} is too few")
    problems = draw_evaluation(args.problems, args.split, tuple(args.num_ops), args.seed)
    model, _ = load_checkpoint(Path(args.checkpoint), choose_device(args))
    result = evaluate(model, problems, args.samples, sorted(set(args.k)), (EVALUATION, args.seed),
                      read_sampling(args))
    print(to_json(result), end="")


def sample_command(args: argparse.Namespace, command: str) -> None:
    problem = parse_problem(args.prompt)
    model, _ = load_checkpoint(Path(args.checkpoint), choose_device(args))
    prompt = encode_prompt(render_problem(problem))
    rollouts = sample_responses(model, [prompt], args.n, END, generator=torch_rng(SAMPLES, args.seed),
                                **read_sampling(args)._asdict())
    for i, response in enumerate(decode_rollouts(rollouts)):
        right = is_correct(problem, response)
        verdict = "correct" if right else f"wrong, the answer is {solve(problem)}"
        print(f"--- {i + 1}: {verdict}, log-probability {rollouts.logprobs[i].sum():.2f}\n{response}")


def build_parser() -> Parser:
    parser = Parser(prog="rlvr.py", description="RL with verifiable rewards, from scratch: see README.md",
                    allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser,
                                     metavar="pretrain|train|evaluate|sample")

    def add_command(run: Callable, name: str, help: str) -> Parser:
        command = commands.add_parser(name, allow_abbrev=False, help=help)
        command.set_defaults(run=run)
        return command

    add_options(add_command(pretrain_command, "pretrain", "make a base"), PretrainConfig)
    trainer = add_command(train_command, "train", "RL on a base")
    add_options(trainer, TrainConfig)
    trainer.add_argument("--eps", type=number(float, least=0), metavar="FLOAT", help="both clips at once")
    evaluator = add_command(evaluate_command, "evaluate",
                            "accuracy, modes and pass@k of a checkpoint, as JSON")
    add_checkpoint_options(evaluator)
    evaluator.add_argument("--samples", type=number(int, least=1), default=64,
                           help="samples a problem (default 64)")
    evaluator.add_argument("--k", type=number(int, least=1), nargs="+", default=[1],
                           help="pass@k for these k (default 1)")
    evaluator.add_argument("--problems", type=number(int, least=1), default=400,
                           help="how many problems (default 400)")
    evaluator.add_argument("--num-ops", type=number(int), nargs="+", choices=EASY + HARD, default=EASY,
                           help="numbers of operations (default 1 2 3 4 5)")
    evaluator.add_argument("--split", choices=SPLITS, default="evaluation",
                           help="which problems (default evaluation)")
    sampler = add_command(sample_command, "sample", "print responses to a problem")
    add_checkpoint_options(sampler)
    sampler.add_argument("prompt", help="a problem such as '37 *4 +5 -2'")
    sampler.add_argument("-n", type=number(int, least=1), default=1, help="how many (default 1)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    run, _ = args.__dict__.pop("run"), args.__dict__.pop("command")
    command = shlex.join(["python", "rlvr.py", *(sys.argv[1:] if arguments is None else arguments)])
    return run_command("rlvr.py", lambda: run(args, command))


if __name__ == "__main__":
    sys.exit(main())
