"""What a reader sees while the jobs of a lesson are at work, above their bar.

First what is to be done; then, as bases are pretrained, how each of them answers one problem by
now (pretrain.py: show_answer); and a row as each run ends.
"""

import json
import re
from pathlib import Path

from lessons.grid import locate_run, write_flags
from lessons.jobs import Job, read_log
from plumbing.files import read_text
from plumbing.progress import say_above

ANSWER = re.compile(r"^\S+, after \d+ of \d+ steps, answers .*(?:\n {4}.*)*", re.MULTILINE)


def announce_jobs(jobs: list[Job], at_once: int) -> None:
    """What will be done, and about how long it takes: at once, also where stdout is a file."""
    bases = len([job for job in jobs if not job.needs])
    parts = [f"{n} {word}{'s' * (n > 1)} to {what}" for n, word, what in (
        (bases, "base", "pretrain"), (len(jobs) - bases, "run", "train")) if n]
    minutes = max(1, round(sum(job.seconds for job in jobs) / min(at_once, len(jobs)) / 60))
    print(f"{' and '.join(parts)}, {at_once} at a time: about {minutes} "
          f"minute{'s' * (minutes > 1)}", flush=True)
    if bases:
        print("A base is a model after pretraining and before RL. Watch it learn to answer:",
              flush=True)


def list_answers(log: str) -> list[str]:
    """What a pretraining has shown of its answers so far, oldest first.

    >>> list_answers("bar\\nb, after 50 of 99 steps, answers 1 +1 (right)\\n    2\\n    3\\nbar")
    ['b, after 50 of 99 steps, answers 1 +1 (right)\\n    2\\n    3']
    """
    return ANSWER.findall(log)


def show_numbers(summary: dict) -> str:
    """The accuracy of a run before and after."""
    return ", ".join(f"{word} {summary['before'][name]:.3f} -> {summary['after'][name]:.3f}"
                     for word, name in (("greedy", "greedy_accuracy"), ("sampled", "accuracy")))


def describe_runs(runs: list[dict]) -> list[str]:
    """Base, reward, seed, and the flags that not all of them have, in columns."""
    shared = set.intersection(*(set(run.items()) for run in runs)) if runs else set()
    cells = [(run["base"], run["reward"], f"seed {run['seed']}", " ".join(write_flags(
        {flag: value for flag, value in run.items() if flag not in ("base", "reward", "seed")
         and (flag, value) not in shared}))) for run in runs]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(text.ljust(width) for text, width in zip(cell, widths)).rstrip()
            for cell in cells]


class News:
    """Says what is new, each time that it is asked; the rows of runs that were there before are
    not."""

    def __init__(self, runs: list[dict]):
        self.names = {locate_run(run) / "summary.json": text
                      for run, text in zip(runs, describe_runs(runs))}
        self.said: dict[Path, int] = {}     # of a log, how many answers

    def tell(self, working: list[Job], ended: list[Job]) -> None:
        """The newest answer of each base in the making, and a row of each run that has ended."""
        for job in [*ended, *working]:
            answers = [] if job.needs else list_answers(read_log(job))
            if len(answers) > self.said.get(job.log, 0):
                say_above(answers[-1])
            self.said[job.log] = len(answers)
        for job in ended:
            if job.makes in self.names:
                summary = json.loads(read_text(job.makes))
                say_above(f"{self.names[job.makes]}  {show_numbers(summary)}")
