"""RL with verifiable rewards, from scratch: pretrain a base, train it on a reward, compare.

    python rlvr.py pretrain --base good-code            # a small transformer on clock arithmetic
    python rlvr.py train --base good-code --reward random --out runs/random       # GRPO on it
    python rlvr.py evaluate runs/random/model.pt
    python rlvr.py sample runs/random/model.pt "37 *4 +5 -2"

Read from top to bottom: options, one rollout batch, the updates on it, the loop, the command line.
Advantages and losses are in losses.py, the sampler in model.py, rewards in rewards.py; run.py keeps
a run on disk, where nothing is RL.

Shapes: P prompts in a rollout batch, G rollouts of each, N = P * G rows, T response tokens,
C width of the model, V vocabulary; R response tokens of a micro-batch, all rows after one another.
"""

import math
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

# What is called data or model in the folder that this is run from, or on PYTHONPATH, is not ours.
sys.path.insert(0, str(Path(__file__).parent))

import evaluation
from companions import segments, teacher
from data.corpus import CORPORA
from data.task import EASY, HARD, SPLITS, render_problem
from data.tokenizer import END, encode_prompt
from losses import LOSSES, Batch, Objective, Tokens, check_shape, kl_k3
from measures import measure_batch, show_samples
from model import (
    Transformer,
    decode_rollouts,
    entropy,
    response_hidden,
    sample_responses,
    scale_logits,
    token_logprobs,
)
from plumbing import files, machine, streams
from plumbing.commands import Parser, run_command
from plumbing.flags import (
    add_entry_options,
    add_options,
    complete_flags,
    list_values,
    number,
    option,
    read_config,
    read_options,
)
from plumbing.machine import upload
from plumbing.messages import InputError, note
from plumbing.streams import numpy_rng, torch_rng
from pretrain import PretrainConfig, pretrain
from rewards import REWARDS, Context, build_reward, split_name
from run import MICRO_BATCH, Pool, Task, open_run

LOSSES.update(segments.LOSSES | teacher.LOSSES)

del sys.path[0]

# --------------------------------------------------------------------------------------------------
# Options: every one is a flag, and its default is the recommended value.


@dataclass
class TrainConfig:
    """What every run has; `flags`: what its loss and its reward read besides, by name."""

    base: str = option(
        "good-code", "a base's name (runs/bases/NAME.pt) or a path", group="the run")
    reward: str = option("random", f"{', '.join(REWARDS)}; A+B; not_A")
    loss: str = option("grpo", "advantage and policy loss (losses.py)", choices=LOSSES)
    seed: int = option(1, "of prompts, samples, random rewards", least=0, most=streams.MAX_SEED)
    steps: int = option(20, "rollout batches", least=1, most=10**6)
    out: str = option("runs/train", "folder to write; the same command resumes there")
    # the rollouts: 64 x 16 as in 2506.10947
    prompts: int = option(
        64, "prompts per rollout batch", least=1, most=10**5, group="rollouts")
    group: int = option(16, "rollouts per prompt, which are compared", least=2, most=10**4)
    # below 0.01 what differs between reading and sampling, 1e-6, is a loss of its own
    temperature: float = option(
        1.0, "of sampling; the loss scores under it too", least=0.01, most=100)
    max_new_tokens: int = option(
        40, "longest response, in tokens; a right program has up to 35", least=1, most=1000)
    # 1 is one-shot RLVR (2504.20571)
    pool: int = option(256, "training prompts to draw from, in epochs", least=1, most=10**6)
    # 6 7 for incorrect, which needs prompts that the base gets wrong
    num_ops: tuple[int, ...] | None = option(
        None, "operations of the training prompts, 1 to 7 (default 1 2 3 4 5)",
        choices=EASY + HARD)
    # the update: SGD, since AdamW gives the noise of a random reward the step size of a signal; the
    # first update of a batch is on-policy, only later ones can clip
    updates: int = option(32, "updates per rollout batch", least=1, group="updates")
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
    eval_problems: int = option(
        400, "problems, the same in every run", least=1, group="evaluation, before and after")
    # pass@k for the powers of 2 up to it
    eval_samples: int = option(8, "samples of each at temperature 1", least=1, most=10**5)
    # no training prompt is in evaluation or probe
    eval_split: str = option("evaluation", "which problems", choices=SPLITS)
    eval_num_ops: tuple[int, ...] = option(
        EASY, "operations of the evaluation problems, 1 to 7", choices=EASY + HARD)
    # the machine: it changes speed and memory, and of the results the last bits alone, about 1e-7;
    # so a resumed run is bit for bit an uninterrupted one where these three stay as they are
    micro_batch: int | None = option(
        None, "sequences per forward pass (default: 16; on a GPU 512)", least=1, group="machine")
    threads: int | None = machine.THREADS
    device: str = machine.DEVICE
    flags: dict = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------
# One rollout batch


def choose_prompts(config: TrainConfig, pool_size: int, step: int) -> np.ndarray:
    """Pool indices (P,) of one rollout batch: the pool in epochs, each shuffled anew.

    Where the pool is smaller than a batch, a prompt stands in it twice and is two groups.
    """
    positions = np.arange(step * config.prompts, (step + 1) * config.prompts)
    epochs = {epoch: numpy_rng(streams.ORDER, config.seed, epoch).permutation(pool_size)
              for epoch in np.unique(positions // pool_size).tolist()}
    return np.array([epochs[i // pool_size][i % pool_size] for i in positions.tolist()])


def draw_prompts(task: Task, config: TrainConfig, step: int) -> Pool:
    """The training prompts (P) of one rollout batch, and their labels."""
    return [task.pool[i] for i in choose_prompts(config, len(task.pool), step)]


def sample_groups(policy: Transformer, asked: Pool, config: TrainConfig, *key: int) -> Batch:
    """A group of G responses to each prompt; what they are paid, (P, G), is NaN yet.

    key: of its random stream, such as the step; a second attempt in one step is another key.
    """
    G = config.group
    prompts = [encode_prompt(render_problem(problem)) for problem, _ in asked]
    rollouts = sample_responses(policy, prompts, G, END, config.max_new_tokens, config.temperature,
                                generator=torch_rng(streams.SAMPLES, config.seed, *key))
    problems = [problem for problem, _ in asked for _ in range(G)]                 # (N)
    labels = [label for _, label in asked for _ in range(G)]                       # (N)
    rows = [prompt for prompt in prompts for _ in range(G)]                        # (N)
    unpaid = torch.full((len(asked), G), torch.nan, dtype=torch.float64)           # (P, G)
    return Batch(rows, rollouts.ids, rollouts.mask, rollouts.logprobs, unpaid, problems=problems,
                 labels=labels, responses=decode_rollouts(rollouts), entropy=rollouts.entropy)


def pay_rewards(batch: Batch, task: Task, config: TrainConfig, *key: int) -> Batch:
    """With what each response is paid, (P, G); key: of the stream of rewards that draw."""
    # Each base has coins of its own, so that two bases with one seed are independent.
    coins = numpy_rng(streams.REWARD, config.seed, *key, streams.hash_name(config.base))
    context = Context(config.group, batch.labels, coins, task.judge)
    paid = task.reward.score(batch.problems, batch.responses, context)
    rewards = torch.tensor(paid, dtype=torch.float64).reshape(-1, config.group)    # (P, G)
    return batch._replace(rewards=rewards, reward_range=(task.reward.low, task.reward.high))


def compare_rewards(batch: Batch, objective: Objective) -> Batch:
    """With the advantage of each token, (N, T): what its response is paid beyond its group's."""
    advantages = objective.advantages(batch)
    check_shape("the advantages of a loss are", advantages, batch.mask)
    return batch._replace(advantages=advantages.to(batch.old_logprobs))


def rollout(policy: Transformer, task: Task, config: TrainConfig, step: int,
            objective: Objective) -> Batch:
    """Sample a group for each prompt, pay each response, compare them within their group.

    Each part may be called alone: with another policy, on more prompts, twice
    (`select_groups`, `join_batches`).
    """
    asked = draw_prompts(task, config, step)
    batch = sample_groups(policy, asked, config, step)
    batch = pay_rewards(batch, task, config, step)
    batch = objective.score(policy, batch, step)
    return compare_rewards(batch, objective)


# --------------------------------------------------------------------------------------------------
# The updates on one rollout batch


def split_minibatches(config: TrainConfig, n: int, step: int) -> list[Tensor]:
    """The rows of each update on a batch of n: each row once, in an order of the step's own."""
    shuffled = numpy_rng(streams.SHUFFLE, config.seed, step).permutation(n)
    return list(map(torch.from_numpy, np.array_split(shuffled, config.updates)))


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


def diagnose(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, dropped: Tensor) -> dict:
    """How far a policy is from that of the rollout, and what was clipped: sums over tokens (R,)."""
    # KL(old || new): the samples are old's.
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),
            "clip_high": (dropped & (advantages > 0)).sum(),
            "clip_low": (dropped & (advantages < 0)).sum()}


def minibatch_loss(policy: Transformer, batch: Batch, rows: Tensor, divisors: Tensor,
                   config: TrainConfig, objective: Objective) -> tuple[Tensor, dict]:
    """The loss of some rows (B,) of a batch: a scalar, and the sums of its metrics over R tokens.

    Each row's tokens are summed and divided by its divisor (B,).
    """
    T = int(batch.mask[rows].sum(1).max())
    ids, mask = batch.ids[rows, :T], batch.mask[rows, :T]                          # (B, T)
    hidden = response_hidden(policy, [batch.prompts[row] for row in rows.tolist()], ids, mask)

    def pick(field: Tensor) -> Tensor:
        """What a field (N, T) of the batch has on the response tokens: (R,), where the model is."""
        return upload(field[rows, :T][mask], hidden.device)

    logits = policy.head(hidden)                                                   # (R, V)
    logprobs = token_logprobs(logits, pick(batch.ids), config.temperature)         # (R,)
    old_logprobs, advantages = pick(batch.old_logprobs), pick(batch.advantages)    # (R,)
    owners = torch.arange(len(rows))[:, None].expand_as(mask)[mask]                # (R,)
    loss, dropped = objective.policy_loss(logprobs, old_logprobs, advantages,
                                          upload(owners, hidden.device))           # (R,) each
    check_shape("the losses of tokens are", loss, logprobs)
    check_shape("the tokens that a loss clipped are", dropped, logprobs)
    sums = diagnose(logprobs.detach(), old_logprobs, advantages, dropped)
    for name, weight, term in objective.terms(
            batch, Tokens(hidden, logits, logprobs, advantages, pick)):
        sums[name] = term.detach().sum()
        loss = loss + weight * term
    if config.entropy_coef:
        bonus = entropy(scale_logits(logits, config.temperature))
        loss = loss - config.entropy_coef * bonus
    per_token = divisors[:, None].expand_as(mask)[mask].to(loss.dtype)             # (R,)
    return (loss / upload(per_token, loss.device)).sum(), sums


def update(policy: Transformer, optimizers: list[torch.optim.Optimizer], batch: Batch,
           config: TrainConfig, step: int, objective: Objective) -> dict:
    """Each row once, in `config.updates` random minibatches, one optimizer step each.

    Returns the metrics over all of them. Raises FloatingPointError if the gradient is no number.
    """
    lengths, sums = batch.mask.sum(1), Counter()
    # Where the model is: the norm of a minibatch without signal, which has no gradient, is on the
    # CPU whatever the device is.
    norms = policy.head.weight.new_zeros(config.updates)
    # A row without advantage has gradient 0: it counts in the divisor but needs no forward pass.
    signal = (batch.advantages != 0).any(1)
    all_rows = config.entropy_coef > 0 or objective.trains
    micro_batch = machine.choose_micro_batch(config, policy.head.weight.device, MICRO_BATCH)
    for i, rows in enumerate(split_minibatches(config, len(batch.ids), step)):
        divisors = choose_divisors(lengths, rows, signal, config.aggregate)        # (N,)
        # Sorted by length, a micro-batch has little padding.
        trained = rows if all_rows else rows[signal[rows]]
        trained = trained[lengths[trained].argsort(stable=True)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for micro in trained.split(micro_batch) if len(trained) else []:
            loss, more = minibatch_loss(policy, batch, micro, divisors[micro], config, objective)
            loss.backward()
            sums.update(more)
        norms[i] = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
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
    terms = [name for name in reversed(sums) if name not in (*metrics, "trained")]
    metrics |= {name: sums[name] / trained for name in terms}
    for name in metrics:
        if not math.isfinite(metrics[name]):
            note(f"{name} of a rollout batch is no number: a sampled token has probability 0 now")
    return metrics


# --------------------------------------------------------------------------------------------------
# The loop


@machine.keep_settings()
def train(config: TrainConfig, command: str = "") -> None:
    """RL on a base, into config.out, or on from what is there.

    Writes config.json, then metrics.csv, samples.txt, answers.json and model.pt after every rollout
    batch, and summary.json at the end (run.py).
    """
    check_config(config)
    with files.claim(Path(config.out)):
        run = open_run(config, LOSSES[config.loss], command)
        if run is None:
            return print(f"{config.out} is finished already")
        policy, task = run.policy, run.task
        for step in run.steps():
            objective = run.objective.at(step)
            batch = rollout(policy, task, config, step, objective)
            metrics = measure_batch(task.corpus, batch)
            run.clock.lap("rollout")
            metrics |= update(policy, run.optimizers, batch, config, step, objective)
            objective.follow(policy)
            run.clock.lap("update")
            run.record(step, metrics, show_samples(batch, step))
        run.finish()


def make_config(eps: float | None = None, **flags) -> TrainConfig:
    """A config of flags as they are typed, those that the loss and the reward read among them.

    >>> make_config(loss="grpo", reward="random", eps_low=0.2).flags
    {'eps_low': 0.2, 'eps_high': 0.4, 'p': 0.5}
    """
    if eps is not None:
        if "eps_low" in flags or "eps_high" in flags:
            raise InputError("--eps is both clips at once: not with --eps-low or --eps-high")
        flags |= {"eps_low": eps, "eps_high": eps}
    config = read_config(TrainConfig, flags)
    check_config(config)
    return config


def check_config(config: TrainConfig) -> None:
    """Fill in the defaults that depend on others; InputError for flags that cannot be together."""
    terms = [term for term, _ in split_name(config.reward)]
    complete_flags(config, loss=(LOSSES, [config.loss]), reward=(REWARDS, terms))
    wrong_only = build_reward(config.reward, **list_values(config)).wrong_only
    config.num_ops = config.num_ops or (HARD if wrong_only else EASY)
    rollouts = config.prompts * config.group
    if config.updates > rollouts:
        raise InputError(f"--updates {config.updates} is more than the {rollouts} rollouts "
                         "of a batch")


# --------------------------------------------------------------------------------------------------
# Command line


def build_parser() -> Parser:
    parser = Parser(prog="rlvr.py", allow_abbrev=False,
                    description="RL with verifiable rewards, from scratch: see README.md")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser,
                                     metavar="pretrain|train|evaluate|sample")
    described = {"pretrain": ("make a base", "", PretrainConfig),
                 "train": ("RL on a base", "", TrainConfig),
                 "evaluate": ("accuracy, modes, pass@k, as JSON", "CHECKPOINT ",
                              evaluation.EvaluateConfig),
                 "sample": ("print responses to a problem", "CHECKPOINT PROBLEM ",
                            evaluation.SampleConfig)}
    parsers, groups = {}, {}
    for name, (help, words, config) in described.items():
        parsers[name] = commands.add_parser(name, allow_abbrev=False, help=help,
                                            usage=f"%(prog)s {words}[FLAGS]")
        if name in ("evaluate", "sample"):
            parsers[name].add_argument("checkpoint", help="a .pt file of pretrain or train")
        groups[name] = add_options(parsers[name], read_options(config))
    add_entry_options(parsers["pretrain"], base=CORPORA)
    add_entry_options(parsers["train"], loss=LOSSES, reward=REWARDS)
    groups["train"]["updates"].add_argument("--eps", type=number(float, least=0), metavar="FLOAT",
                                            help="--eps-low and --eps-high at once")
    parsers["sample"].add_argument("prompt", help="a problem such as '37 *4 +5 -2'; more may "
                                   "follow it: ' #code', '=51'")
    parsers["sample"].add_argument("-n", type=number(int, 1, most=10**5), default=1,
                                   help="how many (default 1)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    # The file that was run may be a user's own, which adds entries and calls this.
    program, typed = ("rlvr.py", arguments) if arguments is not None else (
        Path(sys.argv[0]).name, sys.argv[1:])
    line = shlex.join(["python", program, *typed])
    flags = {name: value for name, value in vars(args).items() if name != "command"}
    commands = {"pretrain": lambda: pretrain(read_config(PretrainConfig, flags)),
                "train": lambda: train(make_config(**flags), line),
                "evaluate": lambda: evaluation.evaluate_command(args),
                "sample": lambda: evaluation.sample_command(args)}
    return run_command("rlvr.py", commands[args.command],
                       resumes=args.command in ("pretrain", "train"))


if __name__ == "__main__":
    sys.exit(main())
