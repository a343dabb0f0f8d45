"""Flags: which there are says the code that reads them, and a command line learns it from there.

A registry is a dict of entries (data/corpus.py, losses.py, rewards.py). The flags of an entry are
the arguments of its `functions` that are annotated with one; those that every run has are the
options of a config, which keeps the former in its dict `flags`.
"""

import argparse
from dataclasses import Field, field, fields, is_dataclass
from functools import partial
from inspect import Parameter, signature
from typing import Annotated, Any, Callable, Collection, Iterator, NamedTuple, get_args, get_origin

from plumbing.messages import InputError


class flag(NamedTuple):
    """Makes an argument a flag: `eps_low: Annotated[float, flag("lower clip", least=0)] = 0.4`."""

    help: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: Collection | None = None    # a tuple or a registry
    group: str | None = None             # begins one in --help, which goes on until the next


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


def add_options(parser, options: dict[str, Option], fill: bool = True) -> dict:
    """Flags for a parser, or for a group of one; what is not typed gets its default if `fill`.

    Returns the groups of the help, by their titles.
    """
    place, groups = parser, {}
    for name, (kind, default, said) in options.items():
        if said.group:
            place = groups[said.group] = parser.add_argument_group(said.group)
        kinds = kind, *get_args(kind)
        many = tuple in map(get_origin, kinds)
        plain = next(plain for plain in (int, float, str) if plain in kinds or many)
        listed = said.choices is not None and len(said.choices) > 5 and not many
        text = f"{said.help}: {', '.join(map(str, said.choices))}" if listed else said.help
        if default is not None and default != "auto":
            text += f" (default {' '.join(map(str, default)) if many else default})"
        place.add_argument(
            "--" + name.replace("_", "-"), dest=name, nargs="+" if many else None,
            default=default if fill else argparse.SUPPRESS,
            choices=said.choices, help=text.replace("%", "%%"),
            type=str if plain is str else number(plain, said.least, said.above, said.most),
            metavar=None if said.choices and not many | listed else plain.__name__.upper())
    return groups


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
        title = ", or ".join(
            name_readers(chooser, registry, [entry for other, entry in readers if other == chooser])
            for chooser, registry in registries.items() if chooser in dict(readers))
        add_options(parser.add_argument_group(title), options, fill=False)


def name_readers(chooser: str, registry: dict, entries: list[str]) -> str:
    """Which entries read a flag, as a title; of most of them the others are named."""
    others = [entry for entry in registry if entry not in entries]
    if 0 < len(others) < len(entries):
        return f"--{chooser}: all but {', '.join(others)}"
    return f"--{chooser} {', '.join(entries)}"


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


def show_differences(saved: dict | None, now: dict, defaults: dict) -> str:
    """In which flags a checkpoint differs from `now`: "" if in none. saved: None of a foreign one.

    A flag that did not exist yet when it was made counts as its default.
    """
    if saved is None:
        return "it says none"
    was = {name: saved.get(name, defaults[name]) for name in now}
    return ", ".join(f"--{name.replace('_', '-')} {was[name]}, not {value}"
                     for name, value in now.items() if was[name] != value)
