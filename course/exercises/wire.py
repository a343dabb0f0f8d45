"""What crosses the door between tests and a student's code: data as bytes, and nothing that runs.

A message is a tree, as JSON, and leaves: the tensors and arrays in it, as raw bytes. Towards the
student go the project's own types too (a `Batch`, a model); what comes back is plain, and of a size
and of types that are checked, so whoever reads it need not trust who wrote it.
"""

import json
import math
import struct
from dataclasses import asdict, is_dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

MOST_BYTES = 2**28       # of a message: the largest that a check needs has 7 MB
MOST_HEAD = 2**24        # of them for the tree
LENGTHS = ">QQ"          # before a message: the bytes of its JSON, and of its leaves
DTYPES = {str(kind).removeprefix("torch."): kind for kind in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool)}


class NotData(Exception):
    """What should cross is no data that we know, or is too large."""


class Ended(Exception):
    """Who should answer has gone."""


class Message(NamedTuple):
    tree: object
    leaves: list[Tensor]
    differentiable: list[bool]   # of each leaf: whether a gradient is asked for


# --- a value as a tree and leaves

def flatten_value(value, leaves: list[Tensor]):
    """The tree of a value; its tensors and arrays are appended to `leaves`.

    Raises NotData.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return flatten_value(value.item(), leaves)
    if isinstance(value, np.ndarray):
        return {"array": append_leaf(torch.from_numpy(np.ascontiguousarray(value))
                                     .reshape(value.shape), leaves)}
    if isinstance(value, Tensor):
        return {"tensor": append_leaf(value, leaves)}
    if isinstance(value, dict):
        return {"dict": [[flatten_value(key, leaves), flatten_value(item, leaves)]
                         for key, item in value.items()]}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [flatten_value(item, leaves) for item in value]}
    name, fields = describe_record(value)
    return {"record": name, "fields": flatten_value(fields, leaves)}


def append_leaf(tensor: Tensor, leaves: list[Tensor]) -> int:
    if str(tensor.dtype).removeprefix("torch.") not in DTYPES or tensor.layout != torch.strided:
        raise NotData(f"a tensor of {tensor.dtype}, {tensor.layout}")
    leaves.append(tensor)
    return len(leaves) - 1


def describe_record(value) -> tuple[str, dict]:
    """The name of one of our types and what an object of it consists of."""
    name = type(value).__name__
    if hasattr(value, "_fields"):
        return name, value._asdict()
    if is_dataclass(value):
        return name, asdict(value)
    if name == "Generator":
        return name, {"state": value.bit_generator.state}
    if name == "Transformer":
        return name, {"config": value.config, "tensors": {**dict(value.named_parameters()),
                                                          **dict(value.named_buffers())}}
    if name == "KVCache":
        return name, dict(vars(value))
    raise NotData(f"a {name}, which is neither a tensor nor plain data")


def rebuild_value(tree, leaves: list[Tensor], make_record=None):
    """The value of a tree. `make_record(name, fields)` makes our own types, where they may come."""
    if not isinstance(tree, dict):
        return tree
    kind, content = next(iter(tree.items()))
    if kind == "tensor":
        return leaves[content]
    if kind == "array":
        return leaves[content].detach().numpy()
    if kind == "dict":
        return {rebuild_value(key, leaves, make_record): rebuild_value(item, leaves, make_record)
                for key, item in content}
    if kind in ("list", "tuple"):
        items = [rebuild_value(item, leaves, make_record) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "record" and make_record is not None:
        return make_record(content, rebuild_value(tree["fields"], leaves, make_record))
    raise NotData(f"a {kind}")


# --- messages as bytes

def pack(message: Message) -> bytes:
    # A clone: one number that was expanded is contiguous, but has no stride that can be viewed.
    parts = [leaf.detach().cpu().clone(memory_format=torch.contiguous_format)
             for leaf in message.leaves]
    described = [[str(part.dtype).removeprefix("torch."), list(part.shape), bool(wanted)]
                 for part, wanted in zip(parts, message.differentiable)]
    head = json.dumps({"tree": message.tree, "leaves": described}).encode("utf-8")
    check_size(len(head), sum(part.nbytes for part in parts))
    body = b"".join(part.flatten().clone().view(torch.uint8).numpy().tobytes() for part in parts)
    return struct.pack(LENGTHS, len(head), len(body)) + head + body


def check_size(head: int, body: int) -> None:
    if head > MOST_HEAD or head + body > MOST_BYTES:
        raise NotData(f"more than {MOST_BYTES >> 20} MiB, or {MOST_HEAD >> 20} without tensors")


def unpack(head: bytes, body: bytes) -> Message:
    """Raises NotData unless every leaf is of a type, a shape and a size that fit its bytes."""
    try:
        found = json.loads(head)
        tree, leaves, wanted, place = found["tree"], [], [], 0
        for name, shape, differentiable in found["leaves"]:
            if not all(type(size) is int and size >= 0 for size in shape):
                raise NotData(f"a shape {shape}")
            size = math.prod(shape) * DTYPES[name].itemsize
            part = bytearray(body[place:place + size])
            if len(part) != size:
                raise NotData("a tensor with fewer bytes than its shape says")
            leaves.append(torch.frombuffer(part, dtype=torch.uint8).view(DTYPES[name])
                          .reshape(shape) if size else torch.empty(shape, dtype=DTYPES[name]))
            wanted.append(differentiable is True and leaves[-1].is_floating_point())
            place += size
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, RecursionError) as error:
        raise NotData(f"no message: {error}"[:200]) from None
    return Message(tree, leaves, wanted)


def send(stream: BinaryIO, message: Message) -> None:
    stream.write(pack(message))
    stream.flush()


def receive(stream: BinaryIO) -> Message:
    """The next message. Raises Ended if there is none, NotData for anything but a message."""
    head, body = struct.unpack(LENGTHS, read_exactly(stream, struct.calcsize(LENGTHS)))
    check_size(head, body)
    return unpack(read_exactly(stream, head), read_exactly(stream, body))


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise Ended
    return found
