"""Worker processes: how they begin, and how they end with the process that started them."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

from core.base.errors import DataError
from core.machine.environment import usable_cores
from core.machine.signals import ignore_signals, signals_held_back


def start_worker(
    own: Callable[[int], None] | None, number: int, others: tuple[int, int] = (0, 0)
) -> None:
    """Begin a worker process: signals are the main process's business.

    Args:
        own: the worker_init_fn of the loader.
        number: of the worker.
        others: how many workers of other processes, before and after this process's, divide the
            data, too; get_worker_info() then counts them.
    """
    ignore_signals()
    if any(others):
        info: Any = get_worker_info()
        seen = SimpleNamespace(id=info.id + others[0], num_workers=info.num_workers + sum(others))
        seen.seed, seen.dataset = info.seed, info.dataset
        torch.utils.data._utils.worker._worker_info = seen  # type: ignore # none is public
    if own is not None:
        own(number)


def until_done(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield the batches of a DataLoader; workers that are left in the middle end at once.

    The garbage collector may close their queues first, and then waits seconds for each of them.
    """
    try:
        yield from batches
    except BaseException as error:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            raise DataError(
                f"a worker process of a loader has ended: {str(error).splitlines()[0]}\nPerhaps "
                "memory ran out: lower num_workers or batch_size; the same command resumes"
            ) from error
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
        raise


def on_all_cores(work: Callable[[int], Any], count: int, many: bool) -> Iterator[Any]:
    """Yield work(0) to work(count - 1), done by a process for each core if there is `many` to do.

    Threads would wait for Python most of the time. The processes are forked, so they share memory
    with this one; where the system forks none, or in a worker, the work is done here.
    """
    forks = sys.platform == "linux" and many and not multiprocessing.current_process().daemon
    calls: DataLoader[Any] = DataLoader(
        range(count),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=work,  # type: ignore[arg-type]
        num_workers=usable_cores() if forks else 0,
        worker_init_fn=partial(start_worker, None),
        multiprocessing_context="fork" if forks else None,
        generator=torch.Generator(),  # else it draws from the global generator
    )
    with signals_held_back():
        results = iter(calls)
    yield from until_done(results)
