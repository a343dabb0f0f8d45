"""What a lesson says on its page and at the end of its command: few rows and one sentence.

A lesson's `summary(results)` makes it from the same rows as its `table`, which is the record of all
cells: what the page shows is what was measured.
"""

import re
from typing import NamedTuple

from lessons.report import align
from plumbing.messages import InputError

ROWS = 8  # more are for the record


class Summary(NamedTuple):
    """A table with its finding, as a reader meets it first."""

    title: str              # of the table: of what its numbers are
    rows: list[list[str]]   # the first one has the columns' names
    sentence: str           # what was found, with its uncertainty


def show_summary(summary: Summary) -> str:
    """For a terminal: title, aligned rows, the sentence."""
    return f"{summary.title}\n{align(summary.rows)}\n{summary.sentence}"


def write_markdown(summary: Summary) -> str:
    """For a page: the title in bold, then a Markdown table. The page has a sentence of its own.

    >>> print(write_markdown(Summary("Gain", [["base", "gain"], ["good-code", "1 -> 2"]], "So.")))
    **Gain**
    <BLANKLINE>
    | base | gain |
    |---|---|
    | good-code | 1 → 2 |
    """
    head, *rows = [f"| {' | '.join(row)} |".replace("->", "→") for row in summary.rows]
    return "\n".join([f"**{summary.title}**", "", head, "|---" * len(summary.rows[0]) + "|", *rows])


def replace_table(page: str, summary: Summary) -> str:
    """A page with the first titled table below `## The result` made anew. InputError without one.
    """
    new, count = re.subn(r"(## The result\n.*?)^\*\*[^\n]*\*\*\n\n(\|[^\n]*\n)*",
                         lambda match: f"{match[1]}{write_markdown(summary)}\n", page, count=1,
                         flags=re.DOTALL | re.MULTILINE)
    if not count:
        raise InputError("the page has no bold title of a table below '## The result'")
    return new
