"""What a process may use of its machine: cores and bytes, where a container has less than the host.

A control group of Linux (cgroup, v1 or v2) may hold a quota of CPU time and a limit of memory, its
own or of a group around it: the least one counts. None of that is on other systems.
"""

import math
import os
from contextlib import suppress
from pathlib import Path

MOUNTED, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def list_groups(controller: str, mounted: Path = MOUNTED, own: Path = OWN) -> list[Path]:
    """The folders of the groups that we are in, for `cpu` or `memory`.

    In a container the names in `own` may be the host's; then the top folder is ours.
    """
    folders = []
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8", errors="replace").splitlines():
            controllers, found, path = line.partition(":")[2].partition(":")
            names = controllers.split(",")
            if not found or controllers and controller not in names:
                continue
            tops = (controllers, controller) if controllers else ("", "unified")
            for top in dict.fromkeys(mounted / name for name in tops):
                inner = top / path.lstrip("/")
                folders += [folder for folder in (inner, *inner.parents)
                            if folder == top or top in folder.parents]
    return folders


def read_numbers(path: Path) -> list[float]:
    """The numbers of a group's file, `max` and -1 being no limit; [] if there is no such file."""
    with suppress(OSError, ValueError):
        words = path.read_text(encoding="utf-8").split()
        return [math.inf if word in ("max", "-1") else float(word) for word in words]
    return []


def read_quota(mounted: Path = MOUNTED, own: Path = OWN) -> float:
    """How many cores' time we get: 0.5 is half of one core's; infinite without a quota."""
    quotas = [math.inf]
    for folder in list_groups("cpu", mounted, own):
        v1 = [number for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
              for number in read_numbers(folder / name)]
        for numbers in (v1, read_numbers(folder / "cpu.max")):
            if len(numbers) == 2 and numbers[0] > 0 < numbers[1] < math.inf:
                quotas.append(numbers[0] / numbers[1])
    return min(quotas)


def count_cores(mounted: Path = MOUNTED, own: Path = OWN) -> int:
    """Whole cores that we may use, by affinity and quota; at least one."""
    count = getattr(os, "process_cpu_count", None)        # from Python 3.13 on
    allowed = getattr(os, "sched_getaffinity", None)      # not on every system
    cores = count() if count else len(allowed(0)) if allowed else os.cpu_count()
    return max(1, int(min(cores or 1, read_quota(mounted, own))))


def read_memory(mounted: Path = MOUNTED, own: Path = OWN) -> float:
    """Bytes that we may use; infinite where nothing says how many."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):   # not on every system
        limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for folder in list_groups("memory", mounted, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [number for number in read_numbers(folder / name) if number > 0]
    return min(limits)
