"""RL with verifiable rewards, from scratch: pretrain a base, train it on a reward, compare.

    python rlvr.py pretrain --base good-code            # a small transformer on clock arithmetic
    python rlvr.py train --base good-code --reward random --out runs/random       # GRPO on it
    python rlvr.py evaluate runs/random/model.pt
    python rlvr.py sample runs/random/model.pt "37 *4 +5 -2"

Read from top to bottom: options, one rollout batch, the updates on it, the run, the command line.
Advantages and losses are in losses.py, the sampler in model.py, what a run has beside its policy in
helpers.py.

Shapes: P prompts in a rollout batch, G rollouts of each, N = P * G rows, T response tokens,
C width of the model, V vocabulary; R response tokens of a micro-batch, all rows after one another.
"""

import argparse
import copy
import json
import math
import shlex
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

# What is called data or helpers in the folder that this is run from, or on PYTHONPATH, is not ours.
sys.path.insert(0, str(Path(__file__).parent))

import evaluation
from data import files, plumbing
from data.corpus import CORPORA, Corpus
from data.plumbing import InputError, numpy_rng, option, torch_rng, upload
from data.pretrain import PretrainConfig, pretrain
from data.task import (
    EASY,
    HARD,
    SPLITS,
    Problem,
    draw_problems,
    parse_problem,
    render_problem,
    write_answer,
)
from data.tokenizer import END, encode_prompt
from helpers import (
    KEPT,
    add_hints,
    fingerprint,
    follow_policy,
    list_changing,
    list_needs,
    load_helpers,
    locate_kept,
    score_needs,
    token_logprobs,
)
from losses import DIVERGENCES, LOSSES, Batch, kl_k3, value_loss
from measures import mark_confidence, measure_rollouts, note_cut, note_ended
from model import (
    CUT,
    Transformer,
    entropy,
    load_checkpoint,
    response_hidden,
    sample_responses,
    sampling_logprobs,
    save_checkpoint,
    scale_logits,
)
from rewards import (
    REWARDS,
    Context,
    build_reward,
    find_majority,
    is_correct,
    score_parts,
    split_name,
)

del sys.path[0]

# --------------------------------------------------------------------------------------------------
# Options: every one is a flag, and its default is the recommended value.


@dataclass
class TrainConfig:
    base: str = option("good-code", "a base's name (runs/bases/NAME.pt) or a path")
    reward: str = option("random", f"{', '.join(REWARDS)}; A+B; not_A")
    loss: str = option("grpo", "advantage and policy loss (losses.py)", choices=LOSSES)
    seed: int = option(1, "of prompts, samples, random rewards", least=0, most=plumbing.MAX_SEED)
    steps: int = option(20, "rollout batches", least=1, most=10**6)
    out: str = option("runs/train", "folder to write; the same command resumes there")
    # the rollouts: 64 x 16 as in 2506.10947
    prompts: int = option(64, "prompts per rollout batch", least=1, most=10**5)
    group: int = option(16, "rollouts per prompt, which are compared", least=2, most=10**4)
    # below 0.01 what differs between reading and sampling, 1e-6, is a loss of its own
    temperature: float = option(
        1.0, "of sampling; the loss scores under it too", least=0.01, most=100)
    max_new_tokens: int = option(40, "longest response; right ones: 35", least=1, most=1000)
    # 1 is one-shot RLVR (2504.20571)
    pool: int = option(256, "training prompts to draw from, in epochs", least=1, most=10**6)
    # 6 7 for incorrect, which needs prompts that the base gets wrong
    num_ops: tuple[int, ...] | None = option(
        None, "k of the training prompts (default 1 2 3 4 5)", many=True, choices=EASY + HARD)
    # the update: SGD, since AdamW gives the noise of a random reward the step size of a signal; the
    # first update of a batch is on-policy, only later ones can clip
    updates: int = option(32, "updates per rollout batch", least=1)
    optimizer: str = option("sgd", "sgd (no momentum) or adamw", choices=("sgd", "adamw"))
    # reinforce, nsr and w_reinforce need a tenth where many prompts are beyond the model
    lr: float = option(0.015, "step size", above=0)
    max_grad_norm: float = option(3.0, "an update is scaled down to this norm; 1e9: off", above=0)
    trained: str = option("all", "ends: the blocks stay as they are", choices=("all", "ends"))
    # what the sum over tokens is divided by: the number of sequences; or each sequence by its own
    # length first (GRPO's eq. 3, biased to short right and long wrong ones); or all tokens (DAPO);
    # or those of sequences with an advantage alone (the code of 2506.01347: PSR, NSR)
    aggregate: str = option(
        "sequences", "divisor of the loss", choices=("sequences", "length", "tokens", "signal"))
    # terms that are off unless asked for
    kl_coef: float = option(0.0, "weight of KL(policy || base) (k3, per token)", least=0)
    entropy_coef: float = option(0.0, "weight of the entropy bonus (per token)", least=0)
    # the evaluation, before and after
    eval_problems: int = option(400, "evaluation problems, the same in every run", least=1)
    # pass@k for the powers of 2 up to it
    eval_samples: int = option(8, "samples of each at temperature 1", least=1, most=10**5)
    # no training prompt is in evaluation or probe
    eval_split: str = option("evaluation", "which problems", choices=SPLITS)
    eval_num_ops: tuple[int, ...] = option(
        EASY, "k of the evaluation problems", many=True, choices=EASY + HARD)
    # the machine: it changes speed and memory, and of the results the last bits alone, about 1e-7;
    # so a resumed run is bit for bit an uninterrupted one where these three stay as they are
    micro_batch: int | None = option(
        None, "sequences per forward pass (default: 16; on a GPU 512)", least=1)
    threads: int | None = plumbing.THREADS
    device: str = plumbing.DEVICE


# and the flags that single losses and rewards read
TrainConfig = plumbing.extend_config(TrainConfig, LOSSES, REWARDS)

MICRO_BATCH = 16     # on a CPU, where it keeps a forward pass in the cache

Pool = list[tuple[Problem, str | None]]  # training prompts with their frozen labels


# --------------------------------------------------------------------------------------------------
# One rollout batch


def make_pool(config: TrainConfig, model: Transformer, corpus: Corpus) -> Pool:
    """The training prompts with their labels (None where the reward needs none).

    A label is the model's majority answer over `votes` samples at temperature 1. Raises
    InputError if the reward needs prompts with a wrong one and there are none.
    """
    rng = numpy_rng(plumbing.POOL, config.seed)
    problems = draw_problems(config.pool, "training", config.num_ops, rng, digits=corpus.digits)
    needs, n = set(build_reward(config.reward).needs), config.votes
    if not {"labels", "wrong_labels"} & needs:
        return [(problem, None) for problem in problems]
    answers = evaluation.answer_problems(
        model, corpus, problems, n, (plumbing.LABELS, config.seed),
        evaluation.Sampling(max_new_tokens=config.max_new_tokens))
    note_cut(answers.rollouts, config.max_new_tokens)
    labels = [find_majority(answers.texts[i:i + n]) for i in range(0, len(answers.texts), n)]
    pool = list(zip(problems, labels))
    if "wrong_labels" not in needs:
        if None in labels:
            plumbing.note(f"{labels.count(None)} of the {len(pool)} prompts have no majority "
                          "answer, since no response had a box: they never pay")
        return pool
    wrong = [(problem, label) for problem, label in pool
             if label not in (None, write_answer(problem))]
    if not wrong:
        raise InputError(f"reward {config.reward}: the base's majority answer is right on all "
                         f"{config.pool} prompts of the pool; take a larger --pool or a harder "
                         "--num-ops")
    if len(wrong) < config.prompts:
        plumbing.note(f"the pool has {len(wrong)} prompts, of {config.pool}, whose majority answer "
                      "is wrong: fewer than --prompts, so that a batch has some twice")
    return wrong


def choose_prompts(config: TrainConfig, pool_size: int, step: int) -> np.ndarray:
    """Pool indices (P,) of one rollout batch: the pool in epochs, each shuffled anew.

    Where the pool is smaller than a batch, a prompt stands in it twice and is two groups.
    """
    positions = np.arange(step * config.prompts, (step + 1) * config.prompts)
    epochs = {epoch: numpy_rng(plumbing.ORDER, config.seed, epoch).permutation(pool_size)
              for epoch in np.unique(positions // pool_size).tolist()}
    return np.array([epochs[i // pool_size][i % pool_size] for i in positions.tolist()])


def rollout(model: Transformer, corpus: Corpus, config: TrainConfig, pool: Pool, step: int,
            helpers: dict[str, nn.Module]) -> tuple[Batch, dict, list[str]]:
    """Sample a group for each prompt, reward it, compute advantages.

    `helpers` has what loss and reward need beside the policy: critic, base, teacher, judge. Returns
    the batch, its metrics, and some samples to read.
    """
    G, reward = config.group, build_reward(config.reward)
    chosen = [pool[i] for i in choose_prompts(config, len(pool), step)]            # (P)
    prompts = [encode_prompt(render_problem(problem)) for problem, _ in chosen]
    rollouts = sample_responses(model, prompts, G, END, config.max_new_tokens, config.temperature,
                                generator=torch_rng(plumbing.SAMPLES, config.seed, step))
    responses = evaluation.decode_rollouts(rollouts)                               # (N)
    problems = [problem for problem, _ in chosen for _ in range(G)]                # (N)
    labels = [label for _, label in chosen for _ in range(G)]                      # (N)
    # Each base has coins of its own, so that two bases with one seed are independent.
    coins = numpy_rng(plumbing.REWARD, config.seed, step, plumbing.hash_name(config.base))
    context = Context(G, labels, coins, config, helpers.get("judge"))
    paid = reward.score(problems, responses, context)                              # (N)
    rewards = torch.tensor(paid, dtype=torch.float64).reshape(-1, G)               # (P, G)
    rows = [prompt for prompt in prompts for _ in range(G)]                        # (N)
    needs = list_needs(config, step)
    failed = rewards.flatten() < reward.high                                       # (N)
    hinted, taught = ([], None) if "teacher" not in needs else (
        add_hints(config, step, problems, failed))
    batch = Batch(rows, rollouts.ids, rollouts.mask, rollouts.logprobs, rewards,
                  (reward.low, reward.high), taught=taught,
                  **score_needs(model, config, needs, rows, hinted, rollouts, helpers))
    if "parts" in needs:
        parts = score_parts(reward, paid, problems, responses, context)            # (2, N)
        batch = batch._replace(parts=rewards.new_tensor(parts).reshape(2, -1, G),
                               confidence=mark_confidence(rollouts))
    advantages = LOSSES[config.loss].advantages(batch, config)                     # (N, T)
    batch = batch._replace(advantages=advantages.to(rollouts.logprobs))
    metrics = measure_rollouts(corpus, problems, responses, paid, rollouts, batch.advantages, G)
    readable = [f"step {step} reward {paid[i]:g} "
                f"correct {int(is_correct(problems[i], responses[i]))} | "
                f"{render_problem(problems[i])}\n{responses[i]}\n"
                for i in range(0, len(responses), max(1, len(responses) // 4))]
    return batch, metrics, readable


# --------------------------------------------------------------------------------------------------
# The updates on one rollout batch


def choose_divisors(lengths: Tensor, rows: Tensor, signal: Tensor, aggregate: str) -> Tensor:
    """What the sum over each row's tokens is divided by: lengths (N,), a minibatch's rows -> (N,).

    signal (N,): whether a row has any advantage. Nothing here is of a micro-batch: the gradient
    does not depend on its size.
    """
    if aggregate == "sequences":
        return torch.full_like(lengths, len(rows))
    if aggregate == "length":
        return len(rows) * lengths
    if aggregate == "signal":
        rows = rows[signal[rows]]
    return lengths[rows].sum().clamp(min=1).expand_as(lengths)


def diagnose(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, config) -> dict:
    """How far a policy is from that of the rollout: sums over tokens, all (R,)."""
    ratio = (logprobs - old_logprobs).exp()                                        # (R,)
    # KL(old || new): the samples are old's.
    sums = {"trained": len(ratio), "approx_kl": kl_k3(old_logprobs, logprobs).sum()}
    if "eps_high" in LOSSES[config.loss].options:
        high = (ratio > 1 + config.eps_high) & (advantages > 0)
        low = (ratio < 1 - config.eps_low) & (advantages < 0)
        sums |= {"clip_high": high.sum(), "clip_low": low.sum()}
    return sums


def list_terms(batch: Batch, logits: Tensor, logprobs: Tensor, pick: Callable[[Tensor], Tensor],
               config: TrainConfig) -> Iterator[tuple[str, float, Tensor]]:
    """Terms beside the losses of policy and critic: (name, weight, nats of each token (R,)).

    logits (R, V) and logprobs (R,) of the sampled tokens; `pick` makes (N, T, ...) (R, ...).
    """
    if batch.teacher_distribution is not None:
        # All that could have been said where the policy went: so it needs no ratio.
        divergence = DIVERGENCES[config.distill](sampling_logprobs(logits, config.temperature),
                                                 pick(batch.teacher_distribution))
        taught = pick(batch.taught[:, None].expand_as(batch.mask))                 # (R,)
        yield "divergence", config.directive_weight, divergence * taught
    if config.kl_coef:
        # As in GRPO (eq. 4). An estimate: the samples are the old policy's; and on samples of pi
        # the gradient of k3 is that of KL(base || pi).
        yield "kl", config.kl_coef, kl_k3(logprobs, pick(batch.base_logprobs))
    if config.entropy_coef:
        yield "bonus", -config.entropy_coef, entropy(scale_logits(logits, config.temperature))


def minibatch_loss(model: Transformer, batch: Batch, rows: Tensor, divisors: Tensor,
                   config: TrainConfig, critic: nn.Linear | None = None) -> tuple[Tensor, dict]:
    """The loss of some rows (B,) of a batch: a scalar, and the sums of its metrics over R tokens.

    Each row's tokens are summed and divided by its divisor (B,).
    """
    T = int(batch.mask[rows].sum(1).max())
    ids, mask = batch.ids[rows, :T], batch.mask[rows, :T]                          # (B, T)
    hidden = response_hidden(model, [batch.prompts[row] for row in rows.tolist()], ids, mask)

    def pick(field: Tensor) -> Tensor:
        """What a field (N, T) of the batch has on the response tokens: (R,), where the model is."""
        return upload(field[rows, :T][mask], hidden.device)

    logits = model.head(hidden)                                                    # (R, V)
    logprobs = token_logprobs(logits, pick(batch.ids), config.temperature)         # (R,)
    old_logprobs, advantages = pick(batch.old_logprobs), pick(batch.advantages)    # (R,)
    sums = diagnose(logprobs.detach(), old_logprobs, advantages, config)
    loss = LOSSES[config.loss].policy_loss(logprobs, old_logprobs, advantages, config)   # (R,)
    if critic is not None:
        # The critic reads the trunk and leaves it alone, so that PPO's policy differs from the
        # others' by its advantage only.
        old_values = pick(batch.values)
        critic_loss = value_loss(critic(hidden.detach())[:, 0], old_values,
                                 advantages + old_values, config.eps_value)
        sums["value_loss"] = critic_loss.detach().sum()
        loss = loss + critic_loss
    for name, weight, term in list_terms(batch, logits, logprobs, pick, config):
        sums[name] = term.detach().sum()
        loss = loss + weight * term
    per_token = divisors[:, None].expand_as(mask)[mask].to(loss.dtype)             # (R,)
    return (loss / upload(per_token, loss.device)).sum(), sums


def update(model: Transformer, optimizers: list[torch.optim.Optimizer], batch: Batch,
           config: TrainConfig, step: int, critic: nn.Linear | None = None) -> dict:
    """Each row once, in `config.updates` random minibatches, one optimizer step each.

    Returns the metrics over all of them. Raises FloatingPointError if the gradient is no number.
    """
    lengths, sums = batch.mask.sum(1), Counter()
    # Where the model is: the norm of a minibatch without signal, which has no gradient, is on the
    # CPU whatever the device is.
    norms = model.head.weight.new_zeros(config.updates)
    # A row without advantage has gradient 0: it counts in the divisor but needs no forward pass.
    signal = (batch.advantages != 0).any(1)
    all_rows = bool(config.kl_coef or config.entropy_coef or critic is not None
                    or batch.teacher_distribution is not None)
    micro_batch = plumbing.choose_micro_batch(config, model.head.weight.device, MICRO_BATCH)
    shuffled = numpy_rng(plumbing.SHUFFLE, config.seed, step).permutation(len(batch.ids))
    for i, rows in enumerate(map(torch.from_numpy, np.array_split(shuffled, config.updates))):
        divisors = choose_divisors(lengths, rows, signal, config.aggregate)        # (N,)
        # Sorted by length, a micro-batch has little padding.
        trained = rows if all_rows else rows[signal[rows]]
        trained = trained[lengths[trained].argsort(stable=True)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for micro in trained.split(micro_batch) if len(trained) else []:
            loss, more = minibatch_loss(model, batch, micro, divisors[micro], config, critic)
            loss.backward()
            sums.update(more)
        norms[i] = nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for optimizer in optimizers:
            optimizer.step()
    return average_metrics(sums, norms.tolist(), lengths.sum().item(), step)


def average_metrics(sums: Counter, norms: list[float], tokens: int, step: int) -> dict:
    """Over all updates: clip fractions of all response tokens, the rest of those trained on."""
    if not all(map(math.isfinite, norms)):
        raise FloatingPointError(f"the policy diverged in rollout batch {step}: a gradient is no "
                                 "number (lower --lr)")
    sums = Counter({name: float(value) for name, value in sums.items()})
    trained = max(1, sums["trained"])
    metrics = {"clip_high": sums["clip_high"] / tokens, "clip_low": sums["clip_low"] / tokens,
               "approx_kl": sums["approx_kl"] / trained, "grad_norm": float(np.mean(norms))}
    return metrics | {name: sums[name] / trained for name in ("kl", "value_loss", "divergence")
                      if name in sums}


# --------------------------------------------------------------------------------------------------
# The run


@dataclass
class Run:
    """A run in progress; `state` is what model.pt keeps beside the weights, so that it resumes."""

    config: TrainConfig
    corpus: str                        # name of the base's
    problems: list[Problem]            # of the evaluation
    model: Transformer
    helpers: dict[str, nn.Module]      # the base, and what loss and reward need
    optimizers: list[torch.optim.Optimizer]
    state: dict
    clock: plumbing.Clock

    @property
    def stateful(self) -> list:
        return self.optimizers + list_changing(self.config, self.helpers)


@plumbing.keep_settings()
def train(config: TrainConfig, command: str = "") -> None:
    """RL on a base, into config.out, or on from what is there.

    Writes config.json, then metrics.csv, samples.txt, answers.json and model.pt after every rollout
    batch, and summary.json at the end.
    """
    check_config(config)
    note_settings(config)
    files.check_writable(Path(config.out))
    with files.lock(Path(config.out, ".lock")):
        files.remove_leftovers(Path(config.out))
        run = open_run(config, command)
        if run is None:
            return print(f"{config.out} is finished already")
        take_steps(run)
        finish_run(run)


def take_steps(run: Run) -> None:
    """All rollout batches that are left, each saved."""
    config = run.config
    corpus, critic = CORPORA[run.corpus], run.helpers.get("critic")
    pool = [(parse_problem(problem), label) for problem, label in run.state["pool"]]
    done, name = run.state["step"], f"{config.base} {config.reward}"
    bar = plumbing.progress_bar(total=config.steps, initial=done, desc=name)
    with plumbing.stop_signals() as stopped, bar:
        for step in range(done, config.steps):
            keep_answers(run, step)
            batch, metrics, readable = rollout(run.model, corpus, config, pool, step, run.helpers)
            run.clock.lap("rollout")
            note_ended(metrics["ended"], config.max_new_tokens)
            metrics |= update(run.model, run.optimizers, batch, config, step, critic)
            follow_policy(config, run.helpers, run.model)
            run.clock.lap("update")
            run.state["rows"].append({"step": step, **metrics})
            run.state["samples"] += readable if step % 5 == 0 else []
            run.state["step"] = step + 1
            save_run(run)
            run.clock.lap("update")
            shown = {name: f"{metrics[name]:.3f}" for name in ("reward", "accuracy")}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if stopped:
                raise KeyboardInterrupt


def check_config(config: TrainConfig) -> None:
    """Fill in the defaults that depend on others; InputError for flags that cannot be together."""
    needs = build_reward(config.reward).needs
    config.num_ops = config.num_ops or (HARD if "wrong_labels" in needs else EASY)
    rollouts = config.prompts * config.group
    if config.updates > rollouts:
        raise InputError(f"--updates {config.updates} is more than the {rollouts} rollouts "
                         "of a batch")
    terms = [term for term, _ in split_name(config.reward)]
    plumbing.refuse_unread(config, loss=(LOSSES, [config.loss]), reward=(REWARDS, terms))


def note_settings(config: TrainConfig) -> None:
    """Say of flags what their numbers in metrics.csv and summary.json do not."""
    if config.temperature != 1:
        plumbing.note(f"rollouts are sampled at temperature {config.temperature:g}, the evaluation "
                      "before and after at 1")
    bounds = config.eps_low, config.eps_high
    if config.updates == 1 and bounds != (TrainConfig.eps_low, TrainConfig.eps_high):
        plumbing.note("--updates 1 is on-policy: nothing is clipped, whatever --eps is")


def identity(config: TrainConfig) -> dict:
    """The flags that make a run what it is; it may be longer, or elsewhere (`note_changes`)."""
    return {k: v for k, v in asdict(config).items() if k not in ("out", "steps", *plumbing.MACHINE)}


def open_run(config: TrainConfig, command: str) -> Run | None:
    """A run before its next batch, new or resumed; None if it is finished."""
    device, out = plumbing.choose_device(config), Path(config.out)
    model, state = load_state(config, out, device)
    if state and state["step"] == config.steps and (out / "summary.json").exists():
        return None
    base, checkpoint = load_checkpoint(locate_kept(config, "base"), device)
    if CORPORA[checkpoint["corpus"]].judges:
        raise InputError(f"--base {config.base} is a judge: it answers no problem")
    problems = evaluation.draw_evaluation(
        config.eval_problems, config.eval_split, config.eval_num_ops,
        digits=CORPORA[checkpoint["corpus"]].digits)
    model = copy.deepcopy(base) if model is None else model
    model.blocks.requires_grad_(config.trained == "all")
    helpers = load_helpers(config, base, model, device)
    optimizers = make_optimizers(config, model, helpers)
    clock = plumbing.Clock(device)
    run = Run(config, checkpoint["corpus"], problems, model, helpers, optimizers, state, clock)
    run.state = state or begin_state(run)
    run.clock.booked.update(run.state["seconds"])  # adds them
    for thing, saved in zip(run.stateful, run.state["stateful"]):
        thing.load_state_dict(saved)
    machine = plumbing.describe_machine(config, device, MICRO_BATCH)
    plumbing.note_changes(run.state.get("machine", {}), machine)
    run.state["machine"] = machine
    used = {**asdict(config), **machine, "lr": optimizers[0].param_groups[0]["lr"],
            "parameters": sum(p.numel() for p in model.parameters()), "command": command}
    for name in helpers.keys() & KEPT:  # so that the run resumes where the originals are gone
        used[f"{name}_fingerprint"] = fingerprint(locate_kept(config, name))
        files.keep_file(locate_kept(config, name), out / f"{name}.pt")
    files.write(out / "config.json", files.to_json(used))
    if run.state["step"] < config.steps:
        (out / "summary.json").unlink(missing_ok=True)  # it is of a shorter run
    return run


def begin_state(run: Run) -> dict:
    """The state of a run that has done nothing yet: its pool, and how its base answers."""
    config = run.config
    pool = make_pool(config, run.model, CORPORA[run.corpus])
    run.clock.lap("rollout")
    before, answers = evaluate_run(run)
    run.clock.lap("evaluate")
    return {"config": identity(config), "step": 0, "rows": [], "samples": [], "stateful": [],
            "pool": [(render_problem(problem), label) for problem, label in pool],
            "seconds": {}, "before": before, "correct": answers.correct.tolist(),
            "modes": answers.modes.tolist()}


def load_state(config: TrainConfig, out: Path,
               device: torch.device) -> tuple[Transformer | None, dict]:
    """Model and state of a run that is there to be resumed, or None and {}.

    Raises InputError if it is another run, or a longer one.
    """
    if not (out / "model.pt").exists():
        return None, {}
    model, checkpoint = load_checkpoint(out / "model.pt", device)
    state = checkpoint.get("train")
    if state is None or not plumbing.same_flags(config, state["config"], identity(config)):
        raise InputError(f"{out} holds a run with other flags: choose another --out or delete it")
    if state["step"] > config.steps:
        raise InputError(f"{out} has {state['step']} rollout batches already, more than --steps "
                         f"{config.steps}")
    state.setdefault("machine", recall_machine(out))
    return model, state


def recall_machine(out: Path) -> dict:
    """What config.json says of the machine, of a run whose model.pt does not; {} if it is gone."""
    try:
        return dict(json.loads(files.read_text(out / "config.json")))
    except (InputError, OSError, ValueError, TypeError):
        return {}


def make_optimizers(config: TrainConfig, model: Transformer,
                    helpers: dict[str, nn.Module]) -> list[torch.optim.Optimizer]:
    """The policy's, and the critic's if there is one."""
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    optimizers = [kind(model.parameters(), lr=config.lr)]
    if "critic" in helpers:
        parameters = helpers["critic"].parameters()
        optimizers.append(torch.optim.AdamW(parameters, lr=config.lr_value, weight_decay=0.0))
    return optimizers


def evaluate_run(run: Run) -> tuple[dict, evaluation.Answers]:
    """The evaluation of a run's model as it is now, on the same random numbers each time."""
    config = run.config
    ks = [2 ** i for i in range(config.eval_samples.bit_length())]
    sampling = evaluation.Sampling(max_new_tokens=config.max_new_tokens)
    return evaluation.evaluate(run.model, CORPORA[run.corpus], run.problems, config.eval_samples,
                               ks, (plumbing.EVALUATION, 0), sampling, run.helpers["base"])


def list_kept_steps(steps: int) -> list[int]:
    """After which batches of a run its answers are kept: evenly spaced, at most 12, the last too.

    A longer run keeps some of a shorter one's: every batch up to 10, every second up to 20 ...
    """
    stride = 1 << max(0, (steps - 1) // 10).bit_length()
    return [*range(0, steps, stride), steps]


def keep_answers(run: Run, step: int) -> None:
    """Keep how the policy answers three problems after `step` batches, on the same random numbers.
    """
    wanted = list_kept_steps(run.config.steps)
    kept = [entry for entry in run.state.get("answers", [])
            if entry["step"] < step and entry["step"] in wanted]
    if step in wanted:
        sampling = evaluation.Sampling(max_new_tokens=run.config.max_new_tokens)
        answers = evaluation.answer_problems(run.model, CORPORA[run.corpus], run.problems[:3], 4,
                                             (plumbing.SHOWN, 0), sampling)
        kept.append({"step": step, "texts": answers.texts})
    run.state["answers"] = kept
    run.clock.lap("evaluate")


def save_run(run: Run) -> None:
    """Write all that a resume needs; the tables come last, they can be made again."""
    run.state["seconds"] = dict(run.clock.booked)
    run.state["stateful"] = [thing.state_dict() for thing in run.stateful]
    out = Path(run.config.out)
    save_checkpoint(out / "model.pt", run.model, corpus=run.corpus, train=run.state)
    files.write(out / "metrics.csv", files.to_csv(run.state["rows"]))
    files.write(out / "samples.txt", "\n".join(run.state["samples"]))
    shown = {"corpus": run.corpus, "problems": list(map(render_problem, run.problems[:3]))}
    files.write(out / "answers.json", files.to_json(shown | {"batches": run.state["answers"]}))


def finish_run(run: Run) -> None:
    """Evaluate, compare with before, write summary.json."""
    config, state, modes = run.config, run.state, CORPORA[run.corpus].modes
    after, answers = evaluate_run(run)
    keep_answers(run, config.steps)
    save_run(run)
    then = answers._replace(correct=np.array(state["correct"]), modes=np.array(state["modes"]))
    before, seconds = state["before"], state["seconds"]
    clip = {side: float(np.mean([row[f"clip_{side}"] for row in state["rows"]]))
            for side in ("high", "low")}
    summary = {"base": config.base, "reward": config.reward, "loss": config.loss,
               "seed": config.seed, "steps": config.steps, "before": before, "after": after,
               "gain": evaluation.gain(before, after, modes),
               "switches": evaluation.count_switches(then, answers, modes),
               "clip": clip, "seconds": {"total": sum(seconds.values()), **seconds}}
    files.write(Path(config.out) / "summary.json", files.to_json(summary))
    if all(row["grad_norm"] == 0 for row in state["rows"]):
        plumbing.note("no update had a gradient: nothing was learned")
    moved = [f"{name} {before[key]:.3f} -> {after[key]:.3f}" for name, key in
             [("accuracy", "accuracy"), *((mode, f"{mode}_share") for mode in modes)]]
    if after["ended"] < 1 - CUT:
        moved.append(f"{1 - after['ended']:.1%} of the answers cut by --max-new-tokens")
    print(f"{config.base}, reward {config.reward}, loss {config.loss}, seed {config.seed}: "
          f"{', '.join(moved)}, {sum(seconds.values()):.0f} s")


# --------------------------------------------------------------------------------------------------
# Command line


def train_command(args: argparse.Namespace) -> None:
    if args.eps is not None:
        if (args.eps_low, args.eps_high) != (TrainConfig.eps_low, TrainConfig.eps_high):
            raise InputError("--eps is both clips at once: not with --eps-low or --eps-high")
        args.eps_low = args.eps_high = args.eps
    train(plumbing.read_config(TrainConfig, args), args.command_line)


def build_parser() -> plumbing.Parser:
    parser = plumbing.Parser(prog="rlvr.py", allow_abbrev=False,
                             description="RL with verifiable rewards, from scratch: see README.md")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=plumbing.Parser,
                                     metavar="pretrain|train|evaluate|sample")
    described = {"pretrain": ("make a base", PretrainConfig),
                 "train": ("RL on a base", TrainConfig),
                 "evaluate": ("accuracy, modes, pass@k, as JSON", evaluation.EvaluateConfig),
                 "sample": ("print responses to a problem", evaluation.SampleConfig)}
    parsers = {}
    for name, (help, config) in described.items():
        parsers[name] = commands.add_parser(name, allow_abbrev=False, help=help)
        if name in ("evaluate", "sample"):
            parsers[name].add_argument("checkpoint", help="a .pt file of pretrain or train")
        plumbing.add_options(parsers[name], config)
    parsers["train"].add_argument("--eps", type=plumbing.number(float, least=0), metavar="FLOAT",
                                  help="both clips at once")
    parsers["sample"].add_argument("prompt", help="a problem such as '37 *4 +5 -2'; a hint or "
                                   "an answer may follow it: ' #code', '=51'")
    parsers["sample"].add_argument("-n", type=plumbing.number(int, 1, most=10**5), default=1,
                                   help="how many (default 1)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    args.command_line = shlex.join(["python", "rlvr.py", *typed])
    commands = {"pretrain": lambda args: pretrain(plumbing.read_config(PretrainConfig, args)),
                "train": train_command,
                "evaluate": evaluation.evaluate_command,
                "sample": evaluation.sample_command}
    return plumbing.run_command("rlvr.py", lambda: commands[args.command](args))


if __name__ == "__main__":
    sys.exit(main())
