"""How exercises are graded: what crosses the door, what is read, what the points are.

What tries to have points for nothing: test_cheats.py.
"""

import functools
import json
import os

import numpy as np
import pytest
import torch

import losses
from course import copies
from course.exercises import door, draws, grading, handin, seal, wire, worker
from course.exercises.catalog import EXERCISES
from data import task
from plumbing.messages import WorkError
from tests.helpers import f64

ROOT = copies.ROOT
INF, NAN = torch.inf, torch.nan
EVERY = [function for exercise in EXERCISES.values() for function in exercise.write]


# --- messages

def cross(value, make_record=None):
    """A value as the other side of the door has it."""
    leaves = []
    tree = wire.flatten_value(value, leaves)
    packed = wire.pack(wire.Message(tree, leaves, [leaf.requires_grad for leaf in leaves]))
    length = wire.struct.calcsize(wire.LENGTHS)
    head, _ = wire.struct.unpack(wire.LENGTHS, packed[:length])
    message = wire.unpack(packed[length:length + head], packed[length + head:])
    return wire.rebuild_value(message.tree, message.leaves, make_record)


@pytest.mark.parametrize("kind", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)], ids=str)
def test_tensors_cross_as_they_are(kind, shape):
    tensor = torch.arange(6).to(kind)[:int(np.prod(shape))].reshape(shape)
    found = cross([tensor])[0]
    assert found.dtype == kind and found.shape == shape and torch.equal(found, tensor)


def test_an_expanded_number_crosses():
    """As the gradient of a sum of one number is."""
    assert cross([torch.ones((), **f64).expand(1)])[0].tolist() == [1.0]


def test_plain_data_crosses_as_it_is():
    """Types included: a tuple is no list, a bool no int; numpy's numbers become Python's."""
    value = {"a": (1, 2.5, True, None), 3: ["x", [], {}], "inf": -float("inf"),
             "numpy": np.float64(0.1), "long": 2 ** 100}
    found = cross(value)
    assert found == value and repr(found) == repr({**value, "numpy": 0.1})
    array = np.arange(6.0).reshape(2, 3)[:, ::-1]
    assert np.array_equal(cross(array), array) and isinstance(cross(array), np.ndarray)


class Anything:
    """What a student may make up."""


@pytest.mark.parametrize("value", [Anything(), [Anything], {1, 2}, b"x", 1j, lambda: 0,
                                   torch.zeros(2).to_sparse(), torch.zeros(1, dtype=torch.cfloat),
                                   np.array([Anything()])], ids=lambda value: type(value).__name__)
def test_only_data_crosses(value):
    with pytest.raises((wire.NotData, TypeError)):
        cross(value)


@pytest.mark.parametrize("head", [
    b"", b"[", b"{}", b"[" * 10 ** 5, b"[" * 10 ** 6, b'{"tree": 1}', b'{"tree": 1, "leaves": [1]}',
    b'{"tree": 1, "leaves": [["float64", [3], false]]}',
    b'{"tree": 1, "leaves": [["float64", [-1], false]]}',
    b'{"tree": 1, "leaves": [["float64", [true], false]]}',
    b'{"tree": 1, "leaves": [["float64", [1e9], false]]}',
    b'{"tree": 1, "leaves": [["float64", [4000000000, 4000000000], false]]}',
    b'{"tree": 1, "leaves": [["object", [1], false]]}'], ids=lambda head: str(head[:60]))
def test_what_is_no_message_is_refused(head):
    """Sixteen bytes follow each: a shape must fit them."""
    with pytest.raises(wire.NotData):
        wire.unpack(head, b"\0" * 16)


def test_types_of_ours_do_not_come_back():
    """What a student's process sends makes no object: towards the judge there are no records."""
    batch = losses.Batch([[1]], *[torch.zeros(1, 1)] * 4)
    with pytest.raises(wire.NotData):
        cross(batch)
    with pytest.raises(wire.NotData):
        wire.rebuild_value({"os.system": "true"}, [])


def test_a_message_has_a_size(monkeypatch):
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    assert len(cross(torch.zeros(50, **f64))) == 50
    with pytest.raises(wire.NotData):
        cross(torch.zeros(150, **f64))


# --- the door, with the functions in this very process

class Loopback:
    """A worker without a process: the answers of worker.py, for the project's own functions."""

    def __init__(self):
        self.asked = []

    def request(self, function, message):
        self.asked.append(function)
        try:
            answer = worker.answer(self.carry(message))
        except Exception as error:
            answer = worker.describe_error(error)
        return self.carry(answer)

    @staticmethod
    def carry(message):
        packed = wire.pack(message)
        length = wire.struct.calcsize(wire.LENGTHS)
        head, _ = wire.struct.unpack(wire.LENGTHS, packed[:length])
        return wire.unpack(packed[length:length + head], packed[length + head:])


@pytest.mark.parametrize("function", EVERY)
def test_the_door_changes_nothing(function):
    """Values, shapes, gradients and what a cache holds are those of a call without it."""
    loopback = Loopback()

    def call(name, *arguments, **keywords):
        return door.ask_worker(loopback, name, *arguments, **keywords)

    assert draws.count_agreements(function, "door", call) == (draws.CASES, draws.CASES)
    assert function in loopback.asked


def test_errors_of_a_student_are_raised_here():
    """Python's own as themselves, since a test may expect one; all others as no answer."""
    loopback = Loopback()
    with pytest.raises(ValueError, match="pass@k needs"):
        door.ask_worker(loopback, "evaluation.py:pass_at_k", 4, 1, 5)

    class Unknown(ValueError):
        pass

    for error in (SystemExit("bye\n\x1b[2J"), Unknown("x\ny"), KeyboardInterrupt()):
        with pytest.raises(door.Unanswered) as found:
            door.read_answer(worker.describe_error(error))
        assert "\n" not in str(found.value) and "\x1b" not in str(found.value)


def test_a_model_and_a_generator_cross():
    """The copy gives the same logits, with the same gradient, and the same random numbers."""
    transformer = draws.draw_transformer(np.random.default_rng(0))
    other, generator, problem = cross(
        [transformer, np.random.default_rng(7), task.Problem(3, (("+", 4),))], worker.make_record)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(other(ids), transformer(ids)) and other.config == transformer.config
    assert generator.random() == np.random.default_rng(7).random()
    assert tuple(problem.ops[0]) == ("+", 4) and isinstance(problem, task.Problem)


def test_a_process_that_does_not_start_is_nobodys_mistake(tmp_path):
    """It has read no code of a student's: no points are lost, the grading fails, and says why."""
    worker = door.Worker(tmp_path)    # in which there is no worker.py
    with pytest.raises(WorkError, match="does not start: the process ended"):
        draws.count_agreements("evaluation.py:pass_at_k", "key", functools.partial(
            door.ask_worker, worker))


# --- stubs

def test_a_stub_asks():
    """Signature and docstring stay: flags are read from them."""
    source = (ROOT / "losses.py").read_text("utf-8")
    stubbed = door.write_stubs(source, "losses.py", {"clipped", "w_reinforce"})
    nodes, before = copies.find_functions(stubbed), copies.find_functions(source)
    for name in before:
        changed = name in ("clipped", "w_reinforce")
        one, other = nodes[name], before[name]
        assert copies.ast.unparse(one.args) == copies.ast.unparse(other.args)
        assert copies.ast.get_docstring(one) == copies.ast.get_docstring(other)
        assert (copies.ast.unparse(one) != copies.ast.unparse(other)) == changed
    assert copies.ast.unparse(nodes["w_reinforce"].body[-1]) == (
        "return ask('losses.py:w_reinforce', batch, psr_weight=psr_weight)")


@pytest.mark.parametrize("name", EXERCISES)
def test_a_bare_folder_has_no_answer(name):
    """Neither to this exercise, nor what is hidden with it; no tests, pages, reports."""
    exercise = EXERCISES[name]
    files = {file: copies.empty_functions((ROOT / file).read_text("utf-8"), functions)
             for file, functions in handin.group_functions(exercise.write).items()}
    with grading.make_bare_folder(exercise, files) as bare:
        for function in exercise.write + exercise.hide:
            file, inner = function.split(":")
            node = copies.find_functions((bare / file).read_text("utf-8"))[inner]
            assert copies.is_empty(node), function
        there = {path.relative_to(bare).as_posix() for path in bare.rglob("*") if path.is_file()}
    assert not {path for path in there if path.startswith(("tests/", "bench/", "course/bughunt"))}
    assert not {path for path in there if path.endswith((".md", ".csv", ".html"))}
    assert {"course/exercises/worker.py", "data/vocab.tiktoken", "rlvr.py"} <= there


# --- what is handed in

@pytest.fixture
def handed(tmp_path):
    """A folder with the project's own solution of one exercise."""
    (tmp_path / "evaluation.py").write_bytes((ROOT / "evaluation.py").read_bytes())
    return tmp_path


def test_a_file_is_read_as_python_reads_it(handed):
    """A byte order mark, Windows' line ends, a form feed, a line that says UTF-8: all run."""
    path, source = handed / "evaluation.py", (ROOT / "evaluation.py").read_text("utf-8")
    whole = handin.read_exercise(handed, "pass_at_k")
    for content in (b"\xef\xbb\xbf" + source.encode(), source.replace("\n", "\r\n").encode(),
                    ("# -*- coding: utf-8 -*-\n" + source).encode()):
        path.write_bytes(content)
        found = handin.read_exercise(handed, "pass_at_k")
        assert found["begun"] and found["files"]["evaluation.py"].endswith(
            whole["files"]["evaluation.py"][-500:])
    path.write_bytes(source.replace("\ndef pass_at_k", "\n\x0c\n# \u2028 \x1c\ndef pass_at_k")
                     .encode())
    merged = handin.merge_source("evaluation.py", handin.read_plain(handed, "evaluation.py"),
                                 {"pass_at_k"})
    assert copies.ast.dump(copies.find_functions(merged)["pass_at_k"]) == copies.ast.dump(
        copies.find_functions(source)["pass_at_k"])


def replace_by(path, kind):
    """Put something else in a file's place."""
    if kind == "link":
        path.unlink()
        path.symlink_to(ROOT / "evaluation.py")
    elif kind == "hard link":
        os.link(path, path.with_name("other.py"))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif kind == "missing":
        path.unlink()
    elif kind == "large":
        path.write_bytes(b"#" * (handin.MOST_BYTES + 1))
    else:
        path.write_bytes({"latin": "x = '\u00e9'".encode("latin-1"), "nul": b"x = 1\0",
                          "no Python": b"def pass_at_k(:\n", "no function": b"", "deep":
                          b"x = " + b"(" * 500 + b")" * 500, "unary": b"x = " + b"-" * 10 ** 5 +
                          b"1", "coding": b"# -*- coding: latin-1 -*-\n"}[kind])


@pytest.mark.parametrize("kind, reason", {
    "link": "is a link", "hard link": "a link", "folder": "evaluation.py", "pipe": "no file of its",
    "missing": "No such file", "large": "more than 1 MiB", "latin": "not in UTF-8", "nul": "null",
    "no Python": "line 1 is no Python", "no function": "no function pass_at_k",
    "deep": "no Python", "unary": "parser takes", "coding": "not in UTF-8"}.items())
def test_what_cannot_be_read_costs_its_exercise(kind, reason, handed):
    """In one line, whatever lies there; with a link nothing of ours is read."""
    if kind in ("pipe", "link", "hard link") and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no such files")
    replace_by(handed / "evaluation.py", kind)
    found = handin.read_solution(handed, "pass_at_k")
    assert list(found) == ["error"] and "\n" not in found["error"]
    assert reason in found["error"] or kind in ("deep", "unary", "nul")   # Pythons differ in these
    grade = grading.fail_all("pass_at_k", found["error"])
    assert grade.points == 0 and len(grade.failures) == 2


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    """`lessons` -> the project's: the file below is no link, its folder is."""
    (tmp_path / "lessons").symlink_to(ROOT / "lessons")
    assert "link" in handin.read_exercise(tmp_path, "bandit")["error"]


def test_an_expression_of_5000_terms_costs_its_exercise(handed):
    """Whether this Python's parser takes it or not: an answer, and no crash of ours."""
    path = handed / "evaluation.py"
    path.write_text(path.read_text("utf-8") + "\nX = " + " + ".join(["1"] * 5000) + "\n", "utf-8")
    assert set(handin.read_solution(handed, "pass_at_k")) in ({"error"}, {"files", "begun"})


# --- draws and points

@pytest.mark.parametrize("function", EVERY)
def test_trivial_answers_get_nothing_of_what_is_drawn(function):
    """Of every function there are inputs on which zeros are wrong."""
    zeros = draws.call_trivially(draws.TRIVIAL[0])
    assert draws.count_agreements(function, "key", zeros) == (0, draws.CASES)


@pytest.mark.parametrize("name", ["masked", "unweighted"])
def test_what_a_dropped_token_adds_to_the_loss_is_free(name):
    """Its gradient is zero, and no page says more. Catches a grade that asks for the zero of ours.
    """
    def call_shifted(shift, function, *arguments, **keywords):
        loss, dropped = draws.real_call(function, *arguments, **keywords)
        return loss + shift(dropped), dropped

    free = functools.partial(call_shifted, lambda dropped: 3.0 * dropped)
    assert draws.count_agreements(f"losses.py:{name}", "key", free) == (draws.CASES, draws.CASES)
    wrong = functools.partial(call_shifted, lambda dropped: 3.0 * ~dropped)
    assert draws.count_agreements(f"losses.py:{name}", "key", wrong) == (0, draws.CASES)


def test_every_function_is_drawn_for():
    assert set(draws.CASES_OF) == set(EVERY)


def test_the_key_draws():
    """The same one the same inputs, another one others."""
    def first(key):
        return draws.make_rng(key, "losses.py:grpo", 0).random()

    assert first("a") == first("a") != first("b")


@pytest.mark.parametrize("found, expected, equal", [
    (torch.tensor([0.5]), [0.5], True), (torch.tensor([NAN]), torch.tensor([NAN]), False),
    (torch.tensor([-INF]), torch.tensor([-INF]), True), (0.1, 0.2, False),
    (torch.zeros(2), torch.zeros(2, 1), False), (torch.zeros(1), torch.zeros(2), False),
    ("0.5", 0.5, False), (None, 0.0, False), ({"a": 1}, {"a": 1, "b": 2}, False),
    ([1, [2]], [1, [2]], True), ([1], [1, 2], False), (np.float64(0.5), 0.5, True)])
def test_what_is_equal(found, expected, equal):
    assert draws.is_equal(found, expected) == equal


@pytest.mark.parametrize("lost, drawn, points", [
    (0, {"a": (8, 8), "b": (8, 8)}, 10), (0, {"a": (8, 8), "b": (0, 8)}, 5),
    (0, {"a": (7, 8), "b": (8, 8)}, 9), (1, {"a": (8, 8)}, 7), (0, {"a": (0, 8)}, 0), (0, {}, 0)])
def test_points_are_at_most_the_share_of_what_is_drawn(lost, drawn, points):
    failures = [grading.Failure(check, "") for check in EXERCISES["advantages"].checks[:lost]]
    assert grading.Grade("advantages", True, failures, drawn).points == points


# --- the seal

def test_a_path_is_judged_where_it_leads(tmp_path):
    """Links and `..` are followed first; nothing is to be written."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.write_text("", encoding="utf-8")
    readable = [os.path.realpath(inside)]
    assert seal.may_open(readable, inside / "a.py", "r", 0)
    assert not seal.may_open(readable, inside / "a.py", "w", os.O_WRONLY | os.O_CREAT)
    assert not seal.may_open(readable, f"{inside}/../out", "r", 0)
    assert not seal.may_open(readable, str(tmp_path / "inner"), "r", 0)   # begins alike
    if hasattr(os, "mkfifo"):
        (inside / "link").symlink_to(outside)
        assert not seal.may_open(readable, os.fsencode(inside / "link"), "r", 0)


def test_what_a_lecturer_is_told(capsys, tmp_path):
    """Which functions differ on drawn inputs, in words, in JSON and for Gradescope."""
    from course.exercises import __main__ as exercises

    grade = grading.Grade("advantages", True, [], {"losses.py:grpo": (3, 8), "losses.py:rloo":
                                                   (8, 8)}, "Landlock 6")
    exercises.print_grades([grade])
    assert ("inputs that are in no test: grpo differs on 5 of 8; so at most 6 points"
            in capsys.readouterr().out)
    found = json.loads(json.dumps(exercises.describe_grades([grade], "secret")))
    assert found["points"] == 6 and found["exercises"][0]["drawn"]["losses.py:grpo"]["right"] == 3
    told = json.dumps(exercises.describe_for_gradescope([grade]))
    assert '"score": 6' in told and "secret" not in told
