"""Several processes that train one run together, started by torchrun; alone, none of it is used.

Each process takes its rows of every training batch, and whole batches of evaluation. Process 0
decides and writes. Gradients are summed in one exchange per update instead of by
DistributedDataParallel: a process may have no row of a batch, a task may have several optimizers,
or weights that a step leaves out, and all of that is exact here and cannot hang.
"""

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, repeat, zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.errors import DataError, OtherProcessError, UsageError
from core.nested import apply, tensors
from core.order import mixed_seed, seed_global
from core.params import Params
from core.records import LossAverage
from core.task import Collected, Task

T = TypeVar("T")
ROUNDS = 16  # batches of evaluation that a process keeps until process 0 takes them


def launched() -> bool:
    """Tell whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


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
    # Decisions travel between CPUs, so that no process waits for its GPU to learn of them.
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if not first():
        logging.getLogger().setLevel(logging.CRITICAL + 1)
    yield
    wait_for_all()
    dist.destroy_process_group()


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


def one_process_only(script: str) -> None:
    """Refuse to be one of several processes."""
    if launched():
        raise UsageError(f"{script} is one process: start it without torchrun")


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


def from_first(make: Callable[[], T]) -> T:
    """Return what `make()` returns on process 0; the others do not call it."""
    if world() == 1:
        return make()
    box: list[Any] = [make() if first() else None]
    with _together():
        dist.broadcast_object_list(box, src=0)
    return box[0]


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


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process, of those of a kind.

    Raises:
        UsageError: there are more processes than GPUs, or the kind cannot be shared.
    """
    if world() == 1 or device.type == "cpu":
        return device
    count, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type != "cuda" or wanted > count:
        raise UsageError(f"'device' is {device.type!r}, but {wanted} processes share {count} GPUs")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def share(*modules: nn.Module | None, weights: bool = False) -> None:
    """Give every process the buffers, and the weights if asked to, that process 0 has."""
    for module in modules if world() > 1 else ():
        values = [*module.buffers(), *(module.parameters() if weights else ())] if module else []
        for value in (value for value in values if value.numel()):
            copy = value.detach().contiguous()
            with _together():
                dist.broadcast(copy.reshape(-1).view(torch.uint8), src=0)
            value.detach().copy_(copy)


def seed_apart(seed: int) -> None:
    """Let processes draw different numbers (dropout) from here on; 0 draws as one alone does."""
    if not first():
        number = mixed_seed(seed, rank())
        torch.manual_seed(number)  # on all devices
        seed_global(number)


def with_synced_batchnorm(model: nn.Module, params: Params) -> nn.Module:
    """Return the net with batch norm over the rows of all processes, if the params say so."""
    if world() == 1 or not params.sync_batchnorm:
        return model
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def check_same(model: nn.Module, task: Task) -> None:
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
            f"{task.name}.net: the processes' weights differ. Under torchrun a train_step changes\n"
            "weights by state.update alone, and nothing else may draw weights at random."
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


def shares(loader: Any, epoch: int, start: int) -> Iterator[tuple[Any, float]]:
    """Yield this process's rows of every batch, and which share of the batch's rows they are.

    A process without a row gets the first one, and the share 0: it has to come along, but nothing
    that it computes may count.
    """
    if world() == 1:
        return zip(loader.epoch(epoch, start), repeat(1.0), strict=False)
    if getattr(loader, "by_index", False):
        return loader.shares(epoch, start, rank(), world())
    return _own_rows(loader.epoch(epoch, start))


def _own_rows(batches: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    for batch in batches:
        found = tensors(batch)
        count = len(found[0]) if found and found[0].ndim else 0
        own = len(range(rank(), count, world()))
        rows = slice(rank(), None, world()) if own else slice(1)
        yield _rows(batch, rows, count), own / max(count, 1)


def _rows(value: Any, rows: slice, count: int) -> Any:
    """Take some rows of everything in a batch of `count` rows.

    Raises:
        DataError: something in it is not one row an example.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Tensor) and (value.ndim == 0 or len(value) == count):
        return value[rows] if value.ndim else value
    if isinstance(value, Mapping):
        return {name: _rows(item, rows, count) for name, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "to"):
        if len(value) == count and all(isinstance(item, str | int | float) for item in value):
            return value[rows]
        parts = [_rows(item, rows, count) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    kind = f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise DataError(
        f"a batch of {count} rows holds {kind}, which several processes cannot share out.\n"
        "Let a DataLoader over a map-style dataset make the batches, or train in one process."
    )


def own_batches(loader: Any, watch: Any, collected: Collected) -> Iterator[Any]:
    """Yield the batches of a split that fall to this process: every N-th of N processes.

    Args:
        loader: of the split.
        watch: passes on what it is given, and may stop between two rounds of the processes.
        collected: what the caller adds each batch to.
    """
    if world() == 1:
        yield from watch(loader.epoch(0))
        return
    for i, batch in enumerate(watch(_rounds(loader))):
        if batch is not None:
            yield batch
        if (i + 1) % ROUNDS == 0 and isinstance(collected, _Shared):
            collected.exchange()


def _rounds(loader: Any) -> Iterator[Any]:
    """Yield this process's batches, then None while others still have some."""
    if "step" in inspect.signature(loader.epoch).parameters:
        own = loader.epoch(0, rank(), step=world())
    else:  # a loader of the task's own kind
        own = islice(loader.epoch(0), rank(), None, world())
    while any(highest((batch := next(own, None)) is not None)):
        yield batch


class _Shared(Collected):
    """What several processes collect; it comes together on process 0, in the order of one alone."""

    def __init__(self, task: Task, keep: bool = True, labelled: bool = True) -> None:
        super().__init__(task, keep, labelled)
        self.own = []  # what process 0 has not taken yet

    def add(self, outputs: Any, labels: Any) -> None:
        self.own.append(self.task.collect(outputs, labels))

    def restore(self, batches: list[tuple[Any, Any]]) -> None:
        self.own = list(batches)

    def exchange(self) -> None:
        """Hand everything over to process 0."""
        own, self.own = apply(lambda x: x.detach().cpu(), self.own), []
        for turn in zip_longest(*gathered(own)):
            for pair in turn:
                if pair is not None:
                    self._take(*pair)

    def metrics(self) -> dict[str, float]:
        self.exchange()
        return from_first(super().metrics)


def collector(task: Task, keep: bool = True, labelled: bool = True) -> Collected:
    """Return what collects outputs and labels of all processes for the metrics."""
    return (_Shared if world() > 1 else Collected)(task, keep, labelled)


def summed(losses: LossAverage) -> LossAverage:
    """Return the sum of the averages of all processes."""
    if world() == 1:
        return losses
    parts = gathered(apply(lambda x: x.cpu(), losses.state_dict()))
    return merged(from_first(lambda: parts))


def merged(parts: Iterable[Mapping[str, Any]]) -> LossAverage:
    """Return the sum of averages, of each what `state_dict` returned."""
    total = LossAverage()
    for part in parts:
        for name, value in part["totals"].items():
            total.totals[name] = total.totals.get(name, 0.0) + value
        total.weight = total.weight + part["weight"]
    return total
