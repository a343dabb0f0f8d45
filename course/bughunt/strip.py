"""Take the words out of a source, so that no docstring beside a wrong line says what is right.

The same is done to all functions of a fixed list of files, in every copy: where words are missing
says nothing about where the bug is.
"""

import ast
import io
import re
import tokenize

from course.copies import split_lines

# Every bug that is dealt out is in one of these.
STRIPPED = ("data/answers.py", "evaluation.py", "losses.py", "measures.py", "model.py",
            "rewards.py", "rlvr.py", "run.py")
SHAPE = re.compile(r"#[\s(]*[A-Z0-9][A-Z0-9, /*+()-]*( each)?$")   # such as "# (P, G)"
SOURCE = re.compile(r"\(([^()]*\d{4}\.\d{5}[^()]*)\)")             # such as "(PPO, 1707.06347)"


def strip_words(source: str) -> str:
    """Without the docstrings of classes and functions, and without the comments in functions.

    What stays: the paper that a docstring names, and comments that are a shape.
    """
    lines, tree = split_lines(source), ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {row for node in functions for row in range(node.lineno, node.end_lineno + 1)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.start[0] in inside:
            if not SHAPE.match(token.string):
                row, column = token.start
                before = lines[row - 1][:column].rstrip()
                lines[row - 1] = before + "\n" if before else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            strip_docstring(node, lines)
    return "".join(lines)


def strip_docstring(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> None:
    """Put the paper that it names in the place of a docstring, or nothing."""
    text, first = ast.get_docstring(node), node.body[0]
    if text is None or len(node.body) == 1:   # a body that is a docstring alone has to stay
        return
    found = SOURCE.search(" ".join(text.split()))
    kept = [f'{" " * first.col_offset}"""See {found[1]}."""\n'] if found else []
    rows = slice(first.lineno - 1, first.end_lineno)
    lines[rows] = kept + [""] * (rows.stop - rows.start - len(kept))
    if not kept and lines[rows.stop:] and not lines[rows.stop].strip():   # the line below it
        lines[rows.stop] = ""


def strip_comment(line: str) -> str:
    """A line of code as `strip_words` leaves it."""
    code, mark, comment = line.partition("  #")
    return code.rstrip() if mark and not SHAPE.match("#" + comment) else line
