"""What pyproject.toml promises is run: the lowest versions of its packages, the oldest Python."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY_RUN, files, read_json

ROOT = Path(__file__).parents[1]
CODE = [path for folder in (".", "bench", "companions", "course", "data", "lessons", "plumbing",
                           "tests")
        for path in sorted((ROOT / folder).glob("*.py" if folder == "." else "**/*.py"))]
BASE = "--steps 40 --batch 24 --layers 1 --width 32 --heads 2 --warmup 5 --threads 1".split()

# Of the modules that are used here: what came with Python 3.11 or later, or with numpy 2, by name
# of the module, or under "" of a method, a keyword argument or a builtin.
NEWER = {"": "ExceptionGroup BaseExceptionGroup PythonFinalizationError add_note enterContext "
             "enterClassContext full_match is_junction with_segments from_uri binomialvariate "
             "co_qualname co_positions delete_on_close walk_up case_sensitive",
         "ast": "TryStar ParamSpec TypeAlias TypeVarTuple PyCF_OPTIMIZED_AST",
         "asyncio": "TaskGroup Runner Barrier timeout timeout_at", "contextlib": "chdir",
         "copy": "replace", "csv": "QUOTE_NOTNULL QUOTE_STRINGS", "datetime": "UTC",
         "enum": "StrEnum ReprEnum EnumType member nonmember verify global_enum",
         "glob": "translate", "hashlib": "file_digest", "inspect": "getmembers_static",
         "np": "trapezoid concat permute_dims pow acos asin atan acosh asinh atanh astype isdtype "
               "bool long ulong strings unstack vecdot matrix_transpose cumulative_sum "
               "cumulative_prod unique_all unique_counts unique_inverse unique_values",
         "itertools": "batched", "math": "cbrt exp2 fma sumprod", "operator": "call",
         "os": "process_cpu_count unshare setns login_tty", "random": "binomialvariate",
         "re": "NOFLAG PatternError", "statistics": "kde kde_random", "sys": "exception monitoring",
         "tomllib": "load loads", "types": "get_original_bases",
         "typing": "Self Never LiteralString Required NotRequired Unpack TypeVarTuple ReadOnly "
                   "assert_never assert_type dataclass_transform override reveal_type TypeIs",
         "warnings": "deprecated"}


def read_lowest() -> dict[str, str]:
    """{package: lowest version} that pyproject.toml promises, of what is required or draws."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"^(?:dependencies|figure) = \[(.*?)\]", text, re.M | re.S))
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)', named))


def list_names(tree: ast.AST) -> set[tuple[str, str]]:
    """(module, name) of whatever is imported or reached by a dot; ("", name) of all names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "load") for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(("", node.attr))
            if isinstance(node.value, ast.Name):
                found.add((node.value.id, node.attr))
        elif isinstance(node, (ast.Name, ast.keyword)):
            found.add(("", node.id if isinstance(node, ast.Name) else node.arg or ""))
    return found


def list_newer(text: str) -> set[tuple[str, str]]:
    """What of a file Python 3.10 does not have. SyntaxError for a grammar that it cannot read."""
    tree, words = ast.parse(text, feature_version=(3, 10)), set(re.findall(r"\w+", text))
    newer = {(module, name) for module, names in NEWER.items() for name in names.split()
             if name in words or "tomllib" in words}
    return list_names(tree) & newer if newer else set()


def test_the_oldest_python_has_what_is_used():
    """3.10, as requires-python says, and the oldest numpy.

    What is newer is reached by getattr, with a way around it.
    """
    newer = {str(path): list_newer(path.read_text(encoding="utf-8")) for path in CODE}
    assert not {path: names for path, names in newer.items() if names}


@pytest.mark.parametrize("text", [
    "import tomllib", "from typing import Self", "import datetime\ndatetime.UTC",
    "raise ExceptionGroup('', [])", "import os\nos.process_cpu_count()",
    "import enum\nenum.StrEnum", "from itertools import batched", "def f[T](x): 0",
    "import contextlib\ncontextlib.chdir('.')",
    "try: 0\nexcept* ValueError: 0", "type X = int", "error.add_note('')",
    "np.trapezoid(y, x)", "mask.astype(np.bool)"])
def test_what_is_newer_is_noticed(text):
    """The test above sees it."""
    try:
        assert list_newer(text)
    except SyntaxError:
        pass


# --- the lowest versions


def install_lowest(folder: Path) -> dict[str, str]:
    """The lowest promised versions, but torch's, in a folder; skips where they cannot be had."""
    lowest = {name: version for name, version in read_lowest().items() if name != "torch"}
    wanted = [f"{name}=={version}" for name, version in lowest.items()]
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder,
                           "--only-binary", ":all:", *wanted],
                          capture_output=True, encoding="utf-8")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no pip"
        # An index that answers lists what it has.
        answered = re.search(r"from versions: (?!none)", done.stderr)
        assert not answered or sys.version_info >= (3, 13), done.stderr
        pytest.skip(f"the lowest versions cannot be installed here: {reason}")
    return lowest


def run_all(folder: Path, environment: dict) -> None:
    """A pretraining, a run that stops and resumes, an evaluation and a report, into a folder."""
    folder.mkdir()
    train = ["rlvr.py", "train", "--base", "b.pt", "--out", "run", "--reward", "majority",
             "--loss", "ppo", "--device", "cpu", *TINY_RUN]
    commands = [["rlvr.py", "pretrain", "--out", "b.pt", "--device", "cpu", *BASE],
                [*train, "--steps", "2"], train,
                ["rlvr.py", "evaluate", "run/model.pt", "--problems", "5", "--samples", "3",
                 "--threads", "1", "--device", "cpu"],
                ["-m", "lessons.report", "run", "--out", "report", "--html"]]
    for command in commands:
        first = [str(ROOT / command[0])] if command[0] != "-m" else ["-m"]
        done = subprocess.run([sys.executable, *first, *command[1:]], cwd=folder, env=environment,
                              capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        if "evaluate" in command:
            (folder / "evaluation.json").write_text(done.stdout, "utf-8")


def read_versions(names: list[str], environment: dict) -> list[str]:
    program = "import sys\nfrom importlib.metadata import version\n" \
              "print(*map(version, sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", program, *names], env=environment, check=True,
                          capture_output=True, encoding="utf-8").stdout.split()


@pytest.mark.slow
def test_the_lowest_versions_give_the_same_numbers(tmp_path):
    """Weights, tables and answers bit for bit: so random streams and tokens are the same too."""
    lowest = install_lowest(tmp_path / "site")
    here = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    there = dict(here, PYTHONPATH=os.pathsep.join((str(tmp_path / "site"), str(ROOT))))
    for (name, least), version in zip(lowest.items(), read_versions(list(lowest), there)):
        assert f"{version}.".startswith(f"{least}."), name
    assert read_versions(list(lowest), here) != read_versions(list(lowest), there)
    run_all(tmp_path / "lowest", there)
    run_all(tmp_path / "installed", here)
    a, b = (tmp_path / name for name in ("lowest", "installed"))
    for name in ("b.pt", "run/model.pt"):
        old, new = (torch.load(folder / name, weights_only=True)["weights"] for folder in (a, b))
        assert all(torch.equal(old[key], new[key]) for key in new)
    ours, theirs = files(a), files(b)
    assert ours.keys() == theirs.keys()
    for name in ("run/metrics.csv", "run/samples.txt", "run/answers.json", "evaluation.json",
                 "report/curves.csv"):
        assert ours[name] == theirs[name], name
    assert read_json(a / "run/summary.json")["after"] == read_json(b / "run/summary.json")["after"]
