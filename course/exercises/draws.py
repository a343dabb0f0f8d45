"""Inputs that are drawn anew for each grading, and how a student's functions fare on them.

The tests of a check are public, so answers to them could be written down. Hence each function to be
written is also compared with the project's own on inputs that a secret key draws: its values, its
shapes and its gradients. A case counts only if no trivial answer (all zeros, all ones, what was
passed) gets it right.

A case is a function of a random generator and of `call`, which calls a function of the project by
its name: the project's own, the student's or a trivial one.
"""

import hashlib
import importlib
from typing import Callable

import numpy as np
import torch
from torch import Tensor

import losses
import model
import rewards
from course.exercises import wire
from data import task
from plumbing.messages import WorkError

CASES = 8          # that count, of each function
TRIES = 200        # to find them
f64 = {"dtype": torch.float64}


# --- what is drawn

def draw_floats(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(rng.normal(0, scale, shape))


def draw_gradient(rng: np.random.Generator, output: Tensor, *inputs: Tensor) -> list:
    """An output and the gradient of a random sum of it with respect to some inputs."""
    weights = draw_floats(rng, *output.shape)
    finite = output.isfinite()
    total = (weights * output.masked_fill(~finite, 0.0)).sum()
    return [output.detach(), *torch.autograd.grad(total, inputs)]


def draw_batch(rng: np.random.Generator) -> losses.Batch:
    """Rewards of P prompts in groups of G, some of them all equal; responses of other lengths."""
    P, G, T = rng.integers(1, 4), rng.integers(2, 6), rng.integers(2, 7)
    low, high = sorted(rng.normal(0, 2, 2))
    paid = rng.choice([low, high, (2 * low + high) / 3], (P, G))
    lengths = torch.from_numpy(rng.integers(1, T + 1, P * G))
    mask = torch.arange(T) < lengths[:, None]
    nothing = torch.zeros(mask.shape, **f64)
    values = draw_floats(rng, P * G, T) * mask
    return losses.Batch([[0]] * (P * G), nothing.long(), mask, nothing, torch.from_numpy(paid),
                        (low, high), scores={"values": values})


def draw_transformer(rng: np.random.Generator, width: int = 8) -> model.Transformer:
    transformer = model.Transformer(model.ModelConfig(11, 2, width, 2)).double()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(draw_floats(rng, *parameter.shape, scale=0.7))
    return transformer


# --- cases: sampling

def case_sampling_logprobs(rng, call):
    logits = draw_floats(rng, rng.integers(1, 4), rng.integers(3, 9), scale=2.0)
    if rng.random() < 0.3:
        logits = logits.round()                    # ties
    logits.requires_grad_()
    k, p = int(rng.integers(1, 9)), float(rng.uniform(0.1, 0.95))
    options = [(None, None), (k, None), (None, p), (k, p)][rng.integers(4)]
    temperature = 0.0 if rng.random() < 0.1 else float(rng.uniform(0.2, 3))
    found = call("model.py:sampling_logprobs", logits, temperature, *options)
    return draw_gradient(rng, found, logits) if temperature else found.detach()


def case_draw_tokens(rng, call):
    S, R = int(rng.integers(1, 4)), int(rng.integers(4, 12))
    logprobs = draw_floats(rng, S, rng.integers(3, 9), scale=2.0).log_softmax(-1)
    logprobs[:, rng.integers(logprobs.size(1))] = -torch.inf
    return call("model.py:draw_tokens", logprobs, torch.from_numpy(rng.integers(0, S, R)),
                torch.from_numpy(rng.random(R)))


# --- cases: cache

def fill_cache(rng, call) -> tuple[model.KVCache, int, int]:
    """A cache of two layers with a few tokens, left padded; how many rows and tokens it has."""
    rows, T = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    cache = object.__new__(model.KVCache)
    call("model.py:KVCache.__init__", cache, model.ModelConfig(11, 2, 8, 2),
         torch.from_numpy(rng.integers(0, T, rows)), torch.zeros(1, **f64))
    append_tokens(rng, call, cache, rows, T)
    cache.used += T
    return cache, rows, T


def append_tokens(rng, call, cache, rows: int, T: int) -> list:
    return [call("model.py:KVCache.append", cache, layer, draw_floats(rng, rows, 2, T, 4),
                 draw_floats(rng, rows, 2, T, 4)) for layer in range(2)]


def case_append(rng, call):
    cache, rows, _ = fill_cache(rng, call)
    return append_tokens(rng, call, cache, rows, int(rng.integers(1, 4)))


def case_select(rng, call):
    cache, rows, _ = fill_cache(rng, call)
    chosen = rng.integers(0, rows, rng.integers(1, 6))
    call("model.py:KVCache.select", cache, torch.from_numpy(chosen))
    return [append_tokens(rng, call, cache, len(chosen), 1), cache.start]


def case_cache_mask(rng, call):
    cache, rows, used = fill_cache(rng, real_call)
    return call("model.py:Transformer.cache_mask", draw_transformer(rng), cache,
                int(rng.integers(1, 5)))


# --- cases: log-probabilities

def case_response_hidden(rng, call):
    transformer, rows, T = draw_transformer(rng), int(rng.integers(2, 5)), int(rng.integers(2, 6))
    prompts = [rng.integers(0, 11, rng.integers(1, 5)).tolist() for _ in range(rows)]
    ids = torch.from_numpy(rng.integers(0, 11, (rows, T)))
    mask = torch.arange(T) < torch.from_numpy(rng.integers(1, T + 1, rows))[:, None]
    hidden = call("model.py:response_hidden", transformer, prompts, ids, mask)
    return draw_gradient(rng, hidden, transformer.embedding.weight,
                         transformer.blocks[0].qkv.weight)


def case_token_logprobs(rng, call):
    R, V = int(rng.integers(2, 6)), int(rng.integers(3, 8))
    logits = draw_floats(rng, R, V).requires_grad_()
    found = call("model.py:token_logprobs", logits, torch.from_numpy(rng.integers(0, V, R)),
                 float(rng.uniform(0.3, 2)))
    return draw_gradient(rng, found, logits)


# --- cases: losses

def case_to_tokens(rng, call):
    batch = draw_batch(rng)
    return call("losses.py:to_tokens", draw_floats(rng, *batch.rewards.shape), batch)


def case_center_rewards(rng, call):
    return call("losses.py:center_rewards", draw_batch(rng).rewards)


def case_of_advantages(name: str, **options: tuple[float, float]) -> Callable:
    """Of a loss's advantages, with options drawn between two bounds."""
    def case_advantages(rng, call):
        drawn = {option: float(rng.uniform(*bounds)) for option, bounds in options.items()}
        return call(f"losses.py:{name}", draw_batch(rng), **drawn)
    return case_advantages


def case_sign_rewards(rng, call):
    return call("losses.py:sign_rewards", draw_batch(rng))


def case_of_policy_loss(name: str) -> Callable:
    """Ratios on both sides of both bounds: the loss, its gradient, and what was dropped."""
    def case_policy_loss(rng, call):
        R = int(rng.integers(6, 12))
        old = draw_floats(rng, R) - 2
        logprobs = (old + draw_floats(rng, R, scale=0.5)).requires_grad_()
        loss, dropped = call(f"losses.py:{name}", logprobs, old, draw_floats(rng, R),
                             torch.zeros(R, dtype=torch.long),
                             eps_low=float(rng.uniform(0.1, 0.3)),
                             eps_high=float(rng.uniform(0.1, 0.5)))
        value, gradient = draw_gradient(rng, loss, logprobs)
        if name != "clipped":   # what a token without a gradient adds to the loss is nowhere said
            value = value.masked_fill(dropped, 0.0)
        return [value, gradient, dropped]
    return case_policy_loss


def case_value_loss(rng, call):
    R = int(rng.integers(3, 9))
    values = draw_floats(rng, R).requires_grad_()
    found = call("losses.py:value_loss", values, draw_floats(rng, R), draw_floats(rng, R),
                 float(rng.uniform(0.05, 0.5)))
    return draw_gradient(rng, found, values)


def case_diagnose(rng, call):
    R = int(rng.integers(8, 20))
    old = draw_floats(rng, R) - 2
    return call("rlvr.py:diagnose", old + draw_floats(rng, R, scale=0.5), old,
                draw_floats(rng, R), torch.from_numpy(rng.random(R) < 0.6))


# --- cases: evaluation, rewards, bandit

def case_pass_at_k(rng, call):
    n = int(rng.integers(3, 40))
    return call("evaluation.py:pass_at_k", n, int(rng.integers(1, n)), int(rng.integers(2, n)))


def case_of_reward(name: str, **options: tuple[float, float]) -> Callable:
    """Right and wrong answers, with and without a confidence, and abstentions."""
    def case_reward(rng, call):
        problem = task.Problem(int(rng.integers(100)), (("+", int(rng.integers(1, 10))),))
        answers = [task.write_answer(problem), "-1"]
        responses = [draw_response(rng, answers[rng.integers(2)]) for _ in range(8)]
        context = rewards.Context(8, [None] * 8, np.random.default_rng(0))
        drawn = {option: float(rng.uniform(*bounds)) for option, bounds in options.items()}
        return call(f"rewards.py:{name}", [problem] * 8, responses, context, **drawn)
    return case_reward


def draw_response(rng, answer: str) -> str:
    confidence = f" {rng.integers(1, 100)}%" if rng.random() < 0.8 else ""
    return rewards.ABSTENTION if rng.random() < 0.2 else f"\\boxed{{{answer}}}{confidence}"


def case_weigh(rng, call):
    ratio = np.exp(rng.normal(0, 0.4, (3, 4)))
    loss = ["grpo", "grpo_masked", "grpo_unweighted"][rng.integers(3)]
    return call("lessons/bandit.py:weigh", ratio, float(rng.uniform(0.1, 0.3)),
                float(rng.uniform(0.1, 0.5)), loss)


def case_first_arm(rng, call):
    weights = rng.uniform(1, 4, rng.integers(2, 5))
    group = int(rng.integers(3, 9))
    return call("lessons/bandit.py:first_arm", tuple((weights / weights.sum()).tolist()),
                float(rng.uniform(0.1, 0.3)), batches=2, samples=group * 8, updates=4,
                p=float(rng.uniform(0.2, 0.8)), group=group, lr=float(rng.uniform(1, 3)),
                eps_high=float(rng.uniform(0.1, 0.5)), kappa=float(rng.uniform(0.5, 2)),
                max_norm=float(rng.uniform(0.1, 1)), seeds=3,
                rest=tuple(rng.uniform(0, 5, len(weights)).tolist()))


CASES_OF = {
    "model.py:sampling_logprobs": case_sampling_logprobs,
    "model.py:draw_tokens": case_draw_tokens,
    "model.py:KVCache.append": case_append,
    "model.py:KVCache.select": case_select,
    "model.py:Transformer.cache_mask": case_cache_mask,
    "model.py:response_hidden": case_response_hidden,
    "model.py:token_logprobs": case_token_logprobs,
    "losses.py:to_tokens": case_to_tokens,
    "losses.py:center_rewards": case_center_rewards,
    **{f"losses.py:{name}": case_of_advantages(name)
       for name in ("grpo", "dr_grpo", "rloo", "reinforce", "psr", "nsr")},
    "losses.py:w_reinforce": case_of_advantages("w_reinforce", psr_weight=(0.2, 0.8)),
    "losses.py:gae": case_of_advantages("gae", gamma=(0.5, 1), gae_lambda=(0.3, 0.95)),
    "losses.py:sign_rewards": case_sign_rewards,
    **{f"losses.py:{name}": case_of_policy_loss(name)
       for name in ("clipped", "masked", "unweighted")},
    "losses.py:value_loss": case_value_loss,
    "rlvr.py:diagnose": case_diagnose,
    "evaluation.py:pass_at_k": case_pass_at_k,
    **{f"rewards.py:{name}": case_of_reward(name)
       for name in ("brier_alone", "brier", "log_score")},
    "rewards.py:ternary": case_of_reward("ternary", abstain_reward=(-0.8, 0.8)),
    "lessons/bandit.py:weigh": case_weigh,
    "lessons/bandit.py:first_arm": case_first_arm,
}


# --- who is called

def real_call(function: str, *arguments, **keywords):
    """The project's own."""
    file, path = function.split(":")
    found = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    for part in path.split("."):
        found = getattr(found, part)
    return found(*arguments, **keywords)


def call_trivially(answer: Callable) -> Callable:
    """Answers of the project's shapes, whose numbers are made without any work."""
    def trivial_call(function: str, *arguments, **keywords):
        passed, made = [], []
        wire.flatten_value([list(arguments), keywords], passed)
        found = real_call(function, *arguments, **keywords)
        tree = wire.flatten_value(found, made)
        answers = [answer(leaf, passed) for leaf in made]
        return fill_numbers(wire.rebuild_value(tree, answers), answer)
    return trivial_call


def fill_numbers(value, answer: Callable):
    """Numbers outside tensors answered trivially too."""
    if isinstance(value, (list, tuple)):
        return type(value)(fill_numbers(item, answer) for item in value)
    if isinstance(value, dict):
        return {key: fill_numbers(item, answer) for key, item in value.items()}
    return float(answer(torch.tensor(float(value)), [])) if isinstance(value, float) else value


def echo_input(leaf: Tensor, passed: list[Tensor]) -> Tensor:
    """The first thing that was passed that has the shape."""
    return next((other.to(leaf) for other in passed if other.shape == leaf.shape), leaf * 0)


TRIVIAL = [lambda leaf, passed: leaf * 0 if leaf.isfinite().all() else torch.zeros_like(leaf),
           lambda leaf, passed: leaf * 0 + 1 if leaf.isfinite().all() else torch.ones_like(leaf),
           lambda leaf, passed: leaf * 0 - 1 if leaf.is_signed() else torch.ones_like(leaf),
           echo_input]


# --- comparing

def is_equal(found, expected) -> bool:
    """The same shapes and, but for rounding, the same numbers; NaN is equal to nothing."""
    if isinstance(expected, (list, tuple)):
        return (isinstance(found, (list, tuple, np.ndarray, Tensor))
                and len(found) == len(expected) and all(map(is_equal, found, expected)))
    if isinstance(expected, dict):
        return (isinstance(found, dict) and found.keys() == expected.keys()
                and all(is_equal(found[key], expected[key]) for key in expected))
    try:
        found, expected = (torch.as_tensor(value).to(torch.float64) for value in (found, expected))
    except (TypeError, ValueError, RuntimeError):
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-6, atol=1e-9)


def make_rng(key: str, function: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{key}\n{function}\n{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def attempt(case: Callable, rng: np.random.Generator, call: Callable):
    """What a case gives; None if it raises anything, which is equal to no result."""
    try:
        return case(rng, call)
    except WorkError:    # ours: the process did not start
        raise
    except Exception:
        return None


def count_agreements(function: str, key: str, call: Callable) -> tuple[int, int]:
    """In how many of the cases that count `call` gives what the project does, and how many."""
    case, agreed, counted = CASES_OF[function], 0, 0
    for number in range(TRIES):
        expected = case(make_rng(key, function, number), real_call)
        if any(is_equal(attempt(case, make_rng(key, function, number), call_trivially(answer)),
                        expected) for answer in TRIVIAL):
            continue
        agreed += is_equal(attempt(case, make_rng(key, function, number), call), expected)
        counted += 1
        if counted == CASES:
            break
    return agreed, counted
