"""The machine that a run is on: its threads and its device, and torch's settings on it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import torch

from plumbing.flags import option
from plumbing.limits import count_cores
from plumbing.messages import SAID, InputError, note

# Flags that do not make a run another run, though sums are rounded in another order.
MACHINE = ("threads", "device", "micro_batch")
THREADS = option(None, "CPU threads (default: all cores that we may use; two runs at once: 1)",
                 least=1, most=1024)
DEVICE = option("auto", "auto takes a GPU if there is one",
                choices=("auto", "cpu", "cuda", "mps"))
DEFAULT_THREADS = torch.get_num_threads()  # another number later on is a caller's choice,
THREAD_VARIABLES = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}  # and so are these


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


@contextmanager
def share_threads(device: torch.device):
    """Yields a `map` that makes its calls side by side, one on each of torch's threads.

    A call computes on one thread, so nothing depends on how many there are: where torch splits an
    operation among them, sums are rounded in another order. On a GPU it is the plain `map`.
    """
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    if device.type != "cpu" or threads == 1:
        yield map
        return
    # A thread of Python that computes lets others go on after 5 ms only: ten of our operations.
    sys.setswitchinterval(1e-4)
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(interval)


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
