"""Plain DataLoaders made exact: order and randomness depend on (seed, epoch, example) alone."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from core.base.errors import DataError
from core.base.params import Params
from core.data.batches import placement
from core.data.order import epoch_order, split_into_batches
from core.machine.random_states import (
    example_seed,
    kept_outside_workers,
    mixed_seed,
    seed_cpu,
    seeded,
)
from core.machine.signals import ignore_signals, signals_held_back
from core.task import Batch, IndexBatch, Loader, is_integer

KEPT = ["num_workers", "collate_fn", "pin_memory", "timeout", "prefetch_factor"]
KEPT += ["multiprocessing_context", "persistent_workers"]


def remade(loader: DataLoader[Any], dataset: Any, **changes: Any) -> DataLoader[Any]:
    """Return a DataLoader with the settings of another, but for its sampling and the changes."""
    kept = {name: getattr(loader, name) for name in KEPT} | changes
    return DataLoader(dataset, worker_init_fn=partial(start_worker, loader.worker_init_fn), **kept)


def start_worker(own: Callable[[int], None] | None, number: int) -> None:
    """Begin a worker process: signals are the main process's business."""
    ignore_signals()
    if own is not None:
        own(number)


def until_done(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield the batches of a DataLoader; workers that are left in the middle end at once.

    The garbage collector may close their queues first, and then waits seconds for each of them.
    """
    try:
        yield from batches
    except BaseException:
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
        raise


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
        sampler: Any = loader.sampler if hasattr(loader.sampler, "__len__") else loader.dataset
        self.num_examples = len(sampler)
        if self.num_examples == 0:
            raise DataError("a split has no examples")
        self.own_order = not has_standard_sampler(loader)
        order = "kept, drawn by (seed, epoch)" if self.own_order else "by (seed, epoch)"
        self.kind = f"a DataLoader; order {order}, randomness by (seed, epoch, example)"
        self.examples = _SeededExamples(loader.dataset, seed)
        self.collate = _SeededCollate(self.examples, loader.collate_fn)
        self.places, self.batched = _Places(), loader.batch_sampler is not None
        batched, single = {"batch_sampler": self.places}, {"sampler": self.places}
        self.inner = remade(
            loader,
            self.examples,
            **batched if self.batched else single | {"batch_size": None},
            collate_fn=self.collate,
            generator=torch.Generator(),  # else every epoch draws from the global generator
        )
        self.place: Callable[[Any], Any] = lambda batch: batch

    @property
    def ids(self) -> list[Any] | None:
        """The dataset's `filenames`, or numbers, where examples come in the dataset's order."""
        return None if self.own_order or self.train else known_ids(self.examples.dataset)

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
        return len(self.loader if self.own_order else self._standard_order(0))

    def first_batch(self) -> Batch:
        """Return the first batch of epoch 0, without starting worker processes."""
        places = _places(0, self.batched, next(iter(self.plan(0))))
        examples = self.examples.__getitems__(places) if self.batched else self.examples[places]
        return self.place(self.collate(examples))

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Yield the numbers of the examples of every batch of an epoch."""
        batches = self._own_order(epoch) if self.own_order else self._standard_order(epoch)
        return (IndexBatch(i, index) for i, index in enumerate(batches))

    def _standard_order(self, epoch: int) -> list[list[int]]:
        shuffled = self.train and type(self.loader.sampler) is RandomSampler
        size, batch_size = self.num_examples, self.loader.batch_size or 1
        order = epoch_order(size, self.seed, epoch) if shuffled else torch.arange(size)
        if self.train and self.loader.drop_last:
            order = order[: size - size % batch_size]
        return [batch.tolist() for batch in split_into_batches(order, batch_size, self.train)]

    def _own_order(self, epoch: int) -> list[Any]:
        """Draw the whole order of the user's own sampler."""
        sampler: Any = self.loader.batch_sampler or self.loader.sampler
        parts: list[Any] = [sampler, getattr(sampler, "sampler", None)]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
            if isinstance(own := getattr(part, "generator", None), torch.Generator):
                own.manual_seed(mixed_seed(self.seed, epoch))
        with seeded(self.seed, epoch):
            return list(islice(sampler, len(self.loader)))

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        self.places.places = map(partial(_places, epoch, self.batched), part)
        with signals_held_back():
            batches = iter(self.inner)
        return map(self.place, until_done(batches))


def _places(epoch: int, batched: bool, planned: IndexBatch) -> Any:
    """Return what _SeededExamples is asked for: (epoch, index) of every example of a batch."""
    if not batched:
        return epoch, planned.index
    index = planned.index if planned.rows is None else planned.index[planned.rows]
    return [(epoch, i) for i in index]


def has_standard_sampler(loader: DataLoader[Any]) -> bool:
    """Tell whether a loader visits every example once, in order or shuffled."""
    sampler, batches = loader.sampler, loader.batch_sampler
    if type(batches) is not BatchSampler or batches.sampler is not sampler:
        return False
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def known_ids(dataset: Any) -> list[Any]:
    """Return a dataset's `filenames`, or the numbers of its examples; of a part, the whole's."""
    if isinstance(dataset, Subset):
        whole = known_ids(dataset.dataset)
        return [whole[i] for i in dataset.indices]
    names = getattr(dataset, "filenames", None)
    return list(names) if names is not None else list(range(len(dataset)))


def known_labels(dataset: Any) -> Tensor | None:
    """Return the labels (N,) a dataset holds as `targets`, `labels` or last tensor, if integers."""
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if labels is None and getattr(dataset, "tensors", None):
        labels = dataset.tensors[-1]
    if isinstance(dataset, Subset):
        whole = known_labels(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        return None
    return labels if is_integer(labels) and len(labels) == len(dataset) else None
