"""How a base answers with a hint in its prompt, and without, before any training."""

from pathlib import Path

import numpy as np
import torch

from data.answers import is_correct
from data.corpus import is_code
from data.task import EASY, render_problem
from data.tokenizer import END, encode_prompt
from evaluation import decode_rollouts, draw_evaluation
from measures import note_cut
from model import load_checkpoint, sample_responses
from plumbing.streams import EVALUATION, torch_rng

PROBLEMS, SAMPLES = 400, 8


def measure_hint(checkpoint: Path, hint: str) -> dict[str, float]:
    """{accuracy, code_share} on the evaluation problems, `hint` (' #code', or '') behind each."""
    model, _ = load_checkpoint(checkpoint, torch.device("cpu"))
    problems = draw_evaluation(PROBLEMS, "evaluation", EASY)
    prompts = [encode_prompt(render_problem(problem) + hint) for problem in problems]
    rollouts = sample_responses(model, prompts, SAMPLES, END, generator=torch_rng(EVALUATION, 0))
    note_cut([rollouts], rollouts.ids.size(1))
    texts = decode_rollouts(rollouts)
    right = [is_correct(problems[i // SAMPLES], text) for i, text in enumerate(texts)]
    return {"accuracy": float(np.mean(right)), "code_share": float(np.mean([*map(is_code, texts)]))}
