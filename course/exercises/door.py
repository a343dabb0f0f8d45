"""The door between tests and a student's code, from the side of the tests.

While a student is graded, the tests run on the project itself, in which the functions of one
exercise are stubs (`write_stubs`): their body is `return ask("losses.py:grpo", batch)`. `ask` sends
the arguments to a process of its own (worker.py), which runs what the student wrote, and returns
what comes back. Tensors stay differentiable: backward asks for the gradients. So what judges never
runs what is judged, and no test has to know of it.
"""

import ast
import atexit
import builtins
import functools
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import torch

from course.copies import find_functions, write_bodies
from course.exercises import wire
from course.exercises.seal import end_group
from plumbing.messages import WorkError

FOLDER = "EXERCISE_WORKER"   # in the environment: where the worker of this process stands
USER = "EXERCISE_USER"       # and which user it is to be, if it may be another one
START_SECONDS = 300          # to import torch on a busy machine
CALL_SECONDS = 60            # by the clock; by the processor's, seal.MOST_SECONDS
KEPT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")   # what Python may need to start


class Unanswered(Exception):
    """The student's process gave no answer that is one."""


# --- stubs

def write_stubs(source: str, file: str, names: set[str]) -> str:
    """`source` in which the bodies of some functions ask the student's."""
    nodes = find_functions(source)
    return write_bodies(source, {name: write_stub(f"{file}:{name}", nodes[name]) for name in names})


def write_stub(function: str, node: ast.FunctionDef) -> list[str]:
    passed = [argument.arg for argument in node.args.args]
    passed += [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs]
    return ["from course.exercises.door import ask",
            f"return ask({', '.join([repr(function), *passed])})"]


# --- asking

def ask(function: str, *arguments, **keywords):
    """What the student's function returns; whatever it raises that Python knows is raised here.

    Raises Unanswered if there is no answer: the process ended, took too long, or sent no data.
    """
    return ask_worker(own_worker(), function, *arguments, **keywords)


@functools.cache
def own_worker() -> "Worker":
    return Worker(Path(os.environ[FOLDER]), os.environ.get(USER), in_tests=True)


def ask_worker(worker: "Worker", function: str, *arguments, **keywords):
    leaves = []
    tree = wire.flatten_value([function, list(arguments), keywords], leaves)
    question = Question(worker, tree, torch.is_grad_enabled())
    answers = list(Asked.apply(question, *leaves)) if leaves else question.put([], [])
    result, caches = wire.rebuild_value(question.tree, answers)
    places = [argument for argument in arguments if type(argument).__name__ == "KVCache"]
    for cache, fields in zip(places, caches):
        vars(cache).update(fields)
    return result


class Question:
    """One call, made where gradients are wanted or not, and the tree of its answer."""

    def __init__(self, worker: "Worker", request, differentiated: bool):
        self.worker, self.request, self.tree = worker, request, None
        self.differentiated = differentiated

    def put(self, leaves, wanted: list[bool], gradients=None) -> list[torch.Tensor]:
        """The tensors of the answer; with `gradients` of them, those of the leaves instead."""
        sent = list(leaves)
        asked_for = wire.flatten_value(gradients, sent)
        request = {"list": [*self.request["list"], asked_for, self.differentiated]}
        wishes = [self.differentiated and wish for wish in wanted]
        wishes += [False] * (len(sent) - len(wishes))
        answer = self.worker.request(self.request["list"][0],
                                     wire.Message(request, sent, wishes))
        self.tree, self.differentiable = read_answer(answer), answer.differentiable
        return answer.leaves


class Asked(torch.autograd.Function):
    """A student's function of some tensors, whose derivative is the student's too."""

    @staticmethod
    def forward(context, question: Question, *leaves):
        wanted = list(context.needs_input_grad[1:])
        answers = question.put(leaves, wanted)
        context.question, context.wanted = question, wanted
        context.save_for_backward(*leaves)
        fixed = [answer for answer, differentiable in zip(answers, question.differentiable)
                 if not differentiable]
        context.mark_non_differentiable(*fixed)
        context.differentiable = question.differentiable
        return tuple(answers)

    @staticmethod
    def backward(context, *gradients):
        gradients = [gradient for gradient, differentiable
                     in zip(gradients, context.differentiable) if differentiable]
        leaves, question = context.saved_tensors, context.question
        asked = Question(question.worker, question.request, True)
        found = asked.put(leaves, context.wanted, gradients)
        values = iter(wire.rebuild_value(asked.tree, found))
        return None, *(check_gradient(next(values), leaf) if wanted else None
                       for leaf, wanted in zip(leaves, context.wanted))


def check_gradient(gradient, leaf: torch.Tensor):
    if gradient is not None and (not isinstance(gradient, torch.Tensor)
                                 or gradient.shape != leaf.shape or gradient.dtype != leaf.dtype):
        raise Unanswered("a gradient of another shape than its tensor")
    return gradient


def read_answer(answer: wire.Message):
    """The tree of a result. Raises the student's exception, if it is one of Python's own."""
    try:
        kind, tree = answer.tree["dict"][0]
        if kind == "result":
            return tree
        name, text = map(str, tree["list"])
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    except (TypeError, KeyError, IndexError, ValueError):
        raise Unanswered("an answer that is none") from None
    error = getattr(builtins, name, None)
    if isinstance(error, type) and issubclass(error, Exception) and "Unicode" not in name:
        raise error(text)
    raise Unanswered(f"{name}: {text}")


# --- the process

def become_user(name: str | None) -> dict:
    """What Popen needs to be told to start a process as a user of that name."""
    if name is None:
        return {}
    import pwd

    found = pwd.getpwnam(name)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


class Worker:
    """A student's process: started when it is needed, and again after it has ended."""

    def __init__(self, folder: Path, user: str | None = None, in_tests: bool = False):
        self.folder, self.user, self.process = folder, user, None
        self.in_tests, self.deadline = in_tests, math.inf
        self.held_by = ""      # what of the system holds it: "Landlock 6"
        self.broken = {}       # tests (outside of any, functions) that ended it, and how
        self.lock = threading.Lock()
        atexit.register(self.stop)

    def request(self, function: str, message: wire.Message) -> wire.Message:
        """Its answer. In a test that has ended the process it is not asked again.

        So an endless loop costs the test that runs into it, and no more time than once.
        """
        test = os.environ["PYTEST_CURRENT_TEST"].split("[")[0] if self.in_tests else function
        with self.lock:
            if test not in self.broken:
                try:
                    if self.process is None:
                        self.start()
                    return self.exchange(message, CALL_SECONDS)
                except Unanswered as error:
                    self.broken[test] = f"{function}: {error}"
            raise Unanswered(self.broken[test])

    def start(self) -> None:
        places = {str(Path(module.__file__).parents[1]) for module in (torch, numpy)}
        places |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
        command = [sys.executable, "-I", "-S", "-B",
                   str(self.folder / "course/exercises/worker.py"), *sorted(places)]
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True, **become_user(self.user),
                env={**kept, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"})
            threading.Thread(target=self.watch, args=[self.process], daemon=True).start()
            self.held_by = str(read_answer(self.exchange(None, START_SECONDS)))
        except (Unanswered, OSError, KeyError, ImportError) as error:
            user = f" as {self.user}" if self.user else ""
            raise WorkError(f"the process for students' code does not start{user}: {error}"
                            ) from None   # before it has read any of that code

    def exchange(self, message: wire.Message | None, seconds: float) -> wire.Message:
        """Send a message, if there is one, and wait for the next; a process that fails is ended."""
        process, self.deadline = self.process, time.monotonic() + seconds
        try:
            if message is not None:
                wire.send(process.stdin, message)
            return wire.receive(process.stdout)
        except (wire.Ended, OSError, wire.NotData) as error:
            late, code = time.monotonic() > self.deadline, self.stop()
            if late or code == -24:     # SIGXCPU: its processor time is over
                raise Unanswered("takes too long") from None
            raise Unanswered(str(error) or f"the process ended (exit code {code})") from None
        finally:
            self.deadline = math.inf

    def watch(self, process: subprocess.Popen) -> None:
        """In a thread: end a process that is late with an answer."""
        while process.poll() is None:
            if time.monotonic() > self.deadline:
                end_group(process)
            time.sleep(0.2)

    def stop(self) -> int | None:
        """End the process and what it started; its exit code if it had ended by itself."""
        process, self.process = self.process, None
        if process is None:
            return None
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            code = None
        end_group(process)
        for stream in (process.stdin, process.stdout):
            try:
                stream.close()
            except OSError:
                pass
        process.wait()
        return code
