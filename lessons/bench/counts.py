"""What a GPU would launch and wait for, counted without one (away.py says what is counted).

Each row is one call of what training itself calls, at the work's own config. A decoded token is a
fifth of what ten tokens have more than five. A run is its rollout batches, updates and saved files,
the answers that it keeps, and an evaluation before and after; a model that answers at greater
length has more.
"""

import copy
import tempfile
from collections import Counter
from pathlib import Path
from typing import Callable

import torch

import evaluation
import rlvr
from data import plumbing
from data.pretrain import Pretraining, make_pretraining_optimizers, take_step
from data.task import render_problem
from data.tokenizer import encode_prompt
from lessons.bench.away import AWAY, HOST, Machine, simulate
from lessons.report import align
from losses import Batch
from model import Transformer, sample_responses, save_checkpoint

COUNTED = ("kernels", "waits", "uploads")
TOKENS = 5


def count_call(machine: Machine, call: Callable, *arguments, **options) -> Counter:
    """What a call has; all three are there."""
    before = Counter(machine.counts)
    call(*arguments, **options)
    return Counter({name: machine.counts[name] - before[name] for name in COUNTED})


def divide(counts: Counter, n: int) -> dict[str, float]:
    return {name: counts[name] / n for name in COUNTED}


def count_token(machine: Machine, model: Transformer, config, pool: rlvr.Pool) -> dict[str, float]:
    """One more token for all rows of a rollout batch; none ends."""
    prompts = [encode_prompt(render_problem(pool[i][0]))
               for i in rlvr.choose_prompts(config, len(pool), 0)]
    short, long = (count_call(machine, sample_responses, model, prompts, config.group, -1, T,
                              generator=plumbing.torch_rng(plumbing.SAMPLES, config.seed, 0))
                   for T in (TOKENS, 2 * TOKENS))
    long.subtract(short)
    return divide(long, TOKENS)


def train_once(model: Transformer, batch: Batch, config) -> None:
    """Forward and backward of the rows of one update."""
    rows = torch.arange(len(batch.ids) // config.updates)
    loss, _ = rlvr.minibatch_loss(model, batch, rows, torch.ones(len(rows)), config)
    loss.backward()


def count_training(machine: Machine, work) -> dict[str, dict]:
    """{what: counts} of a rollout batch, its updates, and their parts."""
    config, rows, batches = work.training, {}, []
    model = copy.deepcopy(work.model).to(HOST).to(AWAY)
    rows["decoded token"] = count_token(machine, model, config, work.pool)
    rows["rollout batch"] = count_call(machine, lambda: batches.append(
        rlvr.rollout(model, work.corpus, config, work.pool, 0, {})[0]))
    rows["micro-batch"] = count_call(machine, train_once, model, batches[0], config)
    optimizers = rlvr.make_optimizers(config, model, {})
    updates = count_call(machine, rlvr.update, model, optimizers, batches[0], config, 0)
    rows["update"], rows["updates of a batch"] = divide(updates, config.updates), updates
    with tempfile.TemporaryDirectory() as folder:
        rows["files of a batch"] = count_call(machine, save_checkpoint, Path(folder, "model.pt"),
                                              model, stateful=[o.state_dict() for o in optimizers])
    return rows


def count_evaluation(machine: Machine, work) -> dict[str, dict]:
    """{what: counts} of the answers kept once, and of an evaluation with its KL to the base."""
    config, model = work.training, copy.deepcopy(work.model).to(HOST).to(AWAY)
    problems = evaluation.draw_evaluation(config.eval_problems, config.eval_split,
                                          config.eval_num_ops, digits=work.corpus.digits)
    sampling = evaluation.Sampling(max_new_tokens=config.max_new_tokens)
    kept = count_call(machine, evaluation.answer_problems, model, work.corpus, problems[:3], 4,
                      (plumbing.SHOWN, 0), sampling)
    full = count_call(machine, evaluation.evaluate, model, work.corpus, problems,
                      config.eval_samples, [1], (plumbing.EVALUATION, 0), sampling, model)
    return {"answers kept once": kept, "evaluation": full}


def count_pretraining(machine: Machine, work) -> Counter:
    """A step of pretraining."""
    model = copy.deepcopy(work.model).to(HOST).to(AWAY)
    pretraining = Pretraining(work.pretraining, model,
                              *make_pretraining_optimizers(model, work.pretraining))
    return count_call(machine, take_step, pretraining,
                      work.documents[:work.pretraining.batch])


def count_work(work) -> list[dict]:
    """Rows (what, kernels, waits, uploads); work: bench.Work."""
    with simulate() as machine:
        rows = count_training(machine, work) | count_evaluation(machine, work)
        steps = work.training.steps
        times = {"rollout batch": steps, "updates of a batch": steps, "files of a batch": steps,
                 "answers kept once": len(rlvr.list_kept_steps(steps)), "evaluation": 2}
        rows[f"run of {steps} batches"] = {name: sum(n * rows[what][name]
                                                     for what, n in times.items())
                                           for name in COUNTED}
        rows["pretraining step"] = count_pretraining(machine, work)
    return [{"what": what, **{name: counts[name] for name in COUNTED}}
            for what, counts in rows.items()]


def tabulate_counts(rows: list[dict]) -> str:
    """Parts of a number are shown where there are some."""
    lines = [["one", *COUNTED]]
    for row in rows:
        lines.append([row["what"], *(f"{row[name]:,.1f}".removesuffix(".0") for name in COUNTED)])
    return align(lines)
