"""What a run has beside its policy: the base, and a critic, a teacher or a judge if it needs one.

A teacher is no other model: it is the base, or the policy, now or averaged over its past, that
reads a prompt with a hint at its end and scores what the policy said without.

Shapes: N rollouts, T response tokens, V vocabulary; R response tokens in one row.
"""

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.corpus import CORPORA
from data.plumbing import HINT, InputError, numpy_rng
from data.task import Problem, render_problem, solve, write_answer, write_number
from data.tokenizer import encode_prompt
from evaluation import score_tokens
from losses import LOSSES
from model import Rollouts, Transformer, load_checkpoint, locate_base, sampling_logprobs
from rewards import build_reward

NAMED = ("code", "words", "tip", "careful", "huh")           # hints of one token, always the same
KEPT = ("base", "judge")  # the files that a run keeps, to resume where the originals are gone


def list_needs(config, step: int = 0) -> set[str]:
    """What a rollout batch needs beside the policy: what loss and reward ask for, the base for KL.

    A teacher goes after `directive_batches`.
    """
    needs = {*LOSSES[config.loss].needs, *build_reward(config.reward).needs}
    needs |= {"base"} if config.kl_coef else set()
    return needs - ({"teacher", "distribution"} if step >= config.directive_batches else set())


def locate_kept(config, name: str) -> Path:
    """A checkpoint that a run needs: what the flag says, or what the run has kept of it."""
    begun, kept = Path(config.out, "model.pt").exists(), Path(config.out, f"{name}.pt")
    return kept if begun and kept.exists() else locate_base(getattr(config, name))


def fingerprint(path: Path) -> str:
    """Which file it was: the beginning of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def load_judge(config, needs: set[str], device: torch.device) -> Transformer:
    """The frozen judge at --judge. InputError if there is none, or it judges in another way."""
    if not config.judge:
        raise InputError(f"--judge: reward {config.reward} needs one")
    judge, checkpoint = load_checkpoint(locate_kept(config, "judge"), device)
    wanted = needs & CORPORA.keys()
    if wanted - {checkpoint["corpus"]}:
        raise InputError(f"--judge {config.judge}: reward {config.reward} needs a "
                         f"{' and a '.join(sorted(wanted))}, not a {checkpoint['corpus']}")
    return judge


def load_helpers(config, base: Transformer, model: Transformer,
                 device: torch.device) -> dict[str, nn.Module]:
    """The base, and whatever else loss and reward need, of a run whose policy is `model`.

    A critic is a linear value head that starts at 0.
    """
    helpers, needs = {"base": base}, list_needs(config)
    if "judge" in needs:
        helpers["judge"] = load_judge(config, needs, device)
    if "teacher" in needs:
        helpers["teacher"] = {"frozen": base, "current": model}.get(
            config.teacher) or copy.deepcopy(base)
    if "critic" in needs:
        helpers["critic"] = nn.Linear(base.config.width, 1, device=device)
        nn.init.zeros_(helpers["critic"].weight)
        nn.init.zeros_(helpers["critic"].bias)
    return helpers


def list_changing(config, helpers: dict[str, nn.Module]) -> list[nn.Module]:
    """The helpers whose weights a run must save, since they change beside the policy's."""
    changing = [name for name in ("critic", "teacher") if name in helpers]
    return [helpers[name] for name in changing if name == "critic" or config.teacher == "ema"]


@torch.no_grad()
def follow_policy(config, helpers: dict[str, nn.Module], model: Transformer) -> None:
    """After a rollout batch: an EMA teacher goes a share of the way to the policy (2601.20802)."""
    if "teacher" in helpers and config.teacher == "ema":
        for ours, theirs in zip(helpers["teacher"].parameters(), model.parameters()):
            ours.lerp_(theirs, config.ema_rate)


# --- scores of the rollouts

def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log pi of the sampled tokens, under what they were sampled from: (R, V), (R,) -> (R,)."""
    return sampling_logprobs(logits, temperature).gather(1, ids[:, None])[:, 0]


def write_hints(config, problems: list[Problem], rng: np.random.Generator) -> list[str]:
    """The hint on each of N problems, as `config.hint` says.

    answer: the right one; wrong: another number; other: that of another of these problems; random:
    any of those of one token; none: "". The rest are hints of hinted-code, and ` #huh`, that it
    never read.
    """
    if config.hint == "none":
        return [""] * len(problems)
    answers = [write_answer(problem) for problem in problems]
    if config.hint == "wrong":
        sizes = [10 ** problem.digits for problem in problems]
        answers = [write_number((solve(problem) + int(rng.integers(1, size))) % size,
                                problem.digits) for problem, size in zip(problems, sizes)]
    if config.hint == "other":
        answers = [answers[i] for i in rng.permutation(len(answers))]
    if config.hint in ("answer", "wrong", "other"):
        return [f" #answer {answer}" for answer in answers]
    names = rng.choice(NAMED, len(problems)) if config.hint == "random" else (
        [config.hint] * len(problems))
    return [f" #{name}" for name in names]


def add_hints(config, step: int, problems: list[Problem],
              failed: Tensor) -> tuple[list[list[int]], Tensor]:
    """The prompts (N) as a teacher reads them, and which rows (N,) it teaches: those with a hint.

    failed (N,): rows whose reward is not full; with --hint-for failed it teaches these alone.
    """
    hints = write_hints(config, problems, numpy_rng(HINT, config.seed, step))
    hinted = [encode_prompt(render_problem(problem) + hint)
              for problem, hint in zip(problems, hints)]
    taught = torch.tensor([hint != "" for hint in hints])
    return hinted, taught & failed if config.hint_for == "failed" else taught


def score_needs(model: Transformer, config, needs: set[str], prompts: list[list[int]],
                hinted: list[list[int]], rollouts: Rollouts,
                helpers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """What the loss needs beside the policy, as fields of a Batch: (N, T), one of them (N, T, V).

    hinted: the prompts as a teacher reads them.
    """
    scores = {}
    if "critic" in needs:
        critic = helpers["critic"]
        scores["values"] = score_tokens(model, prompts, rollouts,
                                        lambda hidden, _: critic(hidden)[:, 0])
    if "distribution" in needs:
        head = helpers["teacher"].head
        scores["teacher_distribution"] = score_tokens(
            helpers["teacher"], hinted, rollouts,
            lambda hidden, _: sampling_logprobs(head(hidden), config.temperature))
        needs = needs - {"teacher"}
    for name in needs & {"base", "teacher"}:
        head = helpers[name].head
        scores[f"{name}_logprobs"] = score_tokens(
            helpers[name], hinted if name == "teacher" else prompts, rollouts,
            lambda hidden, ids, head=head: token_logprobs(head(hidden), ids, config.temperature))
    return scores
