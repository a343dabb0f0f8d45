"""A teacher: the base, or the policy, that reads a hint and scores what the policy said without.

It is no other model. What it would say is an advantage (by the tokens that were sampled), or a
divergence (by all that could have been): what a scalar reward throws away.

Shapes: N rollouts, T response tokens, V vocabulary; R response tokens in one row.
"""

import copy
import math
from dataclasses import dataclass
from typing import Annotated, Iterator

import numpy as np
import torch
from torch import Tensor

from data.corpus import HINT_NAMES
from data.task import Problem, render_problem, solve, write_answer, write_number
from data.tokenizer import encode_prompt
from losses import Batch, Companion, Loss, Tokens, clipped, grpo, score_function, score_sampled
from model import Transformer, sampling_logprobs, score_tokens
from plumbing.flags import flag, option
from plumbing.streams import HINT, numpy_rng

NAMED = ("code", "words", "tip", "careful", "huh")           # hints of one token, always the same


def write_hints(hint: str, problems: list[Problem], rng: np.random.Generator) -> list[str]:
    """The hint on each of N problems, by its name.

    answer: the right one; wrong: another number; other: that of another of these problems; random:
    any of those of one token; none: "". The rest are hints of hinted-code, and ` #huh`, that it
    never read.
    """
    if hint == "none":
        return [""] * len(problems)
    answers = [write_answer(problem) for problem in problems]
    if hint == "wrong":
        sizes = [10 ** problem.digits for problem in problems]
        answers = [write_number((solve(problem) + int(rng.integers(1, size))) % size,
                                problem.digits) for problem, size in zip(problems, sizes)]
    if hint == "other":
        answers = [answers[i] for i in rng.permutation(len(answers))]
    if hint in ("answer", "wrong", "other"):
        return [f" #answer {answer}" for answer in answers]
    names = rng.choice(NAMED, len(problems)) if hint == "random" else [hint] * len(problems)
    return [f" #{name}" for name in names]


# --- divergences from a teacher, per token: all log-probabilities of policy and teacher, both
# (R, V) -> nats (R,). Gradients go to the policy alone: the teacher is a number.

def forward_kl(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """KL(pi_T || pi): its gradient on the logits is pi - pi_T, however rare a token is."""
    return (teacher.exp() * (teacher - logprobs)).sum(-1)


def reverse_kl(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """KL(pi || pi_T): its gradient is pi (d - E[d]), d = log pi - log pi_T: in proportion to pi."""
    return (logprobs.exp() * (logprobs - teacher)).sum(-1)


def js_divergence(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """Half of each KL to the mean of the two (2601.20802, alpha = 1/2)."""
    middle = torch.logaddexp(logprobs, teacher) - math.log(2)
    return (forward_kl(middle, logprobs) + forward_kl(middle, teacher)) / 2


DIVERGENCES = {"jsd": js_divergence, "forward": forward_kl, "reverse": reverse_kl}


Weight = Annotated[float, flag("of the directive term beside a scalar", least=0)]
Clamp = Annotated[float, flag("largest directive advantage of a token, nats", above=0)]


# --- companions

@dataclass(kw_only=True)
class Teacher(Companion):
    """Scores the sampled ids, having read a hint. frozen: the base; ema: an average of the policy.
    """

    base: Transformer
    policy: Transformer
    seed: int
    temperature: float
    hint: str = option("code", "what the teacher reads behind the prompt", choices=HINT_NAMES)
    hint_for: str = option("all", "failed: only where the reward is not full",
                           choices=("all", "failed"))
    teacher: str = option("frozen", "who reads the hint", choices=("frozen", "ema", "current"))
    ema_rate: float = option(0.2, "an ema teacher's way to the policy, a batch", above=0, most=1)
    directive_batches: int = option(10**6, "rollout batches until the teacher goes", least=0)

    def __post_init__(self):
        fixed = {"frozen": self.base, "current": self.policy}
        self.model = fixed.get(self.teacher) or copy.deepcopy(self.base)
        self.changing = (self.model,) if self.teacher == "ema" else ()

    def present(self, step: int) -> bool:
        return step < self.directive_batches

    def add_hints(self, batch: Batch, step: int) -> tuple[list[list[int]], Tensor]:
        """The prompts (N) as it reads them, and which rows (N,) it teaches: those with a hint."""
        hints = write_hints(self.hint, batch.problems, numpy_rng(HINT, self.seed, step))
        hinted = [encode_prompt(render_problem(problem) + hint)
                  for problem, hint in zip(batch.problems, hints)]
        taught = torch.tensor([hint != "" for hint in hints])
        if self.hint_for == "failed":
            taught &= batch.rewards.flatten() < batch.reward_range[1]
        return hinted, taught

    def score(self, policy: Transformer, batch: Batch, step: int) -> dict[str, Tensor]:
        hinted, taught = self.add_hints(batch, step)
        return {"teacher": self.read(hinted, batch), "taught": taught[:, None] & batch.mask}

    def read(self, hinted: list[list[int]], batch: Batch) -> Tensor:
        return score_sampled(self.model, hinted, batch, self.temperature)

    @torch.no_grad()
    def follow(self, policy: Transformer) -> None:
        """An EMA teacher goes a share of the way to the policy (2601.20802)."""
        if self.teacher == "ema":
            for ours, theirs in zip(self.model.parameters(), policy.parameters()):
                ours.lerp_(theirs, self.ema_rate)


@dataclass(kw_only=True)
class Distiller(Teacher):
    """Scores all that could have been said where the policy went: so it needs no ratio."""

    distill: str = option("jsd", "divergence from the teacher", choices=DIVERGENCES)
    directive_weight: Weight = 1.0
    trains = True

    def read(self, hinted: list[list[int]], batch: Batch) -> Tensor:
        return score_tokens(self.model, hinted, batch.ids, batch.mask, lambda hidden, _:
                            sampling_logprobs(self.model.head(hidden), self.temperature))

    def terms(self, batch: Batch, tokens: Tokens) -> Iterator[tuple[str, float, Tensor]]:
        logprobs = sampling_logprobs(tokens.logits, self.temperature)       # (R, V)
        told = tokens.pick(batch.scores["teacher"])                                # (R, V)
        divergence = DIVERGENCES[self.distill](logprobs, told)
        taught = tokens.pick(batch.scores["taught"])                               # (R,)
        yield "divergence", self.directive_weight, divergence * taught


# --- advantages: a batch -> (N, T)

def directive(batch: Batch, *, clamp: Clamp = 5.0) -> Tensor:
    """log pi_T(y_t | x, hint) - log pi_old(y_t | x), clipped (2603.10165, section 3; ours: clamp).

    On samples of pi its policy gradient is that of -KL(pi || pi_T): the pull on a token is in
    proportion to pi, so what is never sampled is never taught. Below what float32 tells apart it is
    0, lest an optimizer scale it up.
    """
    if "teacher" not in batch.scores:   # the teacher has gone
        return torch.zeros_like(batch.old_logprobs)
    told = batch.scores["teacher"] - batch.old_logprobs
    told = told.masked_fill(told.abs() < 1e-4, 0.0).clamp(-clamp, clamp)
    return told * batch.scores["taught"]


def grpo_directive(batch: Batch, *, directive_weight: Weight = 1.0, clamp: Clamp = 5.0) -> Tensor:
    """The scalar and the directive advantage, added (2603.10165, section 3, there without std)."""
    return grpo(batch) + directive_weight * directive(batch, clamp=clamp)


def no_advantage(batch: Batch) -> Tensor:
    """0: for a loss that is a divergence alone."""
    return torch.zeros_like(batch.old_logprobs)


# --- the registry: part of LOSSES

LOSSES = {
    # A hint's teacher: by the tokens that were sampled, or by all that could have been.
    "directive": Loss(directive, clipped, (Teacher,)),
    "grpo_directive": Loss(grpo_directive, clipped, (Teacher,)),
    "distill": Loss(no_advantage, score_function, (Distiller,)),
    "grpo_distill": Loss(grpo, clipped, (Distiller,)),
}
