"""The page "Add your own": its blocks are put where they say, and its commands run."""

import ast
import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import losses
import rlvr
from course.copies import ROOT
from tests.helpers import TINY_BASE, TINY_RUN, read_json, read_rows

PAGE = (ROOT / "course/own/README.md").read_text("utf-8")
OUTSIDE, INSIDE = PAGE.split("\n## In the project itself\n")
# A lesson of seconds: what is between the quotes stands on the page.
SMALL = {'base=["two-ways", "good-code"])': 'base=["two-ways", "good-code"], steps=3, batch=8, '
         'layers=1, width=8, heads=2, micro_batch=3)',
         'reward="random", seed': 'reward="random", steps=2, prompts=3, group=4, updates=2, '
         'pool=9, max_new_tokens=12, eval_problems=5, eval_samples=2, seed'}


def list_blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@functools.cache
def write_idea() -> str:
    """my_idea.py, as the page builds it up."""
    blocks = list_blocks(OUTSIDE, "python")
    assert [block.split("\n")[0] for block in blocks] == (
        ["# my_idea.py"] + ["# my_idea.py, next"] * (len(blocks) - 1))
    text = "\n\n".join(block.split("\n", 1)[1] for block in blocks)
    assert text.count("/path/to/the/project") == 1
    return text.replace("/path/to/the/project", str(ROOT))


def call_idea(folder: Path, *words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "my_idea.py", *map(str, words)], cwd=folder,
                          capture_output=True, encoding="utf-8")


def test_every_example_is_under_20_lines():
    """And Python; blank lines, and the comment that says where it goes, are not counted."""
    blocks = list_blocks(PAGE, "python")
    assert len(blocks) >= 12
    for block in blocks:
        ast.parse(block)
        assert len(list(filter(str.strip, block.splitlines()[1:]))) <= 20, block
        assert all(len(line) <= 100 for line in block.splitlines())


@pytest.fixture
def idea(tmp_path) -> Path:
    """A folder with my_idea.py, of which lesson, bases and runs are small."""
    text = write_idea()
    for ours, small in SMALL.items():
        assert text.count(ours) == 1
        text = text.replace(ours, small)
    (tmp_path / "my_idea.py").write_text(text, "utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_file_of_ones_own(idea, base):
    """As the page has it: no file of the project is touched; a run says what was typed, resumes.

    Catches an entry that is not known everywhere, a flag that is not passed.
    """
    commands = [shlex.split(line)[2:] for block in list_blocks(OUTSIDE, "console")
                for line in block.splitlines()]
    assert [words[0] for words in commands] == ["pretrain"] + ["train"] * 4 + ["lesson"] * 2
    assert call_idea(idea, *commands[0], *TINY_BASE).returncode == 0
    for words in commands[1:5]:
        for more in (["--steps", "2"], []):
            done = call_idea(idea, *words, *TINY_RUN, *more)
            assert done.returncode == 0, done.stderr
        out = idea / words[words.index("--out") + 1]
        said, rows = read_json(out / "config.json"), read_rows(out)
        typed = [word for word in words if word != "--resample"]   # the file itself takes it out
        assert said["command"] == shlex.join(["python", "my_idea.py", *typed, *TINY_RUN])
        assert len(rows) == 4 and "code_share" in rows[0]
    brief = read_json(idea / "runs/brief/config.json")
    assert brief["longest"] == 100
    assert all(0 < float(row["reward"]) < 1 for row in read_rows(idea / "runs/brief"))
    assert all(float(row["no_signal"]) < 1 for row in read_rows(idea / "runs/resampled"))
    refused = call_idea(idea, "train", "--base", base, "--longest", "100")
    assert refused.returncode == 2 and "does not read it (only brief)" in refused.stderr


@pytest.mark.slow
def test_a_lesson_of_ones_own(idea):
    """Its jobs are commands of the file, since rlvr.py does not know its entries."""
    planned = call_idea(idea, "lesson", "--quick", "--commands")
    assert planned.returncode == 0, planned.stderr
    program = str(idea / "my_idea.py")
    assert [shlex.split(line)[1:3] for line in planned.stdout.splitlines()] == (
        [[program, "pretrain"]] * 2)
    done = call_idea(idea, "lesson", "--quick", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert any(line.startswith("two-ways") for line in table) and (
        idea / "runs/lessons/my_idea/figure.png").exists()
    again = call_idea(idea, "lesson", "--stored")
    assert again.returncode == 0 and again.stdout.splitlines()[:3] == [
        line for line in table if line.startswith(("base", "two-ways", "good-code"))]
    assert call_idea(idea, "lesson", "--store").returncode == 2


@pytest.mark.slow
def test_groups_are_drawn_until_the_batch_is_full(idea, base):
    """The page's dynamic sampling: more groups that differ than without."""
    command = ["train", "--base", base, "--reward", "format", *TINY_RUN]
    for more in (["--out", "plain"], ["--out", "resampled", "--resample"]):
        assert call_idea(idea, *command, *more).returncode == 0
    silent = [sum(float(row["no_signal"]) for row in read_rows(idea / name))
              for name in ("plain", "resampled")]
    assert silent[1] < silent[0]


@pytest.mark.slow
def test_the_loss_of_the_page_is_gspo(idea, monkeypatch):
    """Token for token, in float64; rows of three lengths."""
    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    space = {"__name__": "idea"}
    for block in list_blocks(OUTSIDE, "python"):
        if "by_response" in block:
            exec(block, space)
    torch.manual_seed(0)
    rows = torch.tensor([0, 1, 1, 2, 2, 2])
    old, advantages = torch.randn(2, 6, dtype=torch.float64)
    new = old + 1e-3 * torch.randn(6, dtype=torch.float64)
    for ours, pages in zip(losses.gspo(new, old, advantages, rows),
                           space["by_response"](new, old, advantages, rows)):
        assert torch.equal(ours, pages)
    assert "by_response" not in rlvr.LOSSES


# --- in the project itself

@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project in which the page has been followed."""
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(
        ".git", ".venv", "runs", "__pycache__", ".*_cache", ".hypothesis"))
    for block in list_blocks(INSIDE, "python"):
        place, code = block.split("\n", 1)
        name, where = re.fullmatch(r"# (\S+?)(, at the end|, below NAMES)?", place).groups()
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if where is None:
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
        elif where == ", at the end":
            path.write_text(f"{path.read_text('utf-8')}\n\n{code}", encoding="utf-8")
        else:
            text = path.read_text("utf-8")
            assert text.count('"probe")') == 1
            head, tail = re.split(r'(?<="probe"\)).*\n', text)
            path.write_text(f"{head}\n{code}{tail}", encoding="utf-8")
    return folder


def call(folder: Path, *words) -> str:
    """What a command prints in a copy, in which none of our runs' environment is."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True,
                          encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_added_to_the_project(project, base):
    """Every command of it runs, small, and the lesson is one of the project's."""
    commands = [line for block in list_blocks(INSIDE, "console") for line in block.splitlines()]
    trained = [shlex.split(line, comments=True)[1:] for line in commands if "rlvr.py" in line]
    assert len(trained) == 2
    for words in trained:
        call(project, *words, *TINY_RUN, "--base", base)
        assert len(read_rows(project / words[words.index("--out") + 1])) == 4
    planned = next(line for line in commands if "--commands" in line)
    jobs = call(project, *shlex.split(planned, comments=True)[1:]).splitlines()
    assert "--base good-code" in jobs[0]


@pytest.mark.slow
def test_what_is_added_fails_no_test(project):
    """Of the house, and of what was added to. Catches guards that only what is shipped can pass."""
    said = call(project, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0",
                "tests/test_house.py", "tests/test_losses.py", "tests/test_rewards.py",
                "tests/test_rlvr.py", "tests/test_rollout.py", "tests/test_own.py")
    assert re.search(r"\d{3,} passed", said) and "failed" not in said
