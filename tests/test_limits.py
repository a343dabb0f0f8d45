"""Cores and bytes of a container, by files as Linux has them: cgroup v1, v2, nested, foreign."""

import math
import os
from pathlib import Path

import pytest
import torch

from evaluation import SampleConfig
from lessons import jobs
from plumbing import limits, machine

GIB = 2**30


def mount(folder: Path, own: str, numbers: dict[str, str]) -> tuple[Path, Path]:
    """Files of a mounted tree of groups, and what /proc/self/cgroup says."""
    for name, text in numbers.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (folder / "self").write_text(own, "utf-8")
    return folder / "cgroup", folder / "self"


QUOTAS = {
    "v2": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "v2 without": ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
    "v2 half": ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 0.5),
    "v2 around": ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
    "v2 the least": ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "30000 10000"}, 2),
    "v2 beside": ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, math.inf),
    "v2 the host's name": ("0::/docker/12ab\n", {"cpu.max": "100000 100000\n"}, 1),
    "v1": ("3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
                                  "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 2.5),
    "v1 around": ("4:memory:/\n3:cpuacct,cpu:/a/b\n",
                  {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n",
                   "cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    "v1 without": ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n",
                                 "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    "both": ("1:cpu:/\n0::/x\n", {"cpu/cpu.cfs_quota_us": "300000",
                                  "cpu/cpu.cfs_period_us": "100000",
                                  "unified/x/cpu.max": "200000 100000"}, 2),
    "another set": ("1:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000",
                                     "cpu/cpu.cfs_period_us": "100000"}, math.inf),
    "nonsense": ("what\n0::/\n", {"cpu.max": "a b c\n"}, math.inf),
    "nonsense around": ("what\n\n3:cpu\n0::/\n", {"cpu.max": "50000 100000"}, 0.5),
    "zero": ("0::/\n", {"cpu.max": "0 0\n"}, math.inf),
}


@pytest.mark.parametrize("own, numbers, quota", QUOTAS.values(), ids=QUOTAS)
def test_the_quota_of_every_group_around_us(own, numbers, quota, tmp_path, monkeypatch):
    """In cores; and whole cores of a machine of 8, at least one."""
    mounted = mount(tmp_path, own, numbers)
    assert limits.read_quota(*mounted) == quota
    for name in ("process_cpu_count", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert limits.count_cores(*mounted) == max(1, min(8, math.floor(min(quota, 8))))


def test_without_groups_the_affinity_counts(tmp_path, monkeypatch):
    """Not on every system; and Python 3.13 has a function of its own, as -X cpu_count says."""
    nowhere = tmp_path / "none", tmp_path / "self"
    assert limits.read_quota(*nowhere) == math.inf
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert limits.count_cores(*nowhere) == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    assert limits.count_cores(*nowhere) == 2
    monkeypatch.setattr(os, "process_cpu_count", lambda: None)
    assert limits.count_cores(*nowhere) == 1


@pytest.mark.parametrize("own, numbers, limit", [
    ("0::/a\n", {"a/memory.max": "max\n", "memory.max": "2147483648\n"}, 2 * GIB),
    ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "1073741824\n"}, GIB),
    ("0::/\n", {}, math.inf)], ids=["v2", "v1", "none"])
def test_the_memory_of_every_group_around_us(own, numbers, limit, tmp_path):
    whole = limits.read_memory(tmp_path / "none", tmp_path / "none")
    assert limits.read_memory(*mount(tmp_path, own, numbers)) == min(limit, whole)


@pytest.mark.parametrize("cores, memory, gpu, count", [
    (8, math.inf, False, 8), (8, 2 * GIB, False, 4), (8, GIB / 4, False, 1), (1, GIB, False, 1),
    (8, math.inf, True, 4), (2, math.inf, True, 2)])
def test_jobs_fit_into_cores_and_memory(cores, memory, gpu, count, monkeypatch):
    monkeypatch.setattr(jobs, "count_cores", lambda: cores)
    monkeypatch.setattr(jobs, "read_memory", lambda: memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert jobs.count_jobs() == count


@pytest.mark.parametrize("cores, tasks, memory, count", [
    (2, 3, math.inf, 3), (2, 4, math.inf, 4), (2, 5, math.inf, 2), (2, 2, math.inf, 2),
    (2, 1, math.inf, 2), (8, 15, math.inf, 15), (8, 15, 4 * GIB, 8), (1, 3, math.inf, 1)])
def test_few_tasks_share_the_cores(cores, tasks, memory, count, monkeypatch):
    """What would be a second round that leaves cores idle is run beside the first."""
    monkeypatch.setattr(jobs, "count_cores", lambda: cores)
    monkeypatch.setattr(jobs, "read_memory", lambda: memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert jobs.count_jobs(tasks) == count


@pytest.mark.parametrize("cores, flag, variable, before, after", [
    (2, None, None, 8, 2),       # a quota: torch's default is too many
    (16, None, None, 8, 8),      # none
    (2, 5, None, 8, 5),          # the flag
    (2, None, "8", 8, 8),        # what the caller set stays: in the environment
    (2, None, None, 6, 6)])      # or by torch.set_num_threads
def test_threads_heed_the_quota_and_the_caller(cores, flag, variable, before, after, monkeypatch):
    now = [before]
    monkeypatch.setattr(machine, "DEFAULT_THREADS", 8)
    monkeypatch.setattr(machine, "count_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.__setitem__(0, n))
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    machine.choose_device(SampleConfig(threads=flag, device="cpu"))
    assert now == [after]
