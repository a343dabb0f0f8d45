"""The notebook: small cells, and every one of them runs and says what the text around it says."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

from course import copies

PATH = copies.ROOT / "course/tour.ipynb"
CELLS = json.loads(PATH.read_text("utf-8"))["cells"]


def test_the_notebook_is_short():
    """Cells of at most 25 lines, 100 wide, Python but for `%` and `!`; the file under 400 KB."""
    for cell in CELLS:
        lines = "".join(cell["source"]).splitlines()
        assert len(lines) <= 25 and all(len(line) <= 100 for line in lines)
        if cell["cell_type"] == "code":
            ast.parse("\n".join(re.sub(r"^( *)[%!].*", r"\1pass", line) for line in lines))
    assert PATH.stat().st_size < 400_000


def test_the_notebook_was_executed_in_order():
    """What it shows was printed by it: counts 1, 2, ..., no error, no progress bars."""
    cells = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_links_of_the_notebook_lead_somewhere():
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (PATH.parent / target).exists(), target


@pytest.mark.full
def test_the_tour(tmp_path, monkeypatch):
    """From a clone, in one process: it pretrains, the coin lifts, the probe says yes."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    copies.copy_project(tmp_path)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path / "course")}}).execute()
    said = "".join(output["text"] for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs if output.get("name") == "stdout")
    before, after = map(float, re.search(r"accuracy (\S+) -> (\S+), code", said).groups())
    assert after > before + 0.1 and "latent: yes" in said
    summary = json.loads(Path(tmp_path, "runs/tour/coin/summary.json").read_text("utf-8"))
    assert summary["gain"]["switch"] > summary["gain"]["within"]
