"""A DataLoader over an iterable dataset, whose examples have no numbers."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from core.base.errors import DataError
from core.base.params import Params
from core.data.batches import placement
from core.data.dataloaders import remade, until_done
from core.machine.random_states import cpu_states, kept_states, mixed_seed, seeded
from core.machine.signals import signals_held_back
from core.task import Batch, IndexBatch, Loader


class StreamLoader(Loader):
    """A DataLoader over an iterable dataset, seeded per epoch; what a plan leaves out is dropped.

    What it yields depends on the number of workers, as with any iterable dataset.
    """

    kind = "a stream; randomness by (seed, epoch) and worker, resumed by drawing and dropping"
    ids = labels = None

    def __init__(self, loader: DataLoader[Any], seed: int, train: bool) -> None:
        if not hasattr(loader.dataset, "__len__"):
            raise DataError("an iterable dataset needs __len__(), its number of examples")
        self.seed, self.generator, self.num_examples = seed, torch.Generator(), len(loader.dataset)
        self.loader = remade(
            loader,
            loader.dataset,
            batch_size=loader.batch_size,
            drop_last=loader.drop_last and train,
            generator=self.generator,
            persistent_workers=False,  # an epoch seeds them
        )
        self.place = lambda batch: batch

    def put_on(self, device: torch.device, params: Params) -> None:
        """Yield batches on the device, in the precision and memory format of the params."""
        self.place = placement(params, device)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Yield the numbers of the batches."""
        return map(IndexBatch, range(len(self)))

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        if hasattr(self.loader.dataset, "set_epoch"):
            self.loader.dataset.set_epoch(epoch)
        self.generator.manual_seed(mixed_seed(self.seed, epoch))
        with seeded(self.seed, epoch), signals_held_back():
            batches = until_done(iter(self.loader))
            own, drawn = cpu_states(), 0
        for planned in part:
            while drawn <= planned.number:
                with kept_states(own):
                    batch = next(batches, None)
                    own, drawn = cpu_states(), drawn + 1
                if batch is None:  # it has ended early
                    return
            yield self.place(batch)
