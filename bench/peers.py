"""How fast is TRL's GRPOTrainer on the same work, and is our arithmetic the same? Minutes.

    pip install trl==1.16.0 transformers==5.24.0        # beside this project; nothing else needs it
    python -m bench.peers                       # CPU seconds of both, their ratio
    python -m bench.peers --check               # what | against | largest difference

Two tasks, one thread, one process; ours and TRL's take turns, each from the same weights:

- `real`: one rollout batch of the base (64 prompts, 16 rollouts of each, at most 40 tokens, a coin
  as the reward) and 32 updates. Both sample until END, so responses are as long as the base's.
- `fixed`: 32 prompts, 16 rollouts of each, always 36 tokens, near uniform; 8 updates. Hardly two
  rollouts share more than their prompt, so that sharing cannot help.

CPU seconds, the least of the repeats, and all of them behind it. TRL runs a Llama of our shape with
our weights; its MLP is ours (--gated: Llama's own, the same function with a third product more).
"""

import copy
import sys
import tempfile
import time
from argparse import RawDescriptionHelpFormatter
from typing import Callable

import numpy as np
import torch

import rlvr
from bench.bench import make_endless
from bench.check import check_all, tabulate_checks
from bench.contest import Contest, list_prompts, make_contest
from bench.llama import import_peers, make_llama, make_trainer, map_weights
from data.tokenizer import VOCABULARY_SIZE
from lessons.report import align
from model import ModelConfig, load_checkpoint, locate_base
from plumbing import progress
from plumbing.commands import Parser, run_command
from plumbing.flags import number
from run import make_optimizers


def list_contests(base: str) -> list[Contest]:
    model, _ = load_checkpoint(locate_base(base), torch.device("cpu"))
    endless = make_endless(ModelConfig(VOCABULARY_SIZE))
    return [make_contest("real", model, base=base),
            make_contest("fixed", endless, prompts=32, updates=8, max_new_tokens=36)]


def time_ours(contest: Contest) -> dict:
    """CPU seconds of one rollout batch and its updates, and the response tokens in it."""
    model = copy.deepcopy(contest.model)
    optimizers = make_optimizers(contest.config, model, ())
    begun = time.process_time()
    batch = rlvr.rollout(model, contest.task, contest.config, 0, contest.objective)
    sampled = time.process_time()
    rlvr.update(model, optimizers, batch, contest.config, 0, contest.objective)
    done = time.process_time()
    return {"rollout": sampled - begun, "update": done - sampled, "all": done - begun,
            "tokens": int(batch.mask.sum())}


def make_coin(seed: int) -> Callable:
    rng = np.random.default_rng(seed)

    def flip_coin(completions, **others) -> list[float]:
        return (rng.random(len(completions)) < 0.5).astype(float).tolist()
    return flip_coin


def define_timed_trainer() -> type:
    """A GRPOTrainer that notes when a rollout batch begins and is ready, and its tokens."""
    from trl import GRPOTrainer

    class TimedTrainer(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            self.begun = time.process_time()
            batch = super()._generate_and_score_completions(inputs)
            self.sampled, self.tokens = time.process_time(), int(batch["completion_mask"].sum())
            return batch

    return TimedTrainer


def define_turns(contest: Contest, trainers: list, theirs: list[dict], ours: list[dict]) -> type:
    """A callback that books TRL's time after a rollout batch, then runs ours."""
    from transformers import TrainerCallback

    class TakeTurns(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **others):
            if state.global_step % contest.config.updates:
                return
            done, trainer = time.process_time(), trainers[0]
            theirs.append({"rollout": trainer.sampled - trainer.begun,
                           "update": done - trainer.sampled, "all": done - trainer.begun,
                           "tokens": trainer.tokens})
            ours.append(time_ours(contest))
            map_weights(contest.model, model)
            torch.manual_seed(contest.config.seed)

    return TakeTurns


def take_turns(contest: Contest, repeats: int, gated: bool) -> tuple[list[dict], list[dict]]:
    """TRL's rows and ours, in turns; the first of each is a warm-up and left out."""
    trainers, theirs, ours = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        callback = define_turns(contest, trainers, theirs, ours)()
        llama = make_llama(contest.model, gated)
        trainers.append(make_trainer(
            define_timed_trainer(), llama, contest.config, list_prompts(contest),
            make_coin(contest.config.seed), repeats + 1, folder, callbacks=(callback,)))
        trainers[0].train()
    return theirs[1:], ours[1:]


def tabulate_peers(measured: dict[str, tuple[list[dict], list[dict]]]) -> str:
    """A row for each task and part: CPU seconds of TRL and ours, least to most, and their ratio."""
    lines = [["task", "part", "TRL", "ours", "ratio", "tokens TRL", "tokens ours"]]
    for task, (theirs, ours) in measured.items():
        for part in ("rollout", "update", "all"):
            seconds = [[row[part] for row in rows] for rows in (theirs, ours)]
            tokens = [f"{rows[0]['tokens']:,}" if part == "all" else "" for rows in (theirs, ours)]
            lines.append([task, part, *(f"{min(s):.2f} to {max(s):.2f}" for s in seconds),
                          f"{min(seconds[0]) / min(seconds[1]):.1f}", *tokens])
    return align(lines)


def compare(base: str, repeats: int, gated: bool, check: bool) -> None:
    import_peers()
    torch.set_num_threads(1)
    if check:
        return print(tabulate_checks(check_all(base)))
    measured = {}
    for contest in progress.progress_bar(iterable=list_contests(base), desc="peers", leave=False):
        measured[contest.name] = take_turns(contest, repeats, gated)
    print(tabulate_peers(measured))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m bench.peers", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--base", default="good-code", help="a base's name or a path")
    parser.add_argument("--repeats", type=number(int, least=1), default=5,
                        help="timed runs of each task, after one to warm up (default 5)")
    parser.add_argument("--gated", action="store_true", help="Llama's own MLP for TRL")
    parser.add_argument("--check", action="store_true", help="compare numbers, not seconds")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: compare(**vars(args)))


if __name__ == "__main__":
    sys.exit(main())
