"""A judge: a model that says whether an answer is right, y or n.

It is pretrained like a base, on claims (data/corpus.py): judge-direct answers at once,
judge-reasoning works the problem out first (Think-RM, RM-R1 2505.02387, RRM 2505.14674, on a toy).
Both are generative: a verdict is a sampled token, and so differs from one call to the next.

Shapes: M claims, n verdicts on each.
"""

import hashlib
from typing import Annotated, Callable, NamedTuple

import numpy as np
import torch

from data.corpus import read_verdict, write_claim
from data.task import Problem, render_problem
from data.tokenizer import END, decode, encode_prompt
from model import CUT, Transformer, mark_ended, sample_responses
from plumbing.flags import flag
from plumbing.messages import InputError, note

MAX_TOKENS = 60  # of a verdict: a scratchpad of 7 operations and a long answer


JudgeFile = Annotated[str | None, flag("a judge's name or checkpoint")]


def open_judge(kinds: tuple[str, ...], load: Callable[[str], tuple[Transformer, dict]], *,
               reward: str, judge: JudgeFile = None) -> Transformer:
    """The frozen judge at --judge; InputError if there is none, or one not of the kinds asked."""
    if not judge:
        raise InputError(f"--judge: reward {reward} needs one")
    model, checkpoint = load(judge)
    wanted = set(kinds)
    if wanted - {checkpoint["corpus"]}:
        raise InputError(f"--judge {judge}: reward {reward} needs a "
                         f"{' and a '.join(sorted(wanted))}, not a {checkpoint['corpus']}")
    return model


class Verdicts(NamedTuple):
    accepted: np.ndarray     # (M, n) bool
    probability: np.ndarray  # (M, n) of acceptance, where the verdict was drawn
    tokens: np.ndarray       # (M, n) that the judge wrote, the ending included


def ask_judge(judge: Transformer, kind: str, claims: list[tuple[Problem, str]], n: int,
              generator: torch.Generator, temperature: float = 1.0) -> Verdicts:
    """n verdicts on each claim (problem, answer), all in one batch.

    kind: judge-direct or judge-reasoning. Whatever the judge writes is a verdict: what does not end
    in y or n accepts nothing, with probability 0.
    """
    prompts = [encode_prompt(write_claim(problem, answer, kind)) for problem, answer in claims]
    rollouts = sample_responses(judge, prompts, n, END, MAX_TOKENS, temperature,
                                generator=generator)
    lengths = rollouts.mask.sum(1)                                                 # (M * n)
    rows = torch.arange(len(lengths))
    ended = mark_ended(rollouts, END)
    if ended.double().mean() < 1 - CUT:
        note(f"of the {kind}'s verdicts more than {CUT:.0%} were cut at {MAX_TOKENS} tokens: they "
             "accept nothing")
    last = (lengths - 1 - ended.long()).clamp(min=0)        # where the verdict stands
    said = [read_verdict(decode([token])) for token in rollouts.ids[rows, last].tolist()]
    likely = rollouts.logprobs[rows, last].exp().double().tolist()
    chance = [{"yes": p, "no": 1 - p}.get(verdict, 0.0) for verdict, p in zip(said, likely)]
    shape = len(claims), n
    return Verdicts(np.reshape([verdict == "yes" for verdict in said], shape),
                    np.reshape(chance, shape), lengths.numpy().reshape(shape))


def hash_claim(seed: int, problem: Problem, answer: str | None) -> float:
    """A number in [0, 1) that is always the same for a seed, a problem and an answer."""
    text = f"{seed} {render_problem(problem)}={answer}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
