"""What does a base give without any training? Ways to draw its habit out, beside what a random reward gains. A quarter of a minute.

    python -m lessons.elicit [FOLDER]         # FOLDER (default data/results/full) as ./train.sh full fills runs/full: the gains of RL

Training on a coin flip makes the model do more of what it does most. So does a low temperature, a vote, or one token put into its mouth.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import rewards
import rlvr
from data.corpus import CODE_OPENER, is_code
from data.options import lesson
from data.task import EASY, InputError, Problem, answer
from data.tokenizer import decode, encode

SAMPLES, VOTERS = 64, (8, 64)  # responses to each problem; how many of them vote
TEMPERATURES = (0.7, 0.5, 0.3)


def vote(problems: list[Problem], responses: list[str], n: int) -> float:
    """Accuracy of the majority answer of n responses (self-consistency, 2203.11171), over all disjoint groups of n."""
    per_problem, right = len(responses) // len(problems), []
    for i in range(0, len(responses), n):
        right.append(rewards.majority_answer(responses[i:i + n]) == str(answer(problems[i // per_problem])))
    return float(np.mean(right))


def ways(model: torch.nn.Module, problems: list[Problem], key: tuple[int, ...]) -> dict[str, tuple[float, float | None]]:
    """{way: (accuracy, share of code among the responses)} of sampling without training, SAMPLES responses to each problem.

    `forced words` begins every response with the opener, other than code's, that the model itself uses most.
    """
    def measured(n: int = SAMPLES, **sampling) -> tuple[float, float]:
        _, right, code = rlvr.judged(problems, rlvr.respond(model, problems, n, key, **sampling))
        return right.mean().item(), code.mean().item()

    responses, right, code = rlvr.judged(problems, rlvr.respond(model, problems, SAMPLES, key))
    table = {"T = 1": (right.mean().item(), code.mean().item()),
             **{f"T = {t:g}": measured(temperature=t) for t in TEMPERATURES}, "greedy": measured(1, temperature=0.0),
             **{f"majority of {n}": (vote(problems, responses, n), None) for n in VOTERS}, "forced code": measured(prefix=CODE_OPENER)}
    openers = Counter(decode(encode(response)[:1]) for response in responses if response and not is_code(response))
    if openers:
        table["forced words"] = measured(prefix=openers.most_common(1)[0][0])
    return table


def main(folder: str) -> None:
    try:
        cells = json.loads((Path(folder) / "results.json").read_text())["cells"]
        random = {cell["base"]: cell for cell in cells if (cell["reward"], cell["loss"], cell["flags"]) == ("random", "grpo", "")}
        assert random
    except Exception:  # missing, or not ours, in many ways
        raise InputError(f"{folder} holds no results.json of python rlvr.py plot with a random reward") from None
    problems = rlvr.evaluation_problems(400, "evaluation", EASY)
    print("base       way             accuracy  gain   of the random reward's  code share")
    for base, cell in random.items():
        model, _ = rlvr.load(rlvr.base_path(base), torch.device("cpu"))
        table = ways(model, problems, (rlvr.EVALUATION, 0))
        table["random reward"] = cell["accuracy_after"], cell["code_share_after"]
        before = table["T = 1"][0]
        for way, (accuracy, share) in table.items():
            gain = cell["gain_mean"] if way == "random reward" else 100 * (accuracy - before)   # RL's over its own 8 samples
            part = f"{gain / cell['gain_mean']:.0%}" if abs(cell["gain_mean"]) > 3 and gain else "-"   # a share of nothing says nothing
            print(f"{base:9s}  {way:14s}  {accuracy:.3f}     {gain:+5.1f}  {part:22s}  {'' if share is None else f'{share:.2f}'}".rstrip())


if __name__ == "__main__":
    lesson("elicit", __doc__, main, folder=dict(nargs="?", default="data/results/full"))
