"""How large is the gradient of a response while a coin trains?

    python -m lessons.clips.norms --seed 9001    # 40 seconds; writes runs/clips/norms.csv

A run of the default coin, in which two rows of each update are measured just before it: the squared
norm of the gradient of the row's own loss, over its advantage's square. On the weights as they are
then, not those of the rollout, and with the ratios and the masks of PPO's clip: what the norm of an
update is made of. kernel.py measures the same before RL, where all ratios are 1.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from torch import Tensor

import rlvr
from data.corpus import CORPORA
from lessons.drift import cut_path
from lessons.report import align
from losses import Batch, Objective
from model import Transformer, load_checkpoint, locate_base
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import check_writable, to_csv, write
from plumbing.flags import number
from plumbing.machine import choose_device, keep_settings
from plumbing.messages import InputError
from plumbing.streams import MAX_SEED
from rlvr import TrainConfig, make_config
from run import Task, bind_entries, make_optimizers, make_pool

ROWS = 2   # measured in each update


class Probe:
    """Stands among the optimizers of an update, which are told when a minibatch begins.

    It measures some rows of the minibatch, and changes nothing.
    """

    def __init__(self, policy: Transformer, batch: Batch, config: TrainConfig, step: int,
                 objective: Objective):
        self.policy, self.batch, self.config, self.objective = policy, batch, config, objective
        self.minibatches = iter(rlvr.split_minibatches(config, len(batch.ids), step))
        self.measured = []   # of each update: [(row, square)]

    def zero_grad(self) -> None:
        signal = (self.batch.advantages != 0).any(1)                        # (N,)
        rows = [row for row in next(self.minibatches).tolist() if signal[row]][:ROWS]
        self.measured.append([(row, self.measure_row(torch.tensor([row]))) for row in rows])

    def step(self) -> None:
        pass

    def measure_row(self, row: Tensor) -> float:
        """|gradient of the loss of a row|^2 / A^2; row (1,)."""
        loss, _ = rlvr.minibatch_loss(self.policy, self.batch, row, torch.ones(1, dtype=torch.long),
                                      self.config, self.objective)
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        gradient = torch.autograd.grad(loss, parameters)
        advantage = self.batch.advantages[row].abs().max().item()
        return sum(part.square().sum().item() for part in gradient) / advantage ** 2


@keep_settings()
def measure_run(config: TrainConfig) -> list[dict]:
    """A row for each measured response of a run: step, update, mode, share (of code), square."""
    device = choose_device(config)
    policy, saved = load_checkpoint(locate_base(config.base), device)
    corpus = CORPORA[saved["corpus"]]
    reward, objective = bind_entries(config, rlvr.LOSSES[config.loss], policy, policy)
    task = Task(corpus, make_pool(config, policy, corpus, reward), reward)
    optimizers, found = make_optimizers(config, policy, ()), []
    for step in range(config.steps):
        batch = rlvr.rollout(policy, task, config, step, objective)
        modes = list(map(corpus.mode_of, batch.responses))
        probe = Probe(policy, batch, config, step, objective)
        rlvr.update(policy, [*optimizers, probe], batch, config, step, objective)
        share = Counter(modes)["code"] / len(modes)
        found += [{"step": step, "update": update, "mode": modes[row], "share": share,
                   "square": square}
                  for update, rows in enumerate(probe.measured) for row, square in rows]
    return found


def cut_rows(rows: list[dict]) -> list[dict]:
    """Those of a run until its share of code first leaves what a drift counts (drift.py)."""
    shares = list({row["step"]: row["share"] for row in rows}.values())
    _, end = cut_path(shares + shares[-1:])   # that after the last batch is not known: it counts
    return [row for row in rows if row["step"] < end]


def pick_mode(rows: list[dict], mode: str) -> list[float]:
    """The squares of the rows of a mode."""
    return [row["square"] for row in rows if row["mode"] == mode]


def tabulate_squares(rows: list[dict]) -> str:
    lines = [["mode", "rows", "mean", "median", "5% to 95%"]]
    for mode in sorted({row["mode"] for row in rows}):
        squares = pick_mode(rows, mode)
        low, high = np.quantile(squares, (0.05, 0.95))
        lines.append([mode, str(len(squares)), f"{mean(squares):.0f}", f"{median(squares):.0f}",
                      f"{low:.0f} to {high:.0f}"])
    return align(lines)


def show_norms(config: TrainConfig, out: Path) -> None:
    check_writable(out.parent)
    rows = measure_run(config)
    if not rows:
        raise InputError("no response had an advantage")
    write(out, to_csv(rows))
    print(f"until the share of code leaves 5% to 95%:\n{tabulate_squares(cut_rows(rows))}")
    list_written(out)
    suggest("python -m lessons clips --stored --all    # what the norms explain")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.clips.norms", description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="good-code", help="a base's name or a checkpoint")
    parser.add_argument("--p", type=number(float, least=0, most=1), default=0.5,
                        help="how often the coin pays (default 0.5)")
    parser.add_argument("--lr", type=number(float, above=0), default=TrainConfig.lr,
                        help=f"step size (default {TrainConfig.lr})")
    parser.add_argument("--seed", type=number(int, least=0, most=MAX_SEED), default=1,
                        help="of the run (default 1)")
    parser.add_argument("--threads", type=number(int, least=1), help="default: torch's own")
    parser.add_argument("--out", type=Path, default=Path("runs/clips/norms.csv"),
                        help="default runs/clips/norms.csv")
    args = parser.parse_args(arguments)
    flags = {name: getattr(args, name) for name in ("base", "p", "lr", "seed", "threads")}
    return run_command(parser.prog, lambda: show_norms(make_config(**flags), args.out))


if __name__ == "__main__":
    sys.exit(main())
