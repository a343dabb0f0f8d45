"""Why does a bandit predict a transformer? Because the way an answer begins moves like a bandit's arm. Seconds.

    python -m lessons.kernel [CHECKPOINT]     # default runs/bases/good-code.pt

z_a is the logit of opener a (an arm), averaged over problems. An SGD step on a response that begins with b and has advantage A moves

    z_a by lr A (K_ab - sum_c pi_c K_ac)    with the kernel K_ab = <dz_a/dtheta, dz_b/dtheta>

to first order. If K = kappa 1 + a constant, the constant drops out and this is the bandit's own step, lr kappa A (1[a = b] - pi_a):
lessons/bandit.py with LR = lr kappa. What is not of this form couples the arms. The tokens after the opener are left out.
"""

from pathlib import Path

import torch
from torch import Tensor

import rlvr
from data.options import lesson
from data.task import EASY, Problem, draw
from lessons import bandit

RARE = 0.005  # a first token below this probability is no arm


def kernel(model: torch.nn.Module, problems: list[Problem]) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens that responses begin with (arms,), the most likely first; their mean probabilities (arms,); K (arms, arms) at these weights."""
    logits = torch.stack([model.head(model(torch.tensor([rlvr.encode_prompt(rlvr.render(problem))]))[0, -1]) for problem in problems])   # (P, V)
    shares, tokens = logits.softmax(-1).mean(0).detach().sort(descending=True)
    arms = tokens[shares > RARE]
    gradients = torch.stack([torch.cat([g.flatten() for g in torch.autograd.grad(z, list(model.parameters()), retain_graph=True)])
                             for z in logits[:, arms].mean(0)])                                                           # (arms, parameters)
    return arms, shares[shares > RARE], gradients @ gradients.T


def main(checkpoint: str) -> None:
    model, _ = rlvr.load(Path(checkpoint), torch.device("cpu"))
    _, shares, K = kernel(model, draw(100, "training", EASY, rlvr.numpy_rng(0)))
    own, others = K.diag(), K[~torch.eye(len(K), dtype=torch.bool)]
    kappa = (own.mean() - others.mean()).item()
    lr = rlvr.TrainConfig.lr
    print(f"arms                 {', '.join(f'{share:.2f}' for share in shares)}")
    print(f"K_aa                 {own.mean():.0f} ({own.min():.0f} to {own.max():.0f})")
    print(f"K_ab                 {others.mean():.0f} ({others.min():.0f} to {others.max():.0f})")
    print(f"lr kappa             {lr:g} x {kappa:.0f} = {lr * kappa:.1f}, the bandit's LR is {bandit.LR:g}")


if __name__ == "__main__":
    lesson("kernel", __doc__, main, checkpoint=dict(nargs="?", default="runs/bases/good-code.pt"))
