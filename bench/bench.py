"""How fast is it, and how far from the bare matrix products? Seconds to minutes.

    python -m bench                        # the base good-code, at train's own defaults
    python -m bench --width 256 --heads 8  # a fresh model of another shape
    python -m bench --preset large         # for a GPU: a share of its bfloat16 rate too
    python -m bench --sweep                # cost per token over width and batch, a figure

Three phases, by the functions that training itself calls: `pretraining` is 10 steps of `take_step`,
`rollout` one rollout batch, `update` all updates on it. Each runs once to warm up and then several
times; seconds are wall time, the least and the median.

**Matmuls** is a bound: the bare products of qkv, proj, up, down and head, timed right after each
run, in the sizes that the phase really had, each into a buffer that is there already. Rows are real
tokens: prompt and response through the blocks (no padding, and a beginning that rollouts share is
one row), the response alone through the head. Each counts once in a rollout; with a backward pass
three times: y = x W', dx = dy W, dW = dy' x. Left out: attention, Muon's own products, all that is
no product. On a GPU from width 256 on the blocks' are in bfloat16, as training has them.

Of a base, two tables are printed. The second has what a GPU would launch and wait for, counted on a
device that is not there (counts.py, away.py); it hardly depends on the machine.

Peak memory is torch.cuda.max_memory_allocated of the phase on a GPU. On a CPU it is ru_maxrss, the
most that the whole process has held so far, torch itself included: it never falls.
"""

import copy
import platform
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Callable, NamedTuple

import torch

import rlvr
from bench.bound import (
    PADDING,
    count_flops,
    list_products,
    multiply_all,
    record_calls,
    take_time,
)
from bench.counts import count_on, count_there, count_work, tabulate_counts
from data.corpus import CORPORA, Corpus, write_documents, write_good_code
from data.task import draw_problems, render_problem
from data.tokenizer import END, VOCABULARY_SIZE, encode
from lessons.report import BLUE, GREY, ORANGE, align, draw_to, open_canvas
from losses import Batch, Objective
from model import ModelConfig, Transformer, load_checkpoint, locate_base
from plumbing import progress, streams
from plumbing.commands import Parser, run_command
from plumbing.files import check_writable, to_json, write
from plumbing.flags import add_options, option, read_config, read_options
from plumbing.machine import DEVICE, THREADS, choose_device
from plumbing.streams import numpy_rng
from plumbing.system import peak_memory_of_process, say
from pretrain import (
    PRESETS,
    PretrainConfig,
    Pretraining,
    check_heads,
    make_pretraining_optimizers,
    take_step,
)
from run import Task, bind_entries, make_optimizers, make_pool

STEPS = 10                       # of pretraining, in one timed run
PHASES = ("pretraining", "rollout", "update")
WIDTHS, BATCHES = (64, 128, 256), (16, 64, 256)
FIGURE = "runs/lessons/bench/figure.png"


@dataclass
class BenchConfig:
    base: str = option("good-code", "a base's name or a path; responses are as long as its own")
    # any of these four: a fresh model instead, and all responses equally long
    preset: str | None = option(None, "shape of a fresh model", choices=PRESETS)
    layers: int | None = option(None, "transformer blocks of a fresh model", least=1)
    width: int | None = option(None, "width of a fresh model", least=2)
    heads: int | None = option(None, "attention heads of a fresh model", least=1)
    repeats: int = option(5, "timed runs of each phase, after one to warm up", least=1)
    json: str | None = option(None, "file for all numbers; - is the standard output")
    figure: str = option(FIGURE, "figure of the sweep")
    threads: int | None = THREADS
    device: str = DEVICE


class Work(NamedTuple):
    """What the phases work on."""

    model: Transformer
    task: Task
    pretraining: PretrainConfig
    documents: list[tuple[str, str]]   # of one timed run of pretraining
    training: rlvr.TrainConfig
    objective: Objective


# --- the work

def set_training(config: rlvr.TrainConfig, model: Transformer,
                 corpus: Corpus) -> tuple[Task, Objective]:
    """What a run of a loss without companions works on, nothing of it on disk."""
    rlvr.check_config(config)
    reward, objective = bind_entries(config, rlvr.LOSSES[config.loss], model, model)
    return Task(corpus, make_pool(config, model, corpus, reward), reward), objective


def load_work(base: str, device: torch.device) -> Work:
    """A base, with the defaults of `pretrain` and `train`."""
    model, checkpoint = load_checkpoint(locate_base(base), device)
    pretraining = PretrainConfig(base=checkpoint["corpus"])
    rng = numpy_rng(streams.CORPUS, pretraining.seed)
    documents = write_documents(pretraining.base, STEPS * pretraining.batch, rng)
    training = rlvr.TrainConfig(base=base)
    task, objective = set_training(training, model, CORPORA[pretraining.base])
    return Work(model, task, pretraining, documents, training, objective)


def make_endless(shape: ModelConfig) -> Transformer:
    """A fresh model, near uniform over all tokens but two that it never samples: END, and PADDING.

    The first coordinate of every embedding is the same and large: what a row of the head reads
    there is a bias.
    """
    torch.manual_seed(0)
    model = Transformer(shape)
    with torch.no_grad():
        model.embedding.weight[:, 0] = 0.3
        model.head.weight[[END, PADDING], 0] = -20.0
    return model


def make_work(shape: ModelConfig, device: torch.device, batch: int | None = None) -> Work:
    """A fresh model and sequences of one length: no padding, and rollouts share their prompt only.

    All problems have 5 operations: 12 prompt tokens, 27 of the response. `batch`: sequences of the
    one step, rollout batch and update; without it the defaults of `pretrain` and `train`.
    """
    pretraining, training = PretrainConfig(), rlvr.TrainConfig(num_ops=(5,))
    steps = STEPS
    if batch:
        pretraining.batch, steps = batch, 1
        training.prompts, training.group, training.updates = max(1, batch // 16), 16, 1
    rng = numpy_rng(streams.CORPUS, 0)
    problems = draw_problems(steps * pretraining.batch, "training", (5,), rng, distinct=False)
    documents = [(render_problem(problem), write_good_code(problem, False))
                 for problem in problems]
    training.max_new_tokens = len(encode(documents[0][1])) + 1
    model = make_endless(shape).to(device)
    task, objective = set_training(training, model, CORPORA["good-code"])
    return Work(model, task, pretraining, documents, training, objective)


# --- the phases: each a preparation, which is not timed, and the work

def begin_pretraining(work: Work) -> Pretraining:
    model = copy.deepcopy(work.model)
    return Pretraining(work.pretraining, model,
                       *make_pretraining_optimizers(model, work.pretraining))


def take_steps(pretraining: Pretraining, documents: list[tuple[str, str]]) -> None:
    batch = pretraining.config.batch
    for first in range(0, len(documents), batch):
        take_step(pretraining, documents[first:first + batch])


def sample_batch(work: Work, model: Transformer) -> Batch:
    return rlvr.rollout(model, work.task, work.training, 0, work.objective)


def update_copy(work: Work, batch: Batch, model: Transformer) -> None:
    optimizers = make_optimizers(work.training, model, ())
    rlvr.update(model, optimizers, batch, work.training, 0, work.objective)


class Phase(NamedTuple):
    name: str
    tokens: int                         # of the responses
    backward: bool
    prepare: Callable                   # () -> (what `run` gets, the model in it)
    run: Callable


def list_phases(work: Work) -> list[Phase]:
    batch = sample_batch(work, work.model)
    read = sum(len(encode(response)) + 1 for _, response in work.documents)
    sampled = int(batch.mask.sum())

    def prepare_pretraining():
        pretraining = begin_pretraining(work)
        return pretraining, pretraining.model

    def prepare_copy():
        model = copy.deepcopy(work.model)
        return model, model

    return [Phase("pretraining", read, True, prepare_pretraining,
                  lambda pretraining: take_steps(pretraining, work.documents)),
            Phase("rollout", sampled, False, prepare_copy,
                  lambda model: sample_batch(work, model)),
            Phase("update", sampled, True, prepare_copy,
                  lambda model: update_copy(work, batch, model))]


def peak_memory(device: torch.device) -> float | None:
    """MiB: since the last reset on a GPU, of the whole process so far elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory_of_process()


def record_phase(phase: Phase, device: torch.device) -> tuple[list[tuple[str, int]], float, list]:
    """The first run of a phase: its calls, its peak memory, the products in it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started, model = phase.prepare()
    with record_calls(model) as calls:
        phase.run(started)
    peak = peak_memory(device)
    return calls, peak, list_products(model, calls, phase.backward)


def measure_phase(phase: Phase, device: torch.device, repeats: int,
                  rate: float | None = None) -> dict:
    """A phase `repeats` times after the first; its bare products follow each.

    rate: of bfloat16, in operations a second, for the share of it.
    """
    calls, peak, products = record_phase(phase, device)
    multiply_all(products)
    seconds, bare = [], []
    for _ in range(repeats):
        started, _ = phase.prepare()
        seconds.append(take_time(device, phase.run, started))
        bare.append(take_time(device, multiply_all, products))
    flops = count_flops(products)
    return {"phase": phase.name, "tokens": phase.tokens,
            "read": sum(rows for place, rows in calls if place == "blocks"),
            "seconds": min(seconds), "median": median(seconds), "matmul_seconds": min(bare),
            "flops": flops, "peak_mib": peak,
            "bf16_share": flops / min(seconds) / rate if rate else None}


def measure_rate(device: torch.device, size: int = 8192) -> float:
    """Operations a second of one large bfloat16 product, the best of 10."""
    a, b, out = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(3))
    multiply_all([(a, b, out)] * 3)
    return 2 * size**3 / min(take_time(device, torch.mm, a, b) for _ in range(10))


# --- tables and the figure

def tabulate_phases(rows: list[dict]) -> str:
    """A row for each phase; what was not measured has no column."""
    lines = [["phase", "tokens", "read", "seconds", "median", "tokens/s", "matmuls", "bf16 rate",
              "peak MiB"]]
    for row in rows:
        rate = row["bf16_share"]
        lines.append([row["phase"], f"{row['tokens']:,}", f"{row['read']:,}",
                      f"{row['seconds']:.3f}", f"{row['median']:.3f}",
                      f"{row['tokens'] / row['seconds']:,.0f}",
                      f"{100 * row['matmul_seconds'] / row['seconds']:.0f}%",
                      f"{100 * rate:.1f}%" if rate else "",
                      f"{row['peak_mib']:.0f}" if row["peak_mib"] else ""])
    return align(lines)


def cost(row: dict, key: str = "seconds") -> float:
    """Microseconds a response token."""
    return 1e6 * row[key] / row["tokens"]


def tabulate_sweep(rows: list[dict]) -> str:
    """Microseconds a token, and what part of them the bare products take; a row a phase and width.

    A column for each batch.
    """
    batches = sorted({row["batch"] for row in rows})
    cells = {(row["phase"], row["width"], row["batch"]): row for row in rows}
    lines = [["phase", "width", *(f"batch {batch}" for batch in batches)]]
    for phase, width in dict.fromkeys((row["phase"], row["width"]) for row in rows):
        chosen = [cells[phase, width, batch] for batch in batches]
        lines.append([phase, str(width), *(
            f"{cost(row):.1f} ({100 * row['matmul_seconds'] / row['seconds']:.0f}%)"
            for row in chosen)])
    return align(lines)


def draw_sweep(rows: list[dict]):
    """Cost per token over width, a panel a phase and a line a batch; dashed: the bare products."""
    phases, batches = (list(dict.fromkeys(row[key] for row in rows)) for key in ("phase", "batch"))
    figure, axes = open_canvas(1, len(phases), figsize=(9, 3.6), sharey=True)
    for axis, phase in zip(axes, phases):
        lines = [[row for row in rows if (row["phase"], row["batch"]) == (phase, batch)]
                 for batch in batches]
        draw_lines(axis, lines)
        axis.set(title=phase, xlabel="width")
    axes[0].set_ylabel("microseconds per response token")
    figure.suptitle("Lines: measured, with so many sequences in a step. "
                    "Dashed: the bare products of the most.", x=0.01, ha="left", fontsize=10)
    return figure


def draw_lines(axis, lines: list[list[dict]]) -> None:
    """A line for each batch, its number at the end: apart and in their order, where they meet."""
    widths, last = [row["width"] for row in lines[0]], [cost(line[-1]) for line in lines]
    for line, color in zip(lines, (ORANGE, BLUE, "black")):
        axis.plot(widths, list(map(cost, line)), "o-", color=color, markersize=4)
        rank = sum(other < cost(line[-1]) for other in last) - (len(lines) - 1) / 2
        axis.annotate(line[0]["batch"], (widths[-1], geometric_mean(last)), (8, 12 * rank),
                      textcoords="offset points", color=color, va="center")
    bound = [cost(row, "matmul_seconds") for row in lines[-1]]
    axis.plot(widths, bound, "--", color=GREY)
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(widths, map(str, widths))
    axis.minorticks_off()


# --- the command

def choose_shape(config: BenchConfig) -> ModelConfig | None:
    """The shape of a fresh model, or None: the base."""
    if not (config.preset or config.layers or config.width or config.heads):
        return None
    shape = PretrainConfig(preset=config.preset or "small", layers=config.layers,
                           width=config.width, heads=config.heads)
    check_heads(shape)
    return ModelConfig(VOCABULARY_SIZE, shape.layers, shape.width, shape.heads)


def measure_sweep(config: BenchConfig, device: torch.device, widths: tuple[int, ...],
                  batches: tuple[int, ...], layers: int = 3) -> list[dict]:
    """All phases for all widths, in heads of 16, and batches."""
    cells, rows = [(width, batch) for width in widths for batch in batches], []
    for width, batch in progress.progress_bar(iterable=cells, desc="sweep"):
        shape = ModelConfig(VOCABULARY_SIZE, layers, width, width // 16)
        for phase in list_phases(make_work(shape, device, batch)):
            row = measure_phase(phase, device, config.repeats)
            rows.append({"width": width, "batch": batch, **row})
    rows.sort(key=lambda row: PHASES.index(row["phase"]))
    return rows


def name_machine(device: torch.device) -> dict:
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(),
            "torch": torch.__version__, "python": platform.python_version()}


def bench(config: BenchConfig, sweep: bool, quick: bool) -> None:
    """Measure, print tables, write numbers and the figure where they were asked for."""
    if config.json not in (None, "-"):
        check_writable(Path(config.json).parent)
    shape, device = choose_shape(config), choose_device(config)
    work = make_work(shape, device) if shape else load_work(config.base, device)
    rate = measure_rate(device) if device.type == "cuda" else None
    machine, phases, written = name_machine(device), [], []
    bar = progress.progress_bar(iterable=list_phases(work), desc="bench", leave=False)
    for phase in bar:
        phases.append(measure_phase(phase, device, 2 if quick else config.repeats, rate))
    result = {"machine": machine, "model": asdict(work.model.config),
              "base": None if shape else config.base, "bf16_rate": rate, "phases": phases}
    show = say if config.json == "-" else print
    show(tabulate_phases(phases))
    if shape is None:
        result["counts"] = count_work(work)
        show("\n" + tabulate_counts(result["counts"]))
    if shape is None and device.type == "cuda":
        result["counts_there"] = count_on(device, count_there, work)
        show("\nby torch, on this GPU\n" + tabulate_counts(result["counts_there"]))
    if sweep:
        widths, batches = (WIDTHS[:2], BATCHES[:2]) if quick else (WIDTHS, BATCHES)
        result["sweep"] = measure_sweep(config, device, widths, batches)
        show("\n" + tabulate_sweep(result["sweep"]))
        written += draw_to(Path(config.figure), draw_sweep, result["sweep"])
    if config.json == "-":
        print(to_json(result), end="")
    elif config.json:
        write(Path(config.json), to_json(result))
        written.append(Path(config.json))
    for path in written:
        show(f"wrote {path.as_posix()}")
    show("next: " + ("bench/README.md says what is what" if sweep else "python -m bench --sweep"))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m bench", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    add_options(parser, read_options(BenchConfig))
    parser.add_argument("--sweep", action="store_true", help="over width and batch, with a figure")
    parser.add_argument("--quick", action="store_true", help="two runs of each; a smaller sweep")
    flags = vars(parser.parse_args(arguments))
    sweep, quick = flags.pop("sweep"), flags.pop("quick")
    config = read_config(BenchConfig, flags)
    return run_command(parser.prog, lambda: bench(config, sweep, quick))
