"""Several processes that train one run together, started by torchrun; alone, none of it is used.

Rank 0 decides and writes. core/training/engines.py sums the gradients.
"""

import atexit
import functools
import hashlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.base.errors import OtherProcessError, UsageError
from core.machine.environment import launched
from core.machine.nested import apply, tensors

P = ParamSpec("P")
T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0 on."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Tell whether this is rank 0, or the only process."""
    return rank() == 0


@contextmanager
def group() -> Iterator[None]:
    """Join the other processes inside the block; all leave it together unless one fails."""
    if not launched() or world_size() > 1:  # it was joined outside, for several runs
        yield
        return
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    # Decisions travel between CPUs, so that no process waits for its GPU to learn of them.
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    store, number, count = next(rendezvous("env://"))
    store = _unused_part(store, number, count)
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    if number:
        logging.getLogger().setLevel(logging.CRITICAL + 1)
    yield
    maximum(0)  # wait for the others
    dist.destroy_process_group()


def _unused_part(store: Any, number: int, count: int) -> Any:
    """Return a part of torchrun's store that no process before this start has used.

    After a restart the store still has the addresses of processes that are gone. So rank 0 makes a
    token up, and gives it to whoever asks until every other process has said that it has this one.
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
    """End the script; several processes leave without C++'s clean-up, in which Gloo may abort."""
    if launched():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def ending_with_others() -> Iterator[None]:
    """Turn the failure of an exchange, also in a pass of the net, into a quiet end."""
    try:
        yield
    except RuntimeError as error:  # of Gloo and NCCL: a connection was closed, or time is up
        if "/gloo/" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise OtherProcessError("another process has failed, so this one stops") from error


def fails_first(code: int) -> bool:
    """Tell whether this process is the first to fail, and leave its exit code for the others."""
    if world_size() == 1:
        return not launched() or os.environ["RANK"] == "0"
    store = dist.distributed_c10d._get_default_store()
    if store.add("failures", 1) > 1:
        return False
    store.set("exit_code", str(code))
    return True


def exit_code_of_first_failure() -> int:
    """Return the exit code of the process that failed; 1 if it had no time to leave it."""
    store = dist.distributed_c10d._get_default_store()
    return int(store.get("exit_code")) if store.check(["exit_code"]) else 1


def maximum(*numbers: int) -> list[int]:
    """Return for each number the largest that any process has."""
    if world_size() == 1:
        return list(numbers)
    found = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def on_main(function: Callable[P, T]) -> Callable[P, T]:
    """Let rank 0 alone call a function; all get what it returned, which pickle has to know."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if world_size() == 1:
            return function(*args, **kwargs)
        box: list[Any] = [function(*args, **kwargs) if is_main() else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    return wrapped


def gathered(value: T) -> list[T]:
    """Return every process's value, in order, on rank 0, and [] on the others."""
    if world_size() == 1:
        return [value]
    parts: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, parts)
    return parts or []


@contextmanager
def local_main_first() -> Iterator[None]:
    """Let one process of each machine go first through the block, which may leave a cache."""
    leads = world_size() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not leads:
        maximum(0)
    yield
    if leads:
        maximum(0)


def broadcast(value: T) -> T:
    """Give every process the nested tensors (on the CPU) and plain values that rank 0 has.

    Tensors are sent one by one: pickle would hold all of them twice.
    """
    if world_size() == 1:
        return value
    shells = on_main(lambda: apply(lambda x: x.new_empty(0, *x.shape), value))()
    received = value if is_main() else apply(lambda x: x.new_empty(x.shape[1:]), shells)
    for tensor in tensors(received):
        _send(tensor)
    return received


def broadcast_modules(*modules: nn.Module | None, weights: bool = False) -> None:
    """Give every process the buffers, and the weights if asked to, that rank 0 has."""
    for module in modules if world_size() > 1 else ():
        values = [*module.buffers(), *(module.parameters() if weights else ())] if module else []
        for value in values:
            _send(value.detach())


def _send(value: Tensor) -> None:
    """Give a tensor of every process the values that it has on rank 0."""
    if value.numel():
        copy = value.contiguous()
        dist.broadcast(copy.reshape(-1).view(torch.uint8), src=0)
        value.copy_(copy)


def check_same(value: Any, told: str) -> None:
    """Raise UsageError, which says what is `told`, if the processes have different plain values."""
    if world_size() > 1:
        digest = hashlib.sha256(repr(value).encode()).digest()
        number = int.from_bytes(digest[:7], "big")
        if sum(maximum(number, -number)) != 0:
            raise UsageError(told)


def check_same_weights(model: nn.Module) -> None:
    """Raise UsageError if the processes' weights differ: a train_step did not use state.update."""
    if world_size() == 1:
        return
    flat = [w.detach().contiguous().reshape(-1).view(torch.uint8) for w in model.parameters()]
    check_same(
        [int(part.sum()) for part in flat],
        "the processes' weights differ: under torchrun, a train_step of net.py may change\n"
        "weights by state.update alone",
    )
