"""A device that is not there: what a GPU would refuse, launch and wait for, seen on any machine.

    with simulate() as machine:                # every command now chooses this device
        rlvr.train(config)
    machine.counts                             # kernels, waits, uploads
    machine.places                             # where the host waited, and for what

Its tensors say where they are, their numbers stay on the CPU. It refuses what CUDA refuses: two
devices in one operation (but a number of the host in a pointwise one, and indices of the host), a
generator of the other device, numpy. And what CUDA would do in silence: a model that computes on
the host, a copy to the host that may be read before it is there.

- **kernels**: operations that launch something on the device; not views, not empty memory, not
  copies from or to the host. An operation is one, though some are several on a GPU (a sort);
  attention and RMSNorm are one on the way forward and their parts on the way back; an optimizer has
  all tensors in one, as on CUDA.
- **waits** of the host: it asks for a number (item, bool, tolist), for what has a size that depends
  on numbers (nonzero, unique, a mask as index), for a copy; or what it sends is not in pinned
  memory, or not sent as non_blocking: then torch waits until it is there.
- **uploads**: copies from the host, waited for or not.

Not seen: speed, memory, bfloat16, and what a kernel does inside.
"""

import sys
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from plumbing.machine import choose_device

HOST = torch.device("cpu")
AWAY = torch.device("meta")  # autograd knows it in every build of torch, and nothing computes there
OURS = ("bench.", "companions.", "course.", "data.", "evaluation", "lessons.", "losses", "model",
        "plumbing.", "pretrain", "rlvr", "run", "tests.")
LOAD = torch.load

COPIES, INDEXING = {"_to_copy", "copy_"}, {"index", "index_put", "index_put_"}
OF_MODELS = {"mm", "addmm", "bmm", "baddbmm", "embedding", "_softmax", "_log_softmax"}
FREE = {"_unsafe_view", "lift_fresh", "empty", "empty_like", "new_empty", "empty_strided",
        "new_empty_strided", "_local_scalar_dense"}
FUSED = {"scaled_dot_product_attention", "rms_norm"}
# Their result is a number, or has a size, that the host must know before it goes on.
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal",
         "unique_consecutive", "repeat_interleave", "bincount"}


class Away(Tensor):
    """A tensor on the device; `here` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __new__(cls, here: Tensor):
        new = Tensor._make_wrapper_subclass(cls, here.shape, strides=here.stride(),
                                            dtype=here.dtype, device=AWAY)
        new.here = here
        return new

    @classmethod
    def __torch_dispatch__(cls, op, *rest):
        raise AssertionError(f"{op}: a tensor of the device, outside of the simulation")

    def __reduce_ex__(self, protocol):
        """For torch.save, which copies what it writes to the host."""
        Machine.running.wait("saved")
        return self.here.detach().__reduce_ex__(protocol)


def change_tensors(change, value):
    """Apply `change` to all tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: change_tensors(change, item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(change_tensors(change, item) for item in value)
    return value


def bring_here(value):
    return change_tensors(lambda tensor: tensor.here if type(tensor) is Away else tensor, value)


def send_away(value):
    return change_tensors(lambda tensor: Away(tensor.resolve_conj()), value)


def list_tensors(values) -> list[Tensor]:
    """Those among the arguments of an operation, and in lists among them."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif type(value) in (list, tuple):
            found += list_tensors(value)
    return found


def list_left(op, name: str, args, tensors: list[Tensor]) -> list[tuple]:
    """Shapes of tensors of the host that cannot be in an operation on the device."""
    if name == "fill_":  # with a number, which the host may have
        bound = args[:1]
    elif name in INDEXING:  # indices may be of the host, and a value that is one number
        bound = [args[0], *(value for value in list_tensors(args[2:]) if value.dim())]
    elif torch.Tag.pointwise in op.tags:
        changed = args[0] if op._schema.is_mutable else None
        bound = [tensor for tensor in tensors if tensor.dim() or tensor is changed]
    else:
        bound = tensors
    return [tuple(tensor.shape) for tensor in bound if type(tensor) is not Away]


def find_caller() -> str:
    """FUNCTION (FILE:LINE) of this project that asked for an operation."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename == __file__
                     or not frame.f_globals.get("__name__", "").startswith(OURS)):
        frame = frame.f_back
    if frame is None:
        return "?"
    place = f"({frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno})"
    while frame.f_code.co_name.startswith("<") and frame.f_back:  # a comprehension, a lambda
        frame = frame.f_back
    return f"{frame.f_code.co_name} {place}"


class Machine(TorchDispatchMode):
    """Computes on the CPU what the device would, refuses what it would, counts."""

    running: "Machine | None" = None

    def __init__(self, host_computes: bool = False):
        super().__init__()
        self.counts, self.places, self.host_computes = Counter(), Counter(), host_computes

    def wait(self, what: str) -> None:
        self.counts["waits"] += 1
        self.places[f"{find_caller()}: {what}"] += 1

    def count_as_one(self, function, *args, **kwargs):
        kernels = self.counts["kernels"]
        out = function(*args, **kwargs)
        self.counts["kernels"] = kernels + 1
        return out

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), op._schema.name.removeprefix("aten::")
        tensors = list_tensors((*args, *kwargs.values()))
        source = AWAY if any(type(tensor) is Away for tensor in tensors) else HOST
        asked = kwargs.get("device")
        target = source if asked is None else torch.device(asked)
        if name == "copy_":
            target = AWAY if type(args[0]) is Away else HOST
        if source == target == HOST:
            assert self.host_computes or name not in OF_MODELS, f"{op}: a model on the host"
            return op(*args, **kwargs)
        generator = kwargs.get("generator")
        assert generator is None or generator.device == target, f"{op}: generator left on the CPU"
        if name in COPIES and (target == HOST or type(tensors[-1]) is not Away):
            asynchronous = args[2:3] == (True,) or kwargs.get("non_blocking")
            self.book_copy(op, target, tensors[-1], asynchronous)
        else:
            left = list_left(op, name, args, tensors) if source == AWAY else []
            assert not left, f"{op}: left on the CPU: {left}"
            self.book_kernel(op, name, args, tensors)
        if asked is not None:
            kwargs["device"] = HOST
        out = op(*bring_here(args), **bring_here(kwargs))
        if op._schema.is_mutable:
            return None if out is None else kwargs.get("out", args[0])
        return out if target == HOST else send_away(out)

    def book_copy(self, op, target: torch.device, source: Tensor, asynchronous: bool) -> None:
        """A copy from the host to the device, or the other way round."""
        if target == HOST:
            assert not asynchronous, f"{op}: it may be read on the host before it is there"
            return self.wait("copy to the host")
        self.counts["uploads"] += 1
        if not (asynchronous and hasattr(source, "pinned")):
            self.wait("copy to the device")

    def book_kernel(self, op, name: str, args, tensors: list[Tensor]) -> None:
        """An operation on the device; perhaps the host has to wait for it."""
        if name in INDEXING:
            for _ in range(sum(type(tensor) is not Away for tensor in tensors)):
                self.counts["uploads"] += 1
                self.wait("index or value of the host")
            if any(tensor.dtype == torch.bool for tensor in list_tensors(args[1:2])):
                self.wait("mask as index")
        if name in READS:
            self.wait(name)
        self.counts["kernels"] += not op.is_view and name not in FREE


class Calls(TorchFunctionMode):
    """What never reaches an operation as CUDA has it: data for the device, numpy, pinned memory."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        first = args[0] if args else None
        away = type(first) is Away
        if name in ("tensor", "as_tensor", "asarray") and kwargs.get("device") is not None:
            return function(*args, **(kwargs | {"device": HOST})).to(kwargs["device"])
        if name == "new_tensor" and away:
            return torch.tensor(*args[1:], **{"dtype": first.dtype} | kwargs).to(AWAY)
        if name == "pin_memory":
            assert not away, "pin_memory: only memory of the host can be pinned"
            pinned = first.clone()
            pinned.pinned = True
            return pinned
        if not away:
            return function(*args, **kwargs)
        assert name not in ("numpy", "__array__"), f"{name}: numpy does not know the device"
        if name == "tolist":
            return first.cpu().tolist()
        if name in FUSED:
            return Machine.running.count_as_one(function, *args, **kwargs)
        if name == "__setitem__" and type(args[2]) in (bool, int, float):
            # CUDA's way, and no other device's: the number becomes a tensor of the host first.
            args = (*args[:2], torch.tensor(args[2], dtype=first.dtype))
        return function(*args, **kwargs)


def load_there(file, map_location=AWAY, **options):
    """torch.load: what was saved comes back on the device, unless it is told where to."""
    loaded = LOAD(file, map_location=HOST, **options)
    return change_tensors(lambda tensor: tensor.to(map_location), loaded)


def list_patches() -> list:
    """What makes every command choose the device, and torch treat it as it treats CUDA."""
    choose, there = choose_device, lambda config: AWAY
    patches = [patch.object(module, "choose_device", there) for module in list(sys.modules.values())
               if getattr(module, "__name__", "").startswith(OURS)
               and vars(module).get("choose_device") is choose]
    patches += [patch.object(torch, "load", load_there),
                patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
                patch.object(torch.__future__, "_overwrite_module_params_on_conversion", True)]
    lists = import_module("torch.utils._foreach_utils")
    known = {"_get_foreach_kernels_supported_devices": lambda: ["meta"],
             "_get_fused_kernels_supported_devices": lambda: ["meta", "cpu"],
             "_foreach_supported_types": [*lists._foreach_supported_types, Away]}
    for module in (lists, *map(import_module, ("torch.optim.optimizer", "torch.optim.adam"))):
        patches += [patch.object(module, name, known[name]) for name in known
                    if name in vars(module)]
    return patches


@contextmanager
def simulate(host_computes: bool = False):
    """Every command runs on the device that is not there; yields the Machine, the one that runs.

    host_computes: a model on the CPU is no mistake (of a script that works there on purpose).
    """
    with ExitStack() as stack:
        if Machine.running is not None:
            yield Machine.running
            return
        for each in list_patches():
            stack.enter_context(each)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta")  # it does copy
        stack.enter_context(Calls())
        machine = stack.enter_context(Machine(host_computes))
        stack.enter_context(patch.object(Machine, "running", machine))
        yield machine
