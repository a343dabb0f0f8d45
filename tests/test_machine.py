"""The machine: its device, and how much it takes at once."""

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
