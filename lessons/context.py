"""What a coin does where the habit depends on the prompt: a bandit with kinds of prompts.

    python -m lessons.context [BASE ...]    # names or paths; default mixed-code; seconds each

bandit.py has one prompt. Here are K kinds of them, each with its own shares of the A openers, and
what is pulled on one kind moves the others too, since all prompts share their parameters:

    z_ka moves by lr sum_jb K_ka,jb g_jb    K_ka,jb = <dz_ka / dtheta, dz_jb / dtheta>

z_ka is the logit of opener a, averaged over the prompts of kind k, and g_jb the gradient of the
surrogate with respect to z_jb. PPO's walls act on each kind by itself: its ratios are its own.
Shares, K, the norms of gradients and the accuracy after each opener are measured before RL, on
training problems. Nothing is fitted to a run.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.corpus import CORPORA, Corpus, own_opener
from data.task import EASY, Problem, render_problem
from data.tokenizer import decode, encode_prompt
from evaluation import Sampling, answer_problems, draw_evaluation
from lessons.bandit import GROUP, OFF, softmax, weigh
from lessons.gradients import RARE, measure_norms
from lessons.report import align
from model import Transformer, load_checkpoint, locate_base
from plumbing.commands import Parser, run_command
from plumbing.streams import EVALUATION
from rlvr import make_config

SEEDS = 400
PROBLEMS = 420    # of training, for the kernel and the accuracy
NORMED = 100      # of them, for the norms
MOVED = 0.1       # of greedy accuracy: what counts as up or down
BATCHES = 30      # of rollouts, unless a cell's flags say otherwise
CELLS = {"default": {}, "lr 0.01, 40 batches": {"lr": 0.01, "steps": 40},
         "no PPO clip": {"eps_low": OFF, "eps_high": OFF}, "p 0.1": {"p": 0.1},
         "p 0.9": {"p": 0.9}}


class HabitByKind(NamedTuple):
    """What the bandit is told of a base: K kinds of prompts, A openers."""

    kinds: list[str]
    modes: list[str]          # of answering, by opener (A,)
    weights: np.ndarray       # how often each kind comes (K,)
    priors: np.ndarray        # shares of the openers (K, A)
    kernel: np.ndarray        # (K, A, K, A)
    norms: dict[str, float]   # E|d log pi(response) / d theta|^2, by mode
    accuracy: np.ndarray      # of what is answered greedily after an opener (K, A)


def draw_pulls(rng: np.random.Generator, shares: np.ndarray, p: float, group: int,
               updates: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of pulls, given the shares (seeds, groups, A) of each group's kind.

    Returns for every pull (seeds, groups * group) 2 (its group A + its arm) + whether it paid, and
    its advantage. Groups come in `updates` draws, as in bandit.py: the same pulls from one rng.
    """
    pulls, wins = [], []
    for part in np.split(shares, updates, axis=1):
        pulls.append(rng.multinomial(group, part))
        wins.append(rng.binomial(pulls[-1], p))
    pulls, wins = np.concatenate(pulls, axis=1), np.concatenate(wins, axis=1)
    mean = wins.sum(axis=2, keepdims=True) / group                    # (seeds, groups, 1)
    std = np.sqrt(mean * (1 - mean)) + 1e-9
    counts = np.stack([pulls - wins, wins], axis=-1)                  # (seeds, groups, A, 2)
    paid = np.broadcast_to(np.arange(2.0), counts.shape)
    advantages = (paid - mean[..., None]) / std[..., None]
    numbers = np.broadcast_to(np.arange(counts[0].size), (len(shares), counts[0].size))
    rows = np.repeat(numbers.ravel(), counts.ravel()).reshape(len(shares), -1)
    return rows, np.repeat(advantages.ravel(), counts.ravel()).reshape(rows.shape)


def push(rows: np.ndarray, advantages: np.ndarray, ratio: np.ndarray, bounds: tuple[float, float],
         rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What an update's pulls add to each (kind, arm), over their number; and to its squared norm.

    rows (seeds, n): 2 (kind A + arm) + paid; ratio (seeds, K A) to the old policy. Both results are
    sums over an update: (seeds, K A) of A w where the clip leaves it, (seeds,) of (A w)^2 rest.
    """
    seeds, n = rows.shape
    failed, paid = weigh(ratio, *bounds, "grpo")[::-1]                # each (seeds, K A)
    counts = np.stack([failed, paid], axis=-1).reshape(seeds, -1)     # (seeds, 2 K A)
    weights = advantages * np.take_along_axis(counts, rows, axis=1) / n
    cells = rows // 2 + ratio.shape[1] * np.arange(seeds)[:, None]
    pushed = np.bincount(cells.ravel(), weights.ravel(), ratio.size).reshape(ratio.shape)
    return pushed, (weights ** 2 * rest[rows // 2]).sum(axis=1)


def play_kinds(weights: np.ndarray, priors: np.ndarray, kernel: np.ndarray, eps: float,
               batches: int = 100, samples: int = 512, updates: int = 8, p: float = 0.5, *,
               group: int = GROUP, eps_high: float | None = None, lr: float = 1.0,
               max_norm: float = OFF, rest: np.ndarray | float = 0.0, shuffled: bool = False,
               seeds: int = SEEDS) -> np.ndarray:
    """The logits before, and after each batch of pulls: (batches + 1, seeds, K, A).

    weights (K,), priors (K, A), kernel (K, A, K, A); `rest` (K, A): what |gradient|^2 of a pull has
    beside its opener's part. A group's kind is drawn by weight. `shuffled`: an update's pulls are
    from all groups of the batch, as in rlvr.py; else they are whole groups, as in bandit.py.
    """
    rng, other = np.random.default_rng(0), np.random.default_rng(1)
    K, A = priors.shape
    kernel, rest = kernel.reshape(K * A, K * A), np.broadcast_to(rest, (K, A)).ravel()
    bounds = eps, eps if eps_high is None else eps_high
    z = np.tile(np.log(priors), (seeds, 1, 1))                        # (seeds, K, A)
    path = [z]
    for _ in range(batches):
        old = softmax(z)
        kinds = other.choice(K, (seeds, samples // group), p=weights)
        rows, advantages = draw_pulls(rng, np.take_along_axis(old, kinds[..., None], axis=1), p,
                                      group, updates)
        groups, cells = np.divmod(rows, 2 * A)
        rows = 2 * A * np.take_along_axis(kinds, groups, axis=1) + cells
        if shuffled:
            order = other.random(rows.shape).argsort(axis=1)
            rows, advantages = (np.take_along_axis(x, order, axis=1) for x in (rows, advantages))
        for part, paid in zip(np.split(rows, updates, axis=1), np.split(advantages, updates, 1)):
            pi = softmax(z)
            pushed, others = push(part, paid, (pi / old).reshape(seeds, -1), bounds, rest)
            pushed = pushed.reshape(z.shape)
            # d log pi_ka / dz_k = onehot(a) - pi_k
            gradient = (pushed - pi * pushed.sum(axis=2, keepdims=True)).reshape(seeds, -1)
            moved = gradient @ kernel
            norm = np.sqrt((moved * gradient).sum(axis=1) + others) + 1e-9
            z = z + (lr * np.minimum(1, max_norm / norm)[:, None] * moved).reshape(z.shape)
        path.append(z)
    return np.array(path)


def split_contexts(corpus: Corpus, problems: list[Problem]) -> dict[str, list[Problem]]:
    """{name: problems} of each kind of prompt that the corpus tells apart; of the others, one."""
    found = {}
    for problem in problems:
        kind = f"{corpus.kind_of(problem)} {own_opener(problem)}" if corpus.kinds else "all"
        found.setdefault(kind, []).append(problem)
    return dict(sorted(found.items()))


def measure_kernels(model: Transformer, groups: list[list[Problem]]) -> tuple[Tensor, ...]:
    """The tokens that responses begin with, and K at these weights, between kinds of problems.

    Returns arms (A,), their shares in each of the groups (K, A), kernel (K, A, K, A).
    """
    logits = [torch.stack([model.head(model(torch.tensor([encode_prompt(render_problem(problem))]))
                                      [0, -1]) for problem in group]) for group in groups]
    shares = torch.stack([of_kind.softmax(-1).mean(0) for of_kind in logits]).detach()    # (K, V)
    counts = shares.new_tensor([len(group) for group in groups])
    mean, tokens = (counts @ shares / counts.sum()).sort(descending=True)                 # (V,)
    arms, parameters, rows = tokens[mean > RARE], list(model.parameters()), []
    for of_kind in logits:
        for logit in of_kind[:, arms].mean(0):
            gradient = torch.autograd.grad(logit, parameters, retain_graph=True)
            rows.append(torch.cat([part.flatten() for part in gradient]))
    gradients = torch.stack(rows)                                            # (K A, parameters)
    shape = len(groups), len(arms)
    return arms, shares[:, arms], (gradients @ gradients.T).view(*shape, *shape)


def measure_context(checkpoint: str) -> HabitByKind:
    """Of a base's name or path."""
    model, saved = load_checkpoint(locate_base(checkpoint), torch.device("cpu"))
    corpus = CORPORA[saved["corpus"]]
    problems = draw_evaluation(PROBLEMS, "training", EASY, digits=corpus.digits)
    contexts = split_contexts(corpus, problems)
    problems = sum(contexts.values(), [])
    arms, shares, kernel = measure_kernels(model, list(contexts.values()))
    openers, ends = [decode([arm]) for arm in arms.tolist()], np.cumsum(
        [len(group) for group in contexts.values()])
    right = np.stack([answer_problems(model, corpus, problems, 1, (EVALUATION, 0), Sampling(0.0),
                                      opener).correct[:, 0] for opener in openers], axis=1)
    accuracy = [part.mean(axis=0) for part in np.split(right, ends[:-1])]             # (K, A)
    weights = np.diff(ends, prepend=0) / len(problems)
    priors = shares.double().numpy()
    return HabitByKind(list(contexts), [corpus.mode_of(opener) for opener in openers], weights,
                   priors / priors.sum(axis=1, keepdims=True), kernel.double().numpy(),
                   measure_norms(model, corpus, problems[::len(problems) // NORMED]),
                   np.array(accuracy))


def find_rest(context: HabitByKind) -> np.ndarray:
    """What |gradient|^2 of a pull has beside its opener's part, at least 0: (K, A)."""
    A = len(context.modes)
    norms = np.array([context.norms[mode] for mode in context.modes])
    steps = np.eye(A) - context.priors[:, None]                  # d log pi_ka / dz_k: (K, A, A)
    own = np.einsum("kab,kbkc,kac->ka", steps, context.kernel, steps)
    return np.maximum(0, norms - own)


class Outcome(NamedTuple):
    """Of every seed of a bandit: accuracy before and after."""

    greedy: np.ndarray    # (2, seeds)
    sampled: np.ndarray   # (2, seeds)
    habit: np.ndarray     # (2, seeds): the share of prompts whose likeliest opener is the first

    def count(self) -> tuple[float, float]:
        """The shares of seeds whose greedy accuracy went up, and down, by more than MOVED."""
        moved = self.greedy[1] - self.greedy[0]
        return np.mean(moved > MOVED).item(), np.mean(moved < -MOVED).item()


def predict(context: HabitByKind, seeds: int = SEEDS, **flags) -> Outcome:
    """What runs with these flags of `train` should do, but for what breaks the arithmetic."""
    config = make_config(reward="random", **flags)
    read = config.flags
    path = play_kinds(context.weights, context.priors, context.kernel, read["eps_low"],
                      config.steps, config.prompts * config.group, config.updates, read["p"],
                      group=config.group, eps_high=read["eps_high"], lr=config.lr,
                      max_norm=config.max_grad_norm, rest=find_rest(context), shuffled=True,
                      seeds=seeds)
    ends = path[[0, -1]]                                                    # (2, seeds, K, A)
    best = ends.argmax(axis=3)
    chosen = context.accuracy[np.arange(len(context.kinds)), best]          # (2, seeds, K)
    sampled = (softmax(ends) * context.accuracy).sum(axis=3)
    return Outcome(*(values @ context.weights for values in (chosen, sampled, best == 0)))


def tabulate_predictions(contexts: dict[str, HabitByKind]) -> str:
    """A line for each base and each of CELLS. `by habit`: prompts whose likeliest opener is its."""
    lines = [["base", "runs", "greedy", "sampled", "by habit", "up", "down"]]
    for base, context in contexts.items():
        for name, flags in CELLS.items():
            found = predict(context, SEEDS, **{"steps": BATCHES} | flags)
            changes = ["{:.3f} -> {:.3f}".format(*values.mean(axis=1))
                       for values in (found.greedy, found.sampled, found.habit)]
            lines.append([base, name, *changes, *(f"{share:.0%}" for share in found.count())])
    return align(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.context", description=__doc__,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="*", metavar="BASE", default=["mixed-code"],
                        help="names or checkpoints (default mixed-code)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print(tabulate_predictions(
        {base: measure_context(base) for base in args.bases})))


if __name__ == "__main__":
    sys.exit(main())
