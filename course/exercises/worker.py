"""The process that runs a student's code, and nothing else: it calls functions on request.

It stands in a bare folder with the project's modules, without answers, and the student's files. It
is started by door.py as a program of its own, takes its rights away (seal.py) and reads requests
until there are none: [function, arguments, keywords, gradients of its outputs or None, whether any
may be wanted]. An answer is {"result": ...} or {"error": [kind, message]}.

Who judges does not run here. So whatever code does in this process, replace torch's functions,
write to any stream, or end it, the worst that comes of it is a wrong answer.
"""

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":      # there is no site, which would find a checkout as well
    sys.path[:0] = [str(ROOT)]
    sys.path += sys.argv[1:]    # where torch is

import numpy as np  # noqa: E402
import torch  # noqa: E402

from course.exercises import seal, wire  # noqa: E402

MOST_TEXT = 300   # characters of an error that are passed on


def find_function(name: str):
    """The student's `lessons/bandit.py:weigh`, or a method."""
    file, path = name.split(":")
    found = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    for part in path.split("."):
        found = getattr(found, part)
    return found


def make_record(name: str, fields: dict):
    """One of the project's own types, which only come in requests."""
    import losses
    import model
    import rewards
    from data import task

    if name == "Generator":
        generator = np.random.default_rng(0)
        generator.bit_generator.state = fields["state"]
        return generator
    if name == "Transformer":
        return make_transformer(model, **fields)
    if name == "KVCache":
        cache = object.__new__(model.KVCache)
        vars(cache).update(fields)
        return cache
    types = {"Batch": losses.Batch, "Context": rewards.Context, "ModelConfig": model.ModelConfig,
             "Problem": task.Problem}
    return types[name](**fields)


def make_transformer(model, config, tensors: dict) -> torch.nn.Module:
    transformer = model.Transformer(config)
    for name, tensor in tensors.items():
        owner, _, last = name.rpartition(".")
        module = transformer.get_submodule(owner)
        known = module._parameters if last in module._parameters else module._buffers
        known[last] = tensor
    return transformer


def take_leaves(request: wire.Message) -> list[torch.Tensor]:
    """The tensors of a request: a parameter each where a gradient is asked for."""
    return [torch.nn.Parameter(leaf) if wanted else leaf
            for leaf, wanted in zip(request.leaves, request.differentiable)]


def call_function(name: str, arguments: list, keywords: dict) -> list:
    """What a function returns, and what its caches are after it."""
    result = find_function(name)(*arguments, **keywords)
    caches = [vars(argument) for argument in arguments if type(argument).__name__ == "KVCache"]
    return [result, caches]


def answer(request: wire.Message) -> wire.Message:
    inputs = take_leaves(request)
    asked = wire.rebuild_value(request.tree, inputs, make_record)
    name, arguments, keywords, gradients, differentiated = asked
    wanted = [leaf for leaf in inputs if isinstance(leaf, torch.nn.Parameter)]
    with torch.set_grad_enabled(differentiated):
        outputs = []
        tree = wire.flatten_value(call_function(name, arguments, keywords), outputs)
        if gradients is not None:
            differentiable = [output for output in outputs if output.requires_grad]
            found = torch.autograd.grad(differentiable, wanted, gradients, allow_unused=True)
            outputs = []
            tree = wire.flatten_value(list(found), outputs)
    return wire.Message({"dict": [["result", tree]]}, outputs,
                        [output.requires_grad for output in outputs])


def describe_error(error: BaseException) -> wire.Message:
    try:
        text = str(error)
    except BaseException:
        text = ""
    kind = type(error).__name__
    tree = {"dict": [["error", {"list": [str(kind), text[:MOST_TEXT]]}]]}
    return wire.Message(tree, [], [])


def take_streams():
    """Our ends of the pipes, under other numbers: what a student prints goes nowhere."""
    requests, answers = (os.fdopen(os.dup(number), mode)
                         for number, mode in ((0, "rb"), (1, "wb")))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return requests, answers


def list_readable() -> list[Path]:
    """Our folder, Python, torch, and the system's libraries: what an import may read."""
    import sysconfig

    python = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"),
              sysconfig.get_config_var("LIBDIR")]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", os.devnull,
              "/dev/urandom"]
    return [ROOT, *map(Path, filter(None, [*python, *sys.argv[1:], *system]))]


def main() -> None:
    requests, answers = take_streams()
    torch.set_num_threads(1)
    held_by = seal.seal_process(list_readable())
    wire.send(answers, wire.Message({"dict": [["result", held_by]]}, [], []))
    while True:
        try:
            request = wire.receive(requests)
        except wire.Ended:
            os._exit(0)
        seal.limit_seconds()
        try:
            reply = wire.pack(answer(request))
        except BaseException as error:   # sys.exit and Ctrl-C as well: an answer is owed
            reply = wire.pack(describe_error(error))
        answers.write(reply)
        answers.flush()


if __name__ == "__main__":
    main()
