"""A command: its parser, and how it ends: an exit code, and one line where it is not 0."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Callable

from plumbing.machine import keep_settings
from plumbing.messages import InputError, WorkError
from plumbing.system import explain_error, open_streams, say

ROOT = Path(__file__).parents[1]


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


def list_written(*paths: Path) -> None:
    """What was written where: the files of one folder on one line."""
    folders = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        print(f"wrote {(folder / names[0]).as_posix()}{''.join(f', {name}' for name in names[1:])}")


def suggest(*commands: str, show: Callable[[str], None] = print) -> None:
    """What to do next, the last lines of a command, as it has to be typed in this folder.

    show: where to; `say` for a command whose output is data.
    """
    if Path.cwd() != ROOT:   # elsewhere `python -m` finds nothing of ours, and there is no train.sh
        program = shlex.quote((ROOT / "rlvr.py").as_posix())
        commands = [command.replace(" rlvr.py ", f" {program} ") for command in commands
                    if " -m " not in command and not command.startswith("./")]
    for i, command in enumerate(commands):
        show(f"{'' if i else 'next:':5s} {command}")


def run_command(prog: str, command: Callable[[], None], resumes: bool = False) -> int:
    """The exit code of a command: 0, or with one line 2 (bad input), 1 (failed), 130 (Ctrl-C).

    resumes: it saves what it has done, and goes on from there.
    """
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
            say("interrupted: what was done is saved, the same command resumes" if resumes
                else "interrupted")
            return 130
        except BrokenPipeError:  # whoever read our output has enough
            pass
        except OSError as error:  # a full disk, a folder that went away
            about = f"{error.filename}: " if error.filename else ""
            line = " ".join(f"{about}{explain_error(error)}".split())
            say(f"{prog}: {line}; what was saved before is whole")
        return 1
