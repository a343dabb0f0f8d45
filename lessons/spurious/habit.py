"""Does a coin feed the habit of a base that only guesses? Its probability, before and after.

mixed-none has no programs to count. Its habit is one opener among others, so its probability is
read off the model: that of the first token of an answer.
"""

from pathlib import Path
from statistics import mean

import torch

from data.corpus import TEXT_OPENERS
from data.task import EASY, Problem, render_problem
from data.tokenizer import encode, encode_prompt
from evaluation import draw_evaluation
from lessons.grid import locate_run
from lessons.report import Results, align
from model import Transformer, load_checkpoint
from plumbing.machine import keep_settings

HABIT = TEXT_OPENERS[0]   # of mixed-none


@torch.no_grad()
def measure_opener(model: Transformer, problems: list[Problem], opener: str) -> float:
    """The probability that an answer begins with an opener, in the mean over problems."""
    token, = encode(opener)
    prompts = [torch.tensor([encode_prompt(render_problem(problem))]) for problem in problems]
    return mean(model.head(model(prompt)[0, -1]).softmax(-1)[token].item() for prompt in prompts)


@keep_settings()
def measure_habits(runs: list[dict]) -> list[dict]:
    """A row for each run of the coin on mixed-none: the habit before and after."""
    problems, rows = draw_evaluation(400, "evaluation", EASY), []
    for run in runs:
        if run["base"] == "mixed-none" and run["reward"] == "random":
            folder = locate_run(run)
            before, after = (measure_opener(load_checkpoint(Path(folder, f"{name}.pt"),
                                                            torch.device("cpu"))[0],
                                            problems, HABIT) for name in ("base", "model"))
            rows.append({"base": run["base"], "habit_of_seed": run["seed"],
                         "before_habit": before, "after_habit": after})
    return rows


def tabulate_habit(results: Results) -> str:
    """The habit of mixed-none in each run of its first base, lowest first."""
    rows = sorted((row for row in results.evidence if row.get("after_habit")),
                  key=lambda row: row["after_habit"])
    lines = [["mixed-none", "before", "after", "up", "each seed after"]]
    if rows:
        up = sum(row["after_habit"] > row["before_habit"] for row in rows)
        lines.append(["habit, base 0", f"{mean(row['before_habit'] for row in rows):.2f}",
                      f"{mean(row['after_habit'] for row in rows):.2f}", f"{up} of {len(rows)}",
                      " ".join(f"{row['after_habit']:.2f}" for row in rows)])
    return align(lines)
