"""RL with verifiable rewards, from scratch: pretrain a base, train it on a reward, measure what changed.

    python rlvr.py pretrain --base good-code                                  # a small transformer on clock arithmetic
    python rlvr.py train --base good-code --reward random --out runs/random   # GRPO on it
    python rlvr.py evaluate runs/random/model.pt
    python rlvr.py sample runs/random/model.pt "37 *4 +5 -2"
    python rlvr.py plot runs/random                                           # table and figure

Read from top to bottom: options, loss, one rollout batch, one update, evaluation, the two training loops, files, plots,
command line. Shapes: P prompts in a rollout batch, G rollouts of each, N = P * G rows, T response tokens, V vocabulary;
R is the number of response tokens of a micro-batch, all rows after one another.
"""

import argparse
import csv
import io
import json
import math
import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import rewards as reward_functions
from data.corpus import BASES, CODE_PRIOR, documents, is_code
from data.task import EASY, HARD, SPLITS, InputError, Problem, answer, draw, parse, render
from data.tokenizer import END, PAD, VOCABULARY_SIZE, decode, encode, encode_prompt
from model import ModelConfig, Rollouts, Transformer, response_logits, sample, sampling_logprobs

# ---------------------------------------------------------------------------------------------------------------------
# Options: every one is a command-line flag, and its default is the recommended value.


def option(default, help: str, **checks):
    """A dataclass field that becomes a flag. checks: `least`, `above`, `most` bound a number; `choices`; `many` for a list."""
    return field(default=default, metadata={"help": help, **checks})


@dataclass
class PretrainConfig:
    base: str = option("good-code", "which corpus (data/corpus.py)", choices=BASES)
    code_prior: float | None = option(None, f"share of code in the corpus (default {CODE_PRIOR}); no-code has none", least=0, most=1)
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
    loss: str = option("grpo", "which loss", choices=("grpo",))
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
    lr: float = option(0.015, "step size", above=0)
    eps_low: float = option(0.4, "lower clip: ratios below 1 - eps_low get no gradient where the advantage is negative", least=0)
    eps_high: float = option(0.4, "upper clip: ratios above 1 + eps_high get none where it is positive; 1e9 turns a clip off", least=0)
    max_grad_norm: float = option(3.0, "gradient norm above which an update is scaled down", above=0)
    # the evaluation, before and after
    eval_problems: int = option(400, "evaluation problems, k = 1..5, the same in every run", least=1)
    eval_samples: int = option(8, "samples of each at temperature 1", least=1)
    # the machine
    micro_batch: int = option(16, "sequences per forward pass; changes speed and memory, not the gradient", least=1)
    threads: int | None = option(None, "CPU threads (default: all cores)", least=1)
    device: str = option("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))


LABEL_SAMPLES = 64  # rollouts of the base whose majority becomes a frozen label (2506.10947, section 2)
BASE_FOLDER = Path("runs/bases")
ROWS = 1024         # rollouts sampled at once outside training; bounds the memory

# Every random number comes from a generator made of (seed, purpose, step). So no generator's state has to be saved for a
# resumed run to be the same, and two rewards with one seed see the same prompts.
WEIGHTS, CORPUS, POOL, ORDER, SAMPLES, REWARD, SHUFFLE, LABELS, EVALUATION = range(9)


def numpy_rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def torch_rng(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


# ---------------------------------------------------------------------------------------------------------------------
# Advantage and loss


def group_advantages(rewards: Tensor) -> Tensor:
    """GRPO's advantage (2402.03300, section 4.1.2): (r - mean) / (std + 1e-9) within each group, population std.

    rewards (P, G), row i being the group of prompt i of the batch -> (P, G). Exactly 0 in a group of equal rewards.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    centred = centred.masked_fill((rewards == rewards[:, :1]).all(dim=1, keepdim=True), 0.0)  # the mean of equals may round
    return centred / (rewards.std(dim=1, correction=0, keepdim=True) + 1e-9)


def grpo_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, eps_low: float, eps_high: float) -> Tensor:
    """The clipped surrogate of PPO (1707.06347, eq. 7) and GRPO (2402.03300, eq. 3), per token: all (R,) -> (R,).

    Two deviations from GRPO's eq. 3. There is no KL term (as in 2506.10947). And the caller divides the sum over tokens by
    the number of sequences, not each sequence by its length first, which would favour short wrong responses (Dr. GRPO, 2503.20783).
    """
    ratio = (logprobs - old_logprobs).exp()
    # min, for negative advantages too: the bound is pessimistic, it only ever removes a reason to move further.
    return -torch.min(ratio * advantages, ratio.clamp(1 - eps_low, 1 + eps_high) * advantages)


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
    advantages: Tensor        # (N,) one number for all tokens of a row


def texts(rollouts: Rollouts) -> list[str]:
    """The N responses as text, for the rewards; training keeps the ids."""
    return [decode(ids[:length]) for ids, length in zip(rollouts.ids.tolist(), rollouts.mask.sum(1).tolist())]


def respond(model: Transformer, problems: list[Problem], n: int, key: tuple[int, ...],
            **sampling) -> list[tuple[list[str], Rollouts]]:
    """n responses to each problem, in chunks of at most ROWS rows: per chunk the texts and the rollouts."""
    chunk = max(1, ROWS // n)
    result = []
    for i in tqdm(range(0, len(problems), chunk), desc="sampling", leave=False, disable=None, delay=2):
        rollouts = sample(model, [encode_prompt(render(problem)) for problem in problems[i:i + chunk]], n, END,
                          generator=torch_rng(*key, i), **sampling)
        result.append((texts(rollouts), rollouts))
    return result


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
                if label is not None and not reward_functions.is_correct(problem, f"\\boxed{{{label}}}")]
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


def rollout(model: Transformer, config: TrainConfig, pool: list[tuple[Problem, str | None]],
            step: int) -> tuple[Batch, dict, list[str]]:
    """Sample a group for each prompt, reward it, compute advantages: the batch, its metrics, some samples to read."""
    chosen = [pool[i] for i in order(config, len(pool), step)]
    prompts = [encode_prompt(render(problem)) for problem, _ in chosen]
    rollouts = sample(model, prompts, config.group, END, config.max_new_tokens, config.temperature,
                      generator=torch_rng(config.seed, SAMPLES, step))
    responses, G = texts(rollouts), config.group
    reward, rng = reward_functions.get(config.reward), numpy_rng(config.seed, REWARD, step)
    rewards = torch.tensor([reward(problem, responses[i * G:(i + 1) * G], reward_functions.Context(label, rng, config.p))
                            for i, (problem, label) in enumerate(chosen)], dtype=torch.float64)   # (P, G)
    advantages = group_advantages(rewards)                                                         # (P, G)

    mask, tokens = rollouts.mask, rollouts.mask.sum().item()
    correct = [reward_functions.is_correct(chosen[i // G][0], response) for i, response in enumerate(responses)]
    metrics = {"reward": rewards.mean().item(), "accuracy": np.mean(correct).item(),
               "code_share": np.mean([is_code(response) for response in responses]).item(),
               "format_rate": np.mean([reward_functions.boxed(response) is not None for response in responses]).item(),
               "entropy": rollouts.entropy.sum().item() / tokens,
               "mean_token_prob": rollouts.logprobs[mask].exp().mean().item(),
               "response_length": tokens / len(responses),
               "no_signal": (advantages == 0).all(dim=1).double().mean().item()}
    readable = [f"step {step} reward {rewards[i // G, i % G]:g} correct {int(correct[i])} | {render(chosen[i // G][0])}\n"
                f"{responses[i]}\n" for i in range(0, len(responses), max(1, len(responses) // 4))]
    batch = Batch([prompt for prompt in prompts for _ in range(G)], rollouts.ids, mask, rollouts.logprobs,
                  advantages.flatten().to(rollouts.logprobs))
    return batch, metrics, readable


# ---------------------------------------------------------------------------------------------------------------------
# The updates on one rollout batch


def update(model: Transformer, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig, step: int) -> dict:
    """Each row once, in `config.updates` random minibatches, one optimizer step each; returns metrics over all of them."""
    lengths = batch.mask.sum(1).cpu()
    totals, norms = {"clip_high": 0.0, "clip_low": 0.0, "approx_kl": 0.0, "trained": 0}, []
    for rows in np.array_split(numpy_rng(config.seed, SHUFFLE, step).permutation(len(batch.ids)), config.updates):
        # A row with advantage 0 has gradient 0: it counts in the divisor but needs no forward pass.
        # The others are sorted by length, so that a micro-batch has little padding.
        signal_rows = torch.from_numpy(rows)[batch.advantages.cpu()[rows] != 0]
        signal_rows = signal_rows[lengths[signal_rows].argsort(stable=True)]
        optimizer.zero_grad()
        for i in range(0, len(signal_rows), config.micro_batch):
            micro = signal_rows[i:i + config.micro_batch]
            T = int(lengths[micro].max())
            ids, mask = batch.ids[micro, :T], batch.mask[micro, :T]                                    # (B, T)
            logits = response_logits(model, [batch.prompts[row] for row in micro.tolist()], ids, mask)     # (R, V)
            logprobs = sampling_logprobs(logits, config.temperature).gather(1, ids[mask][:, None])[:, 0]   # (R,)
            old_logprobs = batch.old_logprobs[micro, :T][mask]                                         # (R,)
            advantages = batch.advantages[micro, None].expand(-1, T)[mask]                             # (R,)
            loss = grpo_loss(logprobs, old_logprobs, advantages, config.eps_low, config.eps_high)
            (loss.sum() / len(rows)).backward()
            with torch.no_grad():
                ratio = (logprobs - old_logprobs).exp()
                totals["clip_high"] += ((ratio > 1 + config.eps_high) & (advantages > 0)).sum().item()
                totals["clip_low"] += ((ratio < 1 - config.eps_low) & (advantages < 0)).sum().item()
                totals["approx_kl"] += kl_k3(old_logprobs, logprobs).sum().item()  # KL(old || new): the samples are old's
                totals["trained"] += len(loss)
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item())
        if not math.isfinite(norms[-1]):
            raise FloatingPointError(f"the policy diverged in rollout batch {step}: gradient norm {norms[-1]} (lower --lr)")
        optimizer.step()
    tokens = int(lengths.sum())
    return {"clip_high": totals["clip_high"] / tokens, "clip_low": totals["clip_low"] / tokens,
            "approx_kl": totals["approx_kl"] / max(1, totals["trained"]), "grad_norm": float(np.mean(norms))}


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(model: Transformer, problems: list[Problem], samples: int, ks: list[int], key: tuple[int, ...],
             temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, max_new_tokens: int = 40) -> dict:
    """Sample each problem `samples` times and once greedily; see the README for every key. Absent values are None."""
    sampled = respond(model, problems, samples, key,
                      temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=max_new_tokens)
    greedy = [text for chunk, _ in respond(model, problems, 1, key, temperature=0.0, max_new_tokens=max_new_tokens)
              for text in chunk]
    responses = [text for chunk, _ in sampled for text in chunk]
    correct = np.array([reward_functions.is_correct(problems[i // samples], text) for i, text in enumerate(responses)])
    code = np.array([is_code(text) for text in responses])
    tokens = sum(rollouts.mask.sum().item() for _, rollouts in sampled)
    right = correct.reshape(len(problems), samples).sum(axis=1)
    return {
        "accuracy": correct.mean().item(),
        "greedy_accuracy": np.mean([reward_functions.is_correct(problem, text) for problem, text in zip(problems, greedy)]).item(),
        "code_share": code.mean().item(),
        "accuracy_code": correct[code].mean().item() if code.any() else None,
        "accuracy_text": correct[~code].mean().item() if not code.all() else None,
        "format_rate": np.mean([reward_functions.boxed(text) is not None for text in responses]).item(),
        "entropy": sum(rollouts.entropy.sum().item() for _, rollouts in sampled) / tokens,
        "mean_token_prob": sum(rollouts.logprobs[rollouts.mask].exp().sum().item() for _, rollouts in sampled) / tokens,
        "pass_at_k": {str(k): np.mean([pass_at_k(samples, int(c), k) for c in right]).item() for k in ks},
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
        if path.exists() and load(path, device)[1].get("pretrain") != same:
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
                       numpy_rng(config.seed, CORPUS))
    with stop_signals() as stopped, tqdm(total=config.steps, initial=done, desc=f"pretrain {config.base}", disable=None) as bar:
        for step in range(done, config.steps):
            pairs = [(encode_prompt(prompt), encode(response) + [END])
                     for prompt, response in corpus[step * config.batch:(step + 1) * config.batch]]
            pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))  # rows of like length share a micro-batch: less padding
            tokens, total = sum(len(response) for _, response in pairs), 0.0
            for i in range(0, len(pairs), config.micro_batch):
                prompts, responses = zip(*pairs[i:i + config.micro_batch])
                ids = pad_sequence([torch.tensor(r) for r in responses], batch_first=True, padding_value=PAD).to(device)   # (B, T)
                logits = response_logits(model, prompts, ids, ids != PAD)                                                  # (R, V)
                loss = torch.nn.functional.cross_entropy(logits, ids[ids != PAD], reduction="sum") / tokens
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
           "clip_high", "clip_low", "approx_kl", "grad_norm")


def train(config: TrainConfig, command: str = "") -> None:
    """RL on a base; writes config.json, metrics.csv, samples.txt, model.pt and summary.json into config.out, or resumes there."""
    if config.num_ops is None:
        config.num_ops = HARD if reward_functions.uses(config.reward, reward_functions.WRONG_LABELS_ONLY) else EASY
    if config.updates > config.prompts * config.group:
        raise InputError(f"--updates {config.updates} is more than the {config.prompts * config.group} rollouts of a batch")
    device, out = start(config), Path(config.out)
    check_writable(out)
    same = {k: v for k, v in asdict(config).items() if k not in ("out", "steps")}
    if (out / "model.pt").exists():
        model, info = load(out / "model.pt", device)
        state = info.get("train")
        if state is None or state["config"] != same:
            raise InputError(f"{out} holds a run with other flags: choose another --out or delete it")
        if state["step"] > config.steps:
            raise InputError(f"{out} has {state['step']} rollout batches already, more than --steps {config.steps}")
        if state["step"] == config.steps and (out / "summary.json").exists():
            return print(f"{out} is finished already")
    else:
        state = None
        path = BASE_FOLDER / f"{config.base}.pt" if config.base in BASES else Path(config.base)
        if config.base in BASES and not path.exists():
            raise InputError(f"base {config.base} is not pretrained yet: python rlvr.py pretrain --base {config.base}")
        model, _ = load(path, device)
    evaluation = draw(config.eval_problems, "evaluation", EASY, numpy_rng(EVALUATION, 0))
    ks = [2 ** i for i in range(config.eval_samples.bit_length())]

    def evaluation_now() -> dict:
        return evaluate(model, evaluation, config.eval_samples, ks, (EVALUATION,), max_new_tokens=config.max_new_tokens)

    clock = Clock()
    if state is None:
        pool = training_pool(config, model)
        clock.lap("rollout")
        state = {"config": same, "step": 0, "rows": [], "samples": [], "before": evaluation_now(), "optimizer": None,
                 "pool": [(render(problem), label) for problem, label in pool],
                 "seconds": {"rollout": 0.0, "update": 0.0, "evaluate": 0.0}}
        clock.lap("evaluate")
    pool = [(parse(problem), label) for problem, label in state["pool"]]
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    optimizer = kind(model.parameters(), lr=config.lr)
    if state["optimizer"] is not None:
        optimizer.load_state_dict(state["optimizer"])
    write(out / "config.json", to_json({**asdict(config), "device": str(device), "lr": optimizer.param_groups[0]["lr"],
                                        "parameters": sum(p.numel() for p in model.parameters()),
                                        "torch": torch.__version__, "command": command}))

    def save() -> None:
        for name, seconds in clock.laps().items():
            state["seconds"][name] += seconds
        state["optimizer"] = optimizer.state_dict()
        save_checkpoint(out / "model.pt", model, base=config.base, train=state)
        write(out / "metrics.csv", to_csv(state["rows"]))
        write(out / "samples.txt", "\n".join(state["samples"]))

    name = f"{config.base} {config.reward}"
    with stop_signals() as stopped, tqdm(total=config.steps, initial=state["step"], desc=name, disable=None) as bar:
        for step in range(state["step"], config.steps):
            batch, metrics, readable = rollout(model, config, pool, step)
            clock.lap("rollout")
            metrics |= update(model, optimizer, batch, config, step)
            clock.lap("update")
            state["rows"].append({"step": step, **{name: metrics[name] for name in METRICS}})
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
    print(f"{config.base}, reward {config.reward}, seed {config.seed}: accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}, "
          f"code share {before['code_share']:.2f} -> {after['code_share']:.2f}, {seconds:.0f} s")


# ---------------------------------------------------------------------------------------------------------------------
# Machine, files, signals


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


def check_writable(folder: Path) -> None:
    """Before any work: is `folder`, or what exists of the way to it, a folder one may write to? `write` makes the rest."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write to {folder}: {existing} is not a writable folder")


def write(path: Path, content: str | bytes) -> None:
    """Write under a temporary name, then rename: whoever reads, or comes after a crash, finds the old file or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def to_json(value: dict) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def to_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["step", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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


@contextmanager
def stop_signals():
    """Collect the first Ctrl-C or SIGTERM in a list, so that the loop can end its step and save; the second one acts at once."""
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])
        print("\nstopping after this step (again to stop at once)", file=sys.stderr)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------------------------------
# Tables and figures

# Points gained on MATH-500 by Qwen2.5-Math-7B (2506.10947, figure 1), to set beside ours, never to be matched by tuning.
PAPER = {"correct": 29.1, "majority": 27.1, "incorrect": 24.1, "random": 21.4, "format": 13.8}


def cell_of(run: dict) -> tuple[str, str, str, str]:
    return run["base"], run["reward"], run["loss"], run["flags"]


def cells(runs: list[dict]) -> list[dict]:
    """One row per base, reward, loss and flags: means over seeds, in points where they are accuracies."""
    rank = {name: i for i, name in enumerate((*BASES, *PAPER))}
    rows = []
    for cell in sorted(set(map(cell_of, runs)), key=lambda cell: [(rank.get(name, 99), name) for name in cell]):
        base, reward, loss, flags = cell
        group = [run for run in runs if cell_of(run) == cell]
        gains = [100 * run["gain"]["total"] for run in group]
        rows.append({
            "base": base, "reward": reward, "loss": loss, "flags": flags, "seeds": len(group),
            "gain_mean": mean(gains), "gain_std": stdev(gains) if len(gains) > 1 else None,
            "gain_min": min(gains), "gain_max": max(gains),
            **{part: mean([100 * run["gain"][part] for run in group]) for part in ("switch", "within")},
            **{f"{key}_{when}": mean([run[when][key] for run in group])
               for key in ("accuracy", "code_share") for when in ("before", "after")},
            **{f"clip_{side}": mean([run["clip"][side] for run in group]) for side in ("high", "low")},
            "seconds": mean([run["seconds"]["total"] for run in group]),
            "paper_gain": PAPER.get(reward) if base == "good-code" and not flags else None})
    return rows


def table(rows: list[dict]) -> str:
    """The cells as text. Gain, switch and within in points of accuracy; `paper` is Qwen2.5-Math-7B on MATH-500."""
    lines = [["base", "reward", "seeds", "accuracy", "gain", "", "switch", "within", "code share", "clip high", "low", "paper", "flags"]]
    for row in rows:
        lines.append([
            Path(row["base"]).stem, row["reward"], str(row["seeds"]), f"{row['accuracy_before']:.3f} -> {row['accuracy_after']:.3f}",
            f"{row['gain_mean']:+.1f}", "" if row["gain_std"] is None else f"± {row['gain_std']:.1f}",
            f"{row['switch']:+.1f}", f"{row['within']:+.1f}", f"{row['code_share_before']:.2f} -> {row['code_share_after']:.2f}",
            f"{row['clip_high']:.3%}", f"{row['clip_low']:.3%}", "" if row["paper_gain"] is None else f"{row['paper_gain']:+.1f}",
            row["flags"]])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def read_run(folder: Path) -> dict:
    """summary.json of a run, its metrics.csv as `rows`, and as `flags` those that are not at their defaults."""
    own = {"base", "reward", "loss", "seed", "out", "num_ops", "micro_batch", "threads", "device"}  # named already, or no matter
    try:
        run, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "config"))
        run["flags"] = " ".join(f"--{f.name.replace('_', '-')} " + (f"{value:g}" if isinstance(value, float) else str(value))
                                for f in fields(TrainConfig) if f.name not in own and (value := config[f.name]) != f.default)
        with open(folder / "metrics.csv", newline="") as file:
            run["rows"] = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        assert run["rows"] and "total" in run["gain"]
        return run
    except Exception:
        raise InputError(f"{folder} holds no finished run (config.json, metrics.csv, summary.json)") from None


def plot(folders: list[str], out: str) -> None:
    """Print the table of the runs; write it as results.csv and results.json, and figure.png if matplotlib is there, into `out`."""
    runs = [read_run(Path(folder)) for folder in folders]
    rows = cells(runs)
    check_writable(Path(out))
    write(Path(out) / "results.csv", to_csv(rows))
    summaries = [{k: v for k, v in run.items() if k != "rows"} for run in runs]
    write(Path(out) / "results.json", to_json({"cells": rows, "runs": summaries}))
    print(table(rows))
    try:
        import matplotlib
    except ModuleNotFoundError:
        return print("no figure: pip install matplotlib")
    matplotlib.use("Agg")
    draw_figure(runs, rows, Path(out) / "figure.png")
    print(f"wrote {out}/figure.png, results.csv and results.json")


def draw_figure(runs: list[dict], rows: list[dict], path: Path) -> None:
    """Top: gain per base and reward, a dot per seed, the paper's as a line. Below: accuracy and code share over the run."""
    import matplotlib.pyplot as plt

    bases = list(dict.fromkeys(row["base"] for row in rows))
    names = list(dict.fromkeys((row["reward"], row["flags"]) for row in rows))
    colors = {name: f"C{i}" for i, name in enumerate(names)}
    figure = plt.figure(figsize=(max(7, 3.6 * len(bases)), 9), layout="constrained")
    grid = figure.add_gridspec(3, len(bases))
    bars, width = figure.add_subplot(grid[0, :]), 0.8 / len(names)
    for row in rows:
        name = row["reward"], row["flags"]
        x = bases.index(row["base"]) + (names.index(name) - (len(names) - 1) / 2) * width
        bars.bar(x, row["gain_mean"], 0.9 * width, color=colors[name])
        dots = [100 * run["gain"]["total"] for run in runs if cell_of(run) == cell_of(row)]
        bars.plot(x + width * np.linspace(-0.2, 0.2, len(dots)) if len(dots) > 1 else x, dots, "o", color="black", markersize=3)
        if row["paper_gain"] is not None:
            bars.plot([x - 0.45 * width, x + 0.45 * width], [row["paper_gain"]] * 2, color="black", linewidth=2)
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_xticks(range(len(bases)), [Path(base).stem for base in bases])
    bars.set_ylabel("gain in accuracy (points)")
    bars.set_title("Accuracy gained by RL\n"
                   "bar: mean over seeds, dot: a seed, line: Qwen2.5-Math-7B on MATH-500 (2506.10947)", fontsize=9)
    for column, base in enumerate(bases):
        for line, (metric, label) in enumerate((("accuracy", "accuracy in training"), ("code_share", "code share in training"))):
            axis = figure.add_subplot(grid[1 + line, column], ylim=(-0.02, 1.02), title=Path(base).stem if line == 0 else None)
            for name in names:
                # `incorrect` trains on k = 6, 7, where nothing is right: its accuracy there says nothing about k = 1..5.
                curves = [[step[metric] for step in run["rows"]] for run in runs
                          if (run["base"], run["reward"], run["flags"]) == (base, *name)
                          and not (metric == "accuracy" and run["reward"] == "incorrect")]
                if curves:
                    values = np.array([curve[:min(map(len, curves))] for curve in curves])   # (seeds, rollout batches)
                    share = np.linspace(0, 1, values.shape[1])
                    axis.plot(share, values.mean(axis=0), color=colors[name])
                    axis.fill_between(share, values.min(axis=0), values.max(axis=0), color=colors[name], alpha=0.15, linewidth=0)
            axis.set_ylabel(label if column == 0 else None)
            axis.set_xlabel("share of the run" if line == 1 else None)
    figure.legend([plt.Line2D([], [], color=colors[name], linewidth=3) for name in names],
                  [" ".join(name).strip() for name in names], loc="outside lower center",
                  ncols=1 if any(flags for _, flags in names) else len(names), fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, dpi=130, format="png")
    plt.close(figure)
    write(path, image.getvalue())


# ---------------------------------------------------------------------------------------------------------------------
# Command line


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, without the usage text."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def number(kind: type, least: float | None = None, above: float | None = None, most: float | None = None):
    """An argparse type: a finite int or float within bounds."""
    def parse_number(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole number' if kind is int else 'a number'}") from None
        bounds = {f"at least {least}": least is None or value >= least, f"above {above}": above is None or value > above,
                  f"at most {most}": most is None or value <= most, "finite": math.isfinite(value)}
        broken = [bound for bound, holds in bounds.items() if not holds]
        if broken:
            raise argparse.ArgumentTypeError(f"{text} is not {broken[0]}")
        return value
    return parse_number


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """A flag for every field of a config dataclass."""
    for f in fields(config):
        checks, many = dict(f.metadata), f.metadata.get("many", False)
        kind = next(kind for kind in (int, float, str) if kind in (f.type, *get_args(f.type)) or many)
        text = checks.pop("help") + ("" if f.default is None or f.default == "auto" else f" (default {f.default})")
        choices = checks.pop("choices", None)
        checks.pop("many", None)
        parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, default=f.default, choices=choices,
                            help=text.replace("%", "%%"), nargs="+" if many else None,
                            type=str if kind is str else number(kind, **checks),
                            metavar=None if choices and not many else kind.__name__.upper())


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Flags that `evaluate` and `sample` share."""
    parser.add_argument("checkpoint", help="a .pt file written by pretrain or train")
    parser.add_argument("--temperature", type=number(float, least=0), default=1.0, help="0 is greedy (default 1)")
    parser.add_argument("--top-k", type=number(int, least=1), help="sample among the k most likely tokens")
    parser.add_argument("--top-p", type=number(float, above=0, most=1), help="sample from the most likely tokens of this mass")
    parser.add_argument("--max-new-tokens", type=number(int, least=1), default=40, help="longest response (default 40)")
    parser.add_argument("--seed", type=number(int, least=0), default=0,
                        help="seed of the samples, and in evaluate of the problems (default 0)")
    parser.add_argument("--threads", type=number(int, least=1), help="CPU threads (default: all cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one")


def evaluate_command(args: argparse.Namespace) -> None:
    if max(args.k) > args.samples:
        raise InputError(f"pass@{max(args.k)} needs at least {max(args.k)} samples a problem: --samples {args.samples} is too few")
    problems = draw(args.problems, args.split, tuple(args.num_ops), numpy_rng(EVALUATION, args.seed))
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
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="pretrain|train|evaluate|sample|plot")
    add_options(commands.add_parser("pretrain", allow_abbrev=False, help="make a base"), PretrainConfig)
    trainer = commands.add_parser("train", allow_abbrev=False, help="RL on a base")
    add_options(trainer, TrainConfig)
    trainer.add_argument("--eps", type=number(float, least=0), help="both clips at once")
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
    args = vars(parser.parse_args(arguments))
    command = args.pop("command")
    try:
        if command == "pretrain":
            pretrain(PretrainConfig(**args))
        elif command == "train":
            if (eps := args.pop("eps")) is not None:
                args["eps_low"] = args["eps_high"] = eps
            args["num_ops"] = tuple(args["num_ops"]) if args["num_ops"] else None
            train(TrainConfig(**args), shlex.join(["python", "rlvr.py", *(sys.argv[1:] if arguments is None else arguments)]))
        elif command == "plot":
            plot(**args)
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
