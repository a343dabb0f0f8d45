"""Pretraining: next-token prediction on the responses of a corpus, which makes a base."""

import math
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from data.answers import is_correct
from data.corpus import CORPORA, write_documents
from data.task import parse_problem, write_answer
from data.tokenizer import END, PAD, VOCABULARY_SIZE, encode, encode_prompt
from model import (
    BASE_FOLDER,
    ModelConfig,
    Transformer,
    decode_rollouts,
    load_checkpoint,
    mark_ended,
    response_hidden,
    sample_responses,
    save_checkpoint,
)
from plumbing.commands import suggest
from plumbing.files import check_writable, lock, remove_leftovers
from plumbing.flags import complete_flags, list_values, option, read_defaults, show_differences
from plumbing.machine import (
    DEVICE,
    MACHINE,
    THREADS,
    choose_device,
    choose_micro_batch,
    describe_machine,
    keep_settings,
    note_changes,
    share_threads,
    upload,
)
from plumbing.messages import InputError
from plumbing.progress import progress_bar, say_above, stop_signals
from plumbing.streams import CORPUS, MAX_SEED, WEIGHTS, numpy_rng

MICRO_BATCH = 24  # on a CPU, where it keeps a forward pass in the cache
EXAMPLE = "37 -2 +5"  # a problem for training
SHOWN_STEPS = 20, 50, 100, 200, 400, 800  # after which its answer is shown; at the end too
PRESETS = {"small": {"layers": 3, "width": 64, "heads": 4},
           "medium": {"layers": 4, "width": 256, "heads": 8},
           "large": {"layers": 8, "width": 512, "heads": 8}}


@dataclass
class PretrainConfig:
    """What every base has; `flags`: what its corpus reads besides, by name."""

    base: str = option(
        "good-code", "which corpus (data/corpus.py)", choices=CORPORA, group="the base")
    seed: int = option(0, "seed of the weights and the corpus", least=0, most=MAX_SEED)
    out: str | None = option(None, "checkpoint to write (default runs/bases/BASE.pt)")
    # the model: 175 thousand, 3 million or 25 million parameters; or what the next three flags say
    preset: str = option(
        "small", "size of the model", choices=("small", "medium", "large"), group="the model")
    layers: int | None = option(
        None, "transformer blocks (default: the preset's)", least=1, most=100)
    width: int | None = option(
        None, "of the residual stream (default: the preset's)", least=1, most=8192)
    heads: int | None = option(
        None, "attention heads (default: the preset's)", least=1, most=1024)
    # the optimizer: Muon for the matrices inside the blocks needs half the steps of AdamW alone
    steps: int = option(
        1700, "optimizer steps, each on fresh documents", least=1, most=10**6, group="training")
    batch: int = option(96, "documents per step", least=1, most=10**5)
    lr_muon: float = option(0.02, "peak learning rate of Muon (matrices in blocks)", above=0)
    lr_adamw: float = option(0.008, "peak learning rate of AdamW (all the rest)", above=0)
    warmup: int = option(50, "steps of linear warm-up", least=0)
    decay: float = option(0.9, "share of the steps, at the end, of linear decay", above=0, most=1)
    # the machine: it changes speed and memory; of the base the last bits, but for the threads
    micro_batch: int | None = option(
        None, "documents per forward pass (default: 24; on a GPU 512)", least=1, group="machine")
    threads: int | None = THREADS
    device: str = DEVICE
    flags: dict = field(default_factory=dict)

    def __post_init__(self):
        for name, value in PRESETS[self.preset].items():
            setattr(self, name, getattr(self, name) or value)


def orthogonalize(matrix: Tensor, steps: int) -> Tensor:
    """Bring the singular values of a matrix towards 1 by Newton-Schulz; its vectors stay.

    Each step is an odd polynomial of degree 5 (kellerjordan.github.io/posts/muon).
    """
    tall = len(matrix) > matrix.size(1)
    x = matrix / matrix.norm().clamp(min=1e-7)
    x = x.T if tall else x                                # so that the products below are small
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.775 * gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Muon):
    """torch's Muon in float32, as the model is: in torch's bfloat16 a CPU takes ten times as long.

    An optimizer step is a momentum, made orthogonal.
    """

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, beta = group["lr"], group["momentum"]
            for p in [p for p in group["params"] if p.grad is not None]:
                momentum = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - beta)
                update = orthogonalize(p.grad.lerp(momentum, beta), group["ns_steps"])
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(update, alpha=lr * max(1, len(p) / p.size(1)) ** 0.5)


def make_pretraining_optimizers(model: Transformer, config: PretrainConfig) -> tuple[list, list]:
    """Muon for the matrices inside the blocks, AdamW for all else; and a schedule for each."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters()
              if not name.startswith("blocks") or p.dim() != 2]
    # Three Newton-Schulz steps, not five: good-code comes out as right.
    kind = Muon if matrices[0].device.type == "cpu" else torch.optim.Muon
    muon = kind(matrices, lr=config.lr_muon, weight_decay=0.01, ns_steps=3)
    adamw = torch.optim.AdamW(others, lr=config.lr_adamw, betas=(0.9, 0.95), weight_decay=0.01,
                              fused=True)

    def rate(step: int) -> float:
        rise = (step + 1) / (config.warmup + 1)
        fall = (config.steps - step) / (config.steps * config.decay)
        return min(1, rise, fall)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in (muon, adamw)]
    return [muon, adamw], schedules


def accumulate_gradient(model: Transformer, documents: list[tuple[str, str]], micro_batch: int,
                        spread: Callable = map) -> float:
    """Add the gradient of the mean loss per response token, ending included; returns that loss.

    spread: calls a function on each micro-batch, as `map` does, or side by side.
    """
    pairs = [(encode_prompt(prompt), encode(response) + [END]) for prompt, response in documents]
    # Rows of like length share a micro-batch: less padding. Longest first: threads end together.
    pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]), reverse=True)
    tokens, total = sum(len(response) for _, response in pairs), 0.0
    parameters = list(model.parameters())

    def differentiate(i: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        prompts, responses = zip(*pairs[i:i + micro_batch])
        loss = sum_cross_entropy(model, prompts, responses) / tokens
        return loss.detach(), torch.autograd.grad(loss, parameters)

    for loss, gradients in spread(differentiate, range(0, len(pairs), micro_batch)):
        total += loss
        for parameter, gradient in zip(parameters, gradients):   # always in the same order
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return float(total)


def sum_cross_entropy(model: Transformer, prompts: list[list[int]],
                      responses: list[list[int]]) -> Tensor:
    """-log pi of all response tokens, summed: a scalar."""
    rows = [torch.tensor(response) for response in responses]
    ids = pad_sequence(rows, batch_first=True, padding_value=PAD)                  # (B, T)
    logits = model.head(response_hidden(model, prompts, ids, ids != PAD))          # (R, V)
    targets = upload(ids[ids != PAD], logits.device)                               # (R,)
    return nn.functional.cross_entropy(logits, targets, reduction="sum")


def partial_of(out: Path) -> Path:
    """Where a pretraining that is not finished is kept."""
    return out.with_name(out.name + ".partial")


def base_identity(config: PretrainConfig) -> dict:
    """The flags that make a base what it is."""
    others = ("out", "preset", *MACHINE)
    return {k: v for k, v in list_values(config).items() if k not in others}


def check_heads(config: PretrainConfig) -> None:
    """InputError for a width that cannot be: RoPE turns pairs inside a head."""
    if config.width % config.heads or config.width // config.heads % 2:
        raise InputError(f"--width {config.width} does not divide into {config.heads} heads of "
                         "even width")


def check_pretraining(config: PretrainConfig, out: Path) -> None:
    """Before any work: InputError for flags that cannot be, or files that hold another base."""
    complete_flags(config, base=(CORPORA, [config.base]))
    check_heads(config)
    if not out.name:
        raise InputError(f"--out {out} is not the name of a file")
    for path in (out, partial_of(out)):
        if os.path.exists(path):  # Path.exists raises if the name is too long
            _, checkpoint = load_checkpoint(path, torch.device("cpu"))
            defaults = read_defaults(PretrainConfig, *CORPORA[config.base].functions)
            differs = show_differences(checkpoint.get("pretrain"), base_identity(config), defaults)
            if differs:
                raise InputError(f"{path} was pretrained with other flags ({differs}): delete it "
                                 "or choose another --out")
    if not os.path.exists(out):
        check_writable(out.parent, out.name)


@dataclass
class Pretraining:
    """A base in the making."""

    config: PretrainConfig
    model: Transformer
    optimizers: list[torch.optim.Optimizer]
    schedules: list
    step: int = 0
    loss: float = math.nan
    spread: Callable = map     # how micro-batches are done: one after the other, or side by side

    @property
    def stateful(self) -> list:
        return [*self.optimizers, *self.schedules]

    def describe_machine(self, device: torch.device) -> dict:
        """What the last bits of the base depend on: not on the number of threads."""
        described = describe_machine(self.config, device, MICRO_BATCH)
        return {name: value for name, value in described.items() if name != "threads"}


def open_pretraining(config: PretrainConfig, partial: Path, device: torch.device) -> Pretraining:
    """A new model, or the one of a pretraining that was interrupted."""
    torch.default_generator.manual_seed(int(numpy_rng(WEIGHTS, config.seed).integers(2**31)))
    shape = ModelConfig(VOCABULARY_SIZE, config.layers, config.width, config.heads)
    model = Transformer(shape).to(device)
    if not partial.exists():
        return Pretraining(config, model, *make_pretraining_optimizers(model, config))
    model, checkpoint = load_checkpoint(partial, device)
    work = Pretraining(config, model, *make_pretraining_optimizers(model, config))
    work.step, work.loss = checkpoint["step"], checkpoint["loss"]
    note_changes(checkpoint.get("machine", {}), work.describe_machine(device))
    for thing, saved in zip(work.stateful, checkpoint["stateful"]):
        thing.load_state_dict(saved)
    return work


def take_step(work: Pretraining, documents: list[tuple[str, str]]) -> None:
    """One optimizer step on some documents."""
    micro_batch = choose_micro_batch(work.config, work.model.head.weight.device, MICRO_BATCH)
    work.loss = accumulate_gradient(work.model, documents, micro_batch, work.spread)
    if not math.isfinite(work.loss):
        raise FloatingPointError(f"pretraining diverged at step {work.step}: loss {work.loss}")
    for optimizer, schedule in zip(work.optimizers, work.schedules):
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    work.step += 1


def show_answer(work: Pretraining) -> None:
    """Say how the model answers EXAMPLE greedily by now; a judge, or a base of tenths, does not.

    Nothing is drawn of a stream that the base is made with.
    """
    config, corpus = work.config, CORPORA[work.config.base]
    if corpus.judges or corpus.digits != 2:
        return
    rollouts = sample_responses(work.model, [encode_prompt(EXAMPLE)], 1, END, temperature=0,
                                generator=torch.Generator())
    text, = decode_rollouts(rollouts)
    problem = parse_problem(EXAMPLE)
    verdict = "right" if is_correct(problem, text) else f"wrong, it is {write_answer(problem)}"
    cut = "" if mark_ended(rollouts, END).item() else "; cut at 40 tokens"
    lines = [f"{config.base}, after {work.step} of {config.steps} steps, answers {EXAMPLE} "
             f"({verdict}{cut})"]
    lines += [f"    {line if len(line) < 80 else line[:76] + '...'}" for line in text.splitlines()]
    say_above("\n".join(lines))


@keep_settings()
def pretrain(config: PretrainConfig) -> None:
    """Make a base: writes a checkpoint to config.out, or resumes from its .partial."""
    out = Path(config.out or BASE_FOLDER / f"{config.base}.pt")
    check_pretraining(config, out)
    device, partial = choose_device(config), partial_of(out)
    if out.exists():
        return print(f"{out} exists already")
    with lock(out.with_name(f".{out.name}.lock")):
        remove_leftovers(out.parent, out.name, partial.name)
        finish_pretraining(open_pretraining(config, partial, device), out)


def finish_pretraining(work: Pretraining, out: Path) -> None:
    """All steps that are left, saved every 100; then the base."""
    config, partial, device = work.config, partial_of(out), work.model.head.weight.device
    rng = numpy_rng(CORPUS, config.seed)
    documents = write_documents(config.base, config.steps * config.batch, rng, **config.flags)
    bar = progress_bar(total=config.steps, initial=work.step, desc=f"pretrain {config.base}")
    with stop_signals() as stopped, bar, share_threads(device) as work.spread:
        while work.step < config.steps:
            first = work.step * config.batch
            take_step(work, documents[first:first + config.batch])
            bar.set_postfix(loss=f"{work.loss:.3f}", refresh=False)
            bar.update()
            if stopped or work.step % 100 == 0:
                state = [thing.state_dict() for thing in work.stateful]
                save_checkpoint(partial, work.model, corpus=config.base, step=work.step,
                                pretrain=base_identity(config), loss=work.loss, stateful=state,
                                machine=work.describe_machine(device))
            if stopped:
                raise KeyboardInterrupt
            if work.step in SHOWN_STEPS and work.step < config.steps:
                show_answer(work)
    if not all(p.isfinite().all() for p in work.model.parameters()):  # no loss has seen them yet
        raise FloatingPointError("pretraining diverged in its last step: weights are no numbers")
    show_answer(work)  # before runs can begin on it, which will have rows to show
    save_checkpoint(out, work.model, corpus=config.base, pretrain=base_identity(config))
    partial.unlink(missing_ok=True)
    print(f"{config.base}: loss {work.loss:.3f}, wrote {out}")
    if not CORPORA[config.base].judges:
        path = shlex.quote(out.as_posix())
        suggest(f"python rlvr.py sample {path} '37 *4 +5 -2' -n 3",
                f"python rlvr.py train --base {config.base if config.out is None else path}")
