r"""Every reward, one small function each, and their registry.

A reward scores a whole rollout batch in one call, so that a judge is one batched forward pass:

    score(problems, responses, context) -> N floats, problems[i] being what responses[i] answers

Names compose: `correct+code` pays only if both do (the product), `not_correct` pays what `correct`
does not (low + high - r). "Spurious rewards" is 2506.10947; its section 2 defines the first five.
The next ones pay what a model says itself (votes, confidence), the last ones ask another model.
To add a reward: its function, whose keyword-only arguments are its flags, and an entry in REWARDS.
"""

import math
from typing import Annotated, Any, Callable, NamedTuple

import numpy as np
import torch

from companions.judges import ask_judge, hash_claim, open_judge
from data.answers import count_alike, find_majority, is_correct, parse_box, parse_confidence
from data.corpus import ABSTENTION, is_code
from data.task import Problem
from model import Transformer
from plumbing.flags import bind, flag
from plumbing.messages import InputError


class Context(NamedTuple):
    """What a reward may look at besides problems and responses; group i is rows i * group ..."""

    group: int                     # rollouts per prompt
    labels: list[str | None]       # (N) the base's majority answer before RL; None if not needed
    rng: np.random.Generator       # for rewards that draw
    judge: Transformer | None = None   # frozen; for rewards that need one


LEAST_CONFIDENCE = 0.01

# Flags: their type, bounds and help; a function says its default.
Chance = Annotated[float, flag("probability that the random reward pays", least=0, most=1)]
Votes = Annotated[int, flag("rollouts of the base that vote for a label", least=1, most=10**4)]
Payment = Annotated[float, flag("what an abstention pays", least=-1, most=1)]
Verdict = Annotated[str, flag("soft: the judge's probability", choices=("hard", "soft"))]
Tpr = Annotated[float, flag("P(the oracle accepts a right answer)", least=0, most=1)]
Fpr = Annotated[float, flag("P(the oracle accepts a wrong answer)", least=0, most=1)]


def correct(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer is right: ground truth (2506.10947; the RLVR of 2411.15124)."""
    return [float(is_correct(problem, response)) for problem, response in zip(problems, responses)]


def vote_labels(answer: Callable[[int], list[str]], *, votes: Votes = 64) -> list[str | None]:
    """The base's majority answer to each prompt of the pool, over `votes` samples at temperature 1.

    answer(n): n responses to each prompt, one after another. 2506.10947 (section 2) takes 64.
    """
    texts = answer(votes)
    return [find_majority(texts[i:i + votes]) for i in range(0, len(texts), votes)]


def majority(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer is the base's majority answer before RL (`vote_labels`)."""
    return [float(label is not None and parse_box(response) == label)
            for label, response in zip(context.labels, responses)]


def format(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    r"""1 if the response has a well-formed, non-empty \boxed{}, whatever is in it (2506.10947)."""
    return [float(parse_box(response) is not None) for response in responses]


def random(problems: list[Problem], responses: list[str], context: Context, *, p: Chance = 0.5
           ) -> list[float]:
    """1 with probability p, whatever prompt and response (2506.10947). p = 0 and 1: no signal."""
    return (context.rng.random(len(responses)) < p).astype(float).tolist()


def code(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the response is in code mode (the Python reward of 2506.10947, section 4)."""
    return [float(is_code(response)) for response in responses]


def consensus(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """1 if the boxed answer is the majority answer of its own group, now (SRT, 2505.21444; TTRL).

    The label moves with the policy. No box, no vote and no reward.
    """
    G = context.group
    groups = [responses[i:i + G] for i in range(0, len(responses), G)]
    labels = [label for label in map(find_majority, groups) for _ in range(G)]
    return majority(problems, responses, context._replace(labels=labels))


def soft_consensus(problems: list[Problem], responses: list[str],
                   context: Context) -> list[float]:
    """The share of its own group that gives the same boxed answer, itself included; 0 without."""
    alike = count_alike(list(map(parse_box, responses)), context.group)
    return [count / context.group for count in alike]


def brier_alone(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """-(q - c)^2 for a stated confidence q, c = 1 if right else 0; -1 if none is stated.

    A negative example: right at confidence q pays 2q - 1 more than wrong, below 50% less.
    """
    confidences = map(parse_confidence, responses)
    return [-1.0 if q is None else -(q - c) ** 2
            for q, c in zip(confidences, correct(problems, responses, context))]


def brier(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """c - (q - c)^2: RLCR (2507.16806, section 3). Right pays 2q more than wrong.

    Without a confidence c - 1. Theirs gives 0 to whatever is malformed.
    """
    return [c + score for c, score in zip(correct(problems, responses, context),
                                          brier_alone(problems, responses, context))]


def log_score(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
    """c + ln q if right, ln(1 - q) if wrong; c + ln 0.01 if no confidence is stated.

    A negative example (2507.16806, section 3): right pays 1 + ln(q / (1 - q)) more than wrong, less
    than nothing below 27%.
    """
    confidences = map(parse_confidence, responses)
    return [c + math.log(LEAST_CONFIDENCE if q is None else q if c else 1 - q)
            for q, c in zip(confidences, correct(problems, responses, context))]


def ternary(problems: list[Problem], responses: list[str], context: Context, *,
            abstain_reward: Payment = 0.0) -> list[float]:
    """1 if right, abstain_reward if it abstains, else -1 (TruthRL, 2509.25760, section 3)."""
    return [1.0 if is_correct(problem, response)
            else abstain_reward if response == ABSTENTION else -1.0
            for problem, response in zip(problems, responses)]


def pay_verdicts(kind: str, verdict: str, problems: list[Problem], responses: list[str],
                 context: Context) -> list[float]:
    """1 if the judge accepts the boxed answer, a fresh verdict each; soft: its probability.

    One call for the whole batch. Nothing to judge, no box: 0.
    """
    boxes, paid = list(map(parse_box, responses)), np.zeros(len(responses))
    asked = [i for i, box in enumerate(boxes) if box is not None]
    if asked:
        generator = torch.Generator().manual_seed(int(context.rng.integers(2**62)))
        verdicts = ask_judge(context.judge, kind, [(problems[i], boxes[i]) for i in asked], 1,
                             generator)
        paid[asked] = (verdicts.accepted if verdict == "hard" else verdicts.probability)[:, 0]
    return paid.tolist()


def judge(problems: list[Problem], responses: list[str], context: Context, *,
          verdict: Verdict = "hard") -> list[float]:
    """What a judge says at once of the boxed answer."""
    return pay_verdicts("judge-direct", verdict, problems, responses, context)


def reasoning_judge(problems: list[Problem], responses: list[str], context: Context, *,
                    verdict: Verdict = "hard") -> list[float]:
    """What a judge says that works it out first (2505.02387, 2505.14674)."""
    return pay_verdicts("judge-reasoning", verdict, problems, responses, context)


def accept_chance(problems: list[Problem], responses: list[str], context: Context, tpr: float,
                  fpr: float) -> np.ndarray:
    """What an oracle that errs accepts with: tpr if right, fpr if wrong, 0 without a box; (N,)."""
    chance = np.where(correct(problems, responses, context), tpr, fpr)
    return chance * format(problems, responses, context)


def noisy_oracle(problems: list[Problem], responses: list[str], context: Context, *,
                 tpr: Tpr = 1.0, fpr: Fpr = 0.0) -> list[float]:
    """A judge whose errors are independent, from call to call: a control for `judge`."""
    draws = context.rng.random(len(responses))
    chances = accept_chance(problems, responses, context, tpr, fpr)
    return (draws < chances).astype(float).tolist()


def fixed_oracle(problems: list[Problem], responses: list[str], context: Context, *, seed: int,
                 tpr: Tpr = 1.0, fpr: Fpr = 0.0) -> list[float]:
    """The same rates, but the verdict on an answer never changes: a control for `judge`."""
    chances = accept_chance(problems, responses, context, tpr, fpr)
    return [float(hash_claim(seed, problem, parse_box(response)) < chance)
            for problem, response, chance in zip(problems, responses, chances)]


class Reward(NamedTuple):
    score: Callable[..., list[float]]   # problems, responses, context, *, flags -> N floats
    labels: Callable[..., list[str | None]] | None = None   # freezes the base's answers
    wrong_only: bool = False            # it trains on prompts where they are wrong
    judges: tuple[str, ...] = ()        # it asks a frozen checkpoint, of this corpus
    low: float = 0.0                    # the least it pays
    high: float = 1.0                   # the most
    # what it is the sum of, for losses that give each its own tokens: answer's and confidence's
    parts: tuple[Callable[..., list[float]], ...] = ()

    @property
    def functions(self) -> tuple[Callable, ...]:
        """Whose arguments are its flags."""
        needs = self.labels, open_judge if self.judges else None
        return *filter(None, needs), self.score, *self.parts


REWARDS = {
    "correct": Reward(correct),
    "majority": Reward(majority, labels=vote_labels),
    # Pays for one specific wrong answer. `not_correct` pays for every answer but the right one.
    "incorrect": Reward(majority, labels=vote_labels, wrong_only=True),
    "format": Reward(format),
    "random": Reward(random),
    "code": Reward(code),
    "consensus": Reward(consensus),
    "soft_consensus": Reward(soft_consensus),
    "brier": Reward(brier, low=-1.0, parts=(correct, brier_alone)),
    "brier_alone": Reward(brier_alone, low=-1.0, high=0.0),
    "log_score": Reward(log_score, low=math.log(LEAST_CONFIDENCE)),
    "ternary": Reward(ternary, low=-1.0),
    "judge": Reward(judge, judges=("judge-direct",)),
    "reasoning_judge": Reward(reasoning_judge, judges=("judge-reasoning",)),
    "noisy_oracle": Reward(noisy_oracle),
    "fixed_oracle": Reward(fixed_oracle),
}


def score_parts(reward: Reward, paid: list[float], *scored) -> list[list[float]]:
    """The rewards of answers and of confidences, (2, N); `paid` (N) is what both get together.

    scored: what `score` reads. A reward without parts pays all for the answer.
    """
    return [part(*scored) for part in reward.parts] or [paid, [0.0] * len(paid)]


def split_name(name: str) -> list[tuple[str, bool]]:
    """The parts of a composed reward and whether each is negated.

    >>> split_name("code+not_correct")
    [('code', False), ('correct', True)]

    Raises InputError, in one line that lists what exists.
    """
    parts = [(term.removeprefix("not_"), term.startswith("not_")) for term in name.split("+")]
    for term, _ in parts:
        if term not in REWARDS:
            raise InputError(f"unknown reward {term!r}: choose from {', '.join(REWARDS)}; "
                             "A+B pays if both pay, not_A if A does not")
    return parts


def bind_reward(reward: Reward, values: dict[str, Any]) -> Reward:
    """A reward whose functions have their flags, and what else they take by name."""
    return reward._replace(score=bind(reward.score, values),
                           labels=reward.labels and bind(reward.labels, values),
                           parts=tuple(bind(part, values) for part in reward.parts))


def check_payments(name: str, paid: np.ndarray, reward: Reward, n: int) -> None:
    """InputError unless a reward pays n numbers (n,) within the bounds that it says."""
    if paid.shape != (n,):
        raise InputError(f"reward {name}: it pays {paid.shape}, not ({n},)")
    rounding = 1e-6 * (reward.high - reward.low)
    outside = ~((paid >= reward.low - rounding) & (paid <= reward.high + rounding))   # NaN too
    if outside.any():
        raise InputError(f"reward {name}: it pays {paid[outside][0]:g}, and says that it pays from "
                         f"{reward.low:g} to {reward.high:g} (Reward(..., low=, high=))")


def build_reward(name: str, /, **values) -> Reward:
    """The reward of a name such as 'correct', 'not_correct' or 'format+not_correct'.

    values: its flags (their defaults without), and what else of a run its functions take.
    """
    terms = split_name(name)
    entries = [bind_reward(REWARDS[term], values) for term, _ in terms]

    def score(problems: list[Problem], responses: list[str], context: Context) -> list[float]:
        product = np.ones(len(responses))
        for entry, (term, negated) in zip(entries, terms):
            paid = np.array(entry.score(problems, responses, context), dtype=float)
            check_payments(term, paid, entry, len(responses))
            product *= entry.low + entry.high - paid if negated else paid
        return product.tolist()

    if len(entries) == 1:
        low, high = entries[0].low, entries[0].high
    elif min(entry.low for entry in entries) < 0:
        raise InputError(f"reward {name}: a product of penalties would pay")
    else:
        low, high = (math.prod(bounds) for bounds in zip(*((e.low, e.high) for e in entries)))
    labels = next((entry.labels for entry in entries if entry.labels), None)
    parts = entries[0].parts if name in REWARDS else ()
    return Reward(score, labels, any(e.wrong_only for e in entries),
                  sum((e.judges for e in entries), ()), low, high, parts)
