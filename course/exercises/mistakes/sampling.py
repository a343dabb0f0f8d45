"""Wrong solutions of the exercise sampling: what students write, and what each is told."""

import torch
from torch import Tensor

from course.exercises.catalog import replaces
from model import scale_logits


@replaces("model.py:sampling_logprobs")
def multiply_by_the_temperature(logits: Tensor, temperature: float = 1.0,
                                top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits are multiplied by the temperature. They are divided by it."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = logits * temperature
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = scaled.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def drop_the_token_that_crosses(logits: Tensor, temperature: float = 1.0,
                                top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """top-p drops the token with which the sum crosses p. The set must reach p: it stays."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        beyond = scaled.gather(-1, index).double().softmax(-1).cumsum(-1) > top_p * (1 + 1e-14)
        beyond[..., 0] = False
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def keep_one_token_more(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                        top_p: float | None = None) -> Tensor:
    """Where a set reaches p exactly, top-p keeps one token more. The more likely ones suffice."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = scaled.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass > top_p
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def leave_the_mask_in_sorted_order(logits: Tensor, temperature: float = 1.0,
                                   top_k: int | None = None, top_p: float | None = None
                                   ) -> Tensor:
    """top-p's mask stays in sorted order. It must go back to the vocabulary's (`scatter`)."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        mass = scaled.double().softmax(-1).sort(dim=-1, descending=True).values
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        beyond[..., 0] = False
        scaled = scaled.masked_fill(beyond, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def drop_ties(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
              top_p: float | None = None) -> Tensor:
    """top-k keeps k tokens and no tie. Tokens that are equal to the k-th stay too."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        kept = torch.zeros_like(logits, dtype=torch.bool)
        kept.scatter_(-1, logits.topk(top_k).indices, True)
        scaled = scaled.masked_fill(~kept, -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = scaled.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        beyond[..., 0] = False
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def forget_to_normalise(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                        top_p: float | None = None) -> Tensor:
    """What is kept does not sum to 1: normalise after the cuts, not before."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    scaled = scale_logits(logits, temperature).log_softmax(-1)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = scaled.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        beyond[..., 0] = False
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled


@replaces("model.py:sampling_logprobs")
def cut_before_the_temperature(logits: Tensor, temperature: float = 1.0,
                               top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """top-p comes before the temperature and top-k. The order: temperature, top-k, top-p."""
    if temperature == 0:
        return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, True), 0.0)
    cut = torch.zeros_like(logits, dtype=torch.bool)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = logits.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        beyond[..., 0] = False
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
    scaled = scale_logits(logits, temperature).masked_fill(cut, -torch.inf)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:sampling_logprobs")
def share_greed_among_equals(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                             top_p: float | None = None) -> Tensor:
    """Temperature 0 is shared among equally likely tokens. It takes the first of them."""
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        scaled = scaled.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        index = logits.argsort(dim=-1, descending=True, stable=True)
        mass = scaled.gather(-1, index).double().softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p * (1 - 1e-14)
        beyond[..., 0] = False
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


@replaces("model.py:draw_tokens")
def stop_at_an_equal_sum(logprobs: Tensor, beginning: Tensor, uniform: Tensor) -> Tensor:
    """A token is drawn whose sum is not above u: one of probability 0 may be (`right=True`)."""
    cumulative = logprobs.to(uniform.dtype).exp().cumsum(-1)[beginning]
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold)[:, 0]


@replaces("model.py:draw_tokens")
def sum_in_single_precision(logprobs: Tensor, beginning: Tensor, uniform: Tensor) -> Tensor:
    """The sums are in float32, where a rare token adds nothing. Use the type of `uniform`."""
    cumulative = logprobs.float().exp().cumsum(-1)[beginning].to(uniform.dtype)
    threshold = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return tokens.clamp(max=logprobs.size(-1) - 1)


@replaces("model.py:draw_tokens")
def give_all_the_first_distribution(logprobs: Tensor, beginning: Tensor, uniform: Tensor
                                    ) -> Tensor:
    """All rows draw from the first distribution. `beginning` says which is whose."""
    cumulative = logprobs.to(uniform.dtype).exp().cumsum(-1)[0 * beginning]
    threshold = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return tokens.clamp(max=logprobs.size(-1) - 1)


@replaces("model.py:draw_tokens")
def take_the_likeliest(logprobs: Tensor, beginning: Tensor, uniform: Tensor) -> Tensor:
    """The most likely token is taken, whatever `uniform` is. One is to be drawn."""
    return logprobs.argmax(-1)[beginning]


@replaces("model.py:draw_tokens")
def draw_the_token_before(logprobs: Tensor, beginning: Tensor, uniform: Tensor) -> Tensor:
    """The last token whose sum is not above u is drawn. It is the first whose sum is above."""
    cumulative = logprobs.to(uniform.dtype).exp().cumsum(-1)[beginning]
    threshold = uniform[:, None] * cumulative[:, -1:]
    return (torch.searchsorted(cumulative, threshold, right=True)[:, 0] - 1).clamp(min=0)
