"""How a base answers with a hint in its prompt, without, or made to begin a program: untrained."""

from pathlib import Path

import numpy as np
import torch

from data.answers import is_correct
from data.corpus import is_code
from data.task import EASY, render_problem
from data.tokenizer import END, encode, encode_prompt
from evaluation import decode_rollouts, draw_evaluation
from measures import note_cut
from model import load_checkpoint, sample_responses
from plumbing.streams import EVALUATION, torch_rng

PROBLEMS, SAMPLES = 400, 8


def measure_hint(checkpoint: Path, hint: str, opener: str = "") -> dict[str, float]:
    """{accuracy, code_share} on the evaluation problems, `hint` (' #code', or '') behind each.

    `opener`: what every answer is made to begin with.
    """
    model, _ = load_checkpoint(checkpoint, torch.device("cpu"))
    problems = draw_evaluation(PROBLEMS, "evaluation", EASY)
    prompts = [encode_prompt(render_problem(problem) + hint) + encode(opener)
               for problem in problems]
    rollouts = sample_responses(model, prompts, SAMPLES, END, generator=torch_rng(EVALUATION, 0))
    note_cut([rollouts], rollouts.ids.size(1))
    texts = [opener + text for text in decode_rollouts(rollouts)]
    right = [is_correct(problems[i // SAMPLES], text) for i, text in enumerate(texts)]
    return {"accuracy": float(np.mean(right)), "code_share": float(np.mean([*map(is_code, texts)]))}
