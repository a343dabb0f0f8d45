"""The exercises: what a copy lacks, what grades say, and that no exercise costs another a point."""

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import evaluation
import losses
import model
from course import copies
from course.exercises import __main__ as exercises
from course.exercises import grading, handin
from course.exercises.catalog import EXERCISES, list_points
from data import task
from tests import adapters
from tests.helpers import call

ROOT = copies.ROOT
PAGES = ROOT / "course/exercises"


def play(*arguments) -> int:
    """The exit code of `python -m course.exercises ...`."""
    return call(exercises.main, *arguments)


@pytest.fixture(scope="module")
def handout(tmp_path_factory) -> Path:
    """A copy in which all is to be written; nothing may change it."""
    folder = tmp_path_factory.mktemp("handout") / "all"
    assert play("new", folder) == 0
    return folder


def write_solution(handout: Path, folder: Path, name: str, file="", old="", new="") -> Path:
    """The handout with the project's own solution of one exercise, in `file` one line changed."""
    shutil.copytree(handout, folder)
    for path, functions in exercises.group_functions(EXERCISES[name].write).items():
        reference = (ROOT / path).read_text("utf-8")
        if path == file:
            assert reference.count(old) == 1
            reference = reference.replace(old, new)
        solved = copies.replace_functions((folder / path).read_text("utf-8"), reference, functions)
        (folder / path).write_text(solved, encoding="utf-8")
    return folder


# --- the catalog and the pages

def test_a_hundred_points():
    """As the page says; every check gives some."""
    assert sum(map(list_points, EXERCISES.values())) == 100 and len(EXERCISES) == 10
    assert all(check.points > 0 for exercise in EXERCISES.values() for check in exercise.checks)


def test_functions_and_tests_of_the_catalog_are_there():
    """Catches one that was renamed, a function without a docstring, a test that is slow."""
    for name, exercise in EXERCISES.items():
        for file, functions in exercises.group_functions(
                exercise.write + exercise.hide).items():
            nodes = copies.find_functions((ROOT / file).read_text("utf-8"))
            for function in functions:
                assert ast.get_docstring(nodes[function]), (name, function)
        for check in exercise.checks:
            file, function = check.test.split("::")
            node = copies.find_functions((ROOT / "tests" / file).read_text("utf-8"))[function]
            assert "slow" not in "".join(map(ast.unparse, node.decorator_list)), check.test
            assert check.holds and len(check.holds) <= 85


@pytest.mark.parametrize("name", EXERCISES)
def test_pages_of_the_exercises(name):
    """Title, points, minutes and functions are the catalog's; hints are folded away."""
    exercise, page = EXERCISES[name], (PAGES / f"{name}.md").read_text("utf-8")
    assert page.startswith(f"# {exercise.title}\n\n{list_points(exercise)} points, "
                           f"{exercise.minutes} minutes. One of ten [exercises](README.md).\n")
    sections = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert sections == ["What you learn", "Formula", "Write", "Hints", "Further questions"]
    written = page.split("## Write")[1].split("## Hints")[0]
    for function in exercise.write:
        file, name = function.split(":")
        assert f"{file})" in written.replace("../../lessons/", "lessons/")
        assert f"`{name}`" in written
    hints = page.split("## Hints\n")[1].split("## Further")[0]
    outside = re.sub(r"<details>.*?</details>", "", hints, flags=re.DOTALL)
    assert "<summary>" in hints and not outside.strip()


def read_example(name: str) -> dict[str, list[float]]:
    """The numbers of each line of a page's worked example, by the word that it begins with.

    A line of words alone, and what is said at a line's end, are left out.
    """
    block = (PAGES / f"{name}.md").read_text("utf-8").split("## Write")[0].split("```text\n")[-1]
    lines = re.findall(r"(?m)^(\S.*?)  +([+-]?\d[\d.+\- ]*)", block.split("```")[0])
    return {label: list(map(float, numbers.split())) for label, numbers in lines}


def test_worked_examples_are_right():
    """What a page computes for the student is what the project's functions give."""
    def close(found, expected):
        assert torch.as_tensor(found).flatten().tolist() == pytest.approx(expected, abs=5e-4)

    shown = read_example("advantages")
    for loss in ("grpo", "dr_grpo", "rloo"):
        close(adapters.advantages(loss, torch.tensor([shown["rewards"]])), shown[loss])
    shown = read_example("clip")
    logprobs = torch.tensor(shown["w"]).repeat_interleave(2).log().requires_grad_()
    for loss in ("clipped", "masked", "unweighted"):
        found, _ = getattr(losses, loss)(logprobs, torch.zeros(6), torch.tensor(shown["A"]), None)
        close(torch.autograd.grad(found.sum(), logprobs)[0], shown[loss])
    shown = read_example("gae")
    for lam, label in ((1.0, "A with λ = 1"), (0.5, "A with λ = 0.5"), (0.0, "A with λ = 0")):
        close(adapters.gae(torch.ones(1), torch.tensor([shown["V"]]), torch.ones(1, 3).bool(), 1.0,
                           lam), shown[label])
    shown, problem = read_example("confidence"), task.parse_problem("37 *4 +5 -2")
    said = ["\\boxed{51} 90%", "\\boxed{51}", "\\boxed{33} 90%", "\\boxed{33}", "?"]
    for reward in ("brier_alone", "brier", "log_score", "ternary"):
        close(adapters.reward(reward, problem, said), shown[reward])
    shown = read_example("sampling")
    kept = model.sampling_logprobs(torch.tensor(shown["p"]).log(), top_p=0.7)
    close(kept.exp(), shown["after it"])
    close(evaluation.pass_at_k(4, 2, 2), [5 / 6])


def test_the_index_of_the_exercises(capsys):
    """Points and minutes of the table, and of the command, are the catalog's."""
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| .* \| (.*) \| (\d+) \| (\d+) \|$",
                      (PAGES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [row[0] for row in rows] == list(EXERCISES)
    for name, files, points, minutes in rows:
        exercise = EXERCISES[name]
        assert int(points) == list_points(exercise) and int(minutes) == exercise.minutes
        assert files.split(", ") == list(exercises.group_functions(exercise.write))
    assert play() == 0
    printed = capsys.readouterr().out
    for name, exercise in EXERCISES.items():
        line = f"{name} {list_points(exercise)} {exercise.minutes} {name}.md: {exercise.title}"
        assert line in re.sub(" +", " ", printed)


# --- sources

SOURCE = '''"""A module."""

def plain(a):
    """What it does."""
    return a  # one


class Thing:
    def method(self) -> int:
        """Two
        lines."""
        if self:
            return 1
        return 2

    @property
    def other(self):
        """Stays."""
        return 3
'''


def test_empty_functions():
    """The body goes, signature, docstring, decorators and all else stay."""
    emptied = copies.empty_functions(SOURCE, {"plain", "Thing.method", "Thing.other"})
    assert emptied == SOURCE.replace("    return a  # one\n", "    raise NotImplementedError\n"
                                     ).replace('''        if self:
            return 1
        return 2
''', "        raise NotImplementedError\n").replace("return 3", "raise NotImplementedError")
    nodes = copies.find_functions(emptied)
    assert all(copies.is_empty(node) for node in nodes.values())
    assert not any(copies.is_empty(node) for node in copies.find_functions(SOURCE).values())


def test_replace_functions():
    """Back again; what is beside a function stays as it is, decorators go with it."""
    names = {"plain", "Thing.method", "Thing.other"}
    helper = "class Thing", "HELPER = 1\n\n\nclass Thing"
    mine = copies.empty_functions(SOURCE, names).replace(*helper)
    assert copies.replace_functions(mine, SOURCE, names) == SOURCE.replace(*helper)
    assert copies.replace_functions(SOURCE, mine, {"plain"}) == copies.empty_functions(
        SOURCE, {"plain"})
    with pytest.raises(KeyError):
        copies.replace_functions("x = 1\n", SOURCE, {"plain"})


# --- a copy

def test_a_copy_lacks_the_solutions(handout):
    """Every function to be written is empty; no file has another's formula or a wrong solution."""
    for exercise in EXERCISES.values():
        for function in exercise.write + exercise.hide:
            file, name = function.split(":")
            node = copies.find_functions((handout / file).read_text("utf-8"))[name]
            assert copies.is_empty(node) and ast.get_docstring(node), function
    there = {str(path.relative_to(handout)) for path in handout.rglob("*") if path.is_file()}
    assert not {name for name in there if "bench" in name or "bughunt" in name
                or name in ("tests/test_exercises.py", "tests/test_cheats.py",
                            "lessons/clips/bandit.html")}
    assert {"rlvr.py", "tests/adapters.py", "data/vocab.tiktoken", "course/exercises/clip.md",
            "lessons/spurious/runs.csv", "train.sh", "pyproject.toml"} <= there
    lines = " ".join((handout / name).read_text("utf-8") for name in there if name.endswith(".py")
                     and not name.startswith("tests/"))
    for solution in ("ratio.clamp(", "std(dim=1", "math.comb(n - c", "searchsorted"):
        assert solution not in lines, solution


def test_who_may_read_a_copy_says_the_umask(tmp_path, monkeypatch):
    """In a folder that a group shares, and of a checkout in which nothing may be written.

    Catches the private folder that tempfile makes, a mode that is set, and modes that are copied.
    """
    home = tmp_path / "home"
    (home / "tests").mkdir(parents=True)
    for name, mode in (("train.sh", 0o555), ("losses.py", 0o444), ("tests/test_a.py", 0o400)):
        (home / name).write_bytes(b"")
        (home / name).chmod(mode)
    monkeypatch.setattr(copies, "ROOT", home)
    for umask in (0o002, 0o027):
        before, folder = os.umask(umask), tmp_path / f"copy{umask}"
        folder.mkdir()
        try:
            copies.make_copy(folder, {"losses.py": "new"})
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777
                 for path in (folder, *folder.rglob("*"))}
        assert modes == {folder.name: 0o777 & ~umask, "tests": 0o777 & ~umask,
                         "train.sh": 0o777 & ~umask, "losses.py": 0o666 & ~umask,
                         "test_a.py": 0o666 & ~umask}
        assert {path.name for path in tmp_path.iterdir()} <= {"home", "copy2", "copy23"}


def test_a_copy_of_some_exercises(tmp_path, capsys):
    """The others keep their bodies; it says which are to be written."""
    assert play("new", tmp_path / "two", "gae", "pass_at_k") == 0
    nodes = copies.find_functions((tmp_path / "two/losses.py").read_text("utf-8"))
    assert {name for name, node in nodes.items() if copies.is_empty(node)} == {"gae", "value_loss"}
    assert (tmp_path / "two/rlvr.py").read_text("utf-8") == (ROOT / "rlvr.py").read_text("utf-8")
    assert "losses.py:gae, losses.py:value_loss" in capsys.readouterr().out
    assert exercises.read_marked(tmp_path / "two") == ["gae", "pass_at_k"]
    assert [path.name for path in tmp_path.iterdir()] == ["two"]       # nothing else is left


@pytest.mark.parametrize("arguments, complaint", [
    (("new", "{full}"), "is there already"), (("new", "{file}"), "is there already"),
    (("new", "{file}/a"), "cannot write"), (("new", "{new}", "gea"), "unknown exercise 'gea'"),
    (("new",), "FOLDER"), (("grade", "{new}"), "no copy of the project"),
    (("grade", "{marked}"), "name the exercises"), (("mark", "{new}"), "invalid choice"),
    (("check", "{new}"), "no copy of the project"), (("check", "all"), "no copy of the project"),
    (("new", "{new}", "all"), "unknown exercise 'all'"),
    (("grade", "{full}", "--gradescope", "{file}/a"), "cannot write"),
    (("grade", "{full}", "--user", "no-such-user"), "no user no-such-user")])
def test_bad_input_of_the_exercises_is_one_line(arguments, complaint, tmp_path, capsys):
    """And exit code 2; nothing is made."""
    full, file, marked = tmp_path / "full", tmp_path / "file", tmp_path / "marked"
    for folder in (full, marked):
        folder.mkdir()
        (folder / "losses.py").write_text("", encoding="utf-8")
    file.write_text("", encoding="utf-8")
    (marked / exercises.MARK).write_text("{", encoding="utf-8")
    places = {"full": full, "file": file, "new": tmp_path / "new", "marked": marked}
    assert play(*(argument.format(**places) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


# --- grades

@pytest.mark.slow
def test_grades_of_one_exercise(handout, tmp_path, capsys):
    """Solved, wrong, not begun, no Python, gone: points, the known mistake, JSON, Gradescope."""
    old, wrong = "1 - math.comb(n - c, k) / math.comb(n, k)", "1 - (1 - c / n) ** k"
    solved = write_solution(handout, tmp_path / "solved", "pass_at_k")
    result = tmp_path / "results.json"
    assert play("grade", solved, "pass_at_k", "--json", "--gradescope", result, "--key", "a") == 0
    found = json.loads(capsys.readouterr().out)
    drawn = {"evaluation.py:pass_at_k": {"right": 8, "of": 8}}
    assert found == {"points": 5, "most": 5, "key": "a", "exercises": [
        {"name": "pass_at_k", "points": 5, "most": 5, "begun": True, "passed": 5, "drawn": drawn,
         "mistakes": [],
         "failed": []}]}
    scored = json.loads(result.read_text("utf-8"))
    assert scored["score"] == 5 and [test["score"] for test in scored["tests"]] == [3, 2]
    assert {test["status"] for test in scored["tests"]} == {"passed"}

    mistaken = write_solution(handout, tmp_path / "wrong", "pass_at_k", "evaluation.py", old, wrong)
    assert play("grade", mistaken, "pass_at_k", "gae", "--gradescope", result) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^pass_at_k +0 of 5$", printed, re.MULTILINE)
    assert "-3  it is the share of all subsets of k that have a right sample" in printed
    assert "pass_at_k: The samples are drawn with replacement." in printed
    assert "k > n, k < 1" not in printed
    assert "in no test: pass_at_k differs on 8 of 8; so at most 0 points" in printed
    assert re.search(r"^gae +0 of 10, not begun$", printed, re.MULTILINE)
    assert re.search(r"^total +0 of 15$", printed, re.MULTILINE)
    scored = json.loads(result.read_text("utf-8"))
    assert scored["score"] == 0
    assert [test.get("score") for test in scored["tests"][:3]] == [0, 2, None]
    assert scored["tests"][0]["status"] == "failed"
    assert "share of all subsets" in scored["tests"][0]["output"]


@pytest.mark.slow
def test_a_student_checks_a_copy_and_cannot_grade_there(tmp_path, capsys):
    """With the copy's own tests, from inside it or from here; its answers are not in it."""
    folder = tmp_path / "mine"
    assert play("new", folder, "pass_at_k") == 0
    source = (ROOT / "evaluation.py").read_text("utf-8")
    wrong = source.replace("1 - math.comb(n - c, k) / math.comb(n, k)", "1 - (1 - c / n) ** k")
    (folder / "evaluation.py").write_text(wrong, encoding="utf-8")
    command = [sys.executable, "-m", "course.exercises"]
    done = [subprocess.run([*command, *words], cwd=folder, capture_output=True, encoding="utf-8")
            for words in (["check"], ["check", "pass_at_k"], ["grade", "."])]
    assert play("check", folder) == 0
    for printed in (capsys.readouterr().out, done[0].stdout, done[1].stdout):
        assert re.search(r"^pass_at_k +2 of 5$", printed, re.MULTILINE)
        assert "-3  it is the share of all subsets of k that have a right sample" in printed
    assert done[2].returncode == 2 and "a copy without answers" in done[2].stderr


def test_a_folder_does_not_choose_what_strangers_are_graded_in(tmp_path, capsys):
    """`all`, or names, are what is graded; without either its own list, and a line says so."""
    (tmp_path / "losses.py").write_text("", encoding="utf-8")
    (tmp_path / exercises.MARK).write_text('{"exercises": ["gae"]}', encoding="utf-8")
    assert exercises.choose_names(tmp_path, ["all"]) == list(EXERCISES)
    assert exercises.choose_names(tmp_path, ["clip"]) == ["clip"]
    assert not capsys.readouterr().err
    assert exercises.choose_names(tmp_path, []) == ["gae"]
    assert "says what is graded" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("sh"), reason="this system has no sh")
def test_the_autograder_writes_results_whatever_happens(tmp_path):
    """As the container runs it, in a bare folder: for a solution, and where there is none."""
    (tmp_path / "source").symlink_to(ROOT)
    (tmp_path / "submission").mkdir()
    shutil.copyfile(ROOT / "evaluation.py", tmp_path / "submission/evaluation.py")
    environment = {"PATH": os.environ["PATH"], "AUTOGRADER": str(tmp_path),
                   "PYTHON": sys.executable, "EXERCISES": "pass_at_k"}
    command, results = ["sh", PAGES / "run_autograder"], tmp_path / "results/results.json"
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert json.loads(results.read_text("utf-8"))["score"] == 5
    shutil.rmtree(tmp_path / "submission")
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    found = json.loads(results.read_text("utf-8"))
    assert done.returncode == 2 and found["score"] == 0 and "could not grade" in found["output"]


def test_the_container_copies_what_is_there():
    """Each file that the Dockerfile names is in the project."""
    text = (PAGES / "Dockerfile").read_text("utf-8")
    for name in ("requirements.txt", "course/exercises/run_autograder"):
        assert name in text and (ROOT / name).exists()
    assert os.access(PAGES / "run_autograder", os.X_OK) or sys.platform == "win32"
    assert "GRADER_USER=nobody" in text and "chmod -R go-rwx /autograder/source" in text


def test_results_of_pytest_are_read(tmp_path):
    """A test counts as failed if one of its cases is; one that was skipped has not passed."""
    path = tmp_path / "results.xml"
    path.write_text('''<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_x[1]"/>
<testcase classname="tests.test_a" name="test_x[2]"><failure message="assert 1&#10;so"/></testcase>
<testcase classname="tests.test_a" name="test_y"/>
<testcase classname="tests.test_a" name="test_z"><skipped message="no"/></testcase>
<testcase classname="tests.test_a" name="test_n"><failure message="NotImplementedError">
    def test_n():
&gt;       update(1)
rlvr.py:9: in update
    def select(self, rows):
        """What it does."""
&gt;       raise NotImplementedError
E       NotImplementedError

model.py:64: NotImplementedError</failure></testcase>
<testcase classname="tests.test_a" name="test_d"><failure message="NotImplementedError">
    def read_answer(answer):
course/exercises/door.py:9: NotImplementedError</failure></testcase>
</testsuite></testsuites>''', encoding="utf-8")
    assert grading.read_cases(path) == {
        "test_a.py::test_x": ["", "tests/test_a.py::test_x[2]: assert 1"],
        "test_a.py::test_y": [""],
        "test_a.py::test_z": ["tests/test_a.py::test_z: no"],
        "test_a.py::test_n": ["tests/test_a.py::test_n: NotImplementedError in model.py:select"],
        "test_a.py::test_d": ["tests/test_a.py::test_d: NotImplementedError"]}


def test_what_is_said_of_a_failure():
    """What does not hold, unless nothing was written that could be wrong."""
    check = EXERCISES["clip"].checks[0]
    assert grading.Failure(check, "test_x: assert 0").broken == check.holds
    missing = [grading.Failure(check, f"test_x: NotImplementedError{where}").broken
               for where in ("", " in losses.py:grpo")]
    assert missing == ["a function is not written, and this test goes through it",
                       "losses.py:grpo is not written, and this test goes through it"]


def test_what_comes_after_a_check():
    """Handing in is the next step only of what passes; else the first test that does not."""
    right = grading.Grade("gae", True, [])
    wrong = grading.Grade("clip", True, [grading.Failure(EXERCISES["clip"].checks[1], "assert 0")])
    assert exercises.say_after_check([right])[0].startswith("hand in")
    after = exercises.say_after_check([right, wrong])
    assert after[0].startswith(f"python -m pytest tests/{EXERCISES['clip'].checks[1].test} ")
    assert after[1] == "course/exercises/clip.md has hints"


# Slow: three of them, others each time, also in CI. Full: all.
each_choice = pytest.mark.parametrize("count", [
    pytest.param(2, marks=pytest.mark.slow), pytest.param(len(EXERCISES), marks=pytest.mark.full)])


def choose_exercises(count: int) -> list[str]:
    return random.SystemRandom().sample(list(EXERCISES), count)


@each_choice
def test_a_solved_exercise_has_all_its_points(count, handout, tmp_path):
    """Though nothing else is written: an exercise that is not begun costs no other one anything."""
    for name in choose_exercises(count):
        grade = grading.grade_exercise(name, write_solution(handout, tmp_path / name, name), "key")
        assert grade.begun and not grade.failures and grade.points == grade.most, grade


@each_choice
def test_an_empty_exercise_has_no_points(count, handout):
    """None of its tests passes on `raise NotImplementedError`."""
    for name in choose_exercises(count):
        files = handin.read_exercise(handout, name)["files"]
        with grading.make_bare_folder(EXERCISES[name], files) as bare:
            failures = grading.run_checks(name, bare)
        assert [failure.check for failure in failures] == list(EXERCISES[name].checks)


WRONG = {  # what students write: file, the project's line, theirs, the test that must notice
    "sampling": ("model.py", "cumsum(-1) - mass >= reached", "cumsum(-1) - mass > top_p",
                 "test_top_p_that_is_reached_exactly_needs_no_more"),
    "cache": ("model.py", "(key <= query) & (key >= cache.start[:, None, None])",
              "(key <= query) & (key >= 0 * cache.start[:, None, None])",
              "test_left_padding_changes_nothing"),
    "logprobs": ("model.py", "return sampling_logprobs(logits, temperature).gather",
                 "return logits.log_softmax(-1).gather",
                 "test_a_frozen_model_scores_the_sampled_ids"),
    "advantages": ("losses.py", "std(dim=1, correction=0", "std(dim=1, correction=1",
                   "test_group_advantages"),
    "clip": ("losses.py", "-torch.min(ratio * advantages", "-torch.max(ratio * advantages",
             "test_four_quadrants_of_the_clip"),
    "gae": ("losses.py", "== lengths - 1 ", "== T - 1 ", "test_gae_is_its_closed_form"),
    "signs": ("losses.py", "sign_rewards(batch).clamp(max=0)", "-sign_rewards(batch).clamp(max=0)",
              "test_sign_advantages"),
    "pass_at_k": ("evaluation.py", "1 - math.comb(n - c, k) / math.comb(n, k)",
                  "1 - (1 - c / n) ** k",
                  "test_pass_at_k_is_the_share_of_subsets_with_a_right_sample"),
    "confidence": ("rewards.py", "response == ABSTENTION else -1.0",
                   "response == ABSTENTION else 0.0", "test_ternary"),
    "bandit": ("lessons/bandit.py", "return [weight * ~high, weight * ~low]",
               "return [weight, weight]", "test_which_clip_lifts")}


@each_choice
def test_wrong_solutions_lose_points(count, handout, tmp_path):
    """One of each exercise, and the test that is there for it notices."""
    for name in choose_exercises(count):
        *change, expected = WRONG[name]
        folder = write_solution(handout, tmp_path / name, name, *change)
        grade = grading.grade_exercise(name, folder, "key")
        noticed = [failure.check.test.split("::")[1] for failure in grade.failures]
        assert expected in noticed and grade.points < grade.most, grade


# --- where they were before

@pytest.mark.parametrize("old, new", [("exercises", "course.exercises"),
                                      ("bughunt", "course.bughunt"), ("bench", "bench")])
def test_an_old_command_says_the_new_one(old, new):
    """In one line, with an argument too, and does nothing else."""
    done = subprocess.run([sys.executable, "-m", f"lessons.{old}", "new", "x"], cwd=ROOT,
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(rf"the .* moved: python -m {re.escape(new)}\n", done.stderr)
