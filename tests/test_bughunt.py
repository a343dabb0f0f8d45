"""The bug hunt: a mutant is a line that a fast test fails on; what is dealt out shows in a run."""

import ast
import builtins
import csv
import dis
import importlib
import io
import json
import random
import re
import tokenize
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

import rlvr
from course import copies
from course.bughunt import __main__ as bughunt
from course.bughunt import hunts, strip
from course.bughunt.measure import list_symptoms
from course.bughunt.mutants import MUTANTS, find_line, mutate
from lessons import runner
from plumbing.files import to_csv, to_json, write
from tests.helpers import call, on_each

ROOT = copies.ROOT
DEALT = list(bughunt.DEALT.values())
KIND = ("--kind", "scale")
each_dealt = pytest.mark.parametrize("mutant", DEALT, ids=lambda mutant: mutant.name)


def play(*arguments) -> int:
    """The exit code of `python -m course.bughunt ...`."""
    return call(bughunt.main, *arguments)


def read(file: str) -> str:
    return (ROOT / file).read_text("utf-8")


# --- the list

def test_there_are_as_many_as_the_pages_say():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    page = " ".join(read("course/bughunt/README.md").split())
    assert f"{len(DEALT)} bugs" in page and f"from 0 to {len(DEALT) - 1} plants" in page
    assert f"{len(MUTANTS) - len(DEALT)} further bugs" in page


@cache
def read_tree(file: str) -> str:
    return ast.dump(ast.parse((ROOT / file).read_text("utf-8")))


@cache
def read_functions(file: str) -> dict:
    return copies.find_functions((ROOT / file).read_text("utf-8"))


@on_each(MUTANTS, lambda mutant: mutant.name)
def test_a_mutant_is_one_line(mutant):
    """Of a file of the product, still Python, another program; its lesson and its test are there.

    Catches one whose line was rewritten, or now stands twice.
    """
    source = read(mutant.file)
    mutated = mutate(source, mutant)
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


@on_each(MUTANTS, lambda mutant: mutant.name)
def test_a_mutant_names_what_is_there(mutant):
    """It trains on. Catches a bug that ends in a NameError, which is none to hunt."""
    mutated = mutate((ROOT / mutant.file).read_text("utf-8"), mutant)
    assert find_globals(compile(mutated, mutant.file, "exec")) <= read_known_names(mutant.file)


def test_seeds_go_through_all_that_are_dealt_out():
    """Catches a draw with repetition: a class of 20 would share bugs."""
    n = len(DEALT)
    names = [bughunt.choose_mutant(seed).name for seed in range(2 * n)]
    assert set(names[:n]) == set(hunts.HUNTS) and names[:n] == names[n:]
    assert names[:n] != [mutant.name for mutant in DEALT]


# --- what is dealt out shows

def test_every_hunt_is_of_a_kind_and_every_kind_is_hunted():
    """Catches a bug that is not planted since its name is wrong, and an answer that is never right.
    """
    assert set(hunts.HUNTS) == set(bughunt.DEALT) and 15 <= len(DEALT) <= 25
    assert {hunt.kind for hunt in hunts.HUNTS.values()} == set(hunts.KINDS)
    assert {hunt.experiment for hunt in hunts.HUNTS.values()} == set(hunts.EXPERIMENTS)
    assert {mutant.file for mutant in DEALT} <= set(strip.STRIPPED)


@each_dealt
def test_a_dealt_bug_has_a_measured_symptom(mutant):
    """On every seed far from all clean runs, on the same side. Catches one that is imagined."""
    hunt, symptoms = hunts.HUNTS[mutant.name], hunts.read_symptoms()[mutant.name]
    clean = hunts.read_clean(hunt.experiment)
    assert hunt.shows in symptoms
    for number, row in symptoms.items():
        values = clean[number]
        assert len(row["bug"]) >= 3 and [row["least"], row["most"]] == [min(values), max(values)]
        assert all(hunts.measure_distance(number, value, values) > hunts.ODD
                   for value in row["bug"])
        assert len({value > row["most"] for value in row["bug"]}) == 1


def test_a_number_is_odd_twice_as_far_away_as_the_clean_runs_are_wide():
    """A range of 0 counts as a little, more in the evaluation. Catches noise called a symptom."""
    clean = {"a": [1.0, 2.0, 1.5], "b": [0.0, 0.0, 0.0], "c after": [0.0, 0.0, 0.0]}
    least, most = hunts.LEAST_RANGE, hunts.LEAST_RANGE_OF_EVALUATION
    assert hunts.find_odd({"a": 4.0, "b": 2 * least, "c after": 2 * most}, clean) == []
    found = hunts.find_odd({"a": -1.5, "b": 3 * least, "c after": 4 * most, "d": 9.0}, clean)
    assert found == [("c after", pytest.approx(4)), ("b", pytest.approx(3)), ("a", 2.5)]
    assert hunts.find_odd({"a": float("nan")}, clean)[0][0] == "a"
    assert list_symptoms([{"a": 9.0, "b": 1.0}, {"a": -9.0, "b": 1.0}], clean) == ["b"]


@pytest.mark.parametrize("experiment", hunts.EXPERIMENTS)
def test_what_a_student_types_is_a_run(experiment):
    """And small. Catches flags that are refused after a minute of pretraining."""
    parser = rlvr.build_parser()
    flags = vars(parser.parse_args(hunts.train_command(experiment).split()[2:]))
    assert flags.pop("command") == "train"
    config = rlvr.make_config(**flags)
    assert config.steps * config.prompts * config.group <= 1024
    assert parser.parse_args(hunts.base_command().split()[2:]).out == config.base


def write_run(folder, numbers: dict[str, float]) -> None:
    """A run of one batch with these numbers."""
    batch = {name: value for name, value in numbers.items() if " " not in name}
    summary = {when: {"pass_at_k": {}} for when in ("before", "after")}
    for name in set(numbers) - set(batch):
        summary[name.split()[1]][name.split()[0]] = numbers[name]
    write(folder / "metrics.csv", to_csv([{"step": 0, **batch}]))
    write(folder / "summary.json", to_json(summary))


def test_compare_names_the_odd_numbers(tmp_path, capsys):
    """A run like the clean ones has none; a bug's has its symptom. Catches one that is not read."""
    folder, mutant = tmp_path / "hunt", bughunt.choose_mutant(3)
    hunt, row = hunts.HUNTS[mutant.name], hunts.read_symptoms()[mutant.name]
    assert play("new", folder, "--seed", 3) == 0
    assert play("compare", folder) == 2
    assert "HUNT.md" in capsys.readouterr().err
    clean = hunts.read_clean(hunt.experiment)
    numbers = {name: values[0] for name, values in clean.items()}
    write_run(folder / "run", numbers)
    assert play("compare", folder) == 0
    said = capsys.readouterr().out
    assert f"{len(clean)} other numbers" in said and len(said.splitlines()) == 5
    write_run(folder / "run", numbers | {hunt.shows: row[hunt.shows]["bug"][0]})
    assert play("compare", folder) == 0
    assert re.search(rf"^{re.escape(hunt.shows)} +[\d.-]+", capsys.readouterr().out, re.MULTILINE)


# --- what is taken out of a copy

def list_words(source: str) -> list[str]:
    """The docstrings of functions and classes, and the comments in functions."""
    nodes = [node for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    rows = {row for node in nodes if isinstance(node, ast.FunctionDef)
            for row in range(node.lineno, node.end_lineno + 1)}
    comments = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT and token.start[0] in rows]
    return comments + [ast.get_docstring(node) for node in nodes
                       if ast.get_docstring(node) and len(node.body) > 1]


@each_dealt
def test_nothing_beside_a_bug_says_what_is_right(mutant):
    """In its function no word but shapes and the paper's name; the copy differs in one line."""
    clean, source = read(mutant.file), strip.strip_words(mutate(read(mutant.file), mutant))
    pairs = list(zip(strip.strip_words(clean).splitlines(), source.splitlines(), strict=True))
    changed = [tuple(map(str.strip, pair)) for pair in pairs if len(set(pair)) > 1]
    assert changed == [(strip.strip_comment(mutant.old), strip.strip_comment(mutant.new))]
    assert strip.strip_comment(mutant.old) not in map(str.strip, source.splitlines())
    for words in list_words(source):
        assert re.fullmatch(r"See [^()]*\d{4}\.\d{5}[^()]*\.|#[^a-z]*( each)?", words), words


@pytest.mark.parametrize("file", strip.STRIPPED)
def test_without_words_it_is_the_same_program(file):
    """Catches a cut that takes a line of code along."""
    def dump(source: str) -> str:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and len(node.body) > 1:
                node.body = node.body[ast.get_docstring(node) is not None:]
        return ast.dump(tree)

    source = read(file)
    assert dump(strip.strip_words(source)) == dump(source)
    assert len(list_words(strip.strip_words(source))) < len(list_words(source))


def test_what_is_missing_does_not_say_where_the_bug_is(tmp_path):
    """All files of the list have lost their words, not the bug's alone; nothing else differs."""
    folder, mutant = tmp_path / "hunt", bughunt.choose_mutant(0)
    assert play("new", folder, "--seed", 0) == 0
    for path in copies.list_files(tests=False):
        ours, file = (ROOT / path).read_bytes(), path.as_posix()
        if file in strip.STRIPPED:
            bug = mutate(read(file), mutant) if file == mutant.file else read(file)
            ours = strip.strip_words(bug).encode()
        assert (folder / path).read_bytes() == ours, file


# --- the hunt

def test_a_hunt(tmp_path, capsys):
    """Nothing in the copy says which line; three outcomes; mended or moved it is still it."""
    folder, mutant = tmp_path / "hunt", bughunt.choose_mutant(7)
    hunt = hunts.HUNTS[mutant.name]
    assert play("new", folder, "--seed", 7) == 0
    page = (folder / "HUNT.md").read_text("utf-8")
    printed = capsys.readouterr().out + (folder / bughunt.MARK).read_text("utf-8")
    assert mutant.name not in printed + page and mutant.file not in printed
    assert hunts.train_command(hunt.experiment) in page and hunts.base_command() in page
    assert not (folder / "tests").exists() and not (folder / "course/bughunt").exists()
    with open(folder / "clean.csv", encoding="utf-8") as file:
        assert hunt.shows in {row["number"] for row in csv.DictReader(file)}

    source = (folder / mutant.file).read_text("utf-8")
    line = find_line(source, strip.strip_comment(mutant.new))

    def guess(file, line, kind=hunt.kind):
        assert play("check", folder, f"{file}:{line}", "--kind", kind) == 0
        said, _, following = capsys.readouterr().out.partition("next: ")
        assert ("reveal" in following) == (not said.startswith("found"))
        return said

    other = next(name for name in ("losses.py", "model.py") if name != mutant.file)
    assert guess(other, 1) == "not there: it is in another file\n"
    assert guess(mutant.file, 1) == "not there: the file is right, the line is not\n"
    wrong = next(kind for kind in hunts.KINDS if kind != hunt.kind)
    said = guess(mutant.file, line, wrong)
    assert said.startswith("right place, wrong reason") and hunts.KINDS[wrong] in said
    assert mutant.said[:30] not in said
    found = guess(mutant.file, line)
    assert found.startswith(f"found, with guess 4: {mutant.file}:{line}\n")
    assert mutant.said in found.replace("\n", " ") and hunt.shows in found
    assert mutant.old in found and mutant.new in found
    (folder / mutant.file).write_text("# a note\n" + source, encoding="utf-8")
    assert guess(mutant.file, line + 1).startswith("found")
    assert guess(mutant.file, line).startswith("not there")
    mended = strip.strip_words(read(mutant.file))
    (folder / mutant.file).write_text(mended, encoding="utf-8")
    assert guess(mutant.file, line).startswith("found")
    assert play("reveal", folder) == 0
    answer = capsys.readouterr().out.partition("next: ")[0]
    assert answer == found.partition(": ")[2]


def test_how_near_a_guess_is(tmp_path):
    """The function is said where it is right."""
    mutant = MUTANTS[0]._replace(file="a.py", old="b = 1", new="b = 2")
    (tmp_path / "a.py").write_text("def f():\n    a = 0\n    b = 2\n\n\nc = 3\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bughunt, "ROOT", tmp_path / "ours")
        (tmp_path / "ours").mkdir()
        (tmp_path / "ours/a.py").write_text("def f():\n    a = 0\n    b = 1\n\n\nc = 3\n",
                                            encoding="utf-8")
        verdicts = [bughunt.judge_place(tmp_path, mutant, "a.py", line) for line in (3, 2, 6)]
    assert verdicts == ["there", "not there: the function is right (f), the line is not",
                        "not there: the file is right, the line is not"]


def test_the_easier_hunt_has_tests_and_words(tmp_path, capsys):
    """And the line is found there too, though it stands elsewhere."""
    folder, mutant = tmp_path / "hunt", bughunt.choose_mutant(0)
    assert play("new", folder, "--tests") == 0
    assert (folder / "tests/test_losses.py").exists()
    assert not (folder / "tests/test_bughunt.py").exists()
    source = (folder / mutant.file).read_text("utf-8")
    assert source == mutate(read(mutant.file), mutant)
    place = f"{mutant.file}:{find_line(source, mutant.new)}"
    capsys.readouterr()
    assert play("check", folder, place, "--kind", hunts.HUNTS[mutant.name].kind) == 0
    assert capsys.readouterr().out.startswith("found")


def test_a_lecturer_sees_all_answers(capsys):
    assert play("list") == 0
    rows = capsys.readouterr().out.splitlines()
    for seed in range(len(DEALT)):
        mutant = bughunt.choose_mutant(seed)
        row, = (row for row in rows if row.startswith(f"{seed} "))
        assert {mutant.name, mutant.file, hunts.HUNTS[mutant.name].kind} <= set(row.split())


@pytest.mark.parametrize("arguments, complaint", [
    (("new", "{full}"), "is there already"), (("new", "{new}", "--seed", "x"), "whole number"),
    (("check", "{full}", "losses.py:1", *KIND), "bughunt.json"),
    (("reveal", "{new}"), "bughunt.json"), (("compare", "{new}"), "bughunt.json"),
    (("compare", "{hunt}"), "no finished run"),
    (("check", "{hunt}", "losses.py", *KIND), "is not FILE:LINE"),
    (("check", "{hunt}", "losses.py:0", *KIND), "is not FILE:LINE"),
    (("check", "{hunt}", "no.py:1", *KIND), "no file no.py"),
    (("check", "{hunt}", "a.py:9", *KIND), "a.py has 1 lines"),
    (("check", "{hunt}", "a.py:1"), "--kind"),
    (("check", "{hunt}", "a.py:1", "--kind", "bad"), "mismatch"),
    (("reveal", "{old}"), "another version"), ((), "new|compare|check|reveal|list")])
def test_bad_input_of_the_hunt_is_one_line(arguments, complaint, tmp_path, capsys):
    """And exit code 2."""
    places = {name: tmp_path / name for name in ("full", "hunt", "old", "new")}
    for name in ("full", "hunt", "old"):
        places[name].mkdir()
        (places[name] / "a.py").write_text("a = 1\n", encoding="utf-8")
    (places["hunt"] / bughunt.MARK).write_text(
        json.dumps({"bug": bughunt.seal_name(DEALT[0].name)}), encoding="utf-8")
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
@pytest.mark.parametrize("count", [pytest.param(8, marks=pytest.mark.slow),
                                   pytest.param(len(MUTANTS), marks=pytest.mark.full)])
def test_mutants_are_killed_by_a_fast_test(count):
    """Catches a test that no longer sees the bug it is there for. A survivor is a missing test."""
    def is_killed(mutant) -> bool:
        mutated = mutate(read(mutant.file), mutant)
        done = copies.run_tests({mutant.file: mutated}, ["-x", mutant.killer])
        return done.returncode == 1 and re.search("1 failed", done.stdout) is not None

    mutants = random.SystemRandom().sample(MUTANTS, count)
    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(is_killed, mutants))
    assert [mutant.name for mutant, dead in zip(mutants, killed) if not dead] == []
