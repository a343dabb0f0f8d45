"""What a GPU launches and waits for, counted without one (away.py says what is counted).

Each row is one call of what training itself calls, at the work's own config. A decoded token is a
fifth of what ten tokens have more than five. A run is its rollout batches, updates and saved files,
the answers that it keeps, and an evaluation before and after; a model that answers at greater
length has more. Where there is a GPU, torch's own profiler and its warnings of synchronisation say
the same of it: `count_there`, which nobody has run yet.
"""

import copy
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Callable

import torch

import evaluation
import rlvr
from bench.away import AWAY, HOST, Machine, simulate
from data.task import render_problem
from data.tokenizer import encode_prompt
from lessons.report import align
from losses import Batch
from model import Transformer, sample_responses, save_checkpoint
from plumbing import streams
from pretrain import Pretraining, make_pretraining_optimizers, take_step
from run import Task, list_kept_steps, make_optimizers

COUNTED = ("kernels", "waits", "uploads")
TOKENS = 5


# --- who counts: the simulated device, or torch on a real one

def count_away(call: Callable) -> Counter:
    """What a call has in the simulation that runs; all three are there."""
    machine = Machine.running
    before = Counter(machine.counts)
    call()
    return Counter({name: machine.counts[name] - before[name] for name in COUNTED})


def count_there(call: Callable) -> Counter:
    """What a call has on a GPU: kernels and copies by the profiler, waits by torch's warnings."""
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with (warnings.catch_warnings(record=True) as said,
          torch.profiler.profile(activities=activities) as profile):
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    names = [event.name for event in profile.events()
             if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = [name for name in names if name.startswith(("Memcpy", "Memset"))]
    return Counter({"kernels": len(names) - len(copies),
                    "waits": sum("synchroniz" in str(each.message) for each in said),
                    "uploads": sum("HtoD" in name for name in copies)})


def divide_counts(counts: Counter, n: int) -> dict[str, float]:
    return {name: counts[name] / n for name in COUNTED}


# --- what is counted

def count_token(count: Callable, model: Transformer, config, task: Task) -> dict[str, float]:
    """One more token for all rows of a rollout batch; none ends."""
    prompts = [encode_prompt(render_problem(problem))
               for problem, _ in rlvr.draw_prompts(task, config, 0)]
    short, long = (
        count(lambda T=T: sample_responses(
            model, prompts, config.group, -1, T,
            generator=streams.torch_rng(streams.SAMPLES, config.seed, 0)))
        for T in (TOKENS, 2 * TOKENS))
    long.subtract(short)
    return divide_counts(long, TOKENS)


def train_once(model: Transformer, batch: Batch, work) -> None:
    """Forward and backward of the rows of one update."""
    rows = torch.arange(len(batch.ids) // work.training.updates)
    loss, _ = rlvr.minibatch_loss(model, batch, rows, torch.ones(len(rows)), work.training,
                                  work.objective)
    loss.backward()


def count_training(count: Callable, model: Transformer, work) -> dict[str, dict]:
    """{what: counts} of a rollout batch, its updates, and their parts."""
    config, rows, batches = work.training, {}, []
    rows["decoded token"] = count_token(count, model, config, work.task)
    rows["rollout batch"] = count(lambda: batches.append(
        rlvr.rollout(model, work.task, config, 0, work.objective)))
    rows["micro-batch"] = count(lambda: train_once(model, batches[0], work))
    optimizers = make_optimizers(config, model, ())
    updates = count(lambda: rlvr.update(model, optimizers, batches[0], config, 0,
                                        work.objective))
    rows["update"], rows["updates of a batch"] = divide_counts(updates, config.updates), updates
    with tempfile.TemporaryDirectory() as folder:
        rows["files of a batch"] = count(lambda: save_checkpoint(
            Path(folder, "model.pt"), model,
            stateful=[optimizer.state_dict() for optimizer in optimizers]))
    return rows


def count_evaluation(count: Callable, model: Transformer, work) -> dict[str, dict]:
    """{what: counts} of the answers kept once, and of an evaluation with its KL to the base."""
    config = work.training
    problems = evaluation.draw_evaluation(config.eval_problems, config.eval_split,
                                          config.eval_num_ops, digits=work.task.corpus.digits)
    sampling = evaluation.Sampling(max_new_tokens=config.max_new_tokens)
    kept = count(lambda: evaluation.answer_problems(
        model, work.task.corpus, problems[:3], 4, (streams.SHOWN, 0), sampling))
    full = count(lambda: evaluation.evaluate(
        model, work.task.corpus, problems, config.eval_samples, [1], (streams.EVALUATION, 0),
        sampling, model))
    return {"answers kept once": kept, "evaluation": full}


def count_pretraining(count: Callable, model: Transformer, work) -> dict[str, dict]:
    """{what: counts} of a step of pretraining."""
    pretraining = Pretraining(work.pretraining, model,
                              *make_pretraining_optimizers(model, work.pretraining))
    documents = work.documents[:work.pretraining.batch]
    return {"pretraining step": count(lambda: take_step(pretraining, documents))}


def sum_run(rows: dict[str, dict], steps: int) -> dict[str, float]:
    """A whole run of training, from its parts."""
    times = {"rollout batch": steps, "updates of a batch": steps, "files of a batch": steps,
             "answers kept once": len(list_kept_steps(steps)), "evaluation": 2}
    return {name: sum(n * rows[what][name] for what, n in times.items()) for name in COUNTED}


def count_on(device: torch.device, count: Callable, work) -> list[dict]:
    """Rows (what, kernels, waits, uploads) of a model on a device; work: bench.Work."""
    rows, steps = {}, work.training.steps
    for part in (count_training, count_evaluation, count_pretraining):
        rows |= part(count, copy.deepcopy(work.model).to(HOST).to(device), work)
    rows[f"run of {steps} batches"] = sum_run(rows, steps)
    return [{"what": what, **{name: counts[name] for name in COUNTED}}
            for what, counts in rows.items()]


def count_work(work) -> list[dict]:
    """Rows of the device that is not there: the same on every machine."""
    with simulate():
        return count_on(AWAY, count_away, work)


def tabulate_counts(rows: list[dict]) -> str:
    """Parts of a number are shown where there are some."""
    lines = [["one", *COUNTED]]
    for row in rows:
        lines.append([row["what"], *(f"{row[name]:,.1f}".removesuffix(".0") for name in COUNTED)])
    return align(lines)
