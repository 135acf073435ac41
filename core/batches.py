"""Batches from memory, the one face that every loader has, and moving a batch to the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from core.errors import DataError
from core.loaders import ExactLoader, StreamLoader
from core.order import epoch_order, generator, split_into_batches
from core.params import Params

Transform = Callable[[Tensor, torch.Generator | None], Tensor]


def to_device(value: Any, device: torch.device, params: Params) -> Any:
    """Move the tensors inside tuples, lists and dicts to the device, in the params' precision.

    Floats become float64 where the precision says so; images (B, C, H, W) channels_last likewise.
    """
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return value.to(device, non_blocking=True)
        dtype = torch.float64 if params.precision == "float64" else value.dtype
        images = params.channels_last and value.ndim == 4
        layout = torch.channels_last if images else torch.preserve_format
        return value.to(device, dtype, non_blocking=True, memory_format=layout)
    if isinstance(value, Mapping):
        return {name: to_device(item, device, params) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields") and not hasattr(value, "to"):
        return type(value)(*(to_device(item, device, params) for item in value))
    if type(value) in (tuple, list):
        return type(value)(to_device(item, device, params) for item in value)
    return value.to(device) if hasattr(value, "to") else value


class Batches:
    """Examples that are held in memory, gathered a whole batch at a time.

    Args:
        inputs: (N, ...) of any type, such as uint8 images.
        labels: (N, ...).
        batch_size: examples per batch.
        seed: with the epoch's number it decides the order.
        train: whether the examples are shuffled and the transform may draw random numbers.
        transform: maps the inputs (B, ...) of a batch to what the model reads; its generator is
            None outside of training.
        ids: N names of the examples; their numbers if absent.
    """

    kind = "from memory; order by (seed, epoch), augmentation by (seed, epoch, batch)"

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int = 0,
        train: bool = False,
        transform: Transform | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        if len(inputs) != len(labels):
            raise DataError(f"{len(inputs)} inputs but {len(labels)} labels")
        if len(inputs) == 0:
            raise DataError("a split has no examples")
        self.inputs, self.labels = inputs, labels
        self.batch_size, self.seed, self.train = batch_size, seed, train
        self.transform = transform
        self.ids = list(ids) if ids is not None else list(range(len(inputs)))

    @property
    def num_examples(self) -> int:
        """N, the number of examples."""
        return len(self.inputs)

    def to(self, device: torch.device) -> "Batches":
        """Keep the examples on the device where they take at most a quarter of its free memory."""
        size = self.inputs.nbytes + self.labels.nbytes
        if device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] // 4:
            self.inputs, self.labels = self.inputs.to(device), self.labels.to(device)
        return self

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(split_into_batches(torch.arange(self.num_examples), self.batch_size, self.train))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.epoch(0)

    def first_batch(self) -> tuple[Tensor, Tensor]:
        """Return the first batch of epoch 0."""
        return next(self.epoch(0))

    def order(self, number: int) -> Tensor:
        """Return the order (N,) of the examples in one epoch."""
        if self.train:
            return epoch_order(self.num_examples, self.seed, number)
        return torch.arange(self.num_examples)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, from the batch number `start` on."""
        order = self.order(number).to(self.inputs.device)
        batches = split_into_batches(order, self.batch_size, self.train)
        for i in range(start, len(batches)):
            inputs, labels = self.inputs[batches[i]], self.labels[batches[i]]
            if self.transform is not None:
                draws = generator(self.seed, number, i) if self.train else None
                inputs = self.transform(inputs, draws)
            yield inputs, labels


Loader = Batches | ExactLoader | StreamLoader  # or anything else with their face


def exact(loader: Any, seed: int, train: bool = False) -> Any:
    """Give a DataLoader the face of `Batches`; a loader that has it already is returned."""
    if not isinstance(loader, DataLoader):
        if isinstance(loader, Batches):
            loader.train = train
        elif not (hasattr(loader, "epoch") and hasattr(loader, "num_examples")):
            kind = type(loader).__name__
            raise DataError(f"a loader is {kind}, want a DataLoader or utils.Batches")
        return loader
    if isinstance(loader.dataset, IterableDataset):
        return StreamLoader(loader, seed, train)
    if len(loader.dataset) == 0:  # type: ignore[arg-type]
        raise DataError("a split has no examples")
    return ExactLoader(loader, seed, train)
