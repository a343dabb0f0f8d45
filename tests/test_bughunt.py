"""The bug hunt: every mutant is one line, is planted whole, and a fast test fails on it."""

import ast
import builtins
import dis
import importlib
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from course import copies
from course.bughunt import __main__ as bughunt
from course.bughunt.mutants import MUTANTS
from lessons import runner
from tests.helpers import call

ROOT = copies.ROOT


def play(*arguments) -> int:
    """The exit code of `python -m course.bughunt ...`."""
    return call(bughunt.main, *arguments)


# --- the list

def test_there_are_as_many_as_the_front_page_says():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    assert f"{len(MUTANTS)} bugs of one line" in (ROOT / "README.md").read_text("utf-8")


@cache
def read_tree(file: str) -> str:
    return ast.dump(ast.parse((ROOT / file).read_text("utf-8")))


@cache
def read_functions(file: str) -> dict:
    return copies.find_functions((ROOT / file).read_text("utf-8"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_one_line(mutant):
    """Of a file of the product, still Python, another program; its lesson and its test are there.

    Catches one whose line was rewritten, or now stands twice.
    """
    source = (ROOT / mutant.file).read_text("utf-8")
    mutated = bughunt.mutate(source, mutant)
    assert ast.dump(ast.parse(mutated)) != read_tree(mutant.file)
    pairs = zip(source.splitlines(), mutated.splitlines())
    changed = [pair for pair in pairs if len(set(pair)) > 1]
    assert len(changed) == 1 and len(source.splitlines()) == len(mutated.splitlines())
    assert not mutant.file.startswith("tests")
    assert mutant.lesson in {*runner.NAMES, "bench"}
    assert 40 <= len(mutant.said) <= 400
    file, function = mutant.killer.split("[")[0].split("::")
    assert "slow" not in "".join(map(ast.unparse, read_functions(file)[function].decorator_list))


def find_globals(code) -> set[str]:
    """The names that a program, and every function in it, looks for outside itself."""
    found = {step.argval for step in dis.get_instructions(code)
             if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = [constant for constant in code.co_consts if hasattr(constant, "co_consts")]
    return found.union(*map(find_globals, inner))


@cache
def read_known_names(file: str) -> set[str]:
    """What a file may name: what is in it, what Python has, and what it names already."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    ours = compile((ROOT / file).read_text("utf-8"), file, "exec")
    return {*vars(module), *vars(builtins)} | find_globals(ours)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_names_what_is_there(mutant):
    """It trains on. Catches a bug that ends in a NameError, which is none to hunt."""
    mutated = bughunt.mutate((ROOT / mutant.file).read_text("utf-8"), mutant)
    assert find_globals(compile(mutated, mutant.file, "exec")) <= read_known_names(mutant.file)


def test_seeds_go_through_all_of_them():
    """Catches a draw with repetition: a class of 40 would share bugs."""
    n = len(MUTANTS)
    names = [bughunt.choose_mutant(seed).name for seed in range(2 * n)]
    assert set(names[:n]) == {mutant.name for mutant in MUTANTS} and names[:n] == names[n:]
    assert names[:n] != [mutant.name for mutant in MUTANTS]


# --- the hunt

def test_a_hunt(tmp_path, capsys):
    """One line differs, nothing in the copy says which; guesses; mended or moved it is still it."""
    folder, mutant = tmp_path / "hunt", bughunt.choose_mutant(7)
    assert play("new", folder, "--seed", 7) == 0
    printed = capsys.readouterr().out
    assert f"It breaks lesson {mutant.lesson}." in printed and mutant.file not in printed
    different = [path for path in copies.list_files(tests=False)
                 if (folder / path).read_bytes() != (ROOT / path).read_bytes()]
    assert [str(path) for path in different] == [mutant.file]
    assert not (folder / "tests").exists() and not (folder / "course/bughunt").exists()
    mark = (folder / bughunt.MARK).read_text("utf-8")
    assert mutant.name not in mark and json.loads(mark)["seed"] == 7

    source, ours = ((home / mutant.file).read_text("utf-8") for home in (folder, ROOT))
    line = bughunt.find_line(ours, mutant.old)

    def guess(file, line):
        assert play("check", folder, f"{file}:{line}") == 0
        said, _, following = capsys.readouterr().out.partition("next: ")
        assert ("reveal" in following) == ("wrong" in said)
        return said

    other = next(name for name in ("losses.py", "model.py") if name != mutant.file)
    assert guess(other, 1) == "wrong: it is in another file\n"
    assert guess(mutant.file, 1) == "wrong: the file is right, the line is not\n"
    right = guess(mutant.file, line)
    assert right.startswith(f"right: {mutant.file}:{line}\n")
    assert mutant.said in right.replace("\n", " ")
    assert mutant.old in right and mutant.new in right
    (folder / mutant.file).write_text("# a note\n" + source, encoding="utf-8")
    assert guess(mutant.file, line + 1).startswith("right") and "wrong" in guess(mutant.file, line)
    (folder / mutant.file).write_text(ours, encoding="utf-8")
    assert guess(mutant.file, line).startswith("right")
    assert play("reveal", folder) == 0
    assert capsys.readouterr().out.partition("next: ")[0] == right.removeprefix("right: ")


def test_how_near_a_guess_is(tmp_path):
    """The function is said where it is right."""
    mutant = MUTANTS[0]._replace(file="a.py", old="b = 1", new="b = 2")
    (tmp_path / "a.py").write_text("def f():\n    a = 0\n    b = 2\n\n\nc = 3\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bughunt, "ROOT", tmp_path / "ours")
        (tmp_path / "ours").mkdir()
        (tmp_path / "ours/a.py").write_text("def f():\n    a = 0\n    b = 1\n\n\nc = 3\n",
                                            encoding="utf-8")
        verdicts = [bughunt.judge_guess(tmp_path, mutant, "a.py", line) for line in (3, 2, 6)]
    assert verdicts == ["right", "wrong: the function is right (f), the line is not",
                        "wrong: the file is right, the line is not"]


def test_tests_are_left_in_if_asked(tmp_path):
    assert play("new", tmp_path / "hunt", "--tests") == 0
    assert (tmp_path / "hunt/tests/test_losses.py").exists()
    assert not (tmp_path / "hunt/tests/test_bughunt.py").exists()


@pytest.mark.parametrize("arguments, complaint", [
    (("new", "{full}"), "is there already"), (("new", "{new}", "--seed", "x"), "whole number"),
    (("check", "{full}", "losses.py:1"), "bughunt.json"), (("reveal", "{new}"), "bughunt.json"),
    (("check", "{hunt}", "losses.py"), "is not FILE:LINE"),
    (("check", "{hunt}", "losses.py:0"), "is not FILE:LINE"),
    (("check", "{hunt}", "no.py:1"), "no file no.py"),
    (("check", "{hunt}", "a.py:9"), "a.py has 1 lines"),
    (("reveal", "{old}"), "another version"), ((), "new|check|reveal")])
def test_bad_input_of_the_hunt_is_one_line(arguments, complaint, tmp_path, capsys):
    """And exit code 2."""
    places = {name: tmp_path / name for name in ("full", "hunt", "old", "new")}
    for name in ("full", "hunt", "old"):
        places[name].mkdir()
        (places[name] / "a.py").write_text("a = 1\n", encoding="utf-8")
    (places["hunt"] / bughunt.MARK).write_text(
        json.dumps({"bug": bughunt.seal_name(MUTANTS[0].name)}), encoding="utf-8")
    (places["old"] / bughunt.MARK).write_text('{"bug": "0"}', encoding="utf-8")
    assert play(*(argument.format(**places) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_the_callers_options_do_not_choose_the_tests(monkeypatch):
    """Of a copy. Catches a grade of 0 by PYTEST_ADDOPTS, and a base of a mutant that the next one
    takes for its own: a worker's variable says that its folder is for all.
    """
    seen = {}
    monkeypatch.setattr(copies.subprocess, "run", lambda command, **more: seen.update(more["env"]))
    theirs = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTHONOPTIMIZE", "PYTHONPATH")
    for name in (*theirs, "TMPDIR"):
        monkeypatch.setenv(name, "1")
    copies.run_tests({}, [], results=False)
    assert seen["TMPDIR"] == seen["OMP_NUM_THREADS"] == "1" and not set(theirs) & seen.keys()


# Slow: a sample, others each time, also in CI. Full: all.
@pytest.mark.parametrize("count", [pytest.param(12, marks=pytest.mark.slow),
                                   pytest.param(len(MUTANTS), marks=pytest.mark.full)])
def test_mutants_are_killed_by_a_fast_test(count):
    """Catches a test that no longer sees the bug it is there for. A survivor is a missing test."""
    def is_killed(mutant) -> bool:
        mutated = bughunt.mutate((ROOT / mutant.file).read_text("utf-8"), mutant)
        done = copies.run_tests({mutant.file: mutated}, ["-x", mutant.killer])
        return done.returncode == 1 and re.search("1 failed", done.stdout) is not None

    mutants = random.SystemRandom().sample(MUTANTS, count)
    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(is_killed, mutants))
    assert [mutant.name for mutant, dead in zip(mutants, killed) if not dead] == []
