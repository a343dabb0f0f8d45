"""How the house is built: sizes, widths, imports; pages that say what the stored results say."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rlvr
import run
from data.corpus import CORPORA
from lessons import report, runner
from tests.helpers import STORED, config, on_each, pool, tiny

ROOT = Path(__file__).parents[1]
ROOMS = ("bench", "companions", "course", "data", "lessons", "plumbing")
CODE = sorted([*ROOT.glob("*.py"),
               *(path for room in ROOMS for path in ROOT.glob(f"{room}/**/*.py"))])
TESTS = sorted(ROOT.glob("tests/*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("lessons/*/*.md"),
                *ROOT.glob("course/*/*.md")])
# A tenth above what stands, so that the next line is not packed into the last one.
LIMITS = {"README.md": 280, "reference.md": 290, "glossary.md": 85,
          "CONTRIBUTING.md": 50, "train.sh": 35, "rlvr.py": 448,
          "model.py": 415, "losses.py": 455, "rewards.py": 326, "run.py": 390,
          "evaluation.py": 320, "measures.py": 255, "pretrain.py": 340,
          "companions/judges.py": 85, "companions/segments.py": 65, "companions/teacher.py": 205,
          "data/answers.py": 55, "plumbing/commands.py": 93, "plumbing/files.py": 175,
          "plumbing/flags.py": 220, "plumbing/limits.py": 80, "plumbing/machine.py": 120,
          "plumbing/messages.py": 30, "plumbing/progress.py": 80, "plumbing/streams.py": 40,
          "plumbing/system.py": 180}

@functools.cache
def parse_file(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PEERS = {"trl", "transformers", "datasets", "tokenizers"}

# Who may import whom: only what stands further left. `lessons`: the folders of all lessons.
FLOORS = ["plumbing.limits", "plumbing.system", "plumbing.messages", "plumbing.flags",
          "plumbing.streams", "plumbing.machine", "plumbing.progress", "plumbing.commands",
          "plumbing.files", "data.task", "data.answers", "data.corpus", "data.tokenizer", "model",
          "pretrain", "losses", "companions.judges", "rewards", "companions.segments",
          "companions.teacher", "measures", "evaluation", "run", "rlvr", "lessons.chance",
          "lessons.grid", "lessons.page", "lessons.report", "lessons.summary", "lessons.jobs",
          "lessons.news",
          "lessons.bandit", "lessons.drift", "lessons.doubt", "lessons.elicit", "lessons.gradients",
          "lessons.context", "lessons", "lessons.runner",
          "lessons.__main__", "bench.bound", "bench.away", "bench.counts", "bench.bench",
          "bench.llama", "bench.contest", "bench.check", "bench.peers", "bench", "course.copies",
          "course.exercises.catalog", "course.exercises.probes", "course.exercises.mistakes",
          "course.exercises.names", "course.exercises.wire", "course.exercises.seal",
          "course.exercises.worker", "course.exercises.door", "course.exercises.draws",
          "course.exercises.handin", "course.exercises.grading", "course.exercises",
          "course.bughunt.mutants", "course.bughunt.strip", "course.bughunt.hunts",
          "course.bughunt", "course.problems.catalog", "course.problems"]


@pytest.mark.parametrize("name", LIMITS)
def test_files_are_short(name):
    assert len((ROOT / name).read_text("utf-8").splitlines()) <= LIMITS[name]


def test_the_front_page_is_small():
    assert len((ROOT / "README.md").read_bytes()) <= 16 * 1024


@on_each(CODE, name_of)
def test_functions_fit_on_a_screen(path):
    """40 rows, the docstring included."""
    for node in ast.walk(parse_file(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 40, node.name


@on_each(PAGES, name_of)
def test_pages_are_100_wide(path):
    """Prose, tables and output alike."""
    for line in path.read_text("utf-8").splitlines():
        assert len(line) <= 100, line


@on_each(CODE, name_of)
def test_what_is_said_on_stderr_may_be_lost(path):
    """`say` ends no work where nobody hears it; print to a stderr that is full or gone does."""
    if path.name != "system.py":
        assert not re.search(r"file=(sys\.)?stderr|stderr\.write|= sys\.stderr( |$)",
                             path.read_text("utf-8"))


def floor_of(module: str) -> int:
    """Its own floor, or that of the folder that it is in."""
    while module not in FLOORS:
        module, _, last = module.rpartition(".")
        assert module, f"{last} is on no floor of FLOORS"
    return FLOORS.index(module)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").exists()


@functools.cache
def imports_of(path: Path) -> set[str]:
    """The project's own modules that a file imports, anywhere in it but for an editor's eyes."""
    names, tree = set(), ast.parse(path.read_text("utf-8"))
    tree.body = [node for node in tree.body if not (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}"
                      if is_module(f"{node.module}.{alias.name}") else node.module
                      for alias in node.names}
    return {name for name in names
            if name.split(".")[0] in {*(floor.split(".")[0] for floor in FLOORS), "tests"}}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def may_import(module: str, name: str) -> bool:
    """A file of a lesson may import its neighbours of the same folder, and those of no other."""
    folder = module.rpartition(".")[0]
    if folder.startswith("lessons.") and name.startswith(f"{folder}."):
        return True
    return floor_of(name) < floor_of(module)


@on_each(CODE, name_of)
def test_imports_point_one_way(path):
    """Nothing imports upwards: not from a floor above, nor from the tests, nor another lesson."""
    if path.name == "__init__.py":
        assert not imports_of(path)
        return
    for name in imports_of(path):
        assert may_import(module_of(path), name), f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("module, name", [
    ("lessons.honesty.lesson", "lessons.calibration.lesson"), ("lessons.drift", "lessons.clips"),
    ("lessons.clips.lesson", "lessons.runner"), ("data.corpus", "model"), ("model", "pretrain"),
    ("plumbing.files", "data.task"), ("losses", "companions.teacher"), ("rlvr", "lessons.report"),
    ("lessons.report", "course.copies"), ("bench.check", "bench.peers")])
def test_an_import_upwards_is_found(module, name):
    """Each of the other direction, or from the side."""
    assert not may_import(module, name)


def test_imports_go_in_no_circle():
    """CycleError says which; in the folder of a lesson there are no floors."""
    TopologicalSorter({module_of(path): imports_of(path) for path in CODE}).prepare()


@pytest.mark.skipif(not (ROOT / "bench").exists(), reason="a copy for students lacks some rooms")
def test_only_files_of_ours_have_floors():
    """Catches a floor whose file has moved: what is there now would stand on that of its folder."""
    assert [name for name in FLOORS if not is_module(name)] == []


@on_each(CODE, name_of)
def test_only_what_is_required_is_imported(path):
    """torch, tiktoken, numpy, tqdm, the standard library; inside functions matplotlib, and PIL,
    which matplotlib needs.

    So too what the benchmark is against, and in the one file about models of others.
    """
    theirs = path.parent.name == "bench" or path.name == "modes.py"
    inside = {"matplotlib", "PIL", *(PEERS if theirs else ())}
    ours = {floor.split(".")[0] for floor in FLOORS}
    for node in ast.walk(parse_file(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        assert "matplotlib.pyplot" not in names  # it, and its window, are the caller's
        for name in {name.split(".")[0] for name in names} - ours:
            allowed = name in {"torch", "tiktoken", "numpy", "tqdm"} | set(sys.stdlib_module_names)
            assert allowed or (name in inside and node.col_offset > 0), name


def test_nothing_of_ours_is_installed(tmp_path):
    """`pip install .` brings what is needed, and no `data` or `model` beside everybody's.

    Neither does `pip install -e .` make ours importable from anywhere.
    """
    pytest.importorskip("setuptools")
    checkout = tmp_path / "checkout"
    for path in ("pyproject.toml", "README.md", "LICENSE", "rlvr.py", "data/task.py",
                 "lessons/__init__.py", "lessons/report.py", "lessons/page.html"):
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, checkout / path)
    program = ("from setuptools import build_meta as build\n"
               "build.build_wheel('..')\nbuild.build_editable('..')")
    subprocess.run([sys.executable, "-c", program], cwd=checkout, check=True, capture_output=True)
    whole, editable = sorted(tmp_path.glob("*.whl"), key=lambda path: "editable" in path.name)
    with zipfile.ZipFile(whole) as wheel:
        assert {name.split("/")[0] for name in wheel.namelist()} == {"minimal_rlvr-0.2.0.dist-info"}
        needed = wheel.read("minimal_rlvr-0.2.0.dist-info/METADATA").decode()
    assert all(f"Requires-Dist: {name}" in needed for name in ("torch", "tiktoken", "numpy"))
    with zipfile.ZipFile(editable) as wheel:
        for name in wheel.namelist():
            assert str(checkout) not in wheel.read(name).decode(), name


# What Windows has not: modules, and names in os and signal. Tests may skip where they are missing.
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "msvcrt", "winreg"}
UNIX_NAMES = {"setsid", "getsid", "setpgid", "getpgid", "killpg", "fork", "forkpty", "wait",
              "sched_getaffinity", "sched_setaffinity", "getuid", "geteuid", "getgid", "chown",
              "mkfifo", "uname", "nice", "getloadavg", "statvfs", "SIGHUP", "SIGKILL", "SIGUSR1",
              "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGSTOP", "alarm", "pause",
              "setitimer", "pthread_kill", "sigwait"}


@on_each([*CODE, *TESTS], name_of)
def test_nothing_is_of_one_system_alone(path):
    """No import that ends the program on Windows, no such name outside plumbing/system.py."""
    tree = parse_file(path)
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {*UNIX, "multiprocessing.forkserver"}, ast.unparse(node)
    for node in ast.walk(tree) if path in CODE else []:
        if isinstance(node, ast.Attribute) and node.attr in UNIX_NAMES:
            allowed = (path.name, node.attr) in (("system.py", "setsid"), ("seal.py", "killpg"),
                                                 ("seal.py", "SIGKILL"))
            assert allowed or ast.unparse(node.value) not in ("os", "signal"), ast.unparse(node)


@on_each([*CODE, *TESTS], name_of)
def test_texts_say_their_encoding(path):
    """Wherever one is read, written, or taken from a process: Windows has another of its own."""
    for node in ast.walk(parse_file(path)):
        if isinstance(node, ast.Call):
            name, words = ast.unparse(node.func), {word.arg for word in node.keywords}
            given = [word.value for word in node.args if isinstance(word, ast.Constant)]
            assert not words & {"text", "universal_newlines"}, ast.unparse(node)
            says = "encoding" in words or {"utf-8", "utf-8-sig"} & set(given)
            binary = any(re.fullmatch("[rwax+]*b[rwax+]*", str(word)) for word in given)
            texts = name == "open" or name.endswith((".read_text", ".open"))
            if texts and name[:3] != "os." and name != "Image.open":
                assert says or binary or name == "files.read_text", ast.unparse(node)
            if name.endswith(".write_text") and len(node.args) == 1:
                assert says, ast.unparse(node)


def test_git_writes_the_same_bytes_everywhere():
    """Catches a checkout of core.autocrlf=true, in which `env: 'bash\\r'` is not found."""
    attributes = (ROOT / ".gitattributes").read_text("utf-8")
    assert "\n* text=auto eol=lf\n" in attributes and "\n*.png binary\n" in attributes


def test_no_link_is_in_the_repository():
    """Catches a .venv that is a link elsewhere: `.venv/` in .gitignore lets it through."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, check=True, capture_output=True,
                            encoding="utf-8").stdout
    assert not [line for line in listed.splitlines() if line.startswith("120000")]


CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time", "getrusage", "times"}


def find_verdicts(text: str) -> list[str]:
    """What of a test would fail on a busy machine: clocks that are read, timeouts under 5 minutes.

    A clock may be read to choose when something is killed: in a function `wait_until`.
    """
    tree, found = ast.parse(text), []
    waits = {inner for node in ast.walk(tree) if getattr(node, "name", "") == "wait_until"
             for inner in ast.walk(node)}
    for node in set(ast.walk(tree)) - waits:
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1] in CLOCKS and name.split(".")[0] in ("time", "os", "resource"):
                found.append(name)
            found += [f"timeout={ast.unparse(keyword.value)}" for keyword in node.keywords
                      if keyword.arg == "timeout" and isinstance(keyword.value, ast.Constant)
                      and keyword.value.value is not None and keyword.value.value < 300]
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [alias.name for alias in node.names if alias.name in CLOCKS]
    return found


@on_each(TESTS, name_of)
def test_no_test_asserts_seconds(path):
    """Of wall or CPU: other work on the machine is no bug."""
    assert not find_verdicts(path.read_text("utf-8"))


@pytest.mark.parametrize("text", [
    "import time\nassert time.process_time() - a < 1", "from time import perf_counter",
    "subprocess.run(command, timeout=20)", "import os\nassert os.times().user < 1"])
def test_a_test_that_asserts_seconds_is_found(text):
    assert find_verdicts(text)


@pytest.mark.slow
def test_rlvr_is_loaded_once():
    """`python rlvr.py` must not import itself under its other name."""
    program = ("import runpy, sys; sys.argv = ['rlvr.py', '--help']\n"
               "try: runpy.run_path('rlvr.py', run_name='__main__')\n"
               "except SystemExit: pass\n"
               "assert 'rlvr' not in sys.modules and 'lessons' not in sys.modules")
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)


def test_function_names_are_unique_in_the_product():
    """A name leads to one place; only the folders of lessons are alike inside."""
    seen = {}
    for path in CODE:
        if path.parent.parent.name == "lessons":
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name != "main":
                seen.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in seen.items() if len(places) > 1}


# --- the lessons and their pages

def test_the_lessons_that_are_shipped_have_results():
    """The guards below leave out a lesson that has none yet, which is a user's."""
    assert {"spurious", "clips", "prior", "scale", "losses", "consistency", "calibration",
            "honesty", "judges", "feedback", "probe"} <= set(STORED)


@pytest.mark.parametrize("name", STORED)
def test_the_page_shows_the_table_of_the_stored_results(name):
    """Every number of the table on a page comes from runs.csv; at most 100 wide, 8 columns."""
    lesson, folder = runner.load_lesson(name), ROOT / "lessons" / name
    table = lesson.table(report.read_results(folder))
    page = (folder / "RESULTS.md").read_text("utf-8")
    below = page.split("## Table\n", 1)[1]
    assert re.search(r"```text\n(.*?)\n```", below, re.DOTALL)[1] == table
    assert all(len(line) <= 100 for line in table.splitlines())
    for block in table.split("\n\n"):
        assert max(len(re.split(r"  +", line.strip())) for line in block.splitlines()) <= 8


@pytest.mark.parametrize("name", STORED)
def test_every_table_of_the_record_has_a_title(name):
    """A line of words above a head of columns; no two tables have the same."""
    table = runner.load_lesson(name).table(report.read_results(ROOT / "lessons" / name))
    blocks = [block.splitlines() for block in table.split("\n\n")]
    for title, head, *rows in blocks:
        assert rows and title[0].isupper() and "  " not in title and "  " in head
    assert len({title for title, *_ in blocks}) == len(blocks)


@pytest.mark.parametrize("name", [*STORED, "template"])
def test_lessons_are_alike(name):
    """lesson.py has its parts in their order, the page its sections, and the figure is there."""
    folder = ROOT / "lessons" / name
    body = ast.parse((folder / "lesson.py").read_text("utf-8")).body
    names = [getattr(node, "name", None) or getattr(node.targets[0], "id", None) for node in body
             if isinstance(node, ast.FunctionDef | ast.Assign)]
    parts = [part for part in names if part in ("BASES", "runs", "measure", "table", "figure")]
    assert [part for part in parts if part != "measure"] == ["BASES", "runs", "table", "figure"]
    source = (folder / "lesson.py").read_text("utf-8")
    question, answer = ast.get_docstring(ast.parse(source)).split("\n\n")[:2]
    assert question.endswith("?") and answer
    sections = re.findall(r"^## (.*)$", (folder / "RESULTS.md").read_text("utf-8"), re.MULTILINE)
    wanted = ["Question", "Command", "Table", "Figure", "Why", "Verdict", "Limits"]
    assert [section for section in sections if section in wanted] == wanted
    if name != "template":
        assert (folder / "figure.png").stat().st_size < 300_000


@pytest.mark.parametrize("name", [*STORED, "template"])
def test_every_run_of_a_lesson_has_a_base(name):
    """Of the full grid and the quick one; no run is there twice."""
    lesson = runner.load_lesson(name)
    for runs in (lesson.runs(), lesson.runs(quick=True), lesson.runs(seeds=5)):
        assert runs and {run["base"] for run in runs} <= set(lesson.BASES)
        folders = [runner.locate_run(run) for run in runs]
        assert len(set(folders)) == len(folders)


def test_the_results_are_small():
    """All stored results and figures together."""
    stored = [path for path in (*ROOT.glob("lessons/*/*"), *ROOT.glob("bench/*"))
              if path.suffix in (".csv", ".png")]
    assert sum(path.stat().st_size for path in stored) <= 7 * 1024 * 1024


def test_links_on_pages_lead_somewhere():
    """Files that a page links to exist, and what it names in brackets is defined below."""
    for page in PAGES:
        text = page.read_text("utf-8")
        targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
        targets += re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
        for target in targets:
            if not target.startswith("http"):
                assert (page.parent / target).exists() or page.parent.name == "template", target
        defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        named = set(re.findall(r"\[([\w./]+)\](?![(:])", prose))
        assert {name for name in named if re.fullmatch(r"\d{4}\.\d{5}|\S+\.py", name)} <= defined


def list_anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: of pass@k it is passk."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^(```|~~~).*?^\1$", "", text), re.MULTILINE)
    headings = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_into_pages_lead_to_a_heading():
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*\.md|)#([^)]+)\)", page.read_text("utf-8")):
            found = page.parent / target if target else page
            assert anchor in list_anchors(found.read_text("utf-8")), (page, target, anchor)


def test_the_functions_that_the_reference_names_are_there():
    """Each row leads to a file and what is in it: a newcomer finds it in one hop."""
    page = (ROOT / "reference.md").read_text("utf-8")
    rows = re.findall(r"^\| .*\| \[(\S+\.py)\]\(\1\): (.*) \|$", page, re.MULTILINE)
    assert len(rows) >= 14
    for file, names in rows:
        body = ast.parse((ROOT / file).read_text("utf-8")).body
        there = {node.name for node in body if hasattr(node, "name")}
        there |= {node.targets[0].id for node in body if isinstance(node, ast.Assign)
                  and isinstance(node.targets[0], ast.Name)}
        assert set(re.findall(r"`(\w+)`", names)) <= there, (file, names)


# --- the main story

def test_the_main_story_names_no_companion():
    """rlvr.py names what stands beside the policy where it is registered, and nowhere else."""
    beside = r"companion|critic|teacher|segment|judge|\bhints?\b|confidence"
    lines = (ROOT / "rlvr.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if re.search(beside, line, re.IGNORECASE)]) <= 5


def test_a_batch_leads_through_eight_files():
    """A rollout of the coin and the updates on it: what a reader has to open to follow them."""
    c, policy, opened = config(reward="random", prompts=3), tiny(), set()
    ours = {str(path): str(path.relative_to(ROOT)) for path in CODE}
    reward, objective = run.bind_entries(c, rlvr.LOSSES["grpo"], policy, policy)
    task = run.Task(CORPORA["good-code"], pool(), reward)
    optimizers = run.make_optimizers(c, policy, ())

    def note_file(frame, event, argument):
        opened.add(ours.get(frame.f_code.co_filename))

    before = sys.getprofile()
    sys.setprofile(note_file)
    try:
        batch = rlvr.rollout(policy, task, c, 0, objective)
        rlvr.update(policy, optimizers, batch, c, 0, objective)
    finally:
        sys.setprofile(before)
    opened.remove(None)
    assert {"rlvr.py", "model.py", "losses.py", "rewards.py"} < opened and len(opened) <= 8, opened
