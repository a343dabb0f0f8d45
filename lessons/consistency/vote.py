"""What a vote among a base's answers gives, without any training."""

from pathlib import Path

import torch

from data.corpus import CORPORA
from data.plumbing import EVALUATION
from data.task import EASY
from evaluation import answer_problems, draw_evaluation
from measures import measure_votes
from model import load_checkpoint
from rewards import parse_box

PROBLEMS, SAMPLES = 400, 64


def measure_vote(checkpoint: Path, sizes: tuple[int, ...] = (1, 16, 64)) -> dict[int, float]:
    """{n: share of the evaluation problems that the majority of n answers gets right}.

    The n are the first of SAMPLES at temperature 1; among equals the earliest wins.
    """
    model, saved = load_checkpoint(checkpoint, torch.device("cpu"))
    problems = draw_evaluation(PROBLEMS, "evaluation", EASY)
    answers = answer_problems(model, CORPORA[saved["corpus"]], problems, SAMPLES, (EVALUATION, 0))
    boxes = [parse_box(text) for text in answers.texts]
    return {n: measure_votes(problems, keep_first(boxes, n), n)["vote_accuracy"] for n in sizes}


def keep_first(boxes: list[str | None], n: int) -> list[str | None]:
    """The first n of every SAMPLES."""
    return [box for i, box in enumerate(boxes) if i % SAMPLES < n]
