"""What a user is told: bad input and failed work in one line, a note once."""

from contextvars import ContextVar

from plumbing.system import say


class InputError(ValueError):
    """Bad input of a user: one line, exit code 2. Any other exception is a bug: a traceback."""


class WorkError(RuntimeError):
    """Work that failed though the input was good: one line, exit code 1."""


# What notes have said in the work in progress; None outside of any, where each is said.
SAID: ContextVar[set[str] | None] = ContextVar("SAID", default=None)


def note(text: str) -> None:
    """A line on stderr, once a command or run, of what a reader of results would not think of."""
    said = SAID.get()
    if said is None or text not in said:
        say(f"note: {text}")
    if said is not None:
        said.add(text)
