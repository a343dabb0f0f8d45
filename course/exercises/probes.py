"""What each function of an exercise gives on small inputs: by that a mistake is known.

    python -m course.exercises.probes FILE     # sources from stdin, what they give into FILE

A process of its own, since it runs what students wrote. In comes JSON, {FILE:FUNCTION: [a source of
that file, ...]}; out comes for each source a list of [input, answer], one a probe.
"""

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.task import Problem
from plumbing.files import write
from rewards import Context


class Probe(NamedTuple):
    asked: str                          # the input, as a student reads it
    run: Callable[[ModuleType], Any]    # the module that has the function -> what it gives


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


def load_source(file: str, source: str) -> ModuleType:
    """A module of the project with another source; those that it imports are the project's."""
    module = ModuleType(file.removesuffix(".py").replace("/", "."))
    module.__file__ = file
    exec(compile(source, file, "exec"), module.__dict__)
    return module


def answer_probes(function: str, source: str) -> list[list]:
    """[input, what a function of a source gives on it], one a probe; an exception is its text."""
    def attempt(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    module = attempt(lambda: load_source(function.split(":")[0], source))
    return [[probe.asked, module if isinstance(module, str)
             else attempt(lambda probe=probe: simplify(probe.run(module)))]
            for probe in PROBES[function]]


# --- advantages, signs, gae

def make_batch(losses: ModuleType, rewards: list, lengths: list[int] | None = None,
               reward_range: tuple[float, float] = (0.0, 1.0), values: list | None = None):
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
    return Probe(f"the numbers {numbers} for responses of {lengths} tokens", lambda losses:
                 losses.to_tokens(to_double(numbers), make_batch(losses, numbers, lengths)))


def probe_center(rewards: list) -> Probe:
    return Probe(f"rewards {rewards}", lambda losses: losses.center_rewards(to_double(rewards)))


def are_zero(values: Tensor) -> bool:
    return bool((values == 0).all())


def probe_equal(name: str, reward: float, G: int) -> Probe:
    def run(losses):
        rewards = [[reward] * G]
        return are_zero(losses.center_rewards(to_double(rewards)) if name == "center_rewards"
                        else getattr(losses, name)(make_batch(losses, rewards)))
    return Probe(f"whether all is exactly 0 for {G} rewards of {reward}", run)


def probe_batch(name: str, rewards: list, lengths: list[int] | None = None,
                reward_range: tuple[float, float] = (0.0, 1.0), **flags) -> Probe:
    said = [f"rewards {rewards}"]
    said += [f"a range of {list(reward_range)}"] if reward_range != (0.0, 1.0) else []
    said += [f"responses of {lengths} tokens"] if lengths else []
    said += [f"{flag} = {value}" for flag, value in flags.items()]
    return Probe(", ".join(said), lambda losses: getattr(losses, name)(
        make_batch(losses, rewards, lengths, reward_range), **flags))


def probe_group(name: str) -> list[Probe]:
    plain = [[0.0, 1.0, 1.0, 0.0], [3.0, 1.0, 0.0, 0.0]]
    equal = [probe_equal(name, 0.1, 3), probe_equal(name, 0.3, 7), probe_equal(name, 1.0, 4)]
    return [probe_batch(name, plain), probe_batch(name, [[1.0, 0.0]], [1, 3]),
            probe_batch(name, [[0.0, 2.0 ** -30]]), *equal,
            *([] if name == "rloo" else [probe_batch(name, [[0.7]])])]


def probe_signs(name: str) -> list[Probe]:
    cases = [([[1.0, 0.0]], (0.0, 1.0)), ([[-1.0, 0.0, 0.5, 1.0]], (-1.0, 1.0)),
             ([[5.0, 2.0, 2.0]], (2.0, 5.0)), ([[1.0, 1.0, 0.0, 0.0, 0.0]], (0.0, 1.0)),
             ([[0.5, 0.25]], (0.0, 1.0))]
    if name == "sign_rewards":
        return [Probe(f"rewards {rewards}, a range of {list(bounds)}", lambda losses, r=rewards,
                      b=bounds: losses.sign_rewards(make_batch(losses, r, reward_range=b)))
                for rewards, bounds in cases]
    found = [probe_batch(name, rewards, reward_range=bounds) for rewards, bounds in cases]
    found.append(probe_batch(name, [[1.0, 0.0]], [1, 3]))
    weighted = name == "w_reinforce"
    return found + ([probe_batch(name, [[1.0, 0.0]], psr_weight=0.5)] if weighted else [])


def probe_gae(rewards: list, values: list, lengths: list[int], gamma: float, lam: float) -> Probe:
    asked = (f"rewards {rewards}, values {values} of responses of {lengths} tokens, "
             f"gamma = {gamma}, lambda = {lam}")
    return Probe(asked, lambda losses: losses.gae(
        make_batch(losses, [[reward] for reward in rewards], lengths, values=values),
        gamma=gamma, gae_lambda=lam))


def probe_value(value: float, old: float, target: float) -> Probe:
    def run(losses):
        v = to_double([value]).requires_grad_()
        loss = losses.value_loss(v, to_double([old]), to_double([target]), 0.2)
        return torch.autograd.grad(loss.sum(), v)[0]
    return Probe(f"the gradient at V = {value}, V_old = {old}, R = {target}, eps = 0.2", run)


# --- clip

def probe_clip(name: str, ratio: float, advantage: float) -> Probe:
    """The gradient with respect to log pi, and whether the loss says that its clip took it."""
    def run(losses):
        old = to_double([-1.0])
        new = (old + math.log(ratio)).requires_grad_()
        loss, dropped = getattr(losses, name)(
            new, old, to_double([advantage]), torch.zeros(1, dtype=torch.long), eps_low=0.2,
            eps_high=0.3)
        return [torch.autograd.grad(loss.sum(), new)[0].item(), bool(dropped)]
    return Probe(f"the gradient, and whether it was clipped, at w = {ratio}, A = {advantage}, "
                 "eps_low = 0.2, eps_high = 0.3", run)


def probe_loss(name: str) -> list[Probe]:
    found = [probe_clip(name, ratio, advantage) for ratio in (1.0, 0.5, 0.75, 0.9, 1.25, 1.5)
             for advantage in (2.0, -1.0)]
    return found + ([] if name == "masked" else [probe_clip(name, 1.5, 0.0)])


def probe_counts(ratios: list, advantages: list, dropped: list) -> Probe:
    def run(rlvr):
        old = -torch.ones(len(ratios), dtype=torch.float64)
        return rlvr.diagnose(old + to_double(ratios).log(), old, to_double(advantages),
                             torch.tensor(dropped))
    return Probe(f"tokens with w = {ratios}, A = {advantages}, clipped: {dropped}", run)


# --- sampling

def probe_distribution(p: list, temperature: float = 1.0, **cuts) -> Probe:
    asked = ", ".join([f"logits ln {p}", f"T = {temperature}",
                       *(f"{name} = {value}" for name, value in cuts.items())])
    return Probe(f"the probabilities for {asked}", lambda model: model.sampling_logprobs(
        to_double(p).log(), temperature, **cuts).exp())


def probe_draw(p: list, beginning: list, uniform: list, single: bool = False) -> Probe:
    dtype = torch.float32 if single else torch.float64
    return Probe(f"the tokens for probabilities {p}{' in float32' if single else ''}, beginning "
                 f"{beginning}, uniform {uniform}", lambda model: model.draw_tokens(
                     to_double(p).log().to(dtype), torch.tensor(beginning), to_double(uniform)))


# --- cache

def make_cache(model: ModuleType, starts: list[int]):
    """A cache of two layers, a head of width 2, with no tokens yet."""
    return model.KVCache(model.ModelConfig(9, 2, 2, 1), torch.tensor(starts), like=to_double([0.0]))


def make_rows(numbers: list) -> Tensor:
    """(B, T) numbers as keys or values (B, 1, T, 2)."""
    return to_double(numbers)[:, None, :, None].expand(-1, -1, -1, 2).contiguous()


def read_rows(tensors: list[Tensor]) -> list:
    """Per layer, what each row has at each column."""
    return [layer[:, 0, :, 0].tolist() for layer in tensors]


def probe_append(model: ModuleType) -> list:
    cache = make_cache(model, [0])
    cache.append(0, make_rows([[1, 2]]), make_rows([[-1, -2]]))
    given = cache.append(0, make_rows([[3]]), make_rows([[-3]]))
    return [read_rows(given), read_rows([cache.keys[0], cache.values[0]]), cache.used]


def probe_select(rows: list[int]) -> Probe:
    def run(model):
        cache = make_cache(model, [0, 1, 2])
        for layer in range(2):
            cache.keys[layer] = make_rows([[10 * layer + row] for row in range(3)])
            cache.values[layer] = -make_rows([[10 * layer + row] for row in range(3)])
        cache.select(torch.tensor(rows))
        return {"keys": read_rows(cache.keys), "values": read_rows(cache.values),
                "start": cache.start}
    return Probe(f"rows {rows} of three, of two layers, that start at [0, 1, 2]", run)


def probe_mask(start: int, used: int, T: int) -> Probe:
    """Which keys a query may see; of a query that is padding, whether there is one."""
    def run(model):
        cache = make_cache(model, [start])
        cache.used = used
        mask = model.Transformer(cache_shape(model)).double().cache_mask(cache, T)[:, 0]
        return [[key for key, value in enumerate(row) if value == 0] if query >= start
                else any(value == 0 for value in row)
                for query, row in enumerate(mask[0].tolist(), used)]
    return Probe(f"the keys that {T} new tokens see behind {used}, if the first {start} are "
                 "padding (of a padding token: whether it sees any)", run)


def cache_shape(model: ModuleType):
    return model.ModelConfig(9, 1, 2, 1)


# --- logprobs

class Reader(nn.Module):
    """A model whose state says what was read: how many tokens, and which, as digits."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 9).double()

    def forward(self, ids: Tensor) -> Tensor:
        digits = torch.zeros(len(ids), dtype=torch.float64)
        states = []
        for t, column in enumerate(ids.T, 1):
            digits = 10 * digits + column
            states.append(torch.stack((torch.full_like(digits, t), digits), dim=-1))
        scale = self.head.weight.sum() * 0 + 1     # so that a gradient flows
        return torch.stack(states, dim=1) * scale  # (B, T, 2)


def probe_states(prompts: list, responses: list, gradient: bool = False) -> Probe:
    def run(model):
        T = max(map(len, responses))
        ids = torch.tensor([row + [0] * (T - len(row)) for row in responses])
        mask = torch.arange(T) < torch.tensor([[len(row)] for row in responses])
        states = model.response_hidden(Reader(), prompts, ids, mask)
        return states.requires_grad if gradient else states
    asked = "whether a gradient flows" if gradient else (
        "the states, each as [tokens read, their digits],")
    return Probe(f"{asked} for prompts {prompts}, responses {responses}", run)


def probe_logprobs(logits: list, ids: list, temperature: float) -> Probe:
    return Probe(f"logits {logits}, ids {ids}, T = {temperature}", lambda model:
                 model.token_logprobs(to_double(logits), torch.tensor(ids), temperature))


# --- pass@k, confidence, bandit

def probe_pass(n: int, c: int, k: int) -> Probe:
    return Probe(f"n = {n}, c = {c}, k = {k}", lambda evaluation: evaluation.pass_at_k(n, c, k))


def probe_reward(name: str, response: str, **flags) -> Probe:
    problem = Problem(37, (("*", 4), ("+", 5), ("-", 2)))   # 51
    said = "".join(f", {flag} = {value}" for flag, value in flags.items())
    return Probe(f"the payment of {response!r}, where 51 is right{said},", lambda rewards:
                 getattr(rewards, name)([problem], [response],
                                        Context(1, [None], np.random.default_rng(0)), **flags)[0])


def probe_rewards(name: str) -> list[Probe]:
    if name == "ternary":
        said = ["\\boxed{51}", "\\boxed{48}", "?", "??", "? ", "", "\\boxed{51}?"]
        return [probe_reward(name, response, abstain_reward=0.5) for response in said]
    return [probe_reward(name, response) for response in (
        "\\boxed{51} 80%", "\\boxed{48} 80%", "\\boxed{51} 30%", "\\boxed{48} 30%",
        "\\boxed{51}", "\\boxed{48}")]


def probe_weights(loss: str, ratio: float) -> Probe:
    return Probe(f"ratio {ratio}, eps_low = 0.2, eps_high = 0.3, loss {loss}", lambda bandit:
                 bandit.weigh(np.array([[ratio]]), 0.2, 0.3, loss))


def probe_arm(**changed) -> Probe:
    asked = {"batches": 1, "samples": 80, "updates": 4, "p": 0.5, "group": 10, "lr": 3.0,
             "seeds": 2} | changed
    said = ", ".join(f"{name}={value}" for name, value in asked.items())
    return Probe(f"first_arm((0.5, 0.3, 0.2), 0.2, {said})", lambda bandit:
                 bandit.first_arm((0.5, 0.3, 0.2), 0.2, **asked))


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
    "model.py:KVCache.append": [Probe("[1, 2], then [3], at layer 0, values with a minus",
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers = {function: [answer_probes(function, source) for source in sources]
               for function, sources in json.load(sys.stdin).items()}
    write(Path(sys.argv[1]), json.dumps(answers))
