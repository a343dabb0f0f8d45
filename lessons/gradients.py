"""How large the gradients of a base are, which a bandit has to be told."""

from statistics import mean

import torch

from data.corpus import Corpus
from data.task import Problem, render_problem
from data.tokenizer import END, encode_prompt
from measures import note_cut
from model import (
    Transformer,
    decode_rollouts,
    response_hidden,
    sample_responses,
    token_logprobs,
)
from plumbing.streams import SAMPLES, torch_rng
from rlvr import TrainConfig

RARE = 0.005    # a first token below this probability is no arm
RESPONSES = 8   # of each problem, for their norms


def measure_norms(model: Transformer, corpus: Corpus, problems: list[Problem]) -> dict[str, float]:
    """The mean of |d log pi(response) / d theta|^2 over own responses, by mode."""
    prompts = [encode_prompt(render_problem(problem)) for problem in problems]
    rollouts = sample_responses(model, prompts, RESPONSES, END, TrainConfig.max_new_tokens,
                                generator=torch_rng(SAMPLES, 0))
    note_cut([rollouts], TrainConfig.max_new_tokens)
    parameters, squares = list(model.parameters()), {}
    for row, text in enumerate(decode_rollouts(rollouts)):
        ids, mask = rollouts.ids[row:row + 1], rollouts.mask[row:row + 1]                  # (1, T)
        hidden = response_hidden(model, [prompts[row // RESPONSES]], ids, mask)
        logprob = token_logprobs(model.head(hidden), ids[mask], temperature=1.0).sum()
        gradient = torch.autograd.grad(logprob, parameters)
        square = sum(part.square().sum().item() for part in gradient)
        squares.setdefault(corpus.mode_of(text), []).append(square)
    return {mode: mean(values) for mode, values in squares.items()}
