"""Why does a bandit predict a transformer? The way an answer begins moves like a bandit's arm.

    python -m lessons.prior.kernel [CHECKPOINT]    # a base's name or a path; seconds

z_a is the logit of opener a (an arm), averaged over problems. An SGD step on a response that begins
with b and has advantage A moves

    z_a by lr A (K_ab - sum_c pi_c K_ac)    with the kernel K_ab = <dz_a/dtheta, dz_b/dtheta>

to first order. If K = kappa 1 + a constant, the constant drops out, and this is the bandit's own
step lr kappa A (1[a = b] - pi_a): lessons/clips/bandit.py with LR = lr kappa. What is not of this
form couples the arms. The tokens after the opener and the norm clip are left out.
"""

import sys
from argparse import RawDescriptionHelpFormatter

import torch
from torch import Tensor

from data.corpus import CORPORA
from data.plumbing import InputError, Parser, run_command
from data.task import EASY, Problem, render_problem
from data.tokenizer import encode_prompt
from evaluation import draw_evaluation
from lessons.clips.bandit import LR
from model import Transformer, load_checkpoint, locate_base
from rlvr import TrainConfig

RARE = 0.005    # a first token below this probability is no arm
PROBLEMS = 100


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


def show_range(values: Tensor) -> str:
    return f"{values.mean():.0f} ({values.min():.0f} to {values.max():.0f})"


def show_kernel(checkpoint: str) -> None:
    model, saved = load_checkpoint(locate_base(checkpoint), torch.device("cpu"))
    digits = CORPORA[saved["corpus"]].digits
    problems = draw_evaluation(PROBLEMS, "training", EASY, digits=digits)
    _, shares, K = measure_kernel(model, problems)
    if len(shares) < 2:
        raise InputError(f"{checkpoint} begins all its responses alike: one arm is no bandit")
    own, others = K.diag(), K[~torch.eye(len(K), dtype=torch.bool)]
    lr, kappa = TrainConfig.lr, (own.mean() - others.mean()).item()
    print(f"arms      {', '.join(f'{share:.2f}' for share in shares)}")
    print(f"K_aa      {show_range(own)}")
    print(f"K_ab      {show_range(others)}")
    print(f"lr kappa  {lr:g} x {kappa:.0f} = {lr * kappa:.1f}, the bandit's LR is {LR:g}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.prior.kernel", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default="good-code",
                        help="a base's name or a checkpoint (default good-code)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: show_kernel(args.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
