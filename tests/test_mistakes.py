"""Wrong solutions of the exercises: they lose points, and what is said names the mistake."""

import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from course import copies
from course.bughunt.__main__ import find_line, mutate, name_function
from course.bughunt.mutants import MUTANTS
from course.exercises import __main__ as exercises
from course.exercises.catalog import EXERCISES
from course.exercises.names import (
    isolate_functions,
    judge_answers,
    name_mistakes,
    plant_mistake,
    read_mistakes,
)
from course.exercises.probes import PROBES, answer_probes, load_function
from tests.helpers import call

ROOT = copies.ROOT
STORED = {name: read_mistakes(name) for name in EXERCISES}
OWNERS = {function: name for name, exercise in EXERCISES.items() for function in exercise.write}


def read_project(function: str) -> str:
    """The file of FILE:FUNCTION."""
    return (ROOT / function.split(":")[0]).read_text("utf-8")


def answer(function: str, source: str) -> list:
    return answer_probes(function, load_function(function, source))


def explain(exercise: str, source: str) -> list[str]:
    """What is said of a solution, all of which is in one file."""
    file, = {function.split(":")[0] for function in EXERCISES[exercise].write}
    isolated = isolate_functions(exercise, {file: source})
    return name_mistakes(exercise, {function: answer(function, alone)
                                    for function, alone in isolated.items()})


# --- the store

def test_every_exercise_has_wrong_solutions():
    """Five at least, of every function of it one; each is told something of its own, and short."""
    for name, mistakes in STORED.items():
        assert len(mistakes) >= 5
        assert {mistake.function for mistake in mistakes} == set(EXERCISES[name].write)
    said = [(mistake.function, mistake.said) for mistakes in STORED.values()
            for mistake in mistakes]
    assert len(set(said)) == len(said) and max(len(text) for _, text in said) <= 170
    assert f"{len(said)} stored [wrong solutions]" in (
        ROOT / "course/exercises/README.md").read_text("utf-8")


def test_no_copy_has_them():
    """Neither they nor this file are in what `new` hands out, or in a bug hunt."""
    there = {path.as_posix() for path in copies.list_files()}
    assert "course/exercises/clip.md" in there and "tests/test_losses.py" in there
    assert not {path for path in there if "mistakes" in path}


# --- names

@pytest.mark.parametrize("function", OWNERS)
def test_each_mistake_is_named(function):
    """By what it gives on small inputs; the project's own function is not blamed.

    Catches inputs on which two mistakes, or one and the truth, are the same.
    """
    expected = answer(function, read_project(function))
    known = {mistake.said: answer(function, plant_mistake(mistake))
             for mistake in STORED[OWNERS[function]] if mistake.function == function}
    assert judge_answers(expected, expected, known) is None
    for said, found in known.items():
        assert judge_answers(found, expected, known) == said
        asked = judge_answers(found, expected, {})       # as if it were unknown
        assert re.search(": expected .*, found ", asked) and len(PROBES[function]) == len(found)


def test_what_is_said_of_answers():
    """Rounding is no difference, NaN is itself, an error is known by its kind; no guess."""
    truth = [["a", 1.0], ["b", [float("nan"), 0.0]], ["c", "ValueError: one"]]
    same = [["a", 1 + 1e-9], ["b", [float("nan"), 1e-17]], ["c", "ValueError: two"]]
    assert judge_answers(same, truth, {"wrong": same}) is None
    other = [truth[0], ["b", [1.0, 0.12345]], truth[2]]
    assert judge_answers(other, truth, {"wrong": other}) == "wrong"
    assert judge_answers(other, truth, {"wrong": [["a", 2.0], *truth[1:]]}) == (
        "b: expected [nan, 0], found [1, 0.1235]")
    gone = [[asked, "NotImplementedError: "] for asked, _ in truth]
    assert judge_answers(gone, truth, {}) == "it is not written"


def test_a_solution_is_explained():
    """Known, unknown and missing."""
    source = copies.empty_functions((ROOT / "losses.py").read_text("utf-8"), {"dr_grpo"})
    for ours, theirs in (("std(dim=1, correction=0, keepdim=True)", "std(dim=1, keepdim=True)"),
                         ("center_rewards(batch.rewards) * G / (G - 1)", "help_out(batch) + 1")):
        assert source.count(ours) == 1
        source = source.replace(ours, theirs)
    source += "\n\ndef help_out(batch):\n    return 0 * batch.rewards\n"
    assert explain("advantages", source) == [
        "grpo: The std is that of a sample, over G - 1. GRPO's is that of the group, over G.",
        "dr_grpo: it is not written",
        "rloo: rewards [[0.0, 1.0, 1.0, 0.0], [3.0, 1.0, 0.0, 0.0]]: expected [[-0.6667], "
        "[0.6667], [0.6667], [-0.6667], [2.667], [0], [-1.333], [-1.333]], found [[1], [1], [1], "
        "[1], [1], [1], [1], [1]]"]


def test_who_calls_another_is_not_blamed():
    """A function is asked beside the project's own: a wrong mean is said once, not of three."""
    wrong = next(mistake for mistake in STORED["advantages"]
                 if mistake.name == "center_in_the_batch")
    assert explain("advantages", plant_mistake(wrong)) == [f"center_rewards: {wrong.said}"]


def test_whoever_answers_may_be_asked():
    """`name_mistakes` takes answers, wherever the function ran."""
    function = "evaluation.py:pass_at_k"
    found = answer_probes(function, lambda n, c, k: 0.5)
    assert name_mistakes("pass_at_k", {function: found}) == [
        "pass_at_k: n = 4, c = 1, k = 1: expected 0.25, found 0.5"]


# --- points

def lose_points(name: str, file: str, source: str) -> bool:
    """Whether a check of an exercise fails where one file is another."""
    tests = [f"tests/{check.test}" for check in EXERCISES[name].checks]
    done = copies.run_tests({file: source}, ["-x", *tests], results=False)
    return done.returncode == 1 and re.search("1 failed", done.stdout) is not None


def find_survivors(cases: dict[str, tuple[str, str, str]]) -> list[str]:
    """Those of {label: what `lose_points` takes} that have full marks."""
    with ThreadPoolExecutor(2) as pool:
        lost = list(pool.map(lambda case: lose_points(*case), cases.values()))
    return [label for label, loses in zip(cases, lost) if not loses]


def list_mutants() -> dict[str, tuple[str, str, str]]:
    """The mutants of the bug hunt whose line is in a function that is to be written."""
    cases = {}
    for mutant in MUTANTS:
        source = (ROOT / mutant.file).read_text("utf-8")
        function = f"{mutant.file}:{name_function(source, find_line(source, mutant.old))}"
        if function in OWNERS:
            cases[mutant.name] = OWNERS[function], mutant.file, mutate(source, mutant)
    return cases


def list_mistakes() -> dict[str, tuple[str, str, str]]:
    return {f"{name}: {mistake.name}": (name, mistake.function.split(":")[0],
                                        plant_mistake(mistake))
            for name, mistakes in STORED.items() for mistake in mistakes}


def test_there_are_mutants_in_exercises():
    """Catches a list that is empty since a function has another name."""
    assert len(list_mutants()) >= 20


@pytest.mark.parametrize("cases", [list_mutants, list_mistakes])
@pytest.mark.parametrize("share", [pytest.param(0.04, marks=pytest.mark.slow),
                                   pytest.param(1.0, marks=pytest.mark.full)])
def test_wrong_loses_points(share, cases):
    """Of the exercise that has the function. Slow: a sample, others each time; full: all."""
    found = cases()
    chosen = random.SystemRandom().sample(sorted(found), max(2, int(share * len(found))))
    assert find_survivors({label: found[label] for label in chosen}) == []


@pytest.mark.slow
def test_grade_says_the_mistake(tmp_path, capsys):
    """Of one stored solution, any: what is printed names that one, and points are lost."""
    name = random.SystemRandom().choice(sorted(STORED))
    mistake = random.SystemRandom().choice(STORED[name])
    file, function = mistake.function.split(":")
    folder = tmp_path / "mine"
    assert call(exercises.main, "new", folder, name) == 0
    for path in {other.split(":")[0] for other in EXERCISES[name].write}:
        (folder / path).write_text((ROOT / path).read_text("utf-8"), encoding="utf-8")
    (folder / file).write_text(plant_mistake(mistake), encoding="utf-8")
    capsys.readouterr()
    assert call(exercises.main, "grade", folder, name) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f" {function}: {mistake.said} -" in printed, (mistake.name, printed)
