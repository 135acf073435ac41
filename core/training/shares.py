"""What each of several processes does of the work, and how it comes together again.

In training each takes its rows of every batch, in evaluation every so many whole batches.
"""

from collections.abc import Iterator
from itertools import islice, repeat, zip_longest
from typing import Any

from core.base.errors import DataError
from core.machine import processes as distributed
from core.machine.nested import apply
from core.run.log import LossAverage
from core.task import Collected, Task

ROUNDS = 16  # batches of evaluation that a process keeps until process 0 takes them


def of_batches(loader: Any, epoch: int, start: int) -> Iterator[tuple[Any, float]]:
    """Yield this process's rows of every batch, and which share of the batch's rows they are.

    A process without a row gets the first one, and the share 0: it has to come along, but nothing
    that it computes may count.

    Raises:
        DataError: the loader's batches have no numbered rows: a stream, or a loader of one's own.
    """
    if distributed.world() == 1:
        return zip(loader.epoch(epoch, start), repeat(1.0), strict=False)
    if not hasattr(loader, "shares"):
        raise DataError(
            f"several processes cannot share a {type(loader).__name__} to train on; they can\n"
            "share utils.Batches, and a DataLoader of a map-style dataset and a batch size"
        )
    return loader.shares(epoch, start, distributed.rank(), distributed.world())


def own_batches(loader: Any, watch: Any, collected: Collected) -> Iterator[Any]:
    """Yield the batches of a split that fall to this process: every N-th of N processes.

    Args:
        loader: of the split.
        watch: passes on what it is given, and may stop between two rounds of the processes.
        collected: what the caller adds each batch to.
    """
    if distributed.world() == 1:
        yield from watch(loader.epoch(0))
        return
    for i, batch in enumerate(watch(_rounds(loader))):
        if batch is not None:
            yield batch
        if (i + 1) % ROUNDS == 0 and isinstance(collected, _Shared):
            collected.exchange()


def _rounds(loader: Any) -> Iterator[Any]:
    """Yield this process's batches, then None while others still have some."""
    if hasattr(loader, "shares"):
        own = loader.epoch(0, distributed.rank(), step=distributed.world())
    else:
        own = islice(loader.epoch(0), distributed.rank(), None, distributed.world())
    while any(distributed.highest((batch := next(own, None)) is not None)):
        yield batch


class _Shared(Collected):
    """What several processes collect; it comes together on process 0, in the order of one alone."""

    def __init__(self, task: Task, keep: bool = True, labelled: bool = True) -> None:
        super().__init__(task, keep, labelled)
        self.own: list[tuple[Any, Any]] = []  # what process 0 has not taken yet

    def add(self, outputs: Any, labels: Any) -> None:
        self.own.append(self.task.collect(outputs, labels))

    def seen(self) -> list[tuple[Any, Any]]:
        return [*self.batches, *self.own]

    def restore(self, batches: list[tuple[Any, Any]]) -> None:
        self.own = list(batches)

    def exchange(self) -> None:
        """Hand everything over to process 0."""
        own, self.own = apply(lambda x: x.detach().cpu(), self.own), []
        for turn in zip_longest(*distributed.gathered(own)):
            for pair in turn:
                if pair is not None:
                    self._take(*pair)

    def metrics(self) -> dict[str, float]:
        self.exchange()
        return distributed.by_first(super().metrics)()


def collector(task: Task, keep: bool = True, labelled: bool = True) -> Collected:
    """Return what collects outputs and labels of all processes for the metrics."""
    return (_Shared if distributed.world() > 1 else Collected)(task, keep, labelled)


def summed(losses: LossAverage) -> LossAverage:
    """Return the sum of the averages of all processes."""
    if distributed.world() == 1:
        return losses
    parts = distributed.gathered(apply(lambda x: x.cpu(), losses.state_dict()))
    return LossAverage.merged(distributed.by_first(lambda: parts)())
