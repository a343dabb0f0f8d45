"""Flags, exit codes, random streams, the machine, signals, progress: what connects all else."""

import argparse
import errno
import io
import os
import signal
import sys
import types
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import pytest
import torch

from data import plumbing
from data.plumbing import InputError, flag, option
from tests.helpers import interrupt

# --- flags


class Entry(NamedTuple):
    functions: tuple = ()


Depth = Annotated[float, flag("how deep", least=0, most=1)]


def dig(ground, *, depth: Depth = 0.5):
    return ground, depth


def dig_on(ground, *, seed: int, depth: Depth = 0.5,
           path: Annotated[str | None, flag("where")] = None,
           times: Annotated[int, flag("how often", least=1)] = 3):
    return ground, seed, depth, path, times


TOYS = {"plain": Entry(), "deep": Entry((dig,)), "deeper": Entry((dig_on,))}


@dataclass
class ToyConfig:
    toy: str = option("plain", "which toy", choices=TOYS)
    count: int = option(7, "100% of them", least=1, most=9)
    limit: int | None = option(None, "no limit unless set", least=2)
    rate: float = option(0.5, "how fast", above=0)
    sizes: tuple[int, ...] = option((1, 2), "which sizes", choices=(1, 2, 3))
    out: str | None = option(None, "where to")
    device: str = option("auto", "what on", choices=("auto", "cpu"))
    flags: dict = field(default_factory=dict)


def build_parser(toys=TOYS):
    parser = plumbing.Parser(prog="toy", allow_abbrev=False)
    plumbing.add_options(parser, plumbing.read_options(ToyConfig))
    plumbing.add_entry_options(parser, toy=toys)
    return parser


def parse(*arguments):
    return vars(build_parser().parse_args(arguments))


def test_flags_of_a_config():
    """Types, defaults and lists, one flag a field, underscores as hyphens."""
    defaults = {"toy": "plain", "count": 7, "limit": None, "rate": 0.5, "sizes": (1, 2),
                "out": None, "device": "auto"}
    assert parse() == defaults
    given = parse(*"--toy deep --count 9 --limit 2 --rate 1e9 --sizes 3 1 --out 12 "
                              "--device cpu".split())
    assert given == {"toy": "deep", "count": 9, "limit": 2, "rate": 1e9, "sizes": [3, 1],
                     "out": "12", "device": "cpu"}
    assert type(given["count"]) is int and type(given["rate"]) is float
    assert parse("--times", "4") == defaults | {"times": 4}       # an entry's only if typed


def test_read_config():
    """Lists become tuples; what is no field of the config is a flag of an entry."""
    config = plumbing.read_config(ToyConfig, {"sizes": [3, 1], "count": 3, "depth": 0.1})
    assert config == ToyConfig(count=3, sizes=(3, 1), flags={"depth": 0.1})
    assert plumbing.list_values(config) == {"toy": "plain", "count": 3, "limit": None, "rate": 0.5,
                                            "sizes": (3, 1), "out": None, "device": "auto",
                                            "depth": 0.1}


@pytest.mark.parametrize("text, complaint", [
    ("--count 0", "0 is not at least 1"), ("--count 10", "10 is not at most 9"),
    ("--count 1.5", "'1.5' is not a whole number"), ("--rate 0", "0 is not above 0"),
    ("--rate fast", "'fast' is not a number"),
    ("--rate inf", "inf is not a number that torch holds"),
    ("--rate nan", "nan is not above 0"), ("--limit 1", "1 is not at least 2"),
    ("--sizes 4", "invalid choice: 4"), ("--sizes", "expected at least one"),
    ("--toy ball", "invalid choice: 'ball'"), ("--device gpu", "invalid choice: 'gpu'"),
    ("--coun 3", "unrecognized arguments")])
def test_bad_flags_are_one_line(text, complaint, capsys):
    with pytest.raises(SystemExit) as exit:
        parse(*text.split())
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert error.startswith("toy: error: ") and complaint in error


def test_help_says_defaults_and_readers():
    """An entry's default of its own is said beside that of its like."""
    toys = TOYS | {"shallow": Entry((partial(dig, depth=0.1),))}
    text = " ".join(build_parser(toys).format_help().split())
    for line in ("--count INT 100% of them (default 7)",
                 "--toy {plain,deep,deeper} which toy (default plain)",
                 "--sizes INT [INT ...] which sizes (default 1 2)",
                 "--rate FLOAT how fast (default 0.5)", "--out STR where to",
                 "--toy deep, deeper, shallow: "
                 "--depth FLOAT how deep (default 0.5; shallow: 0.1)",
                 "--toy deeper: --path STR where --times INT how often (default 3)",
                 "--limit INT no limit unless set"):
        assert line in text, line
    assert "(default auto)" not in text and "default None" not in text


def test_number_bounds():
    """`least` and `most` may be reached, `above` may not."""
    parse_number = plumbing.number(float, least=0, most=1)
    assert [parse_number(text) for text in ("0", "0.5", "1")] == [0, 0.5, 1]
    for kind, bounds, text in ((float, {"least": 0}, "-0.01"), (float, {"most": 1}, "1.01"),
                               (float, {"above": 2}, "2"), (int, {}, "2.0"), (float, {}, "nan"),
                               (float, {}, "inf"), (int, {"least": 3}, "2")):
        with pytest.raises(argparse.ArgumentTypeError):
            plumbing.number(kind, **bounds)(text)
    assert plumbing.number(float, above=2)("2.001") == 2.001
    for kind, bounds, text in ((float, {}, "1e31"), (float, {"least": 0}, "1e308"),
                               (int, {}, "9" * 30), (int, {"least": 0}, "9" * 5000)):
        with pytest.raises(argparse.ArgumentTypeError):      # torch could not hold it
            plumbing.number(kind, **bounds)(text)
    assert plumbing.number(float)("1e30") == 1e30 and plumbing.number(int)("4" + "0" * 17) > 0
    assert type(plumbing.number(int)("3")) is int


def test_bind():
    """Flags by name, what a run has likewise; a default stands in for what is not there."""
    assert plumbing.bind(dig, {"depth": 0.2, "seed": 4})("x") == ("x", 0.2)
    assert plumbing.bind(partial(dig, depth=0.1), {})("x") == ("x", 0.1)
    assert plumbing.bind(dig_on, {"seed": 4, "times": 2})("x") == ("x", 4, 0.5, None, 2)
    with pytest.raises(TypeError, match="dig_on: seed is no flag, and no run has such a thing"):
        plumbing.bind(dig_on, {"times": 2})


def test_what_is_bound_where_it_is_not_keyword_only():
    """Catches a flag that the command line takes and the function never gets."""
    def slide(ground, depth: Depth = 0.5):
        return depth
    assert plumbing.bind(slide, {"depth": 0.2})("x") == 0.2


def test_flags_that_cannot_be():
    """At once: no default; another flag of that name; options of what is no dataclass."""
    def bare(ground, *, depth: Depth):
        return depth

    def other(ground, *, depth: Annotated[float, flag("another", least=0)] = 0.5):
        return depth

    class Plain:
        depth: float = option(0.5, "how deep")

    for function, complaint in ((bare, "bare: its flag depth has no default"),
                                (Plain, r"Plain has options, and is no @dataclass")):
        with pytest.raises(ValueError, match=complaint):
            plumbing.read_options(function)
    with pytest.raises(ValueError, match="two flags are called depth"):
        plumbing.read_options(dig, other)
    with pytest.raises(ValueError, match="two flags are called depth: of deep, deeper, other"):
        build_parser(TOYS | {"other": Entry((other,))})


def test_complete_flags():
    """The defaults of the chosen entry and of no other; what is set stays; each entry its own."""
    toys = TOYS | {"shallow": Entry((partial(dig, depth=0.1),))}
    for toy, given, expected in (
            ("plain", {}, {}), ("deep", {}, {"depth": 0.5}), ("shallow", {}, {"depth": 0.1}),
            ("shallow", {"depth": 0.5}, {"depth": 0.5}),
            ("deeper", {"times": 4}, {"depth": 0.5, "path": None, "times": 4})):
        config = ToyConfig(toy=toy, flags=given)
        for _ in range(2):
            plumbing.complete_flags(config, toy=(toys, [toy]))
            assert config.flags == expected


def test_an_option_of_two_registries_is_read_by_either():
    """Catches a flag that the loss does not read but the reward does, refused all the same."""
    losses, rewards = {"a": Entry((dig,)), "b": Entry()}, {"x": Entry((dig,)), "y": Entry()}
    plumbing.complete_flags(ToyConfig(flags={"depth": 0.2}), toy=(losses, ["b"]),
                            rate=(rewards, ["y", "x"]))
    with pytest.raises(InputError, match="--depth: --toy"):
        plumbing.complete_flags(ToyConfig(flags={"depth": 0.2}), toy=(losses, ["b"]),
                                rate=(rewards, ["y"]))


def test_flags_that_nothing_reads_are_refused():
    """By name, whatever their value; with hyphens."""
    def walk(ground, *, two_words: Annotated[int, flag("x")] = 1):
        return two_words
    toys = TOYS | {"walk": Entry((walk,))}
    for toy, flags, complaint in (
            ("plain", {"depth": 0.1},
             r"^--depth: --toy plain does not read it \(only deep, deeper\)"),
            ("plain", {"depth": 0.5}, "^--depth: "),
            ("deep", {"times": 4}, r"^--times: --toy deep does not read it \(only deeper\)"),
            ("deep", {"two_words": 4}, "^--two-words: "),
            ("deep", {"dpth": 4}, "^--dpth: there is no such flag")):
        with pytest.raises(InputError, match=complaint):
            plumbing.complete_flags(ToyConfig(toy=toy, flags=flags), toy=(toys, [toy]))


@pytest.mark.parametrize("saved, now, same", [
    ({"count": 7}, {"count": 7}, True),
    ({"count": 8}, {"count": 7}, False),
    ({}, {"count": 7}, True),                       # from before the flag existed
    ({}, {"count": 8}, False),                      # and not taken for another value either
    ({"count": 8, "out": "a"}, {"count": 8}, True),  # what is not asked for does not matter
    ({"count": 7, "gone": 1}, {"count": 7}, True),
    (None, {"count": 7}, False)])
def test_same_flags(saved, now, same):
    assert plumbing.same_flags(saved, now, plumbing.read_defaults(ToyConfig)) is same


@pytest.mark.parametrize("error, code, line", [
    (None, 0, ""), (InputError("bad thing"), 2, "toy: error: bad thing\n"),
    (FloatingPointError("diverged"), 1, "toy: diverged\n"),
    (plumbing.WorkError("a run failed"), 1, "toy: a run failed\n"),
    (KeyboardInterrupt(), 130,
     "interrupted: what was done is saved, the same command resumes\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 1,
     "toy: No space left on device; what was saved before is whole\n"),
    (PermissionError(errno.EACCES, "Permission denied", "run/model.pt"), 1,
     "toy: run/model.pt: Permission denied; what was saved before is whole\n")])
def test_exit_codes(error, code, line, capsys):
    def command():
        if error is not None:
            raise error
    assert plumbing.run_command("toy", command) == code
    captured = capsys.readouterr()
    assert captured.err == line and captured.out == ""


def test_bad_input_is_one_line_whatever_is_in_it(capsys):
    """A name that a user typed may have line breaks."""
    def command():
        raise InputError("no file a\nb\r\nc")

    assert plumbing.run_command("toy", command) == 2
    assert capsys.readouterr().err == "toy: error: no file a b c\n"


def test_what_is_printed_has_arrived(monkeypatch, capsys):
    """Catches exit code 0 where the disk was full when the output was to be written at last."""
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert plumbing.run_command("toy", lambda: print("result")) == 1
    monkeypatch.undo()
    assert "No space left" in capsys.readouterr().err


def test_a_reader_that_has_enough(monkeypatch):
    """`evaluate ... | head` ends without a traceback; what is left goes to the void."""
    replaced = []

    def command():
        raise BrokenPipeError

    with monkeypatch.context() as patch:               # pytest itself needs dup2 after the test
        patch.setattr(os, "dup2", lambda source, target: (replaced.append(target),
                                                          os.close(source)))
        patch.setattr(sys, "stdout", types.SimpleNamespace(fileno=lambda: 77))
        code = plumbing.run_command("toy", command)
    assert code == 1 and replaced == [77]


def test_a_bug_is_a_traceback():
    """Catches an InputError so wide that it hides bugs: a plain ValueError is none."""
    with pytest.raises(ValueError):
        plumbing.run_command("toy", lambda: int("x"))


# --- random streams


def test_purposes_are_distinct():
    purposes = [getattr(plumbing, name) for name in (
        "WEIGHTS", "CORPUS", "POOL", "ORDER", "SAMPLES", "REWARD", "SHUFFLE", "LABELS",
        "EVALUATION", "HINT", "SHOWN")]
    assert len(set(purposes)) == len(purposes)
    assert plumbing.MAX_SEED == 2 ** 32 - 1


def test_no_two_streams_meet():
    """All keys of two to four words over some ranges, zeros at the end too, and the extremes.

    Catches (4, 8) and (4, 8, 0), which numpy takes for the same: the run of seed 8 once drew what
    the evaluation did.
    """
    words = (0, 1, 2, 8)
    keys = [(purpose, seed) for purpose in range(9) for seed in (*range(40), plumbing.MAX_SEED)]
    keys += [(purpose, seed, step) for purpose in range(9) for seed in words
             for step in range(40)]
    keys += [(purpose, seed, a, b) for purpose in range(9) for seed in words for a in words
             for b in words]
    for rng in (lambda key: plumbing.numpy_rng(*key).integers(2 ** 63, size=2).tolist(),
                lambda key: torch.randint(2 ** 62, (2,), generator=plumbing.torch_rng(*key))
                .tolist()):
        first = [tuple(rng(key)) for key in keys]
        assert len(set(first)) == len(set(keys)) == len(keys)


def test_streams_repeat():
    for _ in range(2):
        assert plumbing.numpy_rng(3, 1, 2).random() == plumbing.numpy_rng(3, 1, 2).random()
        a, b = (torch.rand(3, generator=plumbing.torch_rng(3, 1, 2)) for _ in range(2))
        assert torch.equal(a, b)


def test_the_name_of_a_base_is_part_of_a_key():
    """The same however it is given; two bases have different ones; pinned, as results rest on it.

    A name may be whatever a file may be called, bytes that are no text too.
    """
    given = ("good-code", "good-code.pt", "runs/bases/good-code.pt", "/else/where/good-code.pt")
    assert {plumbing.hash_name(name) for name in given} == {zlib.crc32(b"good-code")}
    others = ("no-code", "bad-code", "good-code.pt.pt", "good-code/model.pt", "other.model.pt",
              "\udcff.pt", "")
    assert len({plumbing.hash_name(name) for name in (*others, "good-code")}) == len(others) + 1
    assert all(0 <= plumbing.hash_name(name) < 2 ** 32 for name in others)


# --- the machine, and long work


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
        assert plumbing.choose_device(wanted) == torch.device(chosen)
    assert threads == [3]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_no_gpu_is_one_line(device, monkeypatch):
    """That the other kind is there does not help."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device != "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: device != "mps")
    with pytest.raises(InputError, match=f"^--device {device}: torch sees none here$"):
        plumbing.choose_device(types.SimpleNamespace(device=device, threads=None))


@pytest.mark.parametrize("asked, device, chosen", [
    (None, "cpu", 16), (None, "cuda", 512), (None, "mps", 512), (7, "cpu", 7), (7, "cuda", 7)])
def test_choose_micro_batch(asked, device, chosen):
    """What was asked for; else few on a CPU and many on a GPU."""
    config = types.SimpleNamespace(micro_batch=asked)
    assert plumbing.choose_micro_batch(config, torch.device(device), 16) == chosen
    assert plumbing.MACHINE == ("threads", "device", "micro_batch")


def test_clock(monkeypatch):
    """A lap books what passed since the last one, and adds up under a name."""
    now = iter([10.0, 11.0, 14.0, 14.5])
    monkeypatch.setattr(plumbing.time, "perf_counter", lambda: next(now))
    clock = plumbing.Clock(torch.device("cpu"))
    for name in ("rollout", "update", "rollout"):
        clock.lap(name)
    assert clock.booked == {"rollout": 1.5, "update": 3.0}


@pytest.mark.parametrize("device, waited", [("cpu", 0), ("cuda", 2)])
def test_the_clock_waits_for_a_gpu(device, waited, monkeypatch):
    """Catches the seconds of one stage booked on the next: a GPU works on after a call returns."""
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append(1))
    clock = plumbing.Clock(torch.device(device))
    clock.lap("a")
    clock.lap("b")
    assert len(calls) == waited


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bar(terminal, monkeypatch):
    """In a log it writes whole lines of ASCII, and not many; on a terminal it moves."""
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with plumbing.progress_bar(total=50, desc="toy", initial=10) as bar:
        assert (bar.total, bar.n, bar.desc) == (50, 10, "toy")
        assert (bar.mininterval == 0.1) if terminal else (bar.mininterval >= 5)
        for _ in range(40):
            bar.update()
    assert list(plumbing.progress_bar(iterable=range(3), leave=False)) == [0, 1, 2]
    text = stream.getvalue()
    assert "toy" in text and "50/50" in text
    assert ("\r" in text) == terminal
    if not terminal:
        assert text.isascii() and text.endswith("\n") and 2 <= text.count("\n") <= 4
        assert all(line.strip() for line in text.splitlines())


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_stop_signals(number, capsys):
    """The first is collected, the second acts as it did before; after the block all do."""
    acted = []
    before = {n: signal.getsignal(n) for n in SIGNALS}
    mine = {n: lambda n, frame: acted.append(n) for n in before}
    try:
        for n, handler in mine.items():
            signal.signal(n, handler)
        with plumbing.stop_signals() as stopped:
            assert not stopped
            interrupt(number)
            assert stopped == [number] and not acted
            interrupt(number)
            assert stopped == [number] and acted == [number]
        assert all(signal.getsignal(n) is mine[n] for n in mine)
        with pytest.raises(RuntimeError), plumbing.stop_signals():
            raise RuntimeError
        assert all(signal.getsignal(n) is mine[n] for n in mine)
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert capsys.readouterr().err.count("stopping after this step") == 1


def test_numbers_of_a_stream_are_pinned():
    """Results in the README rest on them: another stream is another table."""
    key = np.random.SeedSequence((4, 1, 2, 1))
    expected = np.random.default_rng(key).random(2)
    assert np.array_equal(plumbing.numpy_rng(4, 1, 2).random(2), expected)
    state = int(key.generate_state(1, np.uint64)[0] >> np.uint64(1))
    expected = torch.rand(2, generator=torch.Generator().manual_seed(state))
    assert torch.equal(torch.rand(2, generator=plumbing.torch_rng(4, 1, 2)), expected)
