"""Why does a bandit predict a transformer? The way an answer begins moves like a bandit's arm.

    python -m lessons.clips.kernel [CHECKPOINT]    # a base's name or a path; seconds

z_a is the logit of opener a (an arm), averaged over problems. An SGD step on a response that begins
with b and has advantage A moves

    z_a by lr A (K_ab - sum_c pi_c K_ac)    with the kernel K_ab = <dz_a/dtheta, dz_b/dtheta>

to first order. If K = kappa 1 + a constant, the constant drops out, and this is the bandit's own
step lr kappa A (1[a = b] - pi_a): bandit.py with LR = lr kappa. What is not of this form couples
the arms. The tokens after the opener are left out, but for their part in the gradient's norm.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.corpus import CORPORA
from data.task import EASY, Problem, render_problem
from data.tokenizer import encode_prompt
from evaluation import draw_evaluation
from lessons.bandit import LR
from lessons.gradients import RARE, measure_norms
from model import Transformer, load_checkpoint, locate_base
from plumbing.commands import Parser, run_command, suggest
from plumbing.messages import InputError
from rlvr import TrainConfig

PROBLEMS = 100


class Habit(NamedTuple):
    """What a bandit needs to know of a base."""

    shares: list[float]       # of the arms, the most likely first
    own: list[float]          # K_aa
    others: list[float]       # K_ab
    norms: dict[str, float]   # E|d log pi(response) / d theta|^2, by mode

    @property
    def kappa(self) -> float:
        return mean(self.own) - mean(self.others)


def measure_kernel(model: Transformer, problems: list[Problem]) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens that responses begin with, the most likely first, and K at these weights.

    Returns arms (A,), their mean probabilities (A,), K (A, A).
    """
    prompts = [torch.tensor([encode_prompt(render_problem(problem))]) for problem in problems]
    logits = torch.stack([model.head(model(prompt)[0, -1]) for prompt in prompts])         # (P, V)
    shares, tokens = logits.softmax(-1).mean(0).detach().sort(descending=True)             # (V,)
    arms = tokens[shares > RARE]                                                           # (A,)
    parameters, rows = list(model.parameters()), []
    for logit in logits[:, arms].mean(0):
        gradient = torch.autograd.grad(logit, parameters, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in gradient]))
    gradients = torch.stack(rows)                                                # (A, parameters)
    return arms, shares[shares > RARE], gradients @ gradients.T


def measure_habit(checkpoint: str) -> Habit:
    """Of a base's name or a path. Raises InputError if all its responses begin alike."""
    model, saved = load_checkpoint(locate_base(checkpoint), torch.device("cpu"))
    corpus = CORPORA[saved["corpus"]]
    problems = draw_evaluation(PROBLEMS, "training", EASY, digits=corpus.digits)
    _, shares, K = measure_kernel(model, problems)
    if len(shares) < 2:
        raise InputError(f"{checkpoint} begins all its responses alike: one arm is no bandit")
    others = K[~torch.eye(len(K), dtype=torch.bool)]
    return Habit(shares.tolist(), K.diag().tolist(), others.tolist(),
                 measure_norms(model, corpus, problems))


def show_range(values: list[float]) -> str:
    return f"{np.mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def show_habit(checkpoint: str) -> None:
    habit, lr = measure_habit(checkpoint), TrainConfig.lr
    norms = ", ".join(f"{mode} {habit.norms[mode]:.0f}" for mode in sorted(habit.norms))
    print(f"arms        {', '.join(f'{share:.2f}' for share in habit.shares)}")
    print(f"K_aa        {show_range(habit.own)}")
    print(f"K_ab        {show_range(habit.others)}")
    print(f"lr kappa    {lr:g} x {habit.kappa:.0f} = {lr * habit.kappa:.1f}, "
          f"the bandit's LR is {LR:g}")
    print(f"|gradient|² {norms}")
    suggest("python -m lessons.clips.bandit")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.clips.kernel", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default="good-code",
                        help="a base's name or a checkpoint (default good-code)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: show_habit(args.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
