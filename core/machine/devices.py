"""The device a run uses: where it is, its precision, threads, memory and kernels."""

import atexit
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from torch import nn

from core.base.errors import UsageError
from core.base.params import Params
from core.machine import processes
from core.machine.environment import default_threads, local_world_size
from core.machine.random_states import seed_everything

Autocast = Callable[[], AbstractContextManager[object]]


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


def _own_device(device: torch.device) -> torch.device:
    """Return the device of this process, if several share those of a kind.

    Raises:
        UsageError: there are more processes than GPUs, or the kind cannot be shared.
    """
    if processes.world_size() == 1 or device.type == "cpu":
        return device
    count, wanted = torch.cuda.device_count(), local_world_size()
    if device.type != "cuda" or wanted > count:
        raise UsageError(f"'device' is {device.type!r}, but {wanted} processes share {count} GPUs")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def start(params: Params) -> torch.device:
    """Set up this process for a run (threads, memory, kernels, seeds), and return its device.

    Sets `params.device` to its name, and `params.cuda`, which code for the CS230 template reads.
    What is auto is decided by the machine's kind; a new run measures instead (training/timing.py).
    """
    device = _own_device(pick_device(params.device))
    params.device, params.cuda = str(device), device.type == "cuda"
    if params.precision == "auto":
        params.precision = fastest_precision(device)
    if params.num_threads in (None, "auto"):
        params.num_threads = default_threads()
    if params.channels_last == "auto":
        params.channels_last = False
    torch.set_num_threads(params.num_threads)
    if device.type == "cpu":
        _keep_freed_memory()
    if params.deterministic:
        _make_deterministic()
    seed_everything(params.seed)
    return device


def _keep_freed_memory() -> None:
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


def _make_deterministic() -> None:
    """Let torch use only kernels that repeat themselves to the bit, for the rest of the process.

    On a GPU others add in an order that differs from run to run; an operation that has no such
    kernel raises an error. See https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at cuBLAS's first call
    torch.use_deterministic_algorithms(True)


def lacks_bfloat16(facts: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor is known to have no instructions for bfloat16 (Linux only)."""
    try:
        return "bf16" not in facts.read_text()
    except OSError:
        return False


def fastest_precision(device: torch.device) -> str:
    """Return what `precision: auto` stands for on a device, as far as its kind tells."""
    lacking = {"cpu": lacks_bfloat16, "cuda": lambda: not torch.cuda.is_bf16_supported(False)}
    return "float32" if lacking.get(device.type, lambda: True)() else "bfloat16"


def autocast_for(params: Params, device: torch.device) -> Autocast:
    """Return what makes the context of a forward pass: bfloat16 autocast if the params say so."""
    if params.precision == "bfloat16":
        return partial(torch.autocast, device.type, torch.bfloat16)
    return nullcontext


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a net: that of its first parameter, or else of its first buffer."""
    tensors = (*model.parameters(), *model.buffers())
    return next((x.device for x in tensors), torch.device("cpu"))


def is_lazy(model: nn.Module) -> bool:
    """Tell whether layers of a net still have to learn their shapes from a first batch."""
    return any(nn.parameter.is_lazy(weight) for weight in model.parameters())


def place_net(model: nn.Module, params: Params, device: torch.device) -> nn.Module:
    """Move a net to the device, in the precision and memory format of the params."""
    if params.sync_batchnorm and processes.world_size() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if params.precision == "float64":
        model = model.double()
    if params.shard and processes.world_size() > 1 and not is_lazy(model):
        return model  # it need not fit on the device, which gets its own part
    if params.channels_last and not is_lazy(model):
        model = model.to(memory_format=torch.channels_last)
    model = model.to(device)
    if params.compile:
        model.compile()
    return model


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device's own memory; 0 where that is not known, and for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far in MB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
