"""The notebook: small cells that run, a prediction before each result, an answer folded away."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course import copies

PATH = copies.ROOT / "course/tour.ipynb"
CELLS = json.loads(PATH.read_text("utf-8"))["cells"]
SOURCES = ["".join(cell["source"]) for cell in CELLS]
CODE = [source for cell, source in zip(CELLS, SOURCES) if cell["cell_type"] == "code"]
PROSE = "\n".join(source for cell, source in zip(CELLS, SOURCES) if cell["cell_type"] == "markdown")
SETUP = CODE[0]
PARTS = re.findall(r"^## \d\. .*$", PROSE, re.MULTILINE)


def test_the_notebook_is_short():
    """Cells of at most 26 lines, 100 wide, Python but for `%` and `!`; the file under 400 KB."""
    for cell, source in zip(CELLS, SOURCES):
        lines = source.splitlines()
        assert len(lines) <= 26 and all(len(line) <= 100 for line in lines), lines[0]
        if cell["cell_type"] == "code":
            ast.parse("\n".join(re.sub(r"^( *)[%!].*", r"\1pass", line) for line in lines))
    assert PATH.stat().st_size < 400_000


def test_each_part_teaches():
    """A formula whose symbols are said, a prediction of the reader's, a change, a folded answer."""
    assert len(PARTS) == 6
    for part in re.split(r"(?m)^## ", PROSE)[1:1 + len(PARTS)]:
        formula, symbols = re.search(r"```text\n(.*?)\n\n(.*?)\n```", part, re.DOTALL).groups()
        for symbol in set(re.findall(r"\b[a-zA-Zπ](?:_[a-zT\d])?\b", formula)):
            assert re.search(rf"(^|[ ,]){re.escape(symbol)}(?!\w)", symbols, re.MULTILINE), symbol
        order = [part.index(word) for word in ("```text", "**Predict.**", "**Change.**",
                                               "<details><summary>Answer</summary>\n\n",
                                               "\n</details>")]
        assert order == sorted(order)


def test_a_prediction_stands_before_each_result():
    """A cell of nothing but names that are None; the next one says what was written."""
    asked = [i for i, source in enumerate(CODE) if re.match(r"my_\w+ = ", source)]
    assert len(asked) == len(PARTS)
    for i in asked:
        names = re.findall(r"^(my_\w+) = ", CODE[i], re.MULTILINE)
        assert "None" in CODE[i] and len(names) == len(ast.parse(CODE[i]).body)
        assert "you wrote" in CODE[i + 1] and all(name in CODE[i + 1] for name in names)


def test_the_notebook_was_executed_in_order():
    """What it shows was printed by it: counts 1, 2, ..., no error, no progress bars."""
    cells = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_links_of_the_notebook_lead_somewhere():
    """To a file, or to one that copies for students lack."""
    for target in re.findall(r"\]\(([^)]+)\)", PROSE):
        path = (PATH.parent / target).resolve()
        assert path.exists() or any(map(path.match, copies.WITHHELD)), target


# --- its first cell: where the tour runs

def run_setup(folder: Path, repository: str = "") -> subprocess.CompletedProcess:
    """The first cell in a folder, and then where it has gone to."""
    source = SETUP + "\nprint(Path.cwd().as_posix())\n"
    if repository:
        source = re.sub(r'(?m)^REPOSITORY = ".*"', f"REPOSITORY = {repository!r}", source)
    return subprocess.run([sys.executable, "-c", source], cwd=folder, capture_output=True,
                          encoding="utf-8")


def list_needed() -> set[str]:
    """The names of the functions of exercises that the tour needs, as the cell has them."""
    return set(re.search(r'NEEDED = """(.*?)"""', SETUP, re.DOTALL)[1].split())


def load_exercises():
    """The command that makes copies for students; such a copy lacks it, and skips the test."""
    return pytest.importorskip("course.exercises.__main__")


def list_gone() -> dict[str, set[str]]:
    """Functions that exercises take out and that the tour can do without, by file."""
    exercises = load_exercises()
    every = {function for exercise in exercises.EXERCISES.values()
             for function in exercise.write + exercise.hide}
    return exercises.group_functions(
        [function for function in every if re.split("[:.]", function)[-1] not in list_needed()])


def test_it_runs_where_it_lies(tmp_path):
    """In a full copy it goes up one folder; alone it says in one line what to do."""
    done = run_setup(copies.ROOT / "course")
    assert done.stdout.strip() == copies.ROOT.as_posix(), done.stderr
    alone = run_setup(tmp_path)
    assert alone.stdout == "" and len(alone.stderr.splitlines()) == 1
    assert "the project" in alone.stderr and "REPOSITORY" in alone.stderr


def test_in_a_copy_for_exercises_it_says_what_is_missing(tmp_path):
    """One line with every such function, and with a project's folder at hand it runs there."""
    load_exercises().make_exercises(tmp_path / "mine", ["clip", "gae"])
    done = run_setup(tmp_path / "mine/course")
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert re.search(r"Not here: (.*?)\. Until", done.stderr)[1].split(", ") == [
        "clipped", "diagnose", "weigh", "first_arm"]
    elsewhere = run_setup(tmp_path / "mine/course", copies.ROOT.as_posix())
    assert elsewhere.stdout.strip() == copies.ROOT.as_posix(), elsewhere.stderr


def test_a_copy_without_other_functions_is_enough(tmp_path):
    """Exercises that the tour does not call cost it nothing."""
    load_exercises().make_exercises(tmp_path / "mine", ["gae", "signs", "confidence"])
    assert run_setup(tmp_path / "mine/course").stdout.strip() == (tmp_path / "mine").as_posix()


@pytest.mark.full
def test_the_tour(tmp_path, monkeypatch):
    """In a copy without what it does not need, in one process: it pretrains, and the coin lifts."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    copies.copy_project(tmp_path)
    copies.write_files(tmp_path, {
        file: copies.empty_functions((tmp_path / file).read_text("utf-8"), names)
        for file, names in list_gone().items()})
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path / "course")}}).execute()
    said = "".join(output["text"] for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs if output.get("name") == "stdout")
    before, after = map(float, re.search(r"greedy (\S+) -> (\S+),", said).groups())
    assert after > before + 0.1
    summary = json.loads(Path(tmp_path, "runs/tour/coin/summary.json").read_text("utf-8"))
    assert summary["gain"]["switch"] > summary["gain"]["within"]
    assert float(re.search(r"forced code +(\S+)", said)[1]) > after - 0.05
    assert len(re.findall("you wrote", said)) >= len(PARTS)
