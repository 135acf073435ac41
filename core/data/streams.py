"""A DataLoader over an iterable dataset, whose examples have no numbers."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader

from core.base.errors import DataError
from core.data.dataloaders import start_worker
from core.machine.random_states import global_states, mixed_seed, seeded, states_in_place
from core.machine.signals import signals_held_back


class StreamLoader:
    """A DataLoader over an iterable dataset, seeded per epoch; it starts in mid-epoch by dropping.

    What it yields depends on the number of workers, as with any iterable dataset.
    """

    kind = "a stream; randomness by (seed, epoch) and worker, resumed by drawing and dropping"
    ids = labels = None

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        if not hasattr(loader.dataset, "__len__"):
            raise DataError(
                "an iterable dataset needs __len__(), the number of examples of an epoch"
            )
        self.seed = seed
        self.generator = torch.Generator()
        self.loader: DataLoader[Any] = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            drop_last=loader.drop_last and train,
            timeout=loader.timeout,
            worker_init_fn=partial(start_worker, loader.worker_init_fn),
            multiprocessing_context=loader.multiprocessing_context,
            generator=self.generator,
            prefetch_factor=loader.prefetch_factor,  # workers do not persist: an epoch seeds them
        )

    @property
    def num_examples(self) -> int:
        """N, the length of the dataset."""
        return len(self.loader.dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def first_batch(self) -> Any:
        """Return the first batch of epoch 0."""
        return next(self.epoch(0))

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch, from the batch number `start` on."""
        if hasattr(self.loader.dataset, "set_epoch"):
            self.loader.dataset.set_epoch(number)
        self.generator.manual_seed(mixed_seed(self.seed, number))
        with seeded(self.seed, number), signals_held_back():
            iterator = iter(self.loader)
            own = global_states()
        end = object()
        for i in count():
            with states_in_place(own):
                batch = next(iterator, end)
                own = global_states()
            if batch is end:
                return
            if i >= start:
                yield batch
