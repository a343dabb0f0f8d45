"""One task for two trainers: a model, its config, and the prompts of its first rollout batch."""

from typing import NamedTuple

import rlvr
from bench.bench import set_training
from data.corpus import CORPORA
from data.task import render_problem
from data.tokenizer import encode_prompt
from losses import Objective
from model import Transformer
from run import Task


class Contest(NamedTuple):
    name: str
    model: Transformer
    config: rlvr.TrainConfig
    task: Task
    objective: Objective


def make_contest(name: str, model: Transformer, **flags) -> Contest:
    config = rlvr.make_config(**flags)
    return Contest(name, model, config, *set_training(config, model, CORPORA["good-code"]))


def list_prompts(contest: Contest) -> list[list[int]]:
    """The prompts of the first rollout batch, as ids."""
    asked = rlvr.draw_prompts(contest.task, contest.config, 0)
    return [encode_prompt(render_problem(problem)) for problem, _ in asked]
