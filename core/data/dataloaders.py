"""Plain DataLoaders made exact: order and randomness depend on (seed, epoch, example) alone."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import tee
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from core.base.errors import DataError
from core.base.params import Params
from core.data.batches import draws_by_rows, make_draws, placement, told_draws
from core.data.known import known_ids, known_labels, whole
from core.data.order import drawn_order, split_into_batches
from core.data.samplers import is_shuffled, own_order
from core.data.workers import start_worker, until_done
from core.machine.nested import tensors
from core.machine.random_states import (
    example_seed,
    kept_outside_workers,
    mixed_seed,
    seed_cpu,
)
from core.machine.signals import signals_held_back
from core.task import Batch, IndexBatch, Loader

KEPT = ["num_workers", "collate_fn", "pin_memory", "timeout", "prefetch_factor"]
KEPT += ["multiprocessing_context", "persistent_workers"]


def remade(
    loader: DataLoader[Any], dataset: Any, others: tuple[int, int] = (0, 0), **changes: Any
) -> DataLoader[Any]:
    """Return a DataLoader with the settings of another, but for its sampling and the changes.

    `others` are the workers of other processes: see `start_worker`.
    """
    kept = {name: getattr(loader, name) for name in KEPT} | changes
    start = partial(start_worker, loader.worker_init_fn, others=others)
    return DataLoader(dataset, worker_init_fn=start, **kept)


class _SeededExamples(Dataset[Any]):
    """A dataset that is asked for (epoch, index), and draws its random numbers from these."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.last = (0, 0)  # the example that was asked for last, in this process

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[tuple[int, int]]) -> list[Any]:
        """Return the examples of a batch; the states of the generators are put back once."""
        with kept_outside_workers():
            return [self._draw(place) for place in places]

    def _draw(self, place: tuple[int, int]) -> Any:
        self.last = place
        seed_cpu(example_seed(self.seed, *place))
        return self.dataset[place[1]]


class _SeededCollate:
    """A collate function that draws its random numbers from (epoch, last example of the batch)."""

    def __init__(self, examples: _SeededExamples, collate_fn: Any) -> None:
        self.examples, self.collate_fn = examples, collate_fn

    def __call__(self, batch: Any) -> Any:
        with kept_outside_workers():
            seed_cpu(mixed_seed(self.examples.seed, *self.examples.last, 1))
            return self.collate_fn(batch)


class _Places:
    """The sampler of an exact loader: lists of (epoch, index), or single ones, set before use."""

    def __init__(self) -> None:
        self.places: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.places)


class ExactLoader(Loader):
    """A DataLoader over a map-style dataset.

    A random or sequential sampler is replaced by our order of (seed, epoch). A sampler or batch
    sampler of the user's own is kept, and seeded by (seed, epoch). Each example is seeded by (seed,
    epoch, index). Outside of training `drop_last` is not obeyed: evaluation counts every example
    once.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        self.loader, self.seed, self.train = loader, seed, train
        dataset: Any = loader.dataset
        self.whole = whole(dataset)
        sampler: Any = loader.sampler if hasattr(loader.sampler, "__len__") else dataset
        divided = isinstance(loader.sampler, DistributedSampler)
        self.num_examples = len(dataset if divided else sampler)
        if self.num_examples == 0:
            raise DataError("a split has no examples")
        self.shuffled = is_shuffled(loader)
        self.own_order = self.shuffled is None
        self.kind = "in order"
        if self.own_order:
            self.kind = f"ordered by its own sampler (seed {seed})"
        elif train and self.shuffled:
            told = getattr(self.whole, "order_told", None)
            self.kind = told(loader.batch_size or 1) if told else "shuffled every epoch"
            self.kind += f" (seed {seed})"
        self.transform = getattr(self.whole, "batch_transform", None)
        self.by_rows = draws_by_rows(self.transform)
        self.kind += told_draws(self.transform) if train else ""
        self.kind += "; its DistributedSampler is replaced" if divided else ""
        self.examples = _SeededExamples(loader.dataset, seed)
        self.collate = _SeededCollate(self.examples, loader.collate_fn)
        self.names = known_ids(dataset)
        if len(self.names) != len(dataset):
            raise DataError(f"{len(self.names)} filenames for {len(dataset)} examples")
        self.places, self.batched = _Places(), loader.batch_sampler is not None
        self.told = False  # that collate_fn leaves examples out
        batched, single = {"batch_sampler": self.places}, {"sampler": self.places}
        self.inner = remade(
            loader,
            self.examples,
            **batched if self.batched else single | {"batch_size": None},
            collate_fn=self.collate,
            generator=torch.Generator(),  # else every epoch draws from the global generator
        )
        self.place: Callable[[Any], Any] = lambda batch: batch
        batches: Any = loader.batch_sampler
        if self.own_order and not train and type(batches) is BatchSampler and batches.drop_last:
            batches = BatchSampler(batches.sampler, batches.batch_size, drop_last=False)
            self.loader = remade(loader, dataset, batch_sampler=batches)
        if not self.own_order:
            self.length = len(self._standard_order(0))
        elif hasattr(batches or loader.sampler, "__len__"):
            self.length = len(self.loader)
        else:
            raise DataError("a sampler needs __len__(), the number of its entries in an epoch")

    @property
    def ids(self) -> list[Any] | None:
        """The dataset's `filenames`, or numbers, where examples come in the dataset's order."""
        return None if self.own_order or self.train else list(self.names)

    @property
    def labels(self) -> Tensor | None:
        """The integer labels (N,) where the dataset shows them without reading every example."""
        dataset = self.examples.dataset
        return known_labels(dataset) if self.num_examples == len(dataset) else None

    def put_on(self, device: torch.device, params: Params) -> None:
        """Yield batches on the device, in the precision and memory format of the params."""
        self.place = placement(params, device)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.length

    def first_batch(self) -> Batch:
        """Return the first batch of epoch 0, without starting worker processes."""
        planned = next(iter(self.plan(0)))
        places = _places(0, self.batched, planned)
        examples = self.examples.__getitems__(places) if self.batched else self.examples[places]
        return self._on_device(self.collate(examples), 0, planned)

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Yield the numbers of the examples of every batch of an epoch."""
        if self.own_order:
            batches: Iterable[Any] = own_order(self.loader, self.seed, epoch, len(self))
        else:
            batches = map(Tensor.tolist, self._standard_order(epoch))
        return (IndexBatch(i, index) for i, index in enumerate(batches))

    def _standard_order(self, epoch: int) -> list[Tensor]:
        size, batch_size = self.num_examples, self.loader.batch_size or 1
        drawn = self.train and self.shuffled
        dataset = self.examples.dataset
        order = drawn_order(dataset, self.seed, epoch) if drawn else torch.arange(size)
        if self.train and self.loader.drop_last:
            order = order[: size - size % batch_size]
            if len(order) == 0:
                raise DataError(f"drop_last leaves no batch of {batch_size}: {size} examples")
        return split_into_batches(order, batch_size, self.train)

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        plan, ahead = tee(part)
        self.places.places = map(partial(_places, epoch, self.batched), ahead)
        with signals_held_back():
            batches = iter(self.inner)
        for batch, planned in zip(until_done(batches), plan, strict=False):
            if self.batched:
                self._count_rows(batch, planned)
            yield self._on_device(batch, epoch, planned)

    def _on_device(self, batch: Batch, epoch: int, planned: IndexBatch) -> Batch:
        """Return a batch on the device, its inputs as the dataset's `batch_transform` makes them.

        One that draws for a whole batch draws other numbers in each of several processes.
        """
        batch = self.place(batch)
        if self.transform is None:
            return batch
        inputs, labels = batch
        start = 0 if planned.rows is None else planned.rows.start or 0
        of = self.by_rows, self.seed, epoch, _own_index(planned), planned.number, start
        return self.transform(inputs, make_draws(*of) if self.train else None), labels

    def _count_rows(self, batch: Batch, planned: IndexBatch) -> None:
        """Say once in the log that a batch has fewer rows than examples were asked for."""
        parts = [part for part in tensors(batch) if part.ndim]
        count = len(_own_index(planned))
        if self.told or not parts or any(count in part.shape for part in parts):
            return
        if (most := max(len(part) for part in parts)) < count:
            self.told = True
            logging.warning(
                "WARNING: a batch of %d examples has %d rows: its collate_fn leaves examples out, "
                "and no number counts them.",
                count,
                most,
            )


def _places(epoch: int, batched: bool, planned: IndexBatch) -> Any:
    """Return what _SeededExamples is asked for: (epoch, index) of every example of a batch."""
    if not batched:
        return epoch, planned.index
    return [(epoch, i) for i in _own_index(planned)]


def _own_index(planned: IndexBatch) -> Any:
    """Return the numbers of the examples of a batch that this process takes."""
    return planned.index if planned.rows is None else planned.index[planned.rows]
