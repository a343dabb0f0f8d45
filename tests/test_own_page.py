"""The page "Add your own": its blocks are put where they say, and its commands run."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from course import copies
from tests.helpers import TINY_BASE, TINY_RUN, read_json, read_rows

PAGE = (copies.ROOT / "course/own/README.md").read_text("utf-8")


def list_blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project in which the page has been followed."""
    folder = tmp_path_factory.mktemp("own")
    copies.copy_project(folder, results=False)
    for block in list_blocks("python"):
        place, code = block.split("\n", 1)
        if place.endswith(", in a folder of your own"):
            continue
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


DRIVER = """
import contextlib, io, json, sys
import pytest
import rlvr
from lessons import __main__ as runner

said = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main = {"rlvr.py": rlvr.main, "lessons": runner.main, "pytest": pytest.main}[words[0]]
        code = main(words[1:])
    said.append([code, out.getvalue()])
print(json.dumps(said))
"""


def run_commands(project: Path, commands: list[str]) -> dict[str, str]:
    """What each command prints, all in one process of the copy: torch is slow to import."""
    words = [[word for word in shlex.split(command, comments=True) if word not in ("python", "-m")]
             for command in commands]
    done = subprocess.run([sys.executable, "-c", DRIVER, json.dumps(words)], cwd=project,
                          encoding="utf-8", capture_output=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [code for code, _ in said] == [0] * len(said), done.stderr
    return dict(zip(commands, (text for _, text in said)))


def find_commands(start: str) -> list[str]:
    found = [line for block in list_blocks("console") for line in block.splitlines()
             if line.startswith(start)]
    assert found
    return found


def test_every_example_is_under_20_lines():
    """And Python; the comment that says where it goes is not counted."""
    blocks = list_blocks("python")
    assert len(blocks) == 7
    for block in blocks:
        ast.parse(block)
        assert len(block.splitlines()) - 1 < 20
        assert all(len(line) <= 100 for line in block.splitlines())


@pytest.mark.slow
def test_the_page_as_it_stands(project, base):
    """Every command of it runs, small: rewards, loss, base, lesson; and the test it shows passes.

    Catches a name that has gone, an entry that is not known everywhere, a flag that is not passed.
    """
    small = " ".join(TINY_RUN)
    ways = find_commands("python -m lessons ways --commands")[0]
    tests = ("python -m pytest -q -p no:cacheprovider tests/test_own.py "
             "tests/test_rewards.py::test_any_tokens_get_a_reward "
             "tests/test_rewards.py::test_parts_add_up")
    trained = [f"{command} {small} --base {base}"
               for command in find_commands("python rlvr.py train --base good-code")]
    pretrained = [f"{command} {' '.join(TINY_BASE)}"
                  for command in find_commands("python rlvr.py pretrain")]
    two_ways = [f"{command} {small}"
                for command in find_commands("python rlvr.py train --base two-ways")]
    said = run_commands(project, [ways, tests, *trained, *pretrained, *two_ways])

    jobs = [shlex.split(line) for line in said[ways].splitlines()]
    assert [words[words.index("--base") + 1] for words in jobs] == ["two-ways", "good-code"]
    assert "3 passed" in said[tests]
    for command in trained:
        out = project / re.search(r"--out (\S+)", command)[1]
        config, rows = read_json(out / "config.json"), read_rows(out)
        assert len(rows) == 4 and ("terse" in config["reward"] or config["loss"] == "cispo")
        if config["reward"] == "terse":
            assert config["longest"] == 100 and all(0 < float(row["reward"]) < 1 for row in rows)
    assert "wrote runs/bases/two-ways.pt" in said[pretrained[0]]
    assert "code_share" in read_rows(project / "runs/two-ways")[0]


@pytest.mark.slow
def test_a_file_of_ones_own(base, tmp_path):
    """As the page has it: no file of the project is touched, the run says what was typed, resumes.

    Another reward in that file, or none, is one line.
    """
    block, = [block for block in list_blocks("python") if block.startswith("# my_idea.py")]
    (tmp_path / "my_idea.py").write_text(block.replace("/path/to/the/project", str(copies.ROOT)),
                                         "utf-8")
    command, = find_commands("python my_idea.py")
    words = [*shlex.split(command)[1:], *TINY_RUN, "--base", base]
    for more in (["--steps", "2"], [], ["--reward", "briefer"]):
        done = subprocess.run([sys.executable, *words, *more], cwd=tmp_path, capture_output=True,
                              encoding="utf-8")
        assert done.returncode == (2 if "briefer" in more else 0), done.stderr
    assert done.stderr.count("\n") == 1 and "unknown reward 'briefer'" in done.stderr
    said, rows = read_json(tmp_path / "runs/brief/config.json"), read_rows(tmp_path / "runs/brief")
    assert said["command"] == shlex.join(["python", *words]) and len(rows) == 4
    assert 0 < float(rows[0]["reward"]) <= 1
