"""What all else stands on: bad input as one line, flags, random streams, progress.

A registry is a dict of entries (data/corpus.py, losses.py, rewards.py). The flags of an entry are
the arguments of its `functions` that are annotated with one; those that every run has are the
options of a config, which keeps the former in its dict `flags`.
"""

import argparse
import os
import signal
import sys
import time
import zlib
from collections import Counter
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import Field, field, fields, is_dataclass
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Callable, Collection, Iterator, NamedTuple, get_args, get_origin

import numpy as np
import torch
from tqdm import tqdm

from data.limits import count_cores
from data.system import catch_signals, explain_error, open_streams, say


class InputError(ValueError):
    """Bad input of a user: one line, exit code 2. Any other exception is a bug: a traceback."""


class WorkError(RuntimeError):
    """Work that failed though the input was good: one line, exit code 1."""


# --- flags

class flag(NamedTuple):
    """Makes an argument a flag: `eps_low: Annotated[float, flag("lower clip", least=0)] = 0.4`."""

    help: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: Collection | None = None    # a tuple or a registry


def option(default, help: str, **checks) -> Any:
    """The same of a dataclass field: `eps_low: float = option(0.4, "lower clip", least=0)`."""
    return field(default=default, metadata={"flag": flag(help, **checks)})


class Option(NamedTuple):
    """A flag as the command line has it."""

    kind: Any        # such as float, or int | None; of a tuple it takes several words
    default: Any
    flag: flag


def find_flags(function: Callable) -> Iterator[tuple[str, Option]]:
    """The arguments of a function, or of a dataclass, that are flags."""
    if isinstance(function, type) and any(isinstance(x, Field) for x in vars(function).values()):
        raise ValueError(f"{function.__name__} has options, and is no @dataclass(kw_only=True)")
    of_fields = {f.name: f.metadata for f in fields(function)} if is_dataclass(function) else {}
    for name, argument in signature(function, eval_str=True).parameters.items():
        kind, said = argument.annotation, of_fields.get(name, {}).get("flag")
        if get_origin(kind) is Annotated:
            kind, said = get_args(kind)[:2]
        if isinstance(said, flag):
            if argument.default is Parameter.empty:
                raise ValueError(f"{function.__name__}: its flag {name} has no default")
            yield name, Option(kind, argument.default, said)


def read_options(*functions: Callable) -> dict[str, Option]:
    """The flags of what runs together, which must agree on each.

    Raises InputError where only their defaults differ, else ValueError.
    """
    options, owners = {}, {}
    for function in functions:
        for name, option in find_flags(function):
            first = options.setdefault(name, option)
            owner = owners.setdefault(name, function)
            if first._replace(default=option.default) != option:
                raise ValueError(f"two flags are called {name}: {first} and {option}")
            if first != option:
                raise InputError(f"--{name.replace('_', '-')}: {owner.__name__} has the default "
                                 f"{first.default}, {function.__name__} {option.default}: they "
                                 "cannot be together")
    return options


def read_defaults(*functions: Callable) -> dict[str, Any]:
    return {name: option.default for name, option in read_options(*functions).items()}


def bind(function: Callable, values: dict[str, Any]) -> Callable:
    """A function with its flags; a keyword-only argument that is none is what else a run has."""
    bound, flags = {}, dict(find_flags(function))
    for argument in signature(function).parameters.values():
        if argument.kind is Parameter.KEYWORD_ONLY or argument.name in flags:
            if argument.name in values:
                bound[argument.name] = values[argument.name]
            elif argument.default is Parameter.empty:
                raise TypeError(f"{function.__name__}: {argument.name} is no flag, and no run has "
                                "such a thing")
    return partial(function, **bound)


# The machine: flags that do not make a run another run, though sums are rounded in another order.
MACHINE = ("threads", "device", "micro_batch")
THREADS = option(None, "CPU threads (default: all cores that we may use; two runs at once: 1)",
                 least=1, most=1024)
DEVICE = option("auto", "auto takes a GPU if there is one",
                choices=("auto", "cpu", "cuda", "mps"))
DEFAULT_THREADS = torch.get_num_threads()  # another number later on is a caller's choice,
THREAD_VARIABLES = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}  # and so are these


def head_of(docstring: str | None) -> str:
    """What a program says of itself: nothing where Python has no docstrings (-OO)."""
    return (docstring or "").partition("\n")[0]


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, without the usage text."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def _print_message(self, message: str, file=None):
        """The help, which may end in a full disk, or the line of an error."""
        if file is sys.stderr:
            return say(message.rstrip("\n"))
        code = run_command(self.prog, lambda: print(message, end=""))
        if code:
            self.exit(code)


def number(kind: type, least=None, above=None, most=None) -> Callable[[str], float]:
    """An argparse type: an int or float within bounds, neither infinite nor NaN."""
    def parse_number(text: str):
        try:
            value = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        bounds = {f"at least {least}": least is None or value >= least,
                  f"above {above}": above is None or value > above,
                  f"at most {most}": most is None or value <= most,
                  "a number that torch holds": abs(value) <= (10**18 if kind is int else 1e30)}
        broken = [bound for bound, holds in bounds.items() if not holds]
        if broken:
            raise argparse.ArgumentTypeError(f"{text} is not {broken[0]}")
        return value
    return parse_number


def add_options(parser, options: dict[str, Option], fill: bool = True) -> None:
    """Flags for a parser, or for a group of one; what is not typed gets its default if `fill`."""
    for name, (kind, default, said) in options.items():
        kinds = kind, *get_args(kind)
        many = tuple in map(get_origin, kinds)
        plain = next(plain for plain in (int, float, str) if plain in kinds or many)
        text = said.help
        if default is not None and default != "auto":
            text += f" (default {' '.join(map(str, default)) if many else default})"
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name, nargs="+" if many else None,
            default=default if fill else argparse.SUPPRESS,
            choices=said.choices, help=text.replace("%", "%%"),
            type=str if plain is str else number(plain, said.least, said.above, said.most),
            metavar=None if said.choices and not many else plain.__name__.upper())


def add_entry_options(parser: argparse.ArgumentParser, **registries: dict) -> None:
    """The flags of entries, in groups of those that the same entries read.

    `registries` by the field that chooses from them. Raises ValueError where two entries mean
    different things by one name; their defaults may differ.
    """
    read = {}    # {flag: {(chooser, name of an entry): Option}}
    for chooser, registry in registries.items():
        for entry, record in registry.items():
            for name, option in read_options(*record.functions).items():
                read.setdefault(name, {})[chooser, entry] = option
    groups = {}
    for name, readers in read.items():
        option, *others = readers.values()
        if any(other._replace(default=option.default) != option for other in others):
            raise ValueError(f"two flags are called {name}: of {', '.join(e for _, e in readers)}")
        own = "".join(f"; {entry}: {other.default}" for (_, entry), other in readers.items()
                      if other.default != option.default)
        shown = option._replace(default=f"{option.default}{own}") if own else option
        groups.setdefault(tuple(readers), {})[name] = shown
    for readers, options in groups.items():
        chosen = {chooser: [entry for other, entry in readers if other == chooser]
                  for chooser, _ in readers}
        title = ", or ".join(f"--{chooser} {', '.join(names)}" for chooser, names in chosen.items())
        add_options(parser.add_argument_group(title), options, fill=False)


def list_readers(registry: dict, name: str) -> list[str]:
    """The names of the entries that read a flag."""
    return [entry for entry, record in registry.items() if name in read_options(*record.functions)]


def complete_flags(config, **chosen: tuple[dict, list[str]]) -> None:
    """Add to `config.flags` the defaults of the chosen entries; InputError for a flag none reads.

    `chosen` is {field by which they were chosen: (registry, names of its entries)}.
    """
    functions = [function for registry, names in chosen.values() for name in names
                 for function in registry[name].functions]
    read = read_options(type(config), *functions)   # together: a flag is no field
    for name in sorted(config.flags.keys() - read.keys()):
        for chooser, (registry, _) in chosen.items():
            if readers := list_readers(registry, name):
                raise InputError(f"--{name.replace('_', '-')}: --{chooser} "
                                 f"{getattr(config, chooser)} does not read it "
                                 f"(only {', '.join(readers)})")
        raise InputError(f"--{name.replace('_', '-')}: there is no such flag")
    config.flags = {name: config.flags.get(name, option.default) for name, option in read.items()
                    if name not in vars(config)}


def read_config(config: type, flags: dict[str, Any]):
    """The config of flags by name, those of entries in its `flags`; argparse makes lists of tuples.
    """
    values = {name: tuple(value) if isinstance(value, list) else value
              for name, value in flags.items()}
    own = {name: values.pop(name) for name in config.__dataclass_fields__ if name in values}
    return config(**own, **({"flags": values} if values else {}))


def list_values(config) -> dict[str, Any]:
    """Every flag that a run reads, by its name."""
    values = dict(vars(config))
    return values | values.pop("flags")


def same_flags(saved: dict | None, now: dict, defaults: dict) -> bool:
    """Whether a checkpoint was made with the flags `now`.

    A flag that did not exist yet when it was made counts as its default.
    """
    if saved is None:
        return False
    return now == {name: saved.get(name, defaults[name]) for name in now}


def run_command(prog: str, command: Callable[[], None]) -> int:
    """The exit code of a command: 0, or with one line 2 (bad input), 1 (failed), 130 (Ctrl-C)."""
    with open_streams(), keep_settings():
        try:
            command()
            sys.stdout.flush()
            return 0
        except InputError as error:
            say(f"{prog}: error: {explain_error(error)}")
            return 2
        except (FloatingPointError, WorkError) as error:
            say(f"{prog}: {explain_error(error)}")
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            say(f"{prog}: out of memory; what was saved before is whole")
        except KeyboardInterrupt:
            say("interrupted: what was done is saved, the same command resumes")
            return 130
        except BrokenPipeError:  # whoever read our output has enough
            pass
        except OSError as error:  # a full disk, a folder that went away
            about = f"{error.filename}: " if error.filename else ""
            line = " ".join(f"{about}{explain_error(error)}".split())
            say(f"{prog}: {line}; what was saved before is whole")
        return 1


# What notes have said in the work in progress; None outside of any, where each is said.
SAID: ContextVar[set[str] | None] = ContextVar("SAID", default=None)


def note(text: str) -> None:
    """A line on stderr, once a command or run, of what a reader of results would not think of."""
    said = SAID.get()
    if said is None or text not in said:
        say(f"note: {text}")
    if said is not None:
        said.add(text)


# --- random streams

# Every random number comes from a generator made of (purpose, seed, step ...). So no generator's
# state has to be saved for a resumed run to be the same, bit for bit on the same machine with the
# same --threads and --micro-batch, and two rewards with one seed see the same prompts.
(WEIGHTS, CORPUS, POOL, ORDER, SAMPLES, REWARD, SHUFFLE, LABELS, EVALUATION, HINT,
 SHOWN) = range(11)
MAX_SEED = 2**32 - 1  # one word of a key


def seed_stream(purpose: int, seed: int, *rest: int) -> np.random.SeedSequence:
    """The 1 at the end keeps keys of different lengths apart: numpy ignores zeros at the end."""
    return np.random.SeedSequence((purpose, seed, *rest, 1))


def hash_name(base: str) -> int:
    """A base's name, however it is given (good-code, runs/bases/good-code.pt), as part of a key."""
    return zlib.crc32(os.fsencode(Path(base.removesuffix(".pt")).name))


def numpy_rng(purpose: int, seed: int, *rest: int) -> np.random.Generator:
    return np.random.default_rng(seed_stream(purpose, seed, *rest))


def torch_rng(purpose: int, seed: int, *rest: int) -> torch.Generator:
    state = seed_stream(purpose, seed, *rest).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)  # torch takes a seed below 2^63


# --- the machine, and long work

@contextmanager
def keep_settings():
    """Torch as it is when it starts, but for its threads; then the caller's again.

    So no caller's `no_grad`, autocast, dtype or device for what is made changes a result. It is
    around a command, a run, a measurement: in the outermost a note is said once.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    said = SAID.set(set() if SAID.get() is None else SAID.get())
    torch.set_default_dtype(torch.float32)
    try:
        with (torch.device("cpu") if elsewhere else nullcontext(),
              torch.inference_mode(False), torch.autocast("cpu", enabled=False),
              torch.autocast("cuda", enabled=False), torch.random.fork_rng(devices=[])):
            yield
    finally:
        SAID.reset(said)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def choose_device(config) -> torch.device:
    """Set the threads and choose the device, as `config.threads` and `config.device` say."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(config.device, True):
        raise InputError(f"--device {config.device}: torch sees none here")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif not THREAD_VARIABLES & os.environ.keys():
        # torch does not ask what time a container gets: threads above that wait for each other.
        if torch.get_num_threads() == DEFAULT_THREADS > count_cores():
            torch.set_num_threads(count_cores())
    # Apple's GPU only if asked for: nothing here has been run on one yet.
    chosen = "cuda" if present["cuda"] else "cpu"
    return torch.device(chosen if config.device == "auto" else config.device)


def choose_micro_batch(config, device: torch.device, on_cpu: int) -> int:
    """Sequences in a forward pass: a CPU wants few, that fit its cache; a GPU many."""
    return config.micro_batch or (on_cpu if device.type == "cpu" else 512)


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on the device. A GPU copies pinned memory while the host goes on."""
    if device.type in ("cpu", "mps"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def describe_machine(config, device: torch.device, on_cpu: int) -> dict:
    """What the last bits of a result depend on, beside the flags that make a run what it is."""
    return {"threads": torch.get_num_threads(), "device": str(device),
            "micro_batch": choose_micro_batch(config, device, on_cpu),
            "torch": str(torch.__version__)}  # a class that a checkpoint refuses


def note_changes(before: dict, now: dict) -> None:
    """Say it where a resume is on another machine than what it goes on with.

    A number that was not recorded, as by an earlier release, says nothing.
    """
    changed = [f"{name} {before[name]} -> {value}" for name, value in now.items()
               if before.get(name) not in (None, value)]
    if changed:
        note(f"resumed with {', '.join(changed)}: sums are rounded in another order, so the result "
             "is that of an uninterrupted run to about 1e-7 a step, not bit for bit")


class Clock:
    """Seconds spent per stage: `lap(name)` books the time since the last lap."""

    def __init__(self, device: torch.device):
        self.device, self.booked, self.last = device, Counter(), time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.device.type == "mps":
            torch.mps.synchronize()
        now = time.perf_counter()
        self.booked[name] += now - self.last
        self.last = now


class LineWriter:
    """A stream on which a progress bar writes lines instead of moving: for logs.

    Work goes on where they cannot be written: a log is not the result.
    """

    def write(self, text: str) -> None:
        if text.strip():
            say(text.strip("\r\n"))

    def flush(self) -> None:
        pass  # each line is


def progress_bar(**options) -> tqdm:
    """A bar with what is left; where stderr is no terminal, a line every ten seconds."""
    if sys.stderr and sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(file=LineWriter(), mininterval=10, maxinterval=10, ascii=True, ncols=100, **options)


@contextmanager
def stop_signals():
    """Collect the first Ctrl-C, SIGTERM or SIGHUP in a list, so that a loop can save its step.

    The second acts at once.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])
        say("\nstopping after this step (again to stop at once)")

    with catch_signals(receive, "SIGINT", "SIGTERM", "SIGHUP") as previous:
        yield received
