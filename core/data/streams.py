"""A DataLoader over an iterable dataset, whose examples have no numbers."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from core.base.errors import DataError, UsageError, plural
from core.base.params import Params
from core.data.batches import placement
from core.data.dataloaders import remade
from core.data.samplers import check_length
from core.data.workers import until_done
from core.machine import processes
from core.machine.nested import num_examples
from core.machine.random_states import (
    cpu_states,
    kept_states,
    mixed_seed,
    random_states,
    seeded,
    set_random_states,
)
from core.machine.signals import signals_held_back
from core.task import Batch, IndexBatch, Loader


def _has_buffer(dataset: Any) -> bool:
    """Tell of a dataset of Hugging Face whether it shuffles in a buffer, which no state holds."""
    part = getattr(dataset, "_ex_iterable", None)
    while part is not None and "BufferShuffled" not in type(part).__name__:
        part = getattr(part, "ex_iterable", None)
    return part is not None


class StreamLoader(Loader):
    """A DataLoader over an iterable dataset, seeded per epoch; what a plan leaves out is dropped.

    What it yields depends on the number of workers, as with any iterable dataset. Without workers
    it goes on from the dataset's own `state_dict`, if there is one that holds all.

    Several processes divide a stream if they have workers: to the dataset all workers of all
    processes are workers of one loader. Without workers each process reads all.
    """

    ids = labels = None

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        dataset: Any = loader.dataset
        if not (hasattr(dataset, "num_examples") or hasattr(dataset, "__len__")):
            told = "an iterable dataset needs __len__(), its number of examples"
            raise DataError(f"{told}; or set its attribute num_examples")
        self.num_examples = getattr(dataset, "num_examples", None) or len(dataset)
        self.seed, self.generator = seed, torch.Generator()
        self.rank, self.parts, size = 0, 1, loader.batch_size
        enough = size is not None and size >= 2 * processes.world_size()
        if loader.num_workers and enough:
            self.rank, self.parts = processes.rank(), processes.world_size()
        self.size, self.train = size or 1, train  # of a batch of all processes
        if train and self.parts > 1:
            size = len(range(self.rank, self.size, self.parts))
        before = self.rank * loader.num_workers
        self.loader = remade(
            loader,
            loader.dataset,
            (before, (self.parts - 1) * loader.num_workers - before),
            batch_size=size,
            drop_last=loader.drop_last and train,
            generator=self.generator,
            persistent_workers=False,  # an epoch seeds them
        )
        self.place = lambda batch: batch
        self.own: tuple[Any, ...] = ()  # states of the generators after the last batch
        self.counts = 0, 0  # batches and rows of the epoch so far
        self.begin: dict[str, Any] | None = None  # where the next epoch begins: see `state`
        own = hasattr(dataset, "load_state_dict") and not _has_buffer(dataset)
        self.stateful = own and loader.num_workers == 0
        again = "goes on from its own state" if self.stateful else "draws again what it has seen"
        self.kind = f"a stream, seeded every epoch; a resumed run {again}"
        if self.parts > 1:
            self.kind += f"; {self.parts} processes divide it"

    def state(self) -> dict[str, Any] | None:
        """Return who divides the epoch in progress, if there is one, and what goes on with it."""
        if not (self.own and self.counts[0] < len(self)):
            return None
        found: dict[str, Any] = {"divided": [self.parts, self.loader.num_workers]}
        if self.stateful:
            with kept_states(self.own):
                found["states"] = random_states() | {"cuda": []}
            dataset: Any = self.loader.dataset
            found |= {"dataset": dataset.state_dict(), "counts": list(self.counts)}
        return found

    def put_on(self, device: torch.device, params: Params) -> None:
        """Yield batches on the device, in the precision and memory format of the params."""
        self.place = placement(params, device)

    def __len__(self) -> int:
        """Return the number of batches, if the workers divide the examples evenly."""
        return max(self._length_of(rank)[0] for rank in range(self.parts))

    def _length_of(self, rank: int) -> tuple[int, int]:
        """Return the numbers of batches and of examples of a process."""
        if self.loader.batch_size is None:
            return self.num_examples, self.num_examples
        size, workers = self.size, max(1, self.loader.num_workers)
        if self.train and self.parts > 1:
            size = len(range(rank, size, self.parts))
        places = range(rank * workers, (rank + 1) * workers)
        own = [len(range(i, self.num_examples, self.parts * workers)) for i in places]
        whole = self.loader.drop_last
        return sum(n // size if whole else math.ceil(n / size) for n in own), sum(own)

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Return the numbers of the batches; where a process has fewer, its last ones do not count.

        Each row of a stream that is divided has the fraction given.
        """
        if self.parts == 1:
            return map(IndexBatch, range(len(self)))
        own, _ = self._length_of(self.rank)
        fractions = ((number < own) / self.size for number in range(len(self)))
        return (IndexBatch(i, None, slice(None), each) for i, each in enumerate(fractions))

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        dataset: Any = self.loader.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        of_rank = (self.rank,) if self.rank else ()
        self.generator.manual_seed(mixed_seed(self.seed, epoch, *of_rank))
        begin, self.begin = self.begin, None
        self._check_division(begin)
        begin = begin if begin and "dataset" in begin else None
        if begin is not None:
            dataset.load_state_dict(begin["dataset"])
        with seeded(self.seed, epoch), signals_held_back():
            batches = until_done(iter(self.loader))
            own, (drawn, rows) = cpu_states(), begin["counts"] if begin else (0, 0)
        if begin is not None:
            with kept_states():
                set_random_states(begin["states"])
                own = cpu_states()
        regular, (length, examples) = not self.loader.drop_last, self._length_of(self.rank)
        for planned in part:
            while drawn <= min(planned.number, length - 1):
                with kept_states(own):
                    batch = next(batches, None)
                    own, drawn = cpu_states(), drawn + 1
                if batch is None:
                    self._check(drawn - 1, length, "batches")
                rows += num_examples(batch) or 0
                # What was collated into other shapes has no rows to count.
                regular = regular and (drawn > 1 or rows == self.loader.batch_size)
            self.own, self.counts = own, (planned.number + 1, rows)
            yield self.place(batch)
        if drawn < length:
            return
        with kept_states(own):
            self._check(drawn + (next(batches, None) is not None), length, "batches")
        if regular and length > 1:
            self._check(rows, examples, "examples")

    def _check_division(self, begin: dict[str, Any] | None) -> None:
        """Raise UsageError if others than before divide an epoch that goes on in its middle."""
        now = [self.parts, self.loader.num_workers]
        if (before := (begin or {}).get("divided", now)) != now:
            told = [f"{plural(n, 'process', 'processes')} x {w} workers" for n, w in (before, now)]
            raise UsageError(
                f"{told[0]} began this epoch of a stream: {told[1]} would lose examples or see\n"
                "them twice. Go on as it was begun, or use --overwrite"
            )

    def _check(self, found: int, promised: int, what: str) -> None:
        workers = self.loader.num_workers
        divide = "\nDoes it divide its examples among the workers, by get_worker_info()"
        divide += " alone?" if self.parts > 1 else "?"
        check_length(self.loader, found, promised, what, divide if workers * self.parts > 1 else "")
