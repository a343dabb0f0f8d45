"""Imitation: the base answers with the hint, and the policy learns to say the same without it.

    python -m lessons.feedback.imitate train --loss distill --directive-weight 0 FLAGS

A run as rlvr.py makes it, but for its updates. What the policy says is measured, as in every run,
and then put away. It learns from what the teacher says to the same prompts, having read the hint:
cross-entropy on those answers that the reward pays. With `--reward correct` these are the right
ones (rejection sampling), with `--reward random --p 1` they are all. Of the loss a run has the
teacher and its flags, such as `--hint`; the divergence is left out, as its weight says.
"""

import shlex
import sys

import rlvr
from companions.teacher import Teacher
from data.corpus import CORPORA
from data.tokenizer import END
from losses import Batch, Objective, psr, score_function
from measures import note_cut
from model import Transformer, decode_rollouts, sample_responses
from plumbing.commands import run_command
from plumbing.flags import list_values
from plumbing.messages import InputError
from plumbing.streams import SAMPLES, torch_rng
from rewards import build_reward
from rlvr import TrainConfig, compare_rewards, pay_rewards, rollout, update
from run import Task

PROGRAM = "-m lessons.feedback.imitate"
IMITATION = Objective(psr, score_function)   # cross-entropy on what is paid


def sample_teacher(teacher: Teacher, batch: Batch, config: TrainConfig, step: int) -> Batch:
    """The batch's prompts (N), without a hint, and what the teacher says to each, with it."""
    hinted, _ = teacher.add_hints(batch, step)                                     # (N)
    said = sample_responses(teacher.model, hinted, 1, END, config.max_new_tokens,
                            config.temperature,
                            generator=torch_rng(SAMPLES, config.seed, step, 1))
    note_cut([said], config.max_new_tokens)
    return batch._replace(ids=said.ids, mask=said.mask, old_logprobs=said.logprobs,
                          entropy=said.entropy, responses=decode_rollouts(said), scores={})


def measure_policy(policy: Transformer, task: Task, config: TrainConfig, step: int,
                   objective: Objective) -> Batch:
    """rlvr.rollout, but no teacher scores what the policy said: nothing is learned from it."""
    return rollout(policy, task, config, step, objective._replace(companions=()))


def update_on_teacher(policy: Transformer, optimizers: list, batch: Batch, config: TrainConfig,
                      step: int, objective: Objective) -> dict:
    """rlvr.update on what the teacher says to the prompts of the batch. approx_kl is from it."""
    teacher, = objective.companions
    said = sample_teacher(teacher, batch, config, step)
    reward = build_reward(config.reward, **list_values(config))
    said = pay_rewards(said, Task(CORPORA["hinted-code"], [], reward), config, step, 1)
    return update(policy, optimizers, compare_rewards(said, IMITATION), config, step, IMITATION)


def imitate(flags: dict, command: str) -> None:
    config = rlvr.make_config(**flags)
    if config.loss != "distill" or config.flags["directive_weight"] != 0:
        raise InputError("imitation is --loss distill --directive-weight 0: the teacher of that "
                         "loss, and nothing of its divergence")
    rlvr.rollout, rlvr.update = measure_policy, update_on_teacher   # where the loop looks them up
    rlvr.train(config, command)


def main(arguments: list[str] | None = None) -> int:
    typed = sys.argv[1:] if arguments is None else arguments
    parser = rlvr.build_parser()
    flags = vars(parser.parse_args(typed))
    if flags.pop("command") != "train":
        parser.error("imitation has one command: train")
    return run_command(PROGRAM, lambda: imitate(flags, f"python {PROGRAM} {shlex.join(typed)}"),
                       resumes=True)


if __name__ == "__main__":
    sys.exit(main())
