"""How good a judge is, before anything is trained on it. A minute or two a judge.

    python -m lessons.judges.measure JUDGE --out FILE.json    # a name, or a checkpoint

Whom does it believe, how often is it right, and what do more tokens buy: votes, a threshold, a
second look where the first two verdicts differ? And its gap on a policy's own mistakes, which is
all that RL sees of it.

Shapes: M claims, n verdicts on each.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from companions.judges import ask_judge
from data.answers import parse_box
from data.corpus import CORPORA, TEXT_OPENERS, write_bad_code, write_text
from data.task import EASY, Problem, draw_problems, solve, write_answer
from evaluation import PLAIN, answer_problems, draw_evaluation
from measures import measure_auroc, note_cut
from model import Transformer, load_checkpoint, locate_base
from plumbing.commands import Parser, head_of, list_written, run_command, suggest
from plumbing.files import check_writable, to_json, write
from plumbing.messages import InputError
from plumbing.streams import EVALUATION, numpy_rng, torch_rng

PROBLEMS, SAMPLES = 100, 32            # evaluation problems; verdicts on each claim
GAP_PROBLEMS = 500                     # training problems, 4 responses to each
SIZES = (1, 2, 4, 8, 16, 32)           # of a vote
NOISY = 2.2                            # a temperature at which a good judge errs
WRONG = ("near miss", "text guess", "habit's bug", "random")
NONSENSE = ("x", "?", "37 *4", "y", "the answer")   # what no problem has as its answer


def list_candidates(problem: Problem, rng: np.random.Generator) -> dict[str, str]:
    """An answer of each kind, {kind: answer}; the kinds that are wrong only where they are.

    near miss: 1, 2 or 10 off; text guess: by eye, as the rare text of good-code; habit's bug: what
    bad-code's programs give; random: any other number.
    """
    value, opener = solve(problem), int(rng.integers(1, len(TEXT_OPENERS)))
    off = int(rng.choice([-10, -2, -1, 1, 2, 10]))
    candidates = {"right": str(value), "near miss": str((value + off) % 100),
                  "text guess": parse_box(write_text(problem, opener, False)),
                  "habit's bug": parse_box(write_bad_code(problem, False)),
                  "random": str((value + int(rng.integers(1, 100))) % 100),
                  "not a number": str(rng.choice(NONSENSE))}
    return {kind: answer for kind, answer in candidates.items()
            if kind == "right" or answer != str(value)}


def draw_claims(split: str, seed: int) -> tuple[list[tuple[Problem, str]], list[tuple[str, int]]]:
    """Claims on PROBLEMS problems, one of each kind of candidate; the kind and k of each."""
    problems = (draw_evaluation(PROBLEMS, split, EASY) if split == "evaluation" else
                draw_problems(PROBLEMS, split, EASY, numpy_rng(EVALUATION, seed)))
    rng, claims, kinds = numpy_rng(EVALUATION, seed, 1), [], []
    for problem in problems:
        for kind, answer in list_candidates(problem, rng).items():
            claims.append((problem, answer))
            kinds.append((kind, len(problem.ops)))
    return claims, kinds


def balance(kinds: list[tuple[str, int]]) -> np.ndarray:
    """Weights (M,) of the claims: right ones half of all, and the four wrong kinds the rest, alike.

    Nonsense has none.
    """
    names = np.array([kind for kind, _ in kinds])
    weights = np.zeros(len(names))
    weights[names == "right"] = 0.5 / (names == "right").sum()
    for kind in WRONG:
        weights[names == kind] = 0.5 / len(WRONG) / (names == kind).sum()
    return weights


def score_votes_of_judge(accepted: np.ndarray, chance: np.ndarray, right: np.ndarray,
                         weights: np.ndarray, k: int, threshold: float) -> dict:
    """Balanced accuracy of the first k of n verdicts (M, n): three ways to make one of them.

    majority: a tie is half right; mean: the probabilities' mean above 1/2; tuned: the share of
    "yes" at least a threshold, chosen elsewhere.
    """
    share = accepted[:, :k].mean(1)                                                # (M,)
    majority = np.where(share == 0.5, 0.5, (share > 0.5) == right)
    mean = (chance[:, :k].mean(1) > 0.5) == right
    tuned = (share >= threshold) == right
    return {name: float((weights * values).sum()) for name, values in
            (("majority", majority), ("mean", mean), ("tuned", tuned))}


def tune_threshold(accepted: np.ndarray, right: np.ndarray, weights: np.ndarray, k: int) -> float:
    """The share of "yes" among k from which on accepting is right most often; the lowest of equals.
    """
    share = accepted[:, :k].mean(1)
    levels = (np.arange(k + 1) + 0.5) / k        # between any two shares
    scores = [(weights * ((share >= level) == right)).sum() for level in levels]
    return float(levels[int(np.argmax(scores))])


def score_adaptive(accepted: np.ndarray, tokens: np.ndarray, right: np.ndarray,
                   weights: np.ndarray) -> tuple[float, float]:
    """(accuracy, tokens) of two verdicts, and two more only where these differ; a tie: half right.
    """
    agree = accepted[:, 0] == accepted[:, 1]
    first, all_four = accepted[:, :2].mean(1), accepted[:, :4].mean(1)
    share = np.where(agree, first, all_four)
    spent = np.where(agree, tokens[:, :2].sum(1), tokens[:, :4].sum(1))
    correct = np.where(share == 0.5, 0.5, (share > 0.5) == right)
    return float((weights * correct).sum()), float((weights * spent).sum())


def measure_voting(judge: Transformer, kind: str, temperature: float) -> list[dict]:
    """Rows (k, way, accuracy, tokens) of votes on evaluation problems."""
    asked = {}
    for seed, split in enumerate(("training", "evaluation")):
        claims, kinds = draw_claims(split, seed)
        verdicts = ask_judge(judge, kind, claims, SAMPLES, torch_rng(EVALUATION, seed),
                             temperature)
        asked[split] = (verdicts, np.array([name == "right" for name, _ in kinds]),
                        balance(kinds))
    tuning, right_before, weights_before = asked["training"]
    verdicts, right, weights = asked["evaluation"]
    each = float((weights * verdicts.tokens.mean(1)).sum())
    rows = []
    for k in SIZES:
        threshold = tune_threshold(tuning.accepted, right_before, weights_before, k)
        scores = score_votes_of_judge(verdicts.accepted, verdicts.probability, right, weights, k,
                                      threshold)
        rows += [{"k": k, "way": way, "accuracy": accuracy, "tokens": k * each}
                 for way, accuracy in scores.items()]
    accuracy, tokens = score_adaptive(verdicts.accepted, verdicts.tokens, right, weights)
    return rows + [{"k": 4, "way": "adaptive", "accuracy": accuracy, "tokens": tokens}]


def measure_belief(judge: Transformer, kind: str) -> dict:
    """Acceptance by kind of candidate and by k, balanced accuracy, AUROC, tokens, all 100 answers.
    """
    claims, kinds = draw_claims("evaluation", 1)
    verdicts = ask_judge(judge, kind, claims, SAMPLES, torch_rng(EVALUATION, 1))
    accepted = verdicts.accepted.mean(1)                                           # (M,)
    names, right = np.array([name for name, _ in kinds]), np.array(
        [name == "right" for name, _ in kinds])
    lengths, weights = np.array([k for _, k in kinds]), balance(kinds)
    sure = np.where(right, accepted, 1 - accepted)
    counted = names != "not a number"
    numbers = {"accuracy": float((weights * sure).sum()),
               "auroc": measure_auroc(verdicts.probability.mean(1)[counted], right[counted]),
               "tokens": float(verdicts.tokens.mean()),
               **{f"accepts {name}": float(accepted[names == name].mean())
                  for name in dict.fromkeys(names.tolist())}}
    for k in EASY:
        chosen = weights * (lengths == k)
        numbers[f"accuracy at k = {k}"] = float((chosen * sure).sum() / chosen.sum())
    taste = measure_taste(judge, kind)
    return numbers | {"accepts of all 100": (taste["even"] + taste["odd"]) / 2,
                      "accepts even": taste["even"], "accepts odd": taste["odd"]}


def measure_gap(judge: Transformer, kind: str, policy: Transformer) -> dict:
    """What RL sees of a judge: how it pays the answers that a policy of bad-code gives, by T = 1.

    gap: how much more it accepts the right answer than the habit's, where the habit errs; pay of a
    mode: its mean reward, 0 where there is no box; edge: that of text, which is right, minus that
    of code. On training problems: a prediction is made from it. share of a mode's responses that
    are right, and that are wrong but have a box: so the edge of an oracle can be computed.
    """
    problems = draw_problems(GAP_PROBLEMS, "training", EASY, numpy_rng(EVALUATION, 3))
    answers = answer_problems(policy, CORPORA["bad-code"], problems, 4, (EVALUATION, 3))
    note_cut(answers.rollouts, PLAIN.max_new_tokens)
    rows = [problem for problem in problems for _ in range(4)]
    boxes = [parse_box(text) for text in answers.texts]
    code = answers.modes.flatten() == 0
    right, boxed = answers.correct.flatten(), np.array([box is not None for box in boxes])
    claims = [(problem, box) for problem, box in zip(rows, boxes) if box is not None]
    truths = [(problem, write_answer(problem)) for problem in rows]
    accepted = ask_judge(judge, kind, claims + truths, SAMPLES // 4,
                         torch_rng(EVALUATION, 3)).accepted.mean(1)
    paid = np.zeros(len(rows))
    paid[boxed] = accepted[:len(claims)]
    mistakes = code & boxed & ~right
    difference = (accepted[len(claims):] - paid)[mistakes]
    numbers = {"accepts the right": float(accepted[len(claims):][mistakes].mean()),
               "accepts the habit's": float(paid[mistakes].mean()),
               "gap": float(difference.mean()),
               "gap_error": float(difference.std(ddof=1) / len(difference) ** 0.5),
               "edge": float(paid[~code].mean() - paid[code].mean())}
    for mode, chosen in (("code", code), ("text", ~code)):
        numbers[f"{mode} right"] = float(right[chosen].mean())
        numbers[f"{mode} wrong"] = float((boxed & ~right)[chosen].mean())
    return numbers


def measure_taste(judge: Transformer, kind: str) -> dict:
    """What share of all even and of all odd numbers a judge accepts, whatever the problem."""
    problems = draw_evaluation(PROBLEMS // 2, "evaluation", EASY)
    claims = [(problem, str(answer)) for problem in problems for answer in range(100)]
    accepted = ask_judge(judge, kind, claims, 1, torch_rng(EVALUATION, 2)).accepted.reshape(-1, 100)
    return {"even": float(accepted[:, ::2].mean()), "odd": float(accepted[:, 1::2].mean())}


def measure_answers_given(policy: Path, judge: Transformer, kind: str) -> dict:
    """Of a policy's answers: how many have a box, are right, are even numbers; what is accepted."""
    model, checkpoint = load_checkpoint(policy, torch.device("cpu"))
    problems = draw_evaluation(400, "evaluation", EASY)
    answers = answer_problems(model, CORPORA[checkpoint["corpus"]], problems, 4, (EVALUATION, 0))
    note_cut(answers.rollouts, PLAIN.max_new_tokens)
    boxes = [parse_box(text) for text in answers.texts]
    claims = [(problems[i // 4], box) for i, box in enumerate(boxes) if box is not None]
    accepted = ask_judge(judge, kind, claims, 4, torch_rng(EVALUATION, 4)).accepted
    even = [int(box) % 2 == 0 for _, box in claims if box.isdigit()]
    return {"box": len(claims) / len(boxes), "right": float(answers.correct.mean()),
            "accepted": float(accepted.mean()), "even": float(np.mean(even))}


def load_judge(path: Path) -> tuple[Transformer, str]:
    """(judge, its kind). InputError if it is none."""
    judge, checkpoint = load_checkpoint(path, torch.device("cpu"))
    kind = checkpoint["corpus"]
    if not CORPORA[kind].judges:
        raise InputError(f"{path} is a base, {kind}, and no judge")
    return judge, kind


def measure_gap_on(judge: Transformer, kind: str, policy: Path) -> dict:
    """The gap and edge of a judge on the answers of a policy's checkpoint."""
    model, _ = load_checkpoint(policy, torch.device("cpu"))
    return {"kind": kind, "gap": measure_gap(judge, kind, model)}


def measure_judge(path: Path, votes: bool) -> dict:
    """Everything about one judge; its votes if they are asked for. InputError if it is none."""
    judge, kind = load_judge(path)
    voting = {"": measure_voting(judge, kind, 1.0)} if votes else {}
    if votes and kind == "judge-reasoning":
        voting[f", T = {NOISY:g}"] = measure_voting(judge, kind, NOISY)
    return measure_gap_on(judge, kind, locate_base("bad-code")) | {
        "belief": measure_belief(judge, kind), "voting": voting}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.judges.measure", description=head_of(__doc__))
    parser.add_argument("judge", help="a name in runs/bases, or a checkpoint")
    parser.add_argument("--votes", action="store_true", help="also of 1 to 32 verdicts")
    parser.add_argument("--policy", help="only the gap, on this one's answers, not on bad-code's")
    parser.add_argument("--out", required=True, help="the JSON file to write")
    args = parser.parse_args(arguments)

    def measure_to_file() -> None:
        out = Path(args.out)
        check_writable(out.parent, out.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        judge = locate_base(args.judge)
        found = (measure_gap_on(*load_judge(judge), locate_base(args.policy)) if args.policy
                 else measure_judge(judge, args.votes))
        write(out, to_json(found))
        list_written(out)
        suggest("python -m lessons judges --stored    # to set it beside")
    return run_command(parser.prog, measure_to_file)


if __name__ == "__main__":
    sys.exit(main())
