"""Dataclass fields as command-line flags, and one clear line for bad ones."""

import argparse
import math
from dataclasses import field, fields
from typing import Callable, get_args

from data.task import InputError


def option(default, help: str, **checks):
    """A dataclass field that becomes a flag. checks: `least`, `above`, `most` bound a number; `choices`; `many` for a list."""
    return field(default=default, metadata={"help": help, **checks})


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, without the usage text."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def number(kind: type, least: float | None = None, above: float | None = None, most: float | None = None):
    """An argparse type: a finite int or float within bounds."""
    def parse_number(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole number' if kind is int else 'a number'}") from None
        bounds = {f"at least {least}": least is None or value >= least, f"above {above}": above is None or value > above,
                  f"at most {most}": most is None or value <= most, "finite": math.isfinite(value)}
        broken = [bound for bound, holds in bounds.items() if not holds]
        if broken:
            raise argparse.ArgumentTypeError(f"{text} is not {broken[0]}")
        return value
    return parse_number


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """A flag for every field of a config dataclass."""
    for f in fields(config):
        checks, many = dict(f.metadata), f.metadata.get("many", False)
        kind = next(kind for kind in (int, float, str) if kind in (f.type, *get_args(f.type)) or many)
        text = checks.pop("help") + ("" if f.default is None or f.default == "auto" else f" (default {' '.join(map(str, f.default)) if many else f.default})")
        choices = checks.pop("choices", None)
        checks.pop("many", None)
        parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, default=f.default, choices=choices,
                            help=text.replace("%", "%%"), nargs="+" if many else None,
                            type=str if kind is str else number(kind, **checks),
                            metavar=None if choices and not many else kind.__name__.upper())


def lesson(name: str, about: str, main: Callable[..., None], **arguments: dict) -> None:
    """The command line of a lesson: main with positional arguments, each as argparse wants it, and `about` as its --help. Exits."""
    parser = Parser(prog=f"python -m lessons.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument, options in arguments.items():
        parser.add_argument(argument, **options)
    try:
        main(**vars(parser.parse_args()))
    except InputError as error:
        parser.error(str(error))
