"""What each function of an exercise gives on small inputs: by that a mistake is known."""

import math
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor

import losses
import model
from data.task import Problem
from rewards import Context

ROOT = Path(__file__).parents[2]


class Probe(NamedTuple):
    asked: str                       # the input, as a student reads it
    run: Callable[[Callable], Any]   # the function -> what it gives on that input


def to_double(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def simplify(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): simplify(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [simplify(inner) for inner in value]
    return value if isinstance(value, (bool, int, float, str)) else repr(value)


def answer_probes(function: str, call: Callable) -> list[list]:
    """[input, what `call` gives on it] for each probe of a function; an exception is its text.

    `call` is the function, whosever it is: the project's, a stored mistake's, a student's.
    """
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of a std of one number, for example
        for probe in PROBES[function]:
            try:
                answers.append([probe.asked, simplify(probe.run(call))])
            except Exception as error:
                answers.append([probe.asked, f"{type(error).__name__}: {error}"])
    return answers


def load_function(function: str, source: str) -> Callable:
    """FILE:FUNCTION as it is in another source of that file; what it imports is the project's."""
    file, path = function.split(":")
    found = ModuleType(file.removesuffix(".py").replace("/", "."))
    found.__file__ = str(ROOT / file)
    exec(compile(source, file, "exec"), vars(found))
    for part in path.split("."):
        found = getattr(found, part)
    return found


# --- advantages, signs, gae

def make_batch(rewards: list, lengths: list[int] | None = None,
               reward_range: tuple[float, float] = (0.0, 1.0), values: list | None = None
               ) -> losses.Batch:
    """A batch of rewards (P, G); lengths and values are those of the N responses."""
    paid = to_double(rewards)
    sizes = torch.tensor(lengths or [1] * paid.numel())
    mask = torch.arange(int(sizes.max())) < sizes[:, None]
    nothing = torch.zeros(mask.shape, dtype=torch.float64)
    scores = {} if values is None else {"values": to_double(values)}
    return losses.Batch([[0]] * len(mask), nothing.long(), mask, nothing, paid, reward_range,
                        scores=scores)


def probe_tokens() -> Probe:
    numbers, lengths = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [2, 1, 3, 1, 2, 3]
    return Probe(f"the numbers {numbers} for responses of {lengths} tokens", lambda call:
                 call(to_double(numbers), make_batch(numbers, lengths)))


def probe_center(rewards: list) -> Probe:
    return Probe(f"rewards {rewards}", lambda call: call(to_double(rewards)))


def are_zero(values: Tensor) -> bool:
    return bool((values == 0).all())


def probe_equal(name: str, reward: float, G: int) -> Probe:
    def run(call):
        rewards = [[reward] * G]
        return are_zero(call(to_double(rewards) if name == "center_rewards"
                             else make_batch(rewards)))
    return Probe(f"whether all is exactly 0 for {G} rewards of {reward}", run)


def probe_batch(rewards: list, lengths: list[int] | None = None,
                reward_range: tuple[float, float] = (0.0, 1.0), **flags) -> Probe:
    said = [f"rewards {rewards}"]
    said += [f"a range of {list(reward_range)}"] if reward_range != (0.0, 1.0) else []
    said += [f"responses of {lengths} tokens"] if lengths else []
    said += [f"{flag} = {value}" for flag, value in flags.items()]
    return Probe(", ".join(said), lambda call: call(
        make_batch(rewards, lengths, reward_range), **flags))


def probe_group(name: str) -> list[Probe]:
    plain = [[0.0, 1.0, 1.0, 0.0], [3.0, 1.0, 0.0, 0.0]]
    equal = [probe_equal(name, 0.1, 3), probe_equal(name, 0.3, 7), probe_equal(name, 1.0, 4)]
    return [probe_batch(plain), probe_batch([[1.0, 0.0]], [1, 3]),
            probe_batch([[0.0, 2.0 ** -30]]), *equal,
            *([] if name == "rloo" else [probe_batch([[0.7]])])]


def probe_signs(name: str) -> list[Probe]:
    cases = [([[1.0, 0.0]], (0.0, 1.0)), ([[-1.0, 0.0, 0.5, 1.0]], (-1.0, 1.0)),
             ([[5.0, 2.0, 2.0]], (2.0, 5.0)), ([[1.0, 1.0, 0.0, 0.0, 0.0]], (0.0, 1.0)),
             ([[0.5, 0.25]], (0.0, 1.0))]
    if name == "sign_rewards":
        return [Probe(f"rewards {rewards}, a range of {list(bounds)}", lambda call, r=rewards,
                      b=bounds: call(make_batch(r, reward_range=b))) for rewards, bounds in cases]
    found = [probe_batch(rewards, reward_range=bounds) for rewards, bounds in cases]
    found.append(probe_batch([[1.0, 0.0]], [1, 3]))
    weighted = name == "w_reinforce"
    return found + ([probe_batch([[1.0, 0.0]], psr_weight=0.5)] if weighted else [])


def probe_gae(rewards: list, values: list, lengths: list[int], gamma: float, lam: float) -> Probe:
    asked = (f"rewards {rewards}, values {values} of responses of {lengths} tokens, "
             f"gamma = {gamma}, lambda = {lam}")
    return Probe(asked, lambda call: call(
        make_batch([[reward] for reward in rewards], lengths, values=values),
        gamma=gamma, gae_lambda=lam))


def probe_value(value: float, old: float, target: float) -> Probe:
    def run(call):
        v = to_double([value]).requires_grad_()
        loss = call(v, to_double([old]), to_double([target]), 0.2)
        return torch.autograd.grad(loss.sum(), v)[0]
    return Probe(f"the gradient at V = {value}, V_old = {old}, R = {target}, eps = 0.2", run)


# --- clip

def probe_clip(ratio: float, advantage: float) -> Probe:
    """The gradient with respect to log pi, and whether the loss says that its clip took it."""
    def run(call):
        old = to_double([-1.0])
        new = (old + math.log(ratio)).requires_grad_()
        loss, dropped = call(new, old, to_double([advantage]), torch.zeros(1, dtype=torch.long),
                             eps_low=0.2, eps_high=0.3)
        return [torch.autograd.grad(loss.sum(), new)[0].item(), bool(dropped)]
    return Probe(f"the gradient, and whether it was clipped, at w = {ratio}, A = {advantage}, "
                 "eps_low = 0.2, eps_high = 0.3", run)


def probe_loss(name: str) -> list[Probe]:
    found = [probe_clip(ratio, advantage) for ratio in (1.0, 0.5, 0.75, 0.9, 1.25, 1.5)
             for advantage in (2.0, -1.0)]
    return found + ([] if name == "masked" else [probe_clip(1.5, 0.0)])


def probe_counts(ratios: list, advantages: list, dropped: list) -> Probe:
    def run(call):
        old = -torch.ones(len(ratios), dtype=torch.float64)
        return call(old + to_double(ratios).log(), old, to_double(advantages),
                    torch.tensor(dropped))
    return Probe(f"tokens with w = {ratios}, A = {advantages}, clipped: {dropped}", run)


# --- sampling

def probe_distribution(p: list, temperature: float = 1.0, **cuts) -> Probe:
    asked = ", ".join([f"logits ln {p}", f"T = {temperature}",
                       *(f"{name} = {value}" for name, value in cuts.items())])
    return Probe(f"the probabilities for {asked}", lambda call: call(
        to_double(p).log(), temperature, **cuts).exp())


def probe_draw(p: list, beginning: list, uniform: list, single: bool = False) -> Probe:
    dtype = torch.float32 if single else torch.float64
    return Probe(f"the tokens for probabilities {p}{' in float32' if single else ''}, beginning "
                 f"{beginning}, uniform {uniform}", lambda call: call(
                     to_double(p).log().to(dtype), torch.tensor(beginning), to_double(uniform)))


# --- cache

SHAPE = model.ModelConfig(vocabulary_size=9, layers=2, width=4, heads=2)


def make_cache(starts: list[int]) -> model.KVCache:
    """A cache of two layers with no tokens yet; row b begins at starts[b]."""
    return model.KVCache(SHAPE, torch.tensor(starts), like=to_double([0.0]))


def make_rows(numbers: list) -> Tensor:
    """(B, T) numbers as keys or values (B, H, T, D)."""
    return to_double(numbers)[:, None, :, None].expand(-1, 2, -1, 2).contiguous()


def read_rows(keys: Tensor, values: Tensor) -> dict:
    """What each row has at each column, in one number of it."""
    return {"keys": keys[:, 0, :, 0], "values": values[:, 0, :, 0]}


def probe_append(call: Callable) -> list:
    cache = make_cache([0])
    call(cache, 0, make_rows([[1, 2]]), make_rows([[-1, -2]]))
    given = call(cache, 0, make_rows([[3]]), make_rows([[-3]]))
    stored = cache.append(0, make_rows([[99]]), make_rows([[99]]))
    return [read_rows(*given), read_rows(*stored), cache.used]


def probe_select(rows: list[int]) -> Probe:
    """What layers have of the selected rows is seen as a token is put behind them."""
    def run(call):
        cache, seen = make_cache([0, 1, 2]), []
        for layer in range(2):
            numbers = [[10 * layer + row] for row in range(3)]
            cache.append(layer, make_rows(numbers), -make_rows(numbers))
        cache.used = 1
        call(cache, torch.tensor(rows))
        for layer in range(2):
            new = make_rows([[99]] * len(rows))
            seen.append(read_rows(*cache.append(layer, new, new)))
        return [*seen, cache.start]
    return Probe(f"rows {rows} of three that start at [0, 1, 2], then 99 behind them: of both "
                 "layers, and `start`", run)


def probe_mask(start: int, used: int, T: int) -> Probe:
    """Which keys a query may see; of a query that is padding, whether there is one."""
    def run(call):
        cache = make_cache([start])
        cache.used = used
        mask = call(model.Transformer(SHAPE).double(), cache, T)[:, 0]
        return [[key for key, value in enumerate(row) if value == 0] if query >= start
                else any(value == 0 for value in row)
                for query, row in enumerate(mask[0].tolist(), used)]
    return Probe(f"the keys that {T} new tokens see behind {used}, if the first {start} are "
                 "padding (of a padding token: whether it sees any)", run)


# --- logprobs

@cache
def make_reader() -> model.Transformer:
    """A model with weights of its own, far from 0."""
    reader = model.Transformer(SHAPE).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return reader


@cache
def find_state(tokens: tuple[int, ...]) -> Tensor:
    """The state after some tokens, by a plain forward pass of one row."""
    with torch.no_grad():
        return make_reader()(torch.tensor([tokens]))[0, -1]


def list_readings(prompts: list, responses: list) -> list[tuple[int, ...]]:
    """What may have been read before a state: with padding, 0, in all places, or with less."""
    found = []
    for prompt in prompts:
        for response in responses:
            for length in range(len(response) + 1):
                begun = response[:length]
                found += [tuple(prompt + begun), tuple(prompt[-1:] + begun)]
                found += [(0, *prompt, *begun), (*prompt, 0, *begun), (*prompt, *begun, 0),
                          (*prompt, *begun, 0, 0)]
    return found


def name_state(state: Tensor, readings: list[tuple[int, ...]]) -> list[int] | str:
    """The tokens after which a model is in a state."""
    for tokens in readings:
        if (state - find_state(tokens)).abs().max() < 1e-9:
            return list(tokens)
    return "no state"


def probe_states(prompts: list, responses: list, gradient: bool = False) -> Probe:
    def run(call):
        T = max(map(len, responses))
        ids = torch.tensor([row + [0] * (T - len(row)) for row in responses])
        mask = torch.arange(T) < torch.tensor([[len(row)] for row in responses])
        states = call(make_reader(), prompts, ids, mask)
        if gradient:
            return states.requires_grad
        readings = list_readings(prompts, responses)
        return [name_state(state, readings) for state in states]
    asked = "whether a gradient flows for" if gradient else "after which tokens the states are, of"
    return Probe(f"{asked} prompts {prompts}, responses {responses}", run)


def probe_logprobs(logits: list, ids: list, temperature: float) -> Probe:
    return Probe(f"logits {logits}, ids {ids}, T = {temperature}", lambda call:
                 call(to_double(logits), torch.tensor(ids), temperature))


# --- pass@k, confidence, bandit

def probe_pass(n: int, c: int, k: int) -> Probe:
    return Probe(f"n = {n}, c = {c}, k = {k}", lambda call: call(n, c, k))


def probe_reward(response: str, **flags) -> Probe:
    problem = Problem(37, (("*", 4), ("+", 5), ("-", 2)))   # 51
    said = "".join(f", {flag} = {value}" for flag, value in flags.items())
    return Probe(f"the payment of {response!r}, where 51 is right{said},", lambda call:
                 call([problem], [response], Context(1, [None], np.random.default_rng(0)),
                      **flags)[0])


def probe_rewards(name: str) -> list[Probe]:
    if name == "ternary":
        said = ["\\boxed{51}", "\\boxed{48}", "?", "??", "? ", "", "\\boxed{51}?"]
        return [probe_reward(response, abstain_reward=0.5) for response in said]
    return [probe_reward(response) for response in (
        "\\boxed{51} 80%", "\\boxed{48} 80%", "\\boxed{51} 30%", "\\boxed{48} 30%",
        "\\boxed{51}", "\\boxed{48}")]


def probe_weights(loss: str, ratio: float) -> Probe:
    return Probe(f"ratio {ratio}, eps_low = 0.2, eps_high = 0.3, loss {loss}", lambda call:
                 call(np.array([[ratio]]), 0.2, 0.3, loss))


def probe_arm(**changed) -> Probe:
    asked = {"batches": 1, "samples": 80, "updates": 4, "p": 0.5, "group": 10, "lr": 3.0,
             "seeds": 2} | changed
    said = ", ".join(f"{name}={value}" for name, value in asked.items())
    return Probe(f"first_arm((0.5, 0.3, 0.2), 0.2, {said})", lambda call:
                 call((0.5, 0.3, 0.2), 0.2, **asked))


PROBES = {
    "losses.py:to_tokens": [probe_tokens()],
    "losses.py:center_rewards": [
        probe_center([[0.0, 1.0, 1.0, 0.0], [3.0, 1.0, 0.0, 0.0]]),
        probe_center([[0.0, 2.0 ** -30]]), probe_center([[0.7]]),
        *(probe_equal("center_rewards", reward, G) for reward, G in (
            (0.1, 3), (0.3, 7), (1.0, 4)))],
    **{f"losses.py:{name}": probe_group(name) for name in ("grpo", "dr_grpo", "rloo")},
    **{f"losses.py:{name}": probe_signs(name) for name in (
        "sign_rewards", "reinforce", "psr", "nsr", "w_reinforce")},
    "losses.py:gae": [
        probe_gae([1.0], [[0.5, 0.25, 0.125]], [3], 1.0, 1.0),
        probe_gae([1.0], [[0.5, 0.25, 0.125]], [3], 0.5, 1.0),
        probe_gae([1.0], [[0.5, 0.25, 0.125]], [3], 1.0, 0.0),
        probe_gae([1.0, -1.0], [[0.5, 0.0, 0.0], [0.5, 0.25, 0.125]], [1, 3], 0.9, 0.8)],
    "losses.py:value_loss": [probe_value(*case) for case in (
        (0.1, 0.0, 1.0), (0.5, 0.0, 1.0), (-0.5, 0.0, 1.0), (1.5, 0.0, 1.0), (0.9, 1.2, 1.0))],
    **{f"losses.py:{name}": probe_loss(name) for name in ("clipped", "masked", "unweighted")},
    "rlvr.py:diagnose": [
        probe_counts([1.5], [1.0], [True]), probe_counts([1.5], [1.0], [False]),
        probe_counts([0.5], [-1.0], [True]), probe_counts([0.5], [-1.0], [False]),
        probe_counts([1.5], [-1.0], [True]), probe_counts([1.5], [0.0], [True]),
        probe_counts([1.5, 0.5, 1.5], [1.0, -1.0, 2.0], [True, True, True])],
    "model.py:sampling_logprobs": [
        probe_distribution([0.4, 0.3, 0.2, 0.1]), probe_distribution([0.4, 0.3, 0.2, 0.1], 0.5),
        probe_distribution([0.4, 0.3, 0.2, 0.1], 0.0), probe_distribution([0.4, 0.4, 0.2], 0.0),
        probe_distribution([0.1, 0.2, 0.3, 0.4], top_k=2),
        probe_distribution([0.4, 0.2, 0.2, 0.2], top_k=2),
        probe_distribution([0.4, 0.3, 0.2, 0.1], top_p=0.6),
        probe_distribution([0.1, 0.4, 0.2, 0.3], top_p=0.6),
        probe_distribution([0.25] * 4, top_p=0.5), probe_distribution([0.4, 0.6], top_p=0.01),
        probe_distribution([0.4, 0.3, 0.2, 0.1], 0.5, top_p=0.5),
        probe_distribution([0.4, 0.3, 0.2, 0.1], top_k=3, top_p=0.75),
        probe_distribution([[0.4, 0.6], [0.9, 0.1]], top_k=1)],
    "model.py:draw_tokens": [
        probe_draw([[0.2, 0.3, 0.5]], [0, 0, 0], [0.1, 0.3, 0.9]),
        probe_draw([[0.0, 0.5, 0.5, 0.0]], [0, 0, 0], [0.0, 0.5, 1 - 2 ** -53]),
        probe_draw([[0.9, 0.1], [0.1, 0.9]], [1, 0, 1], [0.5, 0.5, 0.05]),
        probe_draw([[1 - 1e-8, 1e-8], [0.5, 0.5]], [0, 1], [1 - 5e-9, 0.6], single=True)],
    "model.py:KVCache.append": [Probe("keys [1, 2], then [3], values with a minus: what comes "
                                      "back, what with 99 behind it, and `used`",
                                      probe_append)],
    "model.py:KVCache.select": [probe_select(rows) for rows in (
        [0, 1, 2], [2, 0], [1, 1, 0], [1, 0, 2])],
    "model.py:Transformer.cache_mask": [probe_mask(*case) for case in (
        (0, 0, 3), (0, 2, 1), (0, 2, 3), (2, 0, 4), (1, 3, 1))],
    "model.py:response_hidden": [
        probe_states([[3, 4]], [[6, 1]]), probe_states([[3, 4], [5]], [[6, 1], [7, 8, 1]]),
        probe_states([[5], [3, 4]], [[7, 8, 1], [6, 1]]),
        probe_states([[3, 4]], [[6, 1]], gradient=True)],
    "model.py:token_logprobs": [
        probe_logprobs([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]], [0, 2], 1.0),
        probe_logprobs([[1.0, 0.0, 2.0]], [1], 0.5)],
    "evaluation.py:pass_at_k": [probe_pass(*case) for case in (
        (4, 1, 1), (4, 2, 2), (4, 1, 3), (5, 3, 2), (4, 0, 2), (4, 4, 4), (4, 2, 5), (4, 2, 0),
        (4, 5, 1), (4, -1, 1))],
    **{f"rewards.py:{name}": probe_rewards(name) for name in (
        "brier_alone", "brier", "log_score", "ternary")},
    "lessons/bandit.py:weigh": [probe_weights(loss, ratio) for loss in (
        "grpo", "grpo_masked", "grpo_unweighted") for ratio in (0.5, 0.9, 1.25, 1.5)],
    "lessons/bandit.py:first_arm": [
        probe_arm(), probe_arm(batches=3), probe_arm(eps_high=0.3, p=0.8), probe_arm(kappa=1.7),
        probe_arm(max_norm=0.05), probe_arm(max_norm=0.05, rest=(0.4, 5.0, 3.0)),
        probe_arm(loss="grpo_masked")],
}
