"""The bound: which matrix products a model has run, and how long they take alone.

Counted are those of qkv, proj, up, down and head, on real tokens: bench.py says more.
"""

from contextlib import contextmanager
from typing import Callable

import torch
from torch import Tensor

from model import BFLOAT16_WIDTH, Transformer
from plumbing.progress import Clock

Product = tuple[Tensor, Tensor, Tensor]  # (a, b, out): out = a b
PADDING = 0  # what the rows of a batch are filled up with: a space, which no response ends with


def count_real(ids: Tensor) -> int:
    """Tokens of ids (B, T) but PADDING at either end of a row; (B, 1) are sampled, none padding."""
    if ids.size(1) == 1:
        return ids.numel()
    real = ids != PADDING
    return int((real.cumsum(1).bool() & real.flip(1).cumsum(1).bool().flip(1)).sum())


@contextmanager
def record_calls(model: Transformer):
    """Collect what passes through a model, in order: ("blocks" or "head", rows)."""
    calls = []
    hooks = [
        model.register_forward_pre_hook(
            lambda _, inputs: calls.append(("blocks", count_real(inputs[0])))),
        model.head.register_forward_pre_hook(
            lambda _, inputs: calls.append(("head", inputs[0].numel() // inputs[0].size(-1))))]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def list_matrices(model: Transformer) -> dict[str, list[Tensor]]:
    """The weights (out, in) of the products that count, in the precision they are multiplied in."""
    half = model.head.weight.is_cuda and model.config.width >= BFLOAT16_WIDTH
    kind = torch.bfloat16 if half else torch.float32
    blocks = [linear.weight.detach().to(kind) for block in model.blocks
              for linear in (block.qkv, block.proj, block.up, block.down)]
    return {"blocks": blocks, "head": [model.head.weight.detach()]}


def list_products(model: Transformer, calls: list[tuple[str, int]],
                  backward: bool) -> list[Product]:
    """(a, b, out) of every product of some calls; those with as many columns share a buffer."""
    matrices, products, buffers = list_matrices(model), [], {}
    sides = [max(weight.shape) for weights in matrices.values() for weight in weights]
    most = max(*sides, *(rows for _, rows in calls))

    def take(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
        key = name, columns, like.dtype
        if key not in buffers:
            buffers[key] = torch.randn(most, columns, device=like.device, dtype=like.dtype)
        return buffers[key][:rows]

    for place, rows in calls:
        for weight in matrices[place]:
            outputs, inputs = weight.shape
            x, y = take("x", rows, inputs, weight), take("y", rows, outputs, weight)
            products.append((x, weight.T, y))
            if backward:
                products.append((y, weight, take("dx", rows, inputs, weight)))
                products.append((y.T, x, take("dW", outputs, inputs, weight)))
    return products


def count_flops(products: list[Product]) -> int:
    """Two operations for each multiplication."""
    return sum(2 * a.size(0) * a.size(1) * b.size(1) for a, b, _ in products)


def multiply_all(products: list[Product]) -> None:
    for a, b, out in products:
        torch.mm(a, b, out=out)


def take_time(device: torch.device, work: Callable, *arguments) -> float:
    """Wall seconds of a call, until the device has done it."""
    clock = Clock(device)
    clock.lap("before")
    work(*arguments)
    clock.lap("work")
    return clock.booked["work"]
