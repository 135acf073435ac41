"""What this process may use: its cores, its place among those of torchrun; no torch here."""

import os
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def launched() -> bool:
    """Tell whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def local_world_size() -> int:
    """Return the number of processes that torchrun started on this machine; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def usable_cores() -> int:
    """Count the cores that this process may use: its affinity, and the quotas of its cgroups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min([cores or 1, *quotas()])))


def default_threads(parts: int = 1) -> int:
    """Return the number of CPU threads of a process: OMP_NUM_THREADS if it is set, else its cores.

    Those are divided among the processes that torchrun started on this machine, for which torchrun
    sets the variable to 1; or among `parts`.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked) and not launched():
        return min(int(asked), 1024)
    return max(1, usable_cores() // (local_world_size() * parts))


def quotas(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> list[float]:
    """Return the quotas, in cores, of this process's cgroups and of those above them.

    A line of `own` is "number:controllers:path"; version 2 of cgroups names no controllers there.
    """
    found = []
    with suppress(OSError):  # another system than Linux
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]
            folder = (root / "cpu" if controllers else root) / path.lstrip("/")
            for place in [folder, *folder.parents]:
                with suppress(OSError, ValueError):  # no such file, or a quota of "max"
                    quota, period = " ".join((place / f).read_text() for f in files).split()
                    found += [int(quota) / int(period)] if int(quota) > 0 else []
    return found
