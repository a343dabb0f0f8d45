"""Which mistake a solution makes: the stored one that gives the same on every small input.

The wrong solutions are in course/exercises/mistakes, the inputs in probes.py. Where no stored one
gives the same, an input is said, what it should give, and what it gave.
"""

import ast
import math
import textwrap
from typing import Any, NamedTuple

from course.copies import ROOT, find_functions, replace_functions, split_lines
from course.exercises.catalog import EXERCISES
from course.exercises.probes import answer_probes, load_function
from plumbing.files import read_text

FOLDER = ROOT / "course/exercises/mistakes"


class Mistake(NamedTuple):
    name: str
    function: str   # FILE:FUNCTION that it stands in for
    said: str       # what a student who makes it is told
    source: str     # of the function, under the name that it replaces


def read_mistakes(exercise: str) -> list[Mistake]:
    """The wrong solutions of an exercise; none in a student's copy. They are read, not run."""
    path, mistakes = FOLDER / f"{exercise}.py", []
    text = read_text(path) if path.exists() else ""
    for name, node in find_functions(text).items():
        function = node.decorator_list[0].args[0].value          # @replaces("FILE:FUNCTION")
        lines = split_lines(text)[node.lineno - 1:node.end_lineno]
        short = function.split(":")[1].split(".")[-1]
        lines[0] = lines[0].replace(f"def {name}(", f"def {short}(")
        said = " ".join(ast.get_docstring(node).split())
        mistakes.append(Mistake(name, function, said, "".join(lines)))
    return mistakes


def plant_mistake(mistake: Mistake) -> str:
    """The project's file with the wrong solution in it."""
    file, name = mistake.function.split(":")
    source, owner = mistake.source, name.rpartition(".")[0]
    if owner:
        source = f"class {owner}:\n" + textwrap.indent(source, "    ")
    return replace_functions(read_text(ROOT / file), source, {name})


def isolate_functions(exercise: str, solution: dict[str, str]) -> dict[str, str]:
    """{FILE:FUNCTION: the solution's file, in which the exercise's other functions are ours}."""
    write, isolated = EXERCISES[exercise].write, {}
    for function in write:
        file, name = function.split(":")
        others = {other.split(":")[1] for other in write if other.startswith(f"{file}:")} - {name}
        there = others & find_functions(solution[file]).keys()
        isolated[function] = replace_functions(solution[file], read_text(ROOT / file), there)
    return isolated


def agree(a: Any, b: Any) -> bool:
    """Whether two answers are the same but for rounding; of two errors, their kinds."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(agree, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(agree(a[key], b[key]) for key in a)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a != a and b != b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(a, str) and isinstance(b, str):
        return a.split(":")[0] == b.split(":")[0]
    return a == b


def show_given(answer: Any) -> str:
    if isinstance(answer, list):
        return f"[{', '.join(map(show_given, answer))}]"
    if isinstance(answer, dict):
        return ", ".join(f"{name} {show_given(value)}" for name, value in answer.items())
    if isinstance(answer, float):
        return f"{answer:.4g}"
    return str(answer)


def judge_answers(found: list, expected: list, known: dict[str, list]) -> str | None:
    """The stored mistake (known: what is said of it -> its answers) that gives the same.

    Else the first input that gives something else than expected; None if there is none.
    """
    if agree(found, expected):
        return None
    if all(str(answer).startswith("NotImplementedError") for _, answer in found):
        return "it is not written"
    for said, answers in known.items():
        if agree(found, answers):
            return said
    asked, gives, wanted = next((asked, gives, wanted) for (asked, gives), (_, wanted)
                                in zip(found, expected) if not agree(gives, wanted))
    return f"{asked}: expected {show_given(wanted)}, found {show_given(gives)}"


def name_mistakes(exercise: str, answers: dict[str, list]) -> list[str]:
    """What is wrong with each function of a solution, by its answers, a sentence each."""
    stored, said = read_mistakes(exercise), []
    for function, found in answers.items():
        def give_answers(source, function=function):
            return answer_probes(function, load_function(function, source))
        known = {mistake.said: give_answers(plant_mistake(mistake)) for mistake in stored
                 if mistake.function == function}
        expected = give_answers(read_text(ROOT / function.split(":")[0]))
        verdict = judge_answers(found, expected, known)
        said += [f"{function.split(':')[1]}: {verdict}"] if verdict else []
    return said
