"""Batches from memory, the interface that every loader has, and moving a batch to the device."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from core.base.errors import DataError
from core.base.params import Params
from core.data.dataloaders import ExactLoader, subset
from core.data.streams import StreamLoader
from core.machine.devices import free_memory
from core.machine.nested import apply, tensors
from core.machine.random_states import epoch_order, generator, split_into_batches
from core.task import Task
from core.training.checkpoint import storable, without_marks

Transform = Callable[[Any, torch.Generator | None], Any]


def to_device(batch: Any, device: torch.device, params: Params) -> Any:
    """Move a batch to the device, in the params' precision and memory format.

    Floats become float64 where `precision` says so, images (B, C, H, W) channels_last likewise.
    Anything else that has a method `to`, such as a packed sequence, is moved by it.
    """
    if hasattr(batch, "to") and not isinstance(batch, Tensor):
        return batch.to(device)

    def moved(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x.to(device, non_blocking=True)
        dtype = torch.float64 if params.precision == "float64" else x.dtype
        images = params.channels_last and x.ndim == 4
        layout = torch.channels_last if images else torch.preserve_format
        return x.to(device, dtype, non_blocking=True, memory_format=layout)

    return apply(moved, batch)


def take(value: Any, index: Tensor | slice, length: int | None) -> Any:
    """Gather the rows `index` of the tensors inside tuples and dicts, cut off behind `length`."""
    return apply(lambda x: x[index] if length is None else x[index, :length], value)


class Batches:
    """Examples that are held in memory, gathered a whole batch at a time.

    Args:
        inputs: (N, ...) of any type, such as uint8 images; or a tuple or dict of such tensors.
        labels: (N, ...); or a tuple or dict of such tensors.
        batch_size: examples per batch.
        seed: with the epoch's number it decides the order.
        train: whether the examples are shuffled and the transform may draw random numbers.
        transform: maps the inputs (B, ...) of a batch, which are on the net's device, to what the
            model reads; its generator is of the CPU, and None outside of training.
        ids: N names of the examples; their numbers if absent.
        lengths: (N,) of sequences that are padded to (N, T, ...). Batches then hold sequences of
            about the same length, cut off behind their longest.
    """

    kind = "from memory; order by (seed, epoch), augmentation by (seed, epoch, batch)"

    def __init__(
        self,
        inputs: Any,
        labels: Any,
        *,
        batch_size: int,
        seed: int = 0,
        train: bool = False,
        transform: Transform | None = None,
        ids: Sequence[str] | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        sizes = {len(part) for part in tensors((inputs, labels))}
        if len(sizes) != 1:
            raise DataError(
                f"inputs and labels hold {sorted(sizes)} examples, want as many of each"
            )
        self.num_examples = sizes.pop()  # N
        if self.num_examples == 0:
            raise DataError("a split has no examples")
        self.inputs, self.labels, self.lengths = inputs, labels, lengths
        self.batch_size, self.seed, self.train = batch_size, seed, train
        self.transform = transform
        self.device = torch.device("cpu")  # where batches are transformed
        self.names: Sequence[Any] | None = ids

    @property
    def ids(self) -> list[Any]:
        """Names of the examples, or their numbers, in the order of evaluation."""
        order = self._evaluation_order().tolist()
        return order if self.names is None else [self.names[i] for i in order]

    def to(self, device: torch.device) -> "Batches":
        """Transform batches on the device, and keep all examples there if they leave enough room.

        They may take a quarter of its free memory; the transform is the same either way. (MPS lacks
        some of what transforms use: it gets what the CPU has transformed.)
        """
        if device.type == "mps":
            return self
        self.device = device
        size = sum(part.nbytes for part in tensors((self.inputs, self.labels)))
        if size <= free_memory(device) // 4:
            self.inputs, self.labels = apply(lambda x: x.to(device), (self.inputs, self.labels))
        return self

    def subset(self, index: Tensor) -> "Batches":
        """Return the same of the examples (M,) only."""
        chosen = copy.copy(self)
        chosen.inputs, chosen.labels = take((self.inputs, self.labels), index, None)
        chosen.lengths = None if self.lengths is None else self.lengths[index]
        chosen.names = index.tolist() if self.names is None else [self.names[i] for i in index]
        chosen.num_examples = len(index)
        return chosen

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(split_into_batches(torch.arange(self.num_examples), self.batch_size, self.train))

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def first_batch(self) -> Any:
        """Return the first batch of epoch 0."""
        return next(self.epoch(0))

    def _evaluation_order(self) -> Tensor:
        if self.lengths is None:
            return torch.arange(self.num_examples)
        return torch.argsort(self.lengths, stable=True)

    def batches(self, number: int) -> list[Tensor]:
        """Return the numbers (B,) of the examples of every batch of an epoch.

        Sequences are shuffled, sorted by length within stretches of 64 batches, cut into batches,
        and the batches shuffled: little padding, and another mixture in every epoch.
        """
        if not self.train:
            return split_into_batches(self._evaluation_order(), self.batch_size, train=False)
        order = epoch_order(self.num_examples, self.seed, number)
        if self.lengths is None:
            return split_into_batches(order, self.batch_size, train=True)
        stretches = order.split(64 * self.batch_size)
        order = torch.cat(
            [part[torch.argsort(self.lengths[part], stable=True)] for part in stretches]
        )
        batches = split_into_batches(order, self.batch_size, train=True)
        return [batches[i] for i in epoch_order(len(batches), self.seed + 1, number).tolist()]

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        """Yield every `step`-th batch of one epoch, from the batch number `start` on."""
        batches = self.batches(number)
        kept_on = tensors(self.inputs)[0].device
        for i in range(start, len(batches), step):
            length = None if self.lengths is None else int(self.lengths[batches[i]].max())
            index = batches[i].to(kept_on, non_blocking=True)
            batch = take((self.inputs, self.labels), index, length)
            inputs, labels = apply(self._moved, batch)
            if self.transform is not None:
                draws = generator(self.seed, number, i) if self.train else None
                inputs = self.transform(inputs, draws)
            yield inputs, labels

    def _moved(self, x: Tensor) -> Tensor:
        """Move a tensor to the device: from pinned memory, else CUDA ends all queued work first."""
        if x.device.type == "cpu" and self.device.type == "cuda":
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True)

    def shares(self, number: int, start: int, rank: int, world: int) -> Iterator[tuple[Any, float]]:
        """Yield the rows of one of several processes: see shares.of_batches.

        Each makes the whole batch first, so that all draw the same augmentation.
        """
        for batch in self.epoch(number, start):
            sizes = {len(x) for x in tensors(batch)}
            if len(sizes) > 1:
                raise DataError(f"a batch holds {sorted(sizes)} rows, want as many of each")
            count = sizes.pop()
            own = slice(rank, None, world) if rank < count else slice(1)
            yield take(batch, own, None), len(range(rank, count, world)) / count


def split_off(loader: Any, params: Params) -> tuple[Any, Any]:
    """Divide a training loader into two, of the share `1 - val_split` and `val_split` of it.

    Which examples go where depends on `seed` alone. Examples of a DataLoader's dataset are read
    for validation as they are for training.
    """
    if not isinstance(loader, Batches | DataLoader) or (
        isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset)
    ):
        raise DataError("'val_split' needs utils.Batches, or a DataLoader of a map-style dataset")
    count = loader.num_examples if isinstance(loader, Batches) else len(loader.dataset)  # type: ignore[arg-type]
    held_out = round(count * params.val_split)
    if not 0 < held_out < count:
        raise DataError(f"'val_split' is {params.val_split}: of {count} examples one part is empty")
    order = torch.randperm(count, generator=generator(params.seed))
    parts = order[held_out:].sort().values, order[:held_out].sort().values
    if isinstance(loader, Batches):
        return loader.subset(parts[0]), loader.subset(parts[1])
    return subset(loader, parts[0]), subset(loader, parts[1])


def fetch_loaders(
    task: Task,
    splits: Sequence[str],
    data_dir: Path,
    params: Params,
    kept: Mapping[str, Any],
    device: torch.device,
    *,
    train: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask a task for the loaders of some splits.

    Args:
        task: whose `fetch_dataloader` is called.
        splits: their names.
        data_dir: folder of the data.
        params: on which the loaders may set keys.
        kept: what loaders set when the checkpoint was made; that stays in force.
        device: of the net; what is in memory is transformed there.
        train: whether the split called "train" is to be trained on, so shuffled.

    Returns:
        The loaders, with the interface of `Batches`, and what they set on `params`.

    Raises:
        DataError: the task gives no such split.
    """
    before = dict(params.dict)
    params.dict.update(without_marks(kept))
    asked = ["train" if params.val_split and s == "val" else s for s in splits]
    loaders = dict(task.fetch_dataloader(list(dict.fromkeys(asked)), str(data_dir), params))
    params.dict.update(without_marks(kept))
    if params.val_split and "train" in loaders:
        loaders["train"], loaders["val"] = split_off(loaders["train"], params)
    if missing := [split for split in splits if split not in loaders]:
        raise DataError(f"{data_dir}: the task's loader gives no split {missing[0]!r}")
    new = {n: v for n, v in params.dict.items() if n not in before or v is not before[n]}
    exact_loaders = {
        split: exact(loaders[split], params.seed, train and split == "train") for split in splits
    }
    for loader in exact_loaders.values():
        if hasattr(loader, "to"):
            loader.to(device)
    return exact_loaders, storable(new)


def exact(loader: Any, seed: int, train: bool = False) -> Any:
    """Give a DataLoader the interface of `Batches`; a loader that has it already is returned."""
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
