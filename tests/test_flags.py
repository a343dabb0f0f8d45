"""Flags: what the command line makes of arguments, of configs and of registries."""

import argparse
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, NamedTuple

import pytest

from plumbing.commands import Parser
from plumbing.flags import (
    add_entry_options,
    add_options,
    bind,
    complete_flags,
    flag,
    list_values,
    number,
    option,
    read_config,
    read_defaults,
    read_options,
    show_differences,
)
from plumbing.messages import InputError


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
    parser = Parser(prog="toy", allow_abbrev=False)
    add_options(parser, read_options(ToyConfig))
    add_entry_options(parser, toy=toys)
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
    config = read_config(ToyConfig, {"sizes": [3, 1], "count": 3, "depth": 0.1})
    assert config == ToyConfig(count=3, sizes=(3, 1), flags={"depth": 0.1})
    assert list_values(config) == {"toy": "plain", "count": 3, "limit": None, "rate": 0.5,
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
                 "--toy: all but plain: "
                 "--depth FLOAT how deep (default 0.5; shallow: 0.1)",
                 "--toy deeper: --path STR where --times INT how often (default 3)",
                 "--limit INT no limit unless set"):
        assert line in text, line
    assert "(default auto)" not in text and "default None" not in text


def test_number_bounds():
    """`least` and `most` may be reached, `above` may not."""
    parse_number = number(float, least=0, most=1)
    assert [parse_number(text) for text in ("0", "0.5", "1")] == [0, 0.5, 1]
    for kind, bounds, text in ((float, {"least": 0}, "-0.01"), (float, {"most": 1}, "1.01"),
                               (float, {"above": 2}, "2"), (int, {}, "2.0"), (float, {}, "nan"),
                               (float, {}, "inf"), (int, {"least": 3}, "2")):
        with pytest.raises(argparse.ArgumentTypeError):
            number(kind, **bounds)(text)
    assert number(float, above=2)("2.001") == 2.001
    for kind, bounds, text in ((float, {}, "1e31"), (float, {"least": 0}, "1e308"),
                               (int, {}, "9" * 30), (int, {"least": 0}, "9" * 5000)):
        with pytest.raises(argparse.ArgumentTypeError):      # torch could not hold it
            number(kind, **bounds)(text)
    assert number(float)("1e30") == 1e30 and number(int)("4" + "0" * 17) > 0
    assert type(number(int)("3")) is int


def test_bind():
    """Flags by name, what a run has likewise; a default stands in for what is not there."""
    assert bind(dig, {"depth": 0.2, "seed": 4})("x") == ("x", 0.2)
    assert bind(partial(dig, depth=0.1), {})("x") == ("x", 0.1)
    assert bind(dig_on, {"seed": 4, "times": 2})("x") == ("x", 4, 0.5, None, 2)
    with pytest.raises(TypeError, match="dig_on: seed is no flag, and no run has such a thing"):
        bind(dig_on, {"times": 2})


def test_what_is_bound_where_it_is_not_keyword_only():
    """Catches a flag that the command line takes and the function never gets."""
    def slide(ground, depth: Depth = 0.5):
        return depth
    assert bind(slide, {"depth": 0.2})("x") == 0.2


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
            read_options(function)
    with pytest.raises(ValueError, match="two flags are called depth"):
        read_options(dig, other)
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
            complete_flags(config, toy=(toys, [toy]))
            assert config.flags == expected


def test_an_option_of_two_registries_is_read_by_either():
    """Catches a flag that the loss does not read but the reward does, refused all the same."""
    losses, rewards = {"a": Entry((dig,)), "b": Entry()}, {"x": Entry((dig,)), "y": Entry()}
    complete_flags(ToyConfig(flags={"depth": 0.2}), toy=(losses, ["b"]),
                   rate=(rewards, ["y", "x"]))
    with pytest.raises(InputError, match="--depth: --toy"):
        complete_flags(ToyConfig(flags={"depth": 0.2}), toy=(losses, ["b"]),
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
            complete_flags(ToyConfig(toy=toy, flags=flags), toy=(toys, [toy]))


def test_help_has_groups_of_flags():
    """An option begins one, the next ones are in it; a long list of choices is no usage line."""
    @dataclass
    class Grouped:
        name: str = option("a", "which", choices=tuple("abcdef"), group="what")
        size: int = option(1, "how much")
        speed: int = option(1, "how fast", group="machine")

    parser = argparse.ArgumentParser(prog="toy")
    groups = add_options(parser, read_options(Grouped))
    assert list(groups) == ["what", "machine"]
    text = " ".join(parser.format_help().split())
    assert "what: --name STR which: a, b, c, d, e, f (default a) --size INT how much" in text
    assert text.endswith("machine: --speed INT how fast (default 1)")


@pytest.mark.parametrize("saved, now, same", [
    ({"count": 7}, {"count": 7}, True),
    ({"count": 8}, {"count": 7}, False),
    ({}, {"count": 7}, True),                       # from before the flag existed
    ({}, {"count": 8}, False),                      # and not taken for another value either
    ({"count": 8, "out": "a"}, {"count": 8}, True),  # what is not asked for does not matter
    ({"count": 7, "gone": 1}, {"count": 7}, True),
    (None, {"count": 7}, False)])
def test_same_flags(saved, now, same):
    said = show_differences(saved, now, read_defaults(ToyConfig))
    assert (said == "") is same and "--None" not in said
    if saved and not same:
        name = next(name for name in now if f"--{name} " in said)
        assert f"not {now[name]}" in said
