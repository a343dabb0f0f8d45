"""What a vote among a base's answers gives, without any training."""

from pathlib import Path

import torch

from data.corpus import CORPORA
from data.task import EASY
from evaluation import PLAIN, answer_problems, draw_evaluation
from lessons.elicit import score_votes
from measures import note_cut
from model import load_checkpoint
from plumbing.streams import EVALUATION

PROBLEMS, SAMPLES = 400, 64


def measure_vote(checkpoint: Path, sizes: tuple[int, ...] = (1, 16, 64)) -> dict[int, float]:
    """{n: how often the majority of n answers is right}, on the evaluation problems.

    SAMPLES answers at temperature 1 are cut into votes of n; among equals the earliest wins.
    """
    model, saved = load_checkpoint(checkpoint, torch.device("cpu"))
    problems = draw_evaluation(PROBLEMS, "evaluation", EASY)
    answers = answer_problems(model, CORPORA[saved["corpus"]], problems, SAMPLES, (EVALUATION, 0))
    note_cut(answers.rollouts, PLAIN.max_new_tokens)
    return {n: score_votes(problems, answers.texts, n) for n in sizes}
