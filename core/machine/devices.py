"""The machine a run uses: device, precision, threads, seeds."""

import atexit
import ctypes
import os
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.base.errors import UsageError
from core.base.params import Params
from core.machine import processes as distributed
from core.machine.random_states import mixed_seed

CGROUPS = Path("/sys/fs/cgroup")


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes cuda, mps or cpu, whichever is there first."""
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name == "auto":
        name = next((kind for kind, is_there in there.items() if is_there()), "cpu")
    elif name in there and not there[name]():
        raise UsageError(f"'device' is {name!r}, but this machine or this build of torch has none")
    return torch.device(name)


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process, if several share those of a kind.

    Raises:
        UsageError: there are more processes than GPUs, or the kind cannot be shared.
    """
    if distributed.world() == 1 or device.type == "cpu":
        return device
    count, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type != "cuda" or wanted > count:
        raise UsageError(f"'device' is {device.type!r}, but {wanted} processes share {count} GPUs")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device's own memory; 0 where that is not known, and for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def usable_cores() -> int:
    """Count the cores that this process may use: its affinity, and the quotas of its cgroups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min([cores or 1, *quotas()])))


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


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors instead of giving it back (glibc only).

    Every step of training would fetch it anew, page by page, and find it cleared: on the hand signs
    that took 7 % of a step in bfloat16 and 17 % in float32. The peak of memory is the same.
    """
    m_trim_threshold, m_mmap_max = -1, -4  # of malloc.h
    with suppress(OSError, AttributeError, TypeError):  # another system's library
        library = ctypes.CDLL(None)
        library.mallopt(m_mmap_max, 0)
        library.mallopt(m_trim_threshold, 2**31 - 1)
        # Torch's own end takes another 100 MB.
        atexit.register(library.malloc_trim, 0)


def cores_per_process() -> int:
    """Share the usable cores among the processes that torchrun started on this machine."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_apart(seed: int) -> None:
    """Let processes draw different numbers (dropout); process 0 draws what one alone would."""
    if not distributed.first():
        seed_everything(mixed_seed(seed, distributed.rank()))


def lacks_bfloat16(facts: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor is known to have no instructions for bfloat16 (Linux only)."""
    try:
        return "bf16" not in facts.read_text()
    except OSError:
        return False


def fastest_precision(device: torch.device) -> str:
    """Return what `precision: auto` stands for on a device."""
    lacking = {"cpu": lacks_bfloat16, "cuda": lambda: not torch.cuda.is_bf16_supported(False)}
    return "float32" if lacking.get(device.type, lambda: True)() else "bfloat16"


def autocast(params: Params, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass: bfloat16 autocast if the params say so."""
    if params.precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def start(params: Params) -> torch.device:
    """Set up this process for a run (threads, memory, kernels, seeds), and return its device.

    Sets `params.cuda`, too, which code for the CS230 template reads.
    """
    device = own_device(pick_device(params.device))
    params.cuda = device.type == "cuda"
    if params.precision == "auto":
        params.precision = fastest_precision(device)
    if params.num_threads is None:
        params.num_threads = cores_per_process()
    torch.set_num_threads(params.num_threads)
    if device.type == "cpu":
        keep_freed_memory()
    make_deterministic(params.deterministic)
    seed_everything(params.seed)
    return device


def make_deterministic(wanted: bool) -> None:
    """Let torch use only kernels that repeat themselves to the bit, for the rest of the process.

    On a GPU others add in an order that differs from run to run; an operation that has no such
    kernel raises an error. See https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at cuBLAS's first call
        torch.use_deterministic_algorithms(True)


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far in MB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def place(model: nn.Module, params: Params, device: torch.device) -> nn.Module:
    """Move a net to the device, in the precision and memory format of the params."""
    if params.sync_batchnorm and distributed.world() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if params.precision == "float64":
        model = model.double()
    if params.channels_last:
        model = model.to(memory_format=torch.channels_last)
    model = model.to(device)
    if params.compile:
        model.compile()
    return model
