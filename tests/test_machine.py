"""The machine: its device, and how much it takes at once."""

import threading
import types

import pytest
import torch

from plumbing import machine
from plumbing.messages import InputError


@pytest.mark.parametrize("device, gpu, apple, chosen", [
    ("auto", True, False, "cuda"), ("auto", False, False, "cpu"), ("auto", False, True, "cpu"),
    ("auto", True, True, "cuda"), ("cpu", True, True, "cpu"), ("cuda", True, False, "cuda"),
    ("mps", False, True, "mps"), ("mps", True, True, "mps")])
def test_choose_device(device, gpu, apple, chosen, monkeypatch):
    """Apple's GPU only if it is asked for."""
    threads = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for asked in (None, 3):
        wanted = types.SimpleNamespace(device=device, threads=asked)
        assert machine.choose_device(wanted) == torch.device(chosen)
    assert threads == [3]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_no_gpu_is_one_line(device, monkeypatch):
    """That the other kind is there does not help."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device != "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: device != "mps")
    with pytest.raises(InputError, match=f"^--device {device}: torch sees none here$"):
        machine.choose_device(types.SimpleNamespace(device=device, threads=None))


@pytest.mark.parametrize("asked, device, chosen", [
    (None, "cpu", 16), (None, "cuda", 512), (None, "mps", 512), (7, "cpu", 7), (7, "cuda", 7)])
def test_choose_micro_batch(asked, device, chosen):
    """What was asked for; else few on a CPU and many on a GPU."""
    config = types.SimpleNamespace(micro_batch=asked)
    assert machine.choose_micro_batch(config, torch.device(device), 16) == chosen
    assert machine.MACHINE == ("threads", "device", "micro_batch")


def test_calls_share_the_threads():
    """In the order of the calls whatever ends first; at once; each of them on one thread."""
    done = [threading.Event() for _ in range(4)]
    done[3].set()

    def call(i):
        assert done[i + 1].wait(20)     # the last call ends first, so all three are at work at once
        done[i].set()
        return i, torch.get_num_threads()

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with machine.share_threads(torch.device("cpu")) as spread:
            assert list(spread(call, range(3))) == [(0, 1), (1, 1), (2, 1)]
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError), machine.share_threads(torch.device("cpu")) as spread:
            list(spread(lambda i: 1 / i, range(3)))
        assert torch.get_num_threads() == 3
        with machine.share_threads(torch.device("meta")) as spread:
            assert spread is map
        torch.set_num_threads(1)
        with machine.share_threads(torch.device("cpu")) as spread:
            assert spread is map
    finally:
        torch.set_num_threads(threads)
