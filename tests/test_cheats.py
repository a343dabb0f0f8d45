"""What tries to have points for nothing, or takes the grader down: each costs its own points.

Each stands in a process of its own, as a student's solution of pass@k. The honest part of them is
wrong: 1 - (1 - c / n)^k. Slow: a process imports torch for each. Full: whole exercises are graded.
"""

import json
import math
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from course import copies
from course.exercises import door, draws, grading
from course.exercises.catalog import EXERCISES

ROOT = copies.ROOT
SITE = Path(torch.__file__).parents[1]
PASS = "evaluation.py:pass_at_k"
WRONG = "1 - (1 - c / n) ** k"
ANSWER = "math.comb(n - c, k)"     # what the project's own has in it


@contextmanager
def run_solution(source: str, changes: dict[str, tuple[str, str]] | None = None):
    """A worker in whose folder evaluation.py is `source`, and lines of other files are changed."""
    with grading.make_bare_folder(EXERCISES["pass_at_k"], {"evaluation.py": source}) as bare:
        for path, (old, new) in (changes or {}).items():
            text = (bare / path).read_text("utf-8")
            assert text.count(old) == 1
            (bare / path).write_text(text.replace(old, new), encoding="utf-8")
        worker = door.Worker(bare)
        try:
            yield worker
        finally:
            worker.stop()


def write_function(body: str, before: str = "", name: str = "pass_at_k") -> str:
    """evaluation.py with one function, of some lines."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{before}\ndef {name}(n, c, k):\n{lines}\n"


# --- reading the answer

STEAL = {
    "open": "open(ROOT + '/evaluation.py').read()",
    "through the packages' folder": "open(DOTS).read()",
    "os.open": "__import__('os').read(__import__('os').open(DOTS, 0), 10 ** 6).decode()",
    "pathlib": "__import__('pathlib').Path(ROOT, 'evaluation.py').read_text()",
    "linecache": "''.join(__import__('linecache').getlines(ROOT + '/evaluation.py'))",
    "import": "__import__('importlib').machinery.SourceFileLoader('theirs', ROOT +"
              " '/evaluation.py').get_source('theirs')",
    "run": "__import__('runpy').run_path(ROOT + '/evaluation.py')['pass_at_k'](5, 2, 2) and"
           " LOOT",
    "an editable install": "(__import__('site').addsitedir(PTH),"
                           " open(sys.path[-1] + '/evaluation.py').read())[1]",
    "numpy": "__import__('numpy').fromfile(ROOT + '/evaluation.py', dtype='uint8')"
             ".tobytes().decode()",
    "torch": "bytes(__import__('torch').from_file(ROOT + '/evaluation.py', size=SIZE,"
             " dtype=__import__('torch').uint8).tolist()).decode()",
    "torch's storage": "bytes(__import__('torch').UntypedStorage.from_file("
                       "ROOT + '/evaluation.py', False, SIZE).tolist()).decode()",
    "C": "LIBC_READ(ROOT + '/evaluation.py')",
    "a link": "(__import__('os').symlink(ROOT + '/evaluation.py', 'a'), open('a').read())[1]",
    "a hard link": "(__import__('os').link(ROOT + '/evaluation.py', 'b'), open('b').read())[1]",
    "cat": "__import__('subprocess').check_output(['cat', ROOT + '/evaluation.py']).decode()",
    "a shell": "__import__('os').popen('cat ' + ROOT + '/evaluation.py').read()",
    "the judge's folder": "open(f'/proc/{__import__(\"os\").getppid()}/cwd/evaluation.py').read()",
    "the judge's environment": "open(f'/proc/{__import__(\"os\").getppid()}/environ').read() and"
                               " LOOT",
    "the judge's memory": "open(f'/proc/{__import__(\"os\").getppid()}/mem', 'rb') and"
                          " LOOT",
    "memory": "next(o for o in __import__('gc').get_objects() if isinstance(o, dict)"
              " and 'pass_at_k' in o and 'comb' in str(o.get('pass_at_k')))",
}
LIBC = '''
import ctypes, sys
def LIBC_READ(path):
    libc = ctypes.PyDLL(None)
    number, buffer = libc.open(path.encode(), 0), ctypes.create_string_buffer(SIZE)
    libc.read(number, buffer, SIZE)
    return buffer.raw.decode()
'''
# What is C in Python's clothes passes the hook: Landlock alone holds it.
BELOW_PYTHON = ("torch", "torch's storage")


@pytest.fixture(scope="module")
def thefts(tmp_path_factory) -> str:
    """evaluation.py with a function for each, that gives the answer's text or what went wrong."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    dots = os.path.join(SITE, os.path.relpath(ROOT, os.path.realpath(SITE)), "evaluation.py")
    places = {"ROOT": str(ROOT), "DOTS": dots, "PTH": str(folder),
              "SIZE": (ROOT / "evaluation.py").stat().st_size}
    known = f"LOOT = {ANSWER[:5]!r} {ANSWER[5:]!r}\n" + LIBC   # in halves: it is not in this file
    known += "".join(f"{name} = {value!r}\n" for name, value in places.items())
    return known + "".join(
        write_function(f"try:\n    return str({theft})\nexcept BaseException as error:\n"
                       "    return 'failed: ' + repr(error)", name=f"steal_{number}")
        for number, theft in enumerate(STEAL.values()))


@pytest.fixture(scope="module")
def thief(thefts):
    with run_solution(thefts) as worker:
        yield worker


def steal(worker, how: str) -> str:
    """What a theft gives, in words."""
    worker.broken.clear()
    function = f"evaluation.py:steal_{list(STEAL).index(how)}"
    try:
        return str(door.ask_worker(worker, function, 5, 2, 2))
    except (door.Unanswered, OSError) as error:
        return f"failed: {error}"


@pytest.mark.slow
@pytest.mark.parametrize("how", STEAL)
def test_the_answer_is_out_of_reach(how, thief):
    found = steal(thief, how)
    if how in BELOW_PYTHON and not thief.held_by:
        pytest.skip("this system has no Landlock")
    assert ANSWER not in found


LAYERS = {"the hook": ("    held_by = restrict_files(readable)", "    held_by = ''"),
          "Landlock": ("    refuse_events([os.path.realpath(path) for path in readable])", "")}


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_holds_alone(layer, thefts):
    """A thief in Python finds nothing with the hook alone, none at all with Landlock alone."""
    with run_solution(thefts, {"course/exercises/seal.py": LAYERS[layer]}) as worker:
        found = {how: steal(worker, how) for how in STEAL}
        if layer == "Landlock" and not worker.held_by:
            pytest.skip("this system has no Landlock")
    stolen = {how for how, text in found.items() if ANSWER in text}
    assert stolen <= (set(BELOW_PYTHON) if layer == "the hook" else set()), stolen


@pytest.mark.slow
def test_thieves_are_thieves(thefts):
    """Without both layers nearly all of them have the answer: the tests above test something."""
    with grading.make_bare_folder(EXERCISES["pass_at_k"], {"evaluation.py": thefts}) as bare:
        path = bare / "course/exercises/seal.py"
        text = path.read_text("utf-8")
        for old, new in LAYERS.values():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        worker = door.Worker(bare)
        try:
            stolen = {how for how in STEAL if ANSWER in steal(worker, how)}
        finally:
            worker.stop()
    assert set(STEAL) - stolen <= {"memory", "the judge's memory"}, set(STEAL) - stolen


# --- deceiving who judges

EQUAL = '''
import torch
class Equal(torch.Tensor):
    def __eq__(self, other): return True
    def __torch_function__(self, *a, **k): return True
    __hash__ = None
class Number(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    def __hash__(self): return 0
'''
FORGE = '''
import os
from course.exercises import wire
forged = wire.pack(wire.Message({"dict": [["result", {"list": [1.0, {"list": []}]}]]}, [], []))
for number in range(3, 64):
    try: os.write(number, forged)
    except OSError: pass
'''
PATCH = '''
import builtins, sys, unittest, torch, numpy
always = lambda *a, **k: True
torch.allclose = torch.equal = torch.Tensor.__eq__ = numpy.allclose = always
torch.testing.assert_close = numpy.testing.assert_allclose = lambda *a, **k: None
builtins.abs = lambda x: 0.0
builtins.all = builtins.isinstance = builtins.callable
for name, module in list(sys.modules.items()):
    if "pytest" in name:
        module.pytest_runtest_protocol = always
'''
# These leave the process as it was: one process for all.
DECEIVE = {
    "a number equal to all": f"exec(EQUAL, globals())\nreturn Number({WRONG})",
    "a tensor equal to all": "exec(EQUAL, globals())\nreturn torch.zeros(()).as_subclass(Equal)",
    "not a number": "return float('nan')",
    "a tensor of nan": "import torch\nreturn torch.tensor(float('nan'))",
    "a pickle": "class Evil:\n    def __reduce__(self): return eval, ('1/0',)\nreturn Evil()",
    "no number at all": "return '0.5'",
    "nothing": "return None",
    "zero": "return 0.0",
    "one": "return 1.0",
    "an error always": "raise ValueError('k > n')",
    "a polite end": "raise SystemExit(0)",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal to the judge": "import os\ntry: os.kill(os.getppid(), 9)\n"
                             f"except OSError: pass\nreturn {WRONG}",
    "a judge that stops": "import _pytest.outcomes as o\nraise o.Exit('all passed')",
    "a tensor without end": "import torch\nreturn torch.zeros(1).expand(10 ** 13)",
    "a large tensor": "import torch\nreturn torch.zeros(2 ** 26)",
    "a list in lists": "x = []\nfor _ in range(10 ** 5):\n    x = [x]\nreturn x",
    "a list in itself": "x = []\nx.append(x)\nreturn x",
    "much output": f"print('x' * 10 ** 8)\nreturn {WRONG}",
    "a number without end": "return 10 ** 10 ** 5",
    "recursion": "def f(): return f()\nreturn f()",
    "all the memory": "x = [bytearray(2 ** 28) for _ in range(10 ** 6)]\nreturn len(x)",
}
# These do not: (before the function, its body).
DISTURB = {
    "a patch of what compares": (PATCH, f"return {WRONG}"),
    "a forged message": (FORGE, f"return {WRONG}"),
    "an end": ("import os", "os._exit(0)"),
    "an end at import": ("import os; os._exit(0)", "return 1.0"),
    "a crash": ("import faulthandler", "faulthandler._sigsegv()"),
    "threads and a last word": (FORGE + "import atexit, threading, time\n"
                                "def speak():\n    time.sleep(0.05)\n    os.write(4, forged)\n"
                                "atexit.register(speak)\n"
                                "for _ in range(9): threading.Thread(target=speak).start()",
                                f"return {WRONG}"),
}


@pytest.fixture(scope="module")
def deceiver():
    with run_solution(f"EQUAL = {EQUAL!r}\n" + "".join(
            write_function(body, name=f"deceive_{number}")
            for number, body in enumerate(DECEIVE.values()))) as worker:
        yield worker


def judge(worker, function: str) -> tuple[int, int]:
    """What drawn inputs say of a function; and is the judge's own torch still what it was?"""
    found = draws.count_agreements(PASS, "key", lambda _, *arguments, **keywords: door.ask_worker(
        worker, function, *arguments, **keywords))
    assert not torch.allclose(torch.zeros(1), torch.ones(1)) and not torch.equal(
        torch.zeros(1), torch.ones(1)) and abs(-1) == 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", DECEIVE)
def test_a_deceiver_gets_nothing(how, deceiver):
    """No drawn input counts as right; and who judges goes on and still knows right from wrong."""
    deceiver.broken.clear()
    number = list(DECEIVE).index(how)
    assert judge(deceiver, f"evaluation.py:deceive_{number}") == (0, draws.CASES)


@pytest.mark.slow
@pytest.mark.parametrize("how", DISTURB)
def test_who_disturbs_gets_nothing(how):
    before, body = DISTURB[how]
    with run_solution(write_function(body, before)) as worker:
        assert judge(worker, PASS) == (0, draws.CASES)


@pytest.mark.slow
def test_answers_that_are_written_down_are_worth_nothing():
    """A table of all that the tests ask: they pass, and no drawn input does."""
    table = {(n, c, k): 1 - math.comb(n - c, k) / math.comb(n, k)
             for n in (1, 2, 5, 7) for c in range(n + 1) for k in range(1, n + 1)}
    body = ("if k > n or c > n or k < 1 or c < 0:\n    raise ValueError\n"
            f"return {table}.get((n, c, k))")
    with run_solution(write_function(body)) as worker:
        assert door.ask_worker(worker, PASS, 5, 2, 2) == pytest.approx(0.7)
        right, of = draws.count_agreements(PASS, "key", partial(door.ask_worker, worker))
    assert right <= of / 4


# --- a loop without end

@pytest.mark.slow
def test_a_loop_costs_its_own_check(monkeypatch):
    """The call ends by the processor's time; that check asks no more, another one does."""
    body = f"while n == 5:\n    pass\nreturn {WRONG}"
    with run_solution(write_function(body)) as worker:
        worker.in_tests = True
        monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/a.py::test_one[1] (call)")
        with pytest.raises(door.Unanswered, match="takes too long"):
            door.ask_worker(worker, PASS, 5, 2, 2)
        monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/a.py::test_one[2] (call)")
        with pytest.raises(door.Unanswered, match="takes too long"):
            door.ask_worker(worker, PASS, 4, 2, 2)
        assert worker.process is None
        monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/a.py::test_two[1] (call)")
        assert door.ask_worker(worker, PASS, 4, 2, 2) == 0.75


@pytest.mark.slow
def test_sleep_is_ended_by_the_clock(monkeypatch):
    monkeypatch.setattr(door, "CALL_SECONDS", 0.5)
    with run_solution(write_function("import time\ntime.sleep(10 ** 6)")) as worker:
        with pytest.raises(door.Unanswered, match="takes too long"):
            door.ask_worker(worker, PASS, 5, 2, 2)
        assert worker.process is None


@pytest.mark.slow
def test_an_honest_call_is_not_late(monkeypatch):
    """The limit is for one call: two seconds in each of eight are within ten."""
    body = ("import time\nend = time.process_time() + 2\n"
            "while time.process_time() < end:\n    pass\n" f"return {WRONG}")
    with run_solution(write_function(body)) as worker:
        assert [door.ask_worker(worker, PASS, 4, 2, 2) for _ in range(8)] == [0.75] * 8


@pytest.mark.slow
def test_a_solution_sees_nothing_of_ours():
    """Its environment, its arguments, its folder and its path: neither checkout, report nor key."""
    body = ("import json, os, sys\nreturn json.dumps([dict(os.environ), sys.argv, sys.path,"
            " os.getcwd(), sorted(os.listdir('.')), sorted(sys.modules)])")
    with run_solution(write_function(body)) as worker:
        found = door.ask_worker(worker, PASS, 4, 2, 2)
    environment, arguments, path, place, names, modules = json.loads(found)
    assert set(environment) <= {"OMP_NUM_THREADS", "LC_ALL", "LC_CTYPE", *door.KEPT}
    assert str(ROOT) not in [place, *path] and "tests" not in names
    assert not any(text.startswith(str(ROOT) + os.sep) and not text.startswith(sys.prefix)
                   for text in arguments + path)
    assert not {"pytest", "_pytest", "site", "sitecustomize"} & set(modules)


# --- whole grades

WHOLE = {
    "a test that is replaced": "import _pytest.runner\n"
        "always = lambda *a, **k: True\n"
        "_pytest.runner.pytest_runtest_protocol = torch.testing.assert_close = always\n",
    "a report that is written": "import glob, os\n"
        "for path in glob.glob('/tmp/*/') + ['/tmp/', './']:\n"
        "    for name in ('results.xml', 'results.json'):\n"
        "        try: open(path + name, 'w').write('<testsuites/>')\n"
        "        except BaseException: pass\n",
    "the checkout's own file": f"try: exec(open({str(ROOT / 'losses.py')!r}).read(), globals())\n"
                               "except BaseException: pass\n",
    "a forged message": FORGE,
}


@pytest.mark.full
@pytest.mark.parametrize("how", WHOLE)
def test_a_wrong_grpo_stays_wrong(how, tmp_path):
    """Its honest part is worth what it is without the cheat: grpo alone is wrong.

    Who forges messages spoils his own: each is read as the answer to the next question.
    """
    source = (ROOT / "losses.py").read_text("utf-8")
    right = "batch.rewards.std(dim=1, correction=0, keepdim=True)"
    assert source.count(right) == 1
    wrong = source.replace(right, "batch.rewards.std(dim=1, correction=1, keepdim=True)")
    (tmp_path / "losses.py").write_text(wrong + "\n\n" + WHOLE[how] + "\n", encoding="utf-8")
    grade = grading.grade_exercise("advantages", tmp_path, "key")
    assert grade.drawn["losses.py:grpo"] == (0, 8)
    assert "test_group_advantages" in "".join(failure.message for failure in grade.failures)
    if how == "a forged message":
        assert grade.points == 0, grade
    else:
        assert grade.drawn["losses.py:rloo"] == (8, 8) and 0 < grade.points <= 7, grade


@pytest.mark.full
def test_trivial_solutions_have_no_points(tmp_path):
    """Zeros everywhere had 5 of 10: equal rewards, and a token's number, are zeros too."""
    source = (ROOT / "losses.py").read_text("utf-8")
    nodes = {function.split(":")[1] for function in EXERCISES["advantages"].write}
    bodies = {"to_tokens": "return torch.zeros(batch.mask.shape, dtype=torch.float64)",
              "center_rewards": "return 0 * rewards"}
    zeros = copies.write_bodies(source, {
        name: [bodies.get(name, "return 0.0 * batch.mask")] for name in nodes})
    (tmp_path / "losses.py").write_text(zeros, encoding="utf-8")
    grade = grading.grade_exercise("advantages", tmp_path, "key")
    assert grade.passed > 0 and grade.points == 0


@pytest.mark.full
def test_files_beside_the_exercise_are_not_taken(tmp_path):
    """conftest.py, sitecustomize.py, other tests, a torch of one's own: no one looks at them."""
    for name in ("conftest.py", "sitecustomize.py", "usercustomize.py", "torch.py", "pytest.py",
                 "tests/conftest.py", "tests/adapters.py", "tests/test_evaluation.py", "math.py",
                 "pyproject.toml", "course/exercises/worker.py", "data/task.py", "a.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import os; os._exit(0)\n", encoding="utf-8")
    source = (ROOT / "evaluation.py").read_text("utf-8")
    (tmp_path / "evaluation.py").write_text(source, encoding="utf-8")
    grade = grading.grade_exercise("pass_at_k", tmp_path, "key")
    assert grade.points == grade.most == 5, grade


@pytest.mark.full
def test_a_crash_costs_its_exercise_alone(tmp_path):
    """One file ends the process that reads it: the exercise beside it has all its points."""
    source = (ROOT / "evaluation.py").read_text("utf-8")
    (tmp_path / "evaluation.py").write_text(source, encoding="utf-8")
    (tmp_path / "losses.py").write_text((ROOT / "losses.py").read_text("utf-8")
                                        + "\nimport os\nos._exit(1)\n", encoding="utf-8")
    from course.exercises import __main__ as exercises

    signs, pass_at_k = exercises.grade_side_by_side(tmp_path, ["signs", "pass_at_k"], "key")
    assert signs.points == 0 and len(signs.failures) == len(EXERCISES["signs"].checks)
    assert pass_at_k.points == 5
