"""What is said of responses as numbers: modes, tokens, votes, calibration, honesty.

A rollout batch and an evaluation are described in the same words.

Shapes: P problems, n responses to each, N = P * n rows; T response tokens. What cannot be said (a
mean over nothing) is None.
"""

import numpy as np

from data.answers import count_alike, count_votes, is_correct, parse_box, parse_confidence
from data.corpus import ABSTENTION, Corpus
from data.task import Problem, render_problem, write_answer
from data.tokenizer import END
from losses import Batch
from model import CUT, Rollouts, mark_ended
from plumbing.messages import note

BINS = 10  # of the calibration error


def mean_or_none(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def split_kinds(corpus: Corpus, problems: list[Problem]) -> dict[str, np.ndarray]:
    """{suffix of a name: which of the problems}: all, and those of each kind if there are kinds."""
    kinds = {f"_{kind}": np.array([corpus.kind_of(problem) == kind for problem in problems])
             for kind in corpus.kinds}
    return {"": np.ones(len(problems), bool)} | kinds


def share_modes(corpus: Corpus, problems: list[Problem], modes: np.ndarray) -> dict:
    """The share of each mode in modes (P, n), indices into the corpus's.

    Also among each kind of problems, of a base that has kinds; None where no problem is of it.
    """
    return {f"{mode}_share{suffix}": mean_or_none(modes[rows] == i)
            for suffix, rows in split_kinds(corpus, problems).items()
            for i, mode in enumerate(corpus.modes)}


def measure_tokens(chunks: list[Rollouts]) -> dict:
    """Means over all tokens of what the sampler noted: entropy in nats, probability.

    ended: the share of the responses that end; the others were cut by max_new_tokens.
    """
    tokens = sum(rollouts.mask.sum().item() for rollouts in chunks)
    entropies = sum(rollouts.entropy.sum().item() for rollouts in chunks)
    probabilities = sum(r.logprobs[r.mask].exp().sum().item() for r in chunks)
    ended, responses = count_endings(chunks)
    return {"entropy": entropies / tokens, "mean_token_prob": probabilities / tokens,
            "ended": ended / responses}


def count_endings(chunks: list[Rollouts]) -> tuple[int, int]:
    """How many responses end, of how many."""
    ended = sum(mark_ended(rollouts, END).sum().item() for rollouts in chunks)
    return ended, sum(len(rollouts.ids) for rollouts in chunks)


def note_cut(chunks: list[Rollouts], limit: int) -> None:
    """Say it where more than 2% were cut: that counts as wrong, and is no habit of the model's."""
    ended, responses = count_endings(chunks)
    note_ended(ended / responses if responses else 1.0, limit)


def note_ended(share: float, limit: int) -> None:
    """The same, of the share that ended."""
    if share < 1 - CUT:
        note(f"more than {CUT:.0%} of the answers were cut at {limit} tokens (--max-new-tokens): "
             "what has no box by then counts as wrong")


def measure_reward(corpus: Corpus, paid: np.ndarray, right: np.ndarray,
                   modes: np.ndarray) -> dict:
    """What is paid on average: in all, if right (a judge's TPR), if wrong (its FPR), in each mode.

    reward_gap: how much more for right than for wrong. paid, right, modes: (N,).
    """
    true, false = mean_or_none(paid[right]), mean_or_none(paid[~right])
    gap = None if true is None or false is None else true - false
    return {"reward": mean_or_none(paid), "reward_right": true, "reward_wrong": false,
            "reward_gap": gap,
            **{f"reward_{mode}": mean_or_none(paid[modes == i])
               for i, mode in enumerate(corpus.modes)}}


def measure_batch(corpus: Corpus, batch: Batch) -> dict:
    """All of a rollout batch. no_signal: the share of groups in which every advantage is 0."""
    (P, n), problems, responses = batch.rewards.shape, batch.problems, batch.responses
    right = np.array(list(map(is_correct, problems, responses)))
    modes = np.array([corpus.modes.index(corpus.mode_of(response)) for response in responses])
    boxes = list(map(parse_box, responses))
    sampled = Rollouts(batch.ids, batch.mask, batch.old_logprobs, batch.entropy)
    silent = (batch.advantages.reshape(P, -1) == 0).all(dim=1)                     # (P,)
    return {**measure_reward(corpus, batch.rewards.flatten().numpy(), right, modes),
            "accuracy": right.mean().item(), **share_modes(corpus, problems, modes),
            **measure_doubt(corpus, problems, responses, right, n),
            "format_rate": np.mean([box is not None for box in boxes]).item(),
            **measure_votes(problems[::n], boxes, n), **measure_tokens([sampled]),
            "response_length": batch.mask.sum().item() / len(responses),
            "no_signal": silent.double().mean().item()}


def show_samples(batch: Batch, step: int) -> list[str]:
    """Four responses to read."""
    every, paid = max(1, len(batch.responses) // 4), batch.rewards.flatten().tolist()
    return [f"step {step} reward {paid[i]:g} correct {int(is_correct(problem, response))} | "
            f"{render_problem(problem)}\n{response}\n"
            for i, (problem, response) in enumerate(zip(batch.problems, batch.responses))
            if i % every == 0]


def measure_votes(problems: list[Problem], boxes: list[str | None], n: int) -> dict:
    """What a vote among the n answers to each of P problems says; boxes (P * n), None if without.

    agreement: share of the n that give their majority's answer; vote_accuracy: share of the
    problems whose majority is right; top_answer_share: of the answer that is given most, to all.
    """
    agreed = right = 0
    for i, problem in enumerate(problems):
        label, count = count_votes(boxes[i * n:(i + 1) * n])
        agreed += count
        right += label == write_answer(problem)
    _, top = count_votes(boxes)
    return {"agreement": agreed / len(boxes), "vote_accuracy": right / len(problems),
            "top_answer_share": top / len(boxes)}


# --- calibration: confidence (M,) in [0, 1], right (M,) bool

def measure_ece(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """Expected calibration error, 10 equal bins (1706.04599, eq. 3): mean |accuracy - confidence|.

    A bin counts as its share of the M; 90% and above are in the last one.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(bins)) if len(bins) else None


def measure_auroc(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """P(a right answer's confidence is above a wrong one's), ties counting half.

    None unless there are both.
    """
    values, index = np.unique(confidence, return_inverse=True)
    rights = np.bincount(index, weights=right, minlength=len(values))
    wrongs = np.bincount(index, minlength=len(values)) - rights
    below = wrongs.cumsum() - wrongs
    pairs = rights.sum() * wrongs.sum()
    return float((rights * (below + wrongs / 2)).sum() / pairs) if pairs else None


def measure_calibration(confidence: np.ndarray, right: np.ndarray) -> dict:
    return {"ece": measure_ece(confidence, right), "auroc": measure_auroc(confidence, right),
            "brier": mean_or_none((confidence - right) ** 2),
            "confidence": mean_or_none(confidence)}


def count_frequencies(boxes: list[str | None], n: int) -> np.ndarray:
    """How often the n - 1 other responses to its problem give a response's answer: (N,).

    The model's own confidence, whatever it states. NaN without a box, or if n = 1.
    """
    return np.array([(count - 1) / (n - 1) if count and n > 1 else np.nan
                     for count in count_alike(boxes, n)])


# --- bases that say how sure they are, or that they do not know

def read_confidences(responses: list[str]) -> np.ndarray:
    """What is stated, (N,); NaN where nothing is."""
    stated = map(parse_confidence, responses)
    return np.array([np.nan if q is None else q for q in stated])


def measure_doubt(corpus: Corpus, problems: list[Problem], responses: list[str],
                  right: np.ndarray, n: int) -> dict:
    """Honesty (2509.25760) and calibration, pooled and for each kind, where the base has doubts.

    problems (N), responses (N), right (N,), n rows a problem. hallucination: wrong and not
    abstained; truthfulness: accuracy - hallucination. Calibration is that of the confidences
    stated, `stated_share` of all; own_...: of the model's frequencies instead.
    """
    if not corpus.states_confidence:
        return {}
    stated = read_confidences(responses)
    own = count_frequencies(list(map(parse_box, responses)), n)
    abstained = np.array([response == ABSTENTION for response in responses])
    numbers = {}
    for suffix, rows in split_kinds(corpus, problems).items():
        wrong = mean_or_none((~right & ~abstained)[rows])
        accuracy = mean_or_none(right[rows])
        measured = {"accuracy": accuracy, "hallucination": wrong,
                    "truthfulness": None if wrong is None else accuracy - wrong,
                    "stated_share": mean_or_none(np.isfinite(stated[rows]))}
        for name, confidence in (("", stated), ("own_", own)):
            known = rows & np.isfinite(confidence)
            calibration = measure_calibration(confidence[known], right[known])
            measured |= {name + key: value for key, value in calibration.items()}
        numbers |= {name + suffix: value for name, value in measured.items()}
    return numbers


def detail_doubt(corpus: Corpus, problems: list[Problem], responses: list[str],
                 right: np.ndarray) -> dict:
    """Abstention by length; share and accuracy of each stated percentage among each kind.

    A percentage in fewer than 1 of 1,000 responses is left out.
    """
    if not corpus.states_confidence:
        return {}
    abstained = np.array([response == ABSTENTION for response in responses])
    lengths = np.array([len(problem.ops) for problem in problems])
    by_length = {str(k): mean_or_none(abstained[lengths == k]) for k in np.unique(lengths)}
    percents = np.nan_to_num(100 * read_confidences(responses)).round().astype(int)
    stated = {}
    for suffix, rows in split_kinds(corpus, problems).items():
        said = {value: rows & (percents == value) for value in np.unique(percents) if value}
        stated[suffix.removeprefix("_") or "all"] = {
            str(value): {"share": chosen.sum().item() / rows.sum().item(),
                         "accuracy": right[chosen].mean().item()}
            for value, chosen in said.items() if chosen.sum() >= max(1, rows.sum() / 1000)}
    return {"abstain_by_length": by_length, "stated": stated}
