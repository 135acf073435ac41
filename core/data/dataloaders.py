"""Exact order for a plain DataLoader, with the interface of `core.data.batches.Batches`."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from core.base.errors import DataError
from core.machine.random_states import (
    epoch_order,
    example_seed,
    mixed_seed,
    own_states,
    seed_global,
    seeded,
    split_into_batches,
)
from core.machine.signals import ignore_signals, signals_held_back
from core.task import is_integer


class _SeededExamples(Dataset[Any]):
    """A dataset that is asked for (epoch, index), and draws its random numbers from these."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.last = (0, 0)  # the example that was asked for last, in this process

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[tuple[int, int]]) -> list[Any]:
        """Return the examples of a batch; the states of the generators are put back once."""
        with own_states():
            return [self._draw(place) for place in places]

    def _draw(self, place: tuple[int, int]) -> Any:
        self.last = place
        seed_global(example_seed(self.seed, *place))
        return self.dataset[place[1]]


def start_worker(own: Callable[[int], None] | None, number: int) -> None:
    """Begin a worker process: signals are the main process's business."""
    ignore_signals()
    if own is not None:
        own(number)


class _SeededCollate:
    """A collate function that draws its random numbers from (epoch, last example of the batch)."""

    def __init__(self, examples: _SeededExamples, collate_fn: Any) -> None:
        self.examples, self.collate_fn = examples, collate_fn

    def __call__(self, batch: Any) -> Any:
        with own_states():
            seed_global(mixed_seed(self.examples.seed, *self.examples.last, 1))
            return self.collate_fn(batch)


class _EpochBatches:
    """The batch sampler of an exact loader: lists of (epoch, index), set anew before each epoch."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class ExactLoader:
    """A DataLoader over a map-style dataset with the interface of `Batches`.

    A random or sequential sampler is replaced by our order of (seed, epoch). A sampler or batch
    sampler of the user's own is kept: its whole list is drawn at the start of an epoch, seeded by
    (seed, epoch). Each example is seeded by (seed, epoch, index). Outside of training `drop_last`
    is not obeyed: evaluation counts every example once.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        self.loader, self.seed, self.train = loader, seed, train
        self.own_order = not _has_standard_sampler(loader)
        order = "kept, drawn by (seed, epoch)" if self.own_order else "by (seed, epoch)"
        self.kind = f"a DataLoader; order {order}, randomness by (seed, epoch, example)"
        self.batches = _EpochBatches()
        sampling = {"batch_sampler" if loader.batch_sampler else "sampler": self.batches}
        self.examples = _SeededExamples(loader.dataset, seed)
        self.collate = _SeededCollate(self.examples, loader.collate_fn)
        self.inner: DataLoader[Any] = DataLoader(
            self.examples,
            **sampling,  # type: ignore[arg-type]
            batch_size=1 if loader.batch_sampler else None,
            num_workers=loader.num_workers,
            collate_fn=self.collate,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=partial(start_worker, loader.worker_init_fn),
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator(),  # else every epoch draws from the global generator
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )

    @property
    def num_examples(self) -> int:
        """N, the number of examples of an epoch."""
        sampler = self.loader.sampler
        return len(sampler if hasattr(sampler, "__len__") else self.loader.dataset)  # type: ignore[arg-type]

    @property
    def ids(self) -> list[Any] | None:
        """The dataset's `filenames`, or numbers, where examples come in the dataset's order."""
        if self.own_order or self.train:
            return None
        return known_ids(self.loader.dataset)

    @property
    def labels(self) -> Tensor | None:
        """The integer labels (N,) where the dataset shows them without reading every example."""
        whole = self.num_examples == len(self.loader.dataset)  # type: ignore[arg-type]
        return known_labels(self.loader.dataset) if whole else None

    def __len__(self) -> int:
        return len(self.loader if self.own_order else self._index_batches(0))

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def first_batch(self) -> Any:
        """Return the first batch of epoch 0, without starting worker processes."""
        first = self._index_batches(0)[0]
        if self.loader.batch_sampler is None:
            return self.collate(self.examples[0, first])
        return self.collate([self.examples[0, index] for index in first])

    def _index_batches(self, number: int) -> list[Any]:
        """Return the example numbers of every batch of an epoch."""
        if not self.own_order:
            shuffled = self.train and type(self.loader.sampler) is RandomSampler
            size = self.num_examples
            order = epoch_order(size, self.seed, number) if shuffled else torch.arange(size)
            dropping, batch_size = self.train and self.loader.drop_last, self.loader.batch_size or 1
            if dropping:
                order = order[: size - size % batch_size]
            batches = split_into_batches(order, batch_size, self.train)
            return [batch.tolist() for batch in batches]
        sampler: Any = self.loader.batch_sampler or self.loader.sampler
        parts: list[Any] = [sampler, getattr(sampler, "sampler", None)]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(number)
            if isinstance(own := getattr(part, "generator", None), torch.Generator):
                own.manual_seed(mixed_seed(self.seed, number))
        with seeded(self.seed, number):
            return list(islice(sampler, len(self.loader)))

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        """Yield every `step`-th batch of one epoch, from the batch number `start` on."""
        return self._load(number, self._index_batches(number)[start::step])

    def shares(self, number: int, start: int, rank: int, world: int) -> Iterator[tuple[Any, float]]:
        """Yield the rows of one of several processes: see shares.of_batches."""
        if self.loader.batch_sampler is None:
            raise DataError("several processes cannot share a DataLoader without a batch size")
        batches = self._index_batches(number)[start:]
        own = [batch[rank::world] or batch[:1] for batch in batches]
        parts = [len(batch[rank::world]) / len(batch) for batch in batches]
        return zip(self._load(number, own), parts, strict=True)

    def _load(self, number: int, batches: list[Any]) -> Iterator[Any]:
        if self.loader.batch_sampler is None:
            self.batches.batches = [(number, index) for index in batches]
        else:
            self.batches.batches = [[(number, index) for index in batch] for batch in batches]
        with signals_held_back():
            return iter(self.inner)


def _has_standard_sampler(loader: DataLoader[Any]) -> bool:
    """Tell whether a loader visits every example once, in order or shuffled."""
    sampler = loader.sampler
    if (
        type(loader.batch_sampler) is not BatchSampler
        or loader.batch_sampler.sampler is not sampler
    ):
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


def subset(loader: DataLoader[Any], index: Tensor) -> DataLoader[Any]:
    """Return a DataLoader like another over the examples (M,) of its dataset only."""
    if isinstance(loader.dataset, IterableDataset) or not _has_standard_sampler(loader):
        raise DataError("val_split needs a map-style dataset, in order or shuffled by shuffle=True")
    return DataLoader(
        Subset(loader.dataset, index.tolist()),
        batch_size=loader.batch_size,
        shuffle=isinstance(loader.sampler, RandomSampler),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
