"""Several processes that train one run together, started by torchrun; alone, none of it is used.

Process 0 decides and writes; `core/training/shares.py` says which process does what of the work.
Gradients are summed in one exchange per update instead of by DistributedDataParallel: a process may
have no row of a batch, a task may have several optimizers, or weights that a step leaves out, and
all of that is exact here and cannot hang.
"""

import atexit
import functools
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.base.errors import OtherProcessError, UsageError
from core.machine.script import launched

P = ParamSpec("P")
T = TypeVar("T")


def world() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0 on."""
    return dist.get_rank() if world() > 1 else 0


def first() -> bool:
    """Tell whether this is process 0, or the only one."""
    return rank() == 0


@contextmanager
def started() -> Iterator[None]:
    """Join the other processes inside the block; all leave it together unless one fails."""
    if not launched() or world() > 1:  # it was started outside, for several runs
        yield
        return
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    # Decisions travel between CPUs, so that no process waits for its GPU to learn of them.
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    store, number, count = next(rendezvous("env://"))
    store = _unused_part(store, number, count)
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    if not first():
        logging.getLogger().setLevel(logging.CRITICAL + 1)
    yield
    wait_for_all()
    dist.destroy_process_group()


def _unused_part(store: Any, number: int, count: int) -> Any:
    """Return a part of torchrun's store that no process before this start has used.

    torchrun keeps the store when it starts the processes again, and in it the addresses of those
    that are gone, which Gloo would take for the new ones. So process 0 makes a token up, and gives
    it to whoever asks until every other process has said that it has this one.
    """
    token = secrets.token_hex(8)
    if number:
        store.set(f"asking {number}", token)
        token = store.get(f"answer to {token}").decode()
        store.set(f"{token} {number}", "known")
    missing = [] if number else list(range(1, count))
    while missing:
        for other in missing:
            if store.check([f"asking {other}"]):
                store.set(f"answer to {store.get(f'asking {other}').decode()}", token)
        missing = [other for other in missing if not store.check([f"{token} {other}"])]
        time.sleep(0.01)
    return dist.PrefixStore(token, store)


def leave(code: int) -> NoReturn:
    """End the script with an exit code.

    Several processes leave without C++'s clean-up, in which threads of Gloo now and then abort.
    """
    if launched():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def _together() -> Iterator[None]:
    """Turn the failure of an exchange into the quiet end of this process."""
    try:
        yield
    except RuntimeError as error:  # of Gloo and NCCL: a connection was closed, or time is up
        raise OtherProcessError("another process has failed, so this one stops") from error


def speaks(code: int) -> bool:
    """Tell whether this process is the first to fail, and tell the others its exit code."""
    if world() == 1:
        return not launched() or os.environ["RANK"] == "0"
    store = dist.distributed_c10d._get_default_store()
    if store.add("failures", 1) > 1:
        return False
    store.set("exit_code", str(code))
    return True


def exit_code_of_first_failure() -> int:
    """Return the exit code of the process that failed; 1 if it had no time to tell."""
    store = dist.distributed_c10d._get_default_store()
    return int(store.get("exit_code")) if store.check(["exit_code"]) else 1


def highest(*numbers: int) -> list[int]:
    """Return for each number the highest that any process has."""
    if world() == 1:
        return list(numbers)
    found = torch.tensor(numbers, dtype=torch.int64)
    with _together():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def wait_for_all() -> None:
    """Wait until every process is here."""
    highest(0)


def by_first(function: Callable[P, T]) -> Callable[P, T]:
    """Let process 0 alone call a function; all get what it returned."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if world() == 1:
            return function(*args, **kwargs)
        box: list[Any] = [function(*args, **kwargs) if first() else None]
        with _together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    return wrapped


def gathered(value: T) -> list[T]:
    """Return every process's value, in order, on process 0, and [] on the others."""
    if world() == 1:
        return [value]
    parts: list[Any] | None = [None] * world() if first() else None
    with _together():
        dist.gather_object(value, parts)
    return parts or []


@contextmanager
def one_before_the_others() -> Iterator[None]:
    """Let one process of each machine go first through the block, which may leave a cache."""
    leads = world() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not leads:
        wait_for_all()
    yield
    if leads:
        wait_for_all()


def share(*modules: nn.Module | None, weights: bool = False) -> None:
    """Give every process the buffers, and the weights if asked to, that process 0 has."""
    for module in modules if world() > 1 else ():
        values = [*module.buffers(), *(module.parameters() if weights else ())] if module else []
        for value in (value for value in values if value.numel()):
            copy = value.detach().contiguous()
            with _together():
                dist.broadcast(copy.reshape(-1).view(torch.uint8), src=0)
            value.detach().copy_(copy)


def check_same(model: nn.Module) -> None:
    """Make sure that all processes have the same weights, to the bit.

    Raises:
        UsageError: they differ, because a train_step of the task did not call state.update.
    """
    if world() == 1:
        return
    flat = [w.detach().contiguous().reshape(-1).view(torch.uint8) for w in model.parameters()]
    sums = [int(part.sum()) for part in flat]
    if highest(*sums) != [-x for x in highest(*(-x for x in sums))]:
        raise UsageError(
            "the processes' weights differ: under torchrun, a train_step of net.py may change\n"
            "weights by state.update alone"
        )


def sum_gradients(weights: Sequence[Tensor], terms: Tensor | float) -> Tensor | float:
    """Replace the gradients of `weights` by their sums over all processes; return that of `terms`.

    A weight that has a gradient on any process has one on all of them afterwards.
    """
    if world() == 1:
        return terms
    used = highest(*(w.grad is not None for w in weights))
    shared = [w for w, is_used in zip(weights, used, strict=True) if is_used]
    if not shared:
        return terms
    for w in shared:
        w.grad = torch.zeros_like(w) if w.grad is None else w.grad
        if w.grad.layout is not torch.strided:
            raise UsageError("sparse gradients cannot be shared by several processes")
    sizes = [w.numel() for w in shared]
    exact = torch.promote_types(shared[0].dtype, torch.float32)
    last = torch.as_tensor(terms, dtype=exact, device=shared[0].device).reshape(1)
    flat = torch.cat([*(w.grad.flatten() for w in shared if w.grad is not None), last])
    with _together():
        dist.all_reduce(flat)
    *parts, total = flat.split([*sizes, 1])
    for w, part in zip(shared, parts, strict=True):
        w.grad.copy_(part.view_as(w))  # type: ignore[union-attr]
    return total[0]
