"""Evaluation by several processes: each takes every so many whole batches, in rounds."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from core.machine import processes
from core.task import Batch, Loader

ROUNDS = 16  # after which rank 0 takes what the processes have collected


def own_batches(
    loader: Loader, watch: Callable[[Iterator[Any]], Iterable[Any]], exchange: Callable[[], None]
) -> Iterator[Batch]:
    """Yield the batches of a split that fall to this process: every N-th of N processes.

    Args:
        loader: of the split.
        watch: passes on what it is given, and may stop between two rounds of the processes.
        exchange: is called after every 16 rounds.
    """
    rank, world_size = processes.rank(), processes.world_size()
    plan = list(loader.plan(0))
    own = loader.load(0, plan[rank::world_size])
    if world_size == 1:
        yield from watch(own)
        return
    rounds = math.ceil(len(plan) / world_size)
    for i, batch in enumerate(watch(next(own, None) for _ in range(rounds))):
        if batch is not None:
            yield batch
        if (i + 1) % ROUNDS == 0:
            exchange()
