"""Commands of the project side by side, each in a process of its own, under one bar."""

import multiprocessing
import os
import re
import runpy
import shlex
import sys
import time
from functools import cache
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Callable, NamedTuple

import torch

from plumbing.files import check_writable
from plumbing.limits import count_cores, read_memory
from plumbing.messages import WorkError
from plumbing.progress import progress_bar, stop_signals
from plumbing.system import become_job, choose_start, write_streams_to

ROOT = Path(__file__).parents[1]
JOB_BYTES = 2**29  # a run at the defaults takes 400 MiB, of which 220 are torch


class Job(NamedTuple):
    """A command to run, once what it needs is there and what it makes is not."""

    name: str
    command: str
    makes: Path
    needs: tuple[Path, ...]   # its base, and its judge
    log: Path
    seconds: float         # about, on one core: how far the bar moves


def count_jobs(tasks: int = 0) -> int:
    """One a core that we may use and half a GiB; at most four where a GPU is shared.

    Of up to two tasks a core, all: side by side they end sooner than in two rounds, since some are
    shorter than others.
    """
    cores = count_cores()
    wanted = tasks if cores < tasks <= 2 * cores else cores
    jobs = max(1, int(min(wanted, read_memory() / JOB_BYTES)))
    return min(4, jobs) if torch.cuda.is_available() else jobs


@cache
def choose_context() -> BaseContext:
    """How jobs start: forked from a server that has loaded torch, which saves each two seconds.

    Not with CUDA, which must not be loaded before a fork.
    """
    if torch.cuda.is_available():
        return multiprocessing.get_context("spawn")
    # Not ours: the server would look for them in the folder that it was started from.
    return choose_start(["torch._dynamo", "tiktoken", "tqdm"])


def run_line(command: str, log: Path, folder: Path) -> None:
    """Be the process of a command line: its output goes into `log`, its folder is `folder`."""
    become_job()  # Ctrl-C reaches it through `stop_jobs` alone
    os.chdir(folder)
    write_streams_to(open(log, "w", buffering=1, encoding="utf-8", errors="backslashreplace"))
    _, *sys.argv = shlex.split(command)
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")


def start_job(job: Job) -> BaseProcess:
    check_writable(job.log.parent)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_bytes(b"")
    arguments = job.command, job.log, Path.cwd()
    process = choose_context().Process(target=run_line, args=arguments, daemon=True)
    process.start()
    return process


def read_log(job: Job) -> str:
    return job.log.read_text("utf-8", "replace")


def read_progress(job: Job) -> float:
    """How much of a running job is done, 0 to 1, from the last line of its log."""
    lines = read_log(job).splitlines()
    # Neither a bar within the bar, nor what a model says.
    lines = [line for line in lines if not line.startswith(("sampling", "    "))]
    counts = re.findall(r"(\d+)/(\d+) \[", "\n".join(lines))
    return int(counts[-1][0]) / int(counts[-1][1]) if counts else 0.0


def stop_jobs(running: dict[Job, BaseProcess]) -> None:
    """Let each job finish and save its step; a second Ctrl-C ends them at once.

    By SIGTERM: a job that is not ready to save yet ends by it.
    """
    for process in running.values():
        process.terminate()
    try:
        for process in running.values():
            process.join()
    except KeyboardInterrupt:
        for process in running.values():
            process.kill()
        raise


def collect_finished(running: dict[Job, BaseProcess]) -> list[Job]:
    """Take the jobs that have ended out of `running`; WorkError, its last line, if one failed."""
    ended = [job for job, process in running.items() if not process.is_alive()]
    for job in ended:
        if running.pop(job).exitcode:
            lines = read_log(job).split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "no output")
            raise WorkError(f"{job.name} failed: {last} (log: {job.log})")
    return ended


def run_jobs(title: str, jobs: list[Job], at_once: int,
             tell: Callable[[list[Job], list[Job]], None] = lambda working, ended: None) -> None:
    """Run jobs side by side under one bar. Where one fails the others save their step.

    The bar counts the seconds that the jobs take, about, so that what is left can be told.
    tell: called with the jobs that are at work, and those that have ended since the last time.
    """
    pending, running, finished = list(jobs), {}, []
    shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
    bar = progress_bar(total=sum(job.seconds for job in jobs), bar_format=shape)
    with stop_signals() as stopped, bar:
        try:
            while pending or running:
                ended = collect_finished(running)
                tell(list(running), ended)
                finished += ended
                ready = [job for job in pending if all(path.exists() for path in job.needs)]
                if pending and not ready and not running:
                    job = pending[0]
                    missing = next(path for path in job.needs if not path.exists())
                    raise WorkError(f"{job.name} needs {missing}, which nothing makes")
                for job in ready[:at_once - len(running)]:
                    running[job] = start_job(job)
                    pending.remove(job)
                done = sum(job.seconds for job in finished)
                done += sum(job.seconds * read_progress(job) for job in running)
                bar.set_description_str(f"{title}: {len(finished)} of {len(jobs)} jobs", False)
                bar.update(max(0.0, done - bar.n))
                if stopped:
                    break
                time.sleep(0.2)
        finally:
            stop_jobs(running)
    if stopped:
        raise KeyboardInterrupt
