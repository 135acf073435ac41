"""A DataLoader over an iterable dataset, whose examples have no numbers."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from core.base.errors import DataError
from core.base.params import Params
from core.data.batches import placement
from core.data.dataloaders import remade
from core.data.samplers import check_length
from core.data.workers import until_done
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
    """

    ids = labels = None

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        dataset: Any = loader.dataset
        if not (hasattr(dataset, "num_examples") or hasattr(dataset, "__len__")):
            told = "an iterable dataset needs __len__(), its number of examples"
            raise DataError(f"{told}; or set its attribute num_examples")
        self.num_examples = getattr(dataset, "num_examples", None) or len(dataset)
        self.seed, self.generator = seed, torch.Generator()
        self.loader = remade(
            loader,
            loader.dataset,
            batch_size=loader.batch_size,
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

    def state(self) -> dict[str, Any] | None:
        """Return where the epoch in progress is; None where it has to be drawn again."""
        if not (self.stateful and self.own and self.counts[0] < len(self)):
            return None
        with kept_states(self.own):
            states = random_states() | {"cuda": []}
        dataset: Any = self.loader.dataset
        return {"dataset": dataset.state_dict(), "states": states, "counts": list(self.counts)}

    def put_on(self, device: torch.device, params: Params) -> None:
        """Yield batches on the device, in the precision and memory format of the params."""
        self.place = placement(params, device)

    def __len__(self) -> int:
        """Return the number of batches, if the workers divide the examples evenly."""
        if self.loader.batch_size is None:
            return self.num_examples
        size, whole = self.loader.batch_size, self.loader.drop_last
        workers = max(1, self.loader.num_workers)
        own = [len(range(i, self.num_examples, workers)) for i in range(workers)]
        return sum(n // size if whole else math.ceil(n / size) for n in own)

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Yield the numbers of the batches."""
        return map(IndexBatch, range(len(self)))

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        dataset: Any = self.loader.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        self.generator.manual_seed(mixed_seed(self.seed, epoch))
        begin, self.begin = self.begin, None
        if begin is not None:
            dataset.load_state_dict(begin["dataset"])
        with seeded(self.seed, epoch), signals_held_back():
            batches = until_done(iter(self.loader))
            own, (drawn, rows) = cpu_states(), begin["counts"] if begin else (0, 0)
        if begin is not None:
            with kept_states():
                set_random_states(begin["states"])
                own = cpu_states()
        regular = not self.loader.drop_last
        for planned in part:
            while drawn <= planned.number:
                with kept_states(own):
                    batch = next(batches, None)
                    own, drawn = cpu_states(), drawn + 1
                if batch is None:
                    self._check(drawn - 1, len(self), "batches")
                rows += num_examples(batch) or 0
                # What was collated into other shapes has no rows to count.
                regular = regular and (drawn > 1 or rows == self.loader.batch_size)
            self.own, self.counts = own, (drawn, rows)
            yield self.place(batch)
        if drawn < len(self):
            return
        with kept_states(own):
            self._check(drawn + (next(batches, None) is not None), len(self), "batches")
        if regular and len(self) > 1:
            self._check(rows, self.num_examples, "examples")

    def _check(self, found: int, promised: int, what: str) -> None:
        workers = self.loader.num_workers
        divide = "\nDoes it divide its examples among the workers, by get_worker_info()?"
        check_length(self.loader, found, promised, what, divide if workers > 1 else "")
