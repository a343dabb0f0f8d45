"""What all else stands on: bad input as one line, flags, random streams, progress.

A registry is a dict of entries (data/corpus.py, losses.py, rewards.py). An entry's `options` are
the flags that only it, or only its like, reads: `extend_config` makes them fields of a config,
`refuse_unread` refuses them where another entry is chosen.
"""

import argparse
import os
import signal
import sys
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import Field, field, fields, make_dataclass
from pathlib import Path
from typing import Callable, get_args

import numpy as np
import torch
from tqdm import tqdm


class InputError(ValueError):
    """Bad input of a user: one line, exit code 2. Any other exception is a bug: a traceback."""


class WorkError(RuntimeError):
    """Work that failed though the input was good: one line, exit code 1."""


# --- flags

def option(default, help: str, **checks) -> Field:
    """A dataclass field that becomes a flag; among an entry's options its type is the default's.

    checks: `least`, `above`, `most` bound a number; `choices`, a tuple or a registry; `many` for a
    list.
    """
    return field(default=default, metadata={"help": help, **checks})


# The machine: flags that do not make a run another run.
MACHINE = ("threads", "device", "micro_batch")
THREADS = option(None, "CPU threads (default: all cores; two runs at once: 1)", least=1,
                 most=1024)
DEVICE = option("auto", "auto takes a GPU if there is one",
                choices=("auto", "cpu", "cuda", "mps"))


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, without the usage text."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


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


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """A flag for every field of a config dataclass."""
    for f in fields(config):
        checks = dict(f.metadata)
        many, choices = checks.pop("many", False), checks.pop("choices", None)
        text, read_by = checks.pop("help"), checks.pop("read_by", ())
        if f.default is not None and f.default != "auto":
            text += f" (default {' '.join(map(str, f.default)) if many else f.default})"
        if read_by:
            text += f"; read by {', '.join(read_by)}"
        kinds = (int,) if many else (f.type, *get_args(f.type))
        kind = next(kind for kind in (int, float, str) if kind in kinds)
        parser.add_argument(
            "--" + f.name.replace("_", "-"), dest=f.name, default=f.default, choices=choices,
            help=text.replace("%", "%%"), nargs="+" if many else None,
            type=str if kind is str else number(kind, **checks),
            metavar=None if choices and not many else kind.__name__.upper())


def read_config(config: type, args: argparse.Namespace):
    """The config of parsed flags; argparse makes lists, a config has tuples."""
    values = {f.name: getattr(args, f.name) for f in fields(config)}
    return config(**{name: tuple(value) if isinstance(value, list) else value
                     for name, value in values.items()})


def read_by(registry: dict, flag: str) -> list[str]:
    """The names of the entries that read a flag."""
    return [name for name, entry in registry.items() if flag in entry.options]


def extend_config(config: type, *registries: dict) -> type:
    """`config` with a field more for every option of an entry; its type is that of its default.

    Entries may share an option, which is then the same one. Raises ValueError where two options, or
    an option and a field, share nothing but their name.
    """
    known, extra, new = {f.name: f for f in fields(config)}, {}, []
    for entry in [entry for registry in registries for entry in registry.values()]:
        for flag, opt in entry.options.items():
            first = known.get(flag) or extra.setdefault(flag, opt)
            if first.metadata["help"] != opt.metadata["help"]:
                raise ValueError(f"another option or field is called {flag}")
    for flag, opt in extra.items():
        names = [name for registry in registries for name in read_by(registry, flag)]
        described = field(default=opt.default, metadata={**opt.metadata, "read_by": names})
        new.append((flag, str if opt.default is None else type(opt.default), described))
    return make_dataclass(config.__name__, new, bases=(config,))


def refuse_unread(config, **chosen: tuple[dict, list[str]]) -> None:
    """Raise InputError if a flag was set that none of the chosen entries reads.

    `chosen` is {field by which they were chosen: (registry, names of its entries)}.
    """
    heard = {flag for registry, names in chosen.values()
             for name in names for flag in registry[name].options}
    for chooser, (registry, _) in chosen.items():
        for flag in sorted({flag for entry in registry.values() for flag in entry.options} - heard):
            default = next(f.default for f in fields(config) if f.name == flag)
            if getattr(config, flag) != default:
                raise InputError(f"--{flag.replace('_', '-')}: --{chooser} "
                                 f"{getattr(config, chooser)} does not read it "
                                 f"(only {', '.join(read_by(registry, flag))})")


def same_flags(config, saved: dict | None, now: dict) -> bool:
    """Whether a checkpoint was made with the flags `now`.

    A flag that did not exist yet when it was made counts as its default.
    """
    if saved is None:
        return False
    return now == {f.name: saved.get(f.name, f.default) for f in fields(config) if f.name in now}


def run_command(prog: str, command: Callable[[], None]) -> int:
    """The exit code of a command: 0, or with one line 2 (bad input), 1 (failed), 130 (Ctrl-C)."""
    try:
        command()
        sys.stdout.flush()
    except InputError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (FloatingPointError, WorkError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print(f"{prog}: out of memory; what was saved before is whole", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was done is saved, the same command resumes", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that went away
        about = f"{error.filename}: " if error.filename else ""
        print(f"{prog}: {about}{error.strerror}; what was saved before is whole", file=sys.stderr)
        return 1
    return 0


# --- random streams

# Every random number comes from a generator made of (purpose, seed, step ...). So no generator's
# state has to be saved for a resumed run to be the same, and two rewards with one seed see the same
# prompts.
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
    return torch.Generator().manual_seed(int(state >> 1))


# --- the machine, and long work

def choose_device(config) -> torch.device:
    """Set the threads and choose the device, as `config.threads` and `config.device` say."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(config.device, True):
        raise InputError(f"--device {config.device}: torch sees none here")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
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
    """A stream on which a progress bar writes lines instead of moving: for logs."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self.stream.write(text.strip("\r\n") + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(**options) -> tqdm:
    """A bar with what is left; where stderr is no terminal, a line every ten seconds."""
    if sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(file=LineWriter(sys.stderr), mininterval=10, maxinterval=10, ascii=True, ncols=100,
                **options)


@contextmanager
def stop_signals():
    """Collect the first Ctrl-C, SIGTERM or SIGHUP in a list, so that a loop can save its step.

    The second acts at once.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])
        print("\nstopping after this step (again to stop at once)", file=sys.stderr)

    signals = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    previous = {number: signal.signal(number, receive) for number in signals}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
