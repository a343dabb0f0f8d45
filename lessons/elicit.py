"""What does a base give without any training? A quarter of a minute for three bases.

    python -m lessons.elicit [BASE ...]     # names or checkpoints; default good-code

Training on a coin flip makes the model do more of what it does most. So does a low temperature, a
vote, or one token put into its mouth. Votes are self-consistency (2203.11171).
"""

import sys
from collections import Counter

import numpy as np
import torch

from data.answers import find_majority
from data.corpus import CODE_OPENER, CORPORA, Corpus, is_code
from data.task import EASY, Problem, write_answer
from data.tokenizer import decode, encode
from evaluation import PLAIN, Answers, Sampling, answer_problems, draw_evaluation
from lessons.report import align
from measures import note_cut
from model import Transformer, load_checkpoint, locate_base
from plumbing.commands import Parser, head_of, run_command
from plumbing.machine import keep_settings
from plumbing.streams import EVALUATION

SAMPLES, VOTERS = 64, (8, 64)  # responses to each problem; how many of them vote
TEMPERATURES = (0.7, 0.5, 0.3)


def score_votes(problems: list[Problem], responses: list[str], n: int) -> float:
    """Accuracy of the majority answer of n responses, over all disjoint groups of n."""
    per_problem, right = len(responses) // len(problems), []
    for i in range(0, len(responses), n):
        majority = find_majority(responses[i:i + n])
        right.append(majority == write_answer(problems[i // per_problem]))
    return float(np.mean(right))


def find_opener(responses: list[str]) -> str | None:
    """The opener, other than code's, that responses begin with most often."""
    openers = Counter(decode(encode(response)[:1]) for response in responses
                      if response and not is_code(response))
    return openers.most_common(1)[0][0] if openers else None


@keep_settings()
def elicit(model: Transformer, corpus: Corpus, problems: list[Problem],
           key: tuple[int, ...]) -> list[dict]:
    """Rows (way, accuracy, code_share) of sampling without training, SAMPLES responses a problem.

    `forced words` begins every response with the opener that the model itself uses most.
    """
    rows = []

    def add(way: str, answers: Answers) -> None:
        share = np.mean([is_code(text) for text in answers.texts]).item()
        accuracy = answers.correct.mean().item()
        rows.append({"way": way, "accuracy": accuracy, "code_share": share})

    def sample(n: int = SAMPLES, sampling: Sampling = PLAIN, prefix: str = "") -> Answers:
        answers = answer_problems(model, corpus, problems, n, key, sampling, prefix)
        note_cut(answers.rollouts, sampling.max_new_tokens)
        return answers

    plain = sample()
    add("T = 1", plain)
    for temperature in TEMPERATURES:
        add(f"T = {temperature:g}", sample(sampling=Sampling(temperature)))
    add("greedy", sample(1, Sampling(0.0)))
    for n in VOTERS:
        accuracy = score_votes(problems, plain.texts, n)
        rows.append({"way": f"majority of {n}", "accuracy": accuracy, "code_share": None})
    add("forced code", sample(prefix=CODE_OPENER))
    opener = find_opener(plain.texts)
    if opener is not None:
        add("forced words", sample(prefix=opener))
    return rows


def elicit_bases(bases: list[str], split: str = "evaluation") -> list[dict]:
    """Rows (base, way, accuracy, code_share) on the 400 problems that every evaluation asks."""
    rows = []
    for base in bases:
        model, checkpoint = load_checkpoint(locate_base(base), torch.device("cpu"))
        corpus = CORPORA[checkpoint["corpus"]]
        problems = draw_evaluation(400, split, EASY, digits=corpus.digits)
        for row in elicit(model, corpus, problems, (EVALUATION, 0)):
            rows.append({"base": base, **row})
    return rows


def tabulate_ways(rows: list[dict]) -> str:
    """Accuracy, gain over sampling at T = 1 in points, and code share of every way."""
    lines, plain = [["base", "way", "accuracy", "gain", "code share"]], {}
    for row in rows:
        plain.setdefault(row["base"], row["accuracy"])
        share = "" if row["code_share"] is None else f"{row['code_share']:.2f}"
        gain = 100 * (row["accuracy"] - plain[row["base"]])
        lines.append([row["base"], row["way"], f"{row['accuracy']:.3f}", f"{gain:+.1f}", share])
    return align(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.elicit", description=head_of(__doc__))
    parser.add_argument("bases", nargs="*", metavar="BASE", default=["good-code"],
                        help="names or checkpoints (default good-code)")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print(tabulate_ways(elicit_bases(args.bases))))


if __name__ == "__main__":
    sys.exit(main())
