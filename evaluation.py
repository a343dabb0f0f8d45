"""What a model does: its answers, how right they are, in which mode, and what a change is made of.

Shapes: P problems, n samples of each.
"""

import argparse
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.answers import is_correct, parse_box
from data.corpus import CORPORA, Corpus, write_claim
from data.task import (
    EASY,
    HARD,
    SPLITS,
    Problem,
    draw_problems,
    parse_problem,
    render_problem,
    write_answer,
)
from data.tokenizer import END, encode, encode_prompt
from measures import (
    detail_doubt,
    mean_or_none,
    measure_doubt,
    measure_tokens,
    measure_votes,
    note_cut,
    share_modes,
)
from model import (
    Rollouts,
    Transformer,
    decode_rollouts,
    load_checkpoint,
    mark_ended,
    response_hidden,
    sample_responses,
)
from plumbing.commands import suggest
from plumbing.files import to_json
from plumbing.flags import option
from plumbing.machine import DEVICE, THREADS, choose_device
from plumbing.messages import InputError, note
from plumbing.progress import progress_bar
from plumbing.streams import EVALUATION, MAX_SEED, SAMPLES, numpy_rng, torch_rng
from plumbing.system import say

SAMPLED_ROWS = 8192  # responses sampled at once; bounds the memory


class Sampling(NamedTuple):
    """How responses are sampled; the default is the model's own distribution."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    max_new_tokens: int = 40


PLAIN = Sampling()


class Answers(NamedTuple):
    """n responses to each of P problems."""

    problems: list[Problem]    # (P)
    texts: list[str]           # (P * n)
    rollouts: list[Rollouts]   # in chunks of some problems each
    correct: np.ndarray        # (P, n) bool
    modes: np.ndarray          # (P, n) int, index into the corpus's modes


def answer_problems(model: Transformer, corpus: Corpus, problems: list[Problem], n: int,
                    key: tuple[int, ...], sampling: Sampling = PLAIN, prefix: str = "") -> Answers:
    """n responses to each problem, all made to begin with `prefix`.

    key: (purpose, seed) of the random stream.
    """
    chunk = max(1, SAMPLED_ROWS // n)
    starts = range(0, len(problems), chunk)
    texts, chunks = [], []
    for i in progress_bar(iterable=starts, desc="sampling", leave=False, delay=2):
        prompts = [encode_prompt(render_problem(problem)) + encode(prefix)
                   for problem in problems[i:i + chunk]]
        rollouts = sample_responses(model, prompts, n, END, generator=torch_rng(*key, i),
                                    **sampling._asdict())
        texts += [prefix + text for text in decode_rollouts(rollouts)]
        chunks.append(rollouts)
    correct = [is_correct(problems[i // n], text) for i, text in enumerate(texts)]
    modes = [corpus.modes.index(corpus.mode_of(text)) for text in texts]
    shape = len(problems), n
    return Answers(problems, texts, chunks, np.reshape(correct, shape), np.reshape(modes, shape))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k (2107.03374, eq. 1) from n samples, c right: 1 - C(n-c, k) / C(n, k).

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 2, 2)
    (0.25, 0.8333333333333334)

    Raises ValueError if k > n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, not n={n}, c={c}, k={k}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


@torch.no_grad()
def kl_to_base(model: Transformer, base: Transformer, answers: Answers) -> float:
    """KL(pi || base) of whole responses in nats, on the first response of pi to each problem.

    The mean over responses of the exact KL of each next-token distribution, summed over the tokens:
    unbiased by the chain rule.
    """
    total, done, n = 0.0, 0, answers.correct.shape[1]
    for rollouts in answers.rollouts:
        ids, mask = rollouts.ids[::n], rollouts.mask[::n]
        prompts = [encode_prompt(render_problem(problem))
                   for problem in answers.problems[done:done + len(ids)]]
        logprobs, base_logprobs = (m.head(response_hidden(m, prompts, ids, mask)).log_softmax(-1)
                                   for m in (model, base))                         # (R, V) each
        total += (logprobs.exp() * (logprobs - base_logprobs)).sum().item()
        done += len(ids)
    return total / len(answers.problems)


def draw_evaluation(n: int, split: str, num_ops: tuple[int, ...], seed: int = 0,
                    digits: int = 2) -> list[Problem]:
    """The problems that an evaluation asks; those of seed 0 are the same in every run and table."""
    return draw_problems(n, split, num_ops, numpy_rng(EVALUATION, seed), digits=digits)


def evaluate(model: Transformer, corpus: Corpus, problems: list[Problem], samples: int,
             ks: list[int], key: tuple[int, ...], sampling: Sampling = PLAIN,
             base: Transformer | None = None) -> tuple[dict, Answers]:
    """Sample each problem `samples` times, and once greedily: the numbers and the samples.

    What cannot be said (the accuracy of a mode that does not occur) is None.
    """
    answers = answer_problems(model, corpus, problems, samples, key, sampling)
    greedily = Sampling(0.0, max_new_tokens=sampling.max_new_tokens)
    greedy = answer_problems(model, corpus, problems, 1, key, greedily)
    note_cut(answers.rollouts + greedy.rollouts, sampling.max_new_tokens)
    numbers = {"accuracy": answers.correct.mean().item(),
               "greedy_accuracy": greedy.correct.mean().item()}
    numbers |= share_modes(corpus, problems, answers.modes)
    for name, share in share_modes(corpus, problems, greedy.modes).items():
        numbers[f"greedy_{name}"] = share
    for i, mode in enumerate(corpus.modes):
        numbers[f"accuracy_{mode}"] = mean_or_none(answers.correct[answers.modes == i])
    numbers |= measure_answers(answers, ks)
    rows = [problem for problem in problems for _ in range(samples)]
    right = answers.correct.flatten()
    numbers |= measure_doubt(corpus, rows, answers.texts, right, samples)
    numbers |= detail_doubt(corpus, rows, answers.texts, right)
    numbers["kl_to_base"] = kl_to_base(model, base, answers) if base is not None else None
    return numbers | {"n_problems": len(problems), "n_samples": samples}, answers


def measure_answers(answers: Answers, ks: list[int]) -> dict:
    """What an evaluation says of answers besides accuracy and modes."""
    n = answers.correct.shape[1]
    boxes = [parse_box(text) for text in answers.texts]
    groups = [set(boxes[i:i + n]) - {None} for i in range(0, len(boxes), n)]
    right = answers.correct.sum(axis=1).tolist()                                   # (P)
    return {"format_rate": np.mean([box is not None for box in boxes]).item(),
            **measure_tokens(answers.rollouts),
            **measure_votes(answers.problems, boxes, n),
            "distinct_answers": np.mean([len(group) for group in groups]).item(),
            "pass_at_k": {str(k): np.mean([pass_at_k(n, c, k) for c in right]).item() for k in ks}}


def gain(before: dict, after: dict, modes: tuple[str, ...]) -> dict:
    """The change of accuracy, split into moving between the modes and getting better inside them.

    accuracy = sum over modes of s a, with s a mode's share and a its accuracy. With bars for the
    mean of before and after, switch = sum of ds bar a, within = sum of bar s da: together the
    total, exactly. A mode that occurs on one side only counts as equally accurate on the other.
    """
    switch = within = 0.0
    for mode in modes:
        share = [evaluation[f"{mode}_share"] for evaluation in (before, after)]
        accuracy = [evaluation[f"accuracy_{mode}"] for evaluation in (before, after)]
        known = [a for a in accuracy if a is not None]
        old, new = (a if a is not None else known[0] if known else 0.0 for a in accuracy)
        switch += (share[1] - share[0]) * (old + new) / 2
        within += (share[0] + share[1]) / 2 * (new - old)
    return {"total": after["accuracy"] - before["accuracy"], "switch": switch, "within": within}


def count_switches(before: Answers, after: Answers, modes: tuple[str, ...]) -> dict:
    """{"text->code": [share of the pairs, what they contribute to the gain], ...} for all modes.

    The i-th answer before and the i-th after were drawn with the same random numbers, so that a
    policy that did not change has no changed pair. A cell contributes the sum over its pairs of
    (right after - right before): all cells add up to the gain exactly. As a part of the gain it is
    the C_d of 2506.10947, there for one answer to each problem.
    """
    change = after.correct.astype(int) - before.correct                            # (P, n)
    cells = {}
    for i, old in enumerate(modes):
        for j, new in enumerate(modes):
            cell = (before.modes == i) & (after.modes == j)
            points = (change * cell).sum().item() / change.size
            cells[f"{old}->{new}"] = [cell.mean().item(), points]
    return cells


# --- the commands `evaluate` and `sample` of rlvr.py

@dataclass
class SampleConfig:
    temperature: float = option(1.0, "0 is greedy", least=0)
    top_k: int | None = option(None, "sample among the k most likely tokens", least=1)
    top_p: float | None = option(None, "sample from the likeliest tokens of this mass", above=0,
                                 most=1)
    max_new_tokens: int = option(40, "longest response", least=1, most=1000)
    seed: int = option(0, "of the samples, and of evaluate's problems", least=0, most=MAX_SEED)
    threads: int | None = THREADS
    device: str = DEVICE


@dataclass
class EvaluateConfig(SampleConfig):
    samples: int = option(64, "samples a problem", least=1, most=10**5)
    k: tuple[int, ...] = option((1,), "pass@k for these k", least=1)
    problems: int = option(400, "how many problems", least=1)
    num_ops: tuple[int, ...] = option(EASY, "their operations, 1 to 7", choices=EASY + HARD)
    split: str = option("evaluation", "which problems", choices=SPLITS)


def read_sampling(args: argparse.Namespace) -> Sampling:
    if args.temperature == 0 and (args.top_k or args.top_p):
        note("--temperature 0 is greedy: --top-k and --top-p have no effect")
    return Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)


def evaluate_command(args: argparse.Namespace) -> None:
    """Print an evaluation of a checkpoint, which answers problems, as JSON."""
    if max(args.k) > args.samples:
        raise InputError(f"pass@{max(args.k)} needs at least {max(args.k)} samples a problem: "
                         f"--samples {args.samples} is too few")
    model, checkpoint = load_checkpoint(Path(args.checkpoint), choose_device(args))
    corpus = CORPORA[checkpoint["corpus"]]
    if corpus.judges:
        raise InputError(f"{args.checkpoint} is a judge: python -m lessons.judges.measure")
    problems = draw_evaluation(args.problems, args.split, tuple(args.num_ops), args.seed,
                               corpus.digits)
    numbers, _ = evaluate(model, corpus, problems, args.samples, sorted(set(args.k)),
                          (EVALUATION, args.seed), read_sampling(args))
    print(to_json(numbers), end="")
    say(f"accuracy {numbers['accuracy']:.3f} over {args.samples} samples of each of "
        f"{len(problems)} problems, {numbers['greedy_accuracy']:.3f} decoded greedily")
    suggest(f"python rlvr.py sample {shlex.quote(args.checkpoint)} "
            f"'{render_problem(problems[0])}' -n 3", show=say)


def read_prompt(text: str, corpus: str) -> tuple[Problem, str]:
    """A problem, with a hint behind it (' #code') or, for a judge, an answer ('=51'); the prompt.

    Raises InputError for anything else.
    """
    if CORPORA[corpus].judges:
        question, claimed, answer = text.partition("=")
        if not claimed:
            raise InputError(f"nothing to judge in {text!r}: add an answer, as in '37 *4=48'")
        return parse_problem(question), write_claim(parse_problem(question), answer, corpus)
    return parse_problem(text.partition(" #")[0]), text


def sample_command(args: argparse.Namespace) -> None:
    """Print responses to a problem, and whether they are right; of a judge, verdicts."""
    model, checkpoint = load_checkpoint(Path(args.checkpoint), choose_device(args))
    corpus = CORPORA[checkpoint["corpus"]]
    problem, prompt = read_prompt(args.prompt, checkpoint["corpus"])
    rollouts = sample_responses(model, [encode_prompt(prompt)], args.n, END,
                                generator=torch_rng(SAMPLES, args.seed),
                                **read_sampling(args)._asdict())
    ended, found = mark_ended(rollouts, END).tolist(), []
    for i, response in enumerate(decode_rollouts(rollouts)):
        said = corpus.mode_of(response) if corpus.judges else "wrong"
        right = is_correct(problem, response)
        found.append(right)
        verdict = "correct" if right else f"{said}, the answer is {write_answer(problem)}"
        cut = "" if ended[i] else f", cut at {args.max_new_tokens} tokens (--max-new-tokens)"
        logprob = rollouts.logprobs[i].sum()
        print(f"--- {i + 1}: {verdict}{cut}, log-probability {logprob:.2f}\n{response}")
    path = shlex.quote(args.checkpoint)
    if corpus.judges:
        return suggest(f"python -m lessons.judges.measure {path} --out runs/judge.json")
    print(f"--- {sum(found)} of {args.n} right")
    suggest(f"python rlvr.py evaluate {path}")
