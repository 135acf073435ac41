"""The machine a run uses: device, precision, threads, seeds."""

import os
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core import distributed
from core.errors import UsageError
from core.order import mixed_seed
from core.params import Params


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


def usable_cores() -> int:
    """Count the cores that this process may use: its affinity, and the quota of its cgroup."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup of version 2, or a quota of "max"
        return cores or 1


def cores_per_process() -> int:
    """Share the usable cores among the processes that torchrun started on this machine."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_apart(seed: int) -> None:
    """Let processes draw different numbers (dropout) from here on; 0 draws as one alone does."""
    if not distributed.first():
        seed_everything(mixed_seed(seed, distributed.rank()))


def autocast(params: Params, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass: bfloat16 autocast if the params say so."""
    if params.precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def start(params: Params) -> torch.device:
    """Set threads and seeds, and `params.cuda` as the CS230 template's code reads it."""
    device = own_device(pick_device(params.device))
    params.cuda = device.type == "cuda"
    if params.num_threads is None:
        params.num_threads = cores_per_process()
    torch.set_num_threads(params.num_threads)
    seed_everything(params.seed)
    return device


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
