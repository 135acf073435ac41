"""Batches from memory, gathered and transformed a whole batch at a time."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.base.errors import DataError
from core.base.params import Params
from core.data.order import epoch_order, split_into_batches
from core.machine import processes
from core.machine.devices import free_memory
from core.machine.nested import apply, num_examples, tensors
from core.machine.random_states import RowDraws, generator
from core.task import Batch, IndexBatch, Loader

SINGLE = {torch.float64: torch.float32}
Transform = Callable[[Any, Any], Any]


def placement(params: Params, device: torch.device) -> Callable[[Any], Any]:
    """Return what moves a batch to the device, in the precision and memory format of the params.

    Floats become float64 where `precision` says so, those of NumPy float32 elsewhere; images
    (B, C, H, W) become channels_last where the params say so.
    Anything else that has a method `to`, such as a packed sequence or what a tokenizer of Hugging
    Face gives, is moved by it.
    """
    double = params.precision == "float64"

    def place(x: Any) -> Any:
        if not isinstance(x, Tensor):
            if hasattr(x, "to"):
                return x.to(device)
            named = isinstance(x, tuple) and hasattr(x, "_fields")
            plain = isinstance(x, tuple | list) and not named
            return type(x)(map(place, x)) if plain else apply(place, x)
        if not x.is_floating_point():
            return x.to(device, non_blocking=True)
        images = params.channels_last and x.ndim == 4
        layout = torch.channels_last if images else torch.preserve_format
        dtype = torch.float64 if double else SINGLE.get(x.dtype, x.dtype)
        return x.to(device, dtype, non_blocking=True, memory_format=layout)

    return place


def draws_by_rows(transform: Transform | None) -> bool:
    """Tell whether the random numbers of a transform depend on the example, by `row_draws`."""
    try:
        return transform is None or "row_draws" in signature(transform).parameters
    except (TypeError, ValueError):  # a function of C does not tell
        return False


def make_draws(by_rows: bool, seed: int, epoch: int, index: Any, *batch: int) -> Any:
    """Return what a transform draws from, for each of the examples (B,) or for their batch."""
    return RowDraws(seed, epoch, index) if by_rows else generator(seed, epoch, *batch)


def told_draws(transform: Transform | None) -> str:
    """Say for the log what the random numbers of a transform depend on."""
    if transform is None:
        return ""
    return f", random numbers by {'example' if draws_by_rows(transform) else 'batch'}"


def as_tensors(value: Any, name: str) -> Any:
    """Return nested tensors of NumPy arrays, or of lists of numbers; DataError names what is else.

    A list is one entry an example; structure is a tuple or a dict.
    """
    if isinstance(value, Mapping):
        return {key: as_tensors(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [as_tensors(part, name) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if value is None or isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise DataError(f"{name} of utils.Batches: a {kind} is no tensor: {error}") from error


class Batches(Loader):
    """Examples that are held in memory, gathered a whole batch at a time.

    Args:
        inputs: (N, ...) of any type, such as uint8 images; or a tuple or dict of such tensors.
            NumPy arrays and lists of numbers become tensors.
        labels: (N, ...); or a tuple or dict of such tensors.
        batch_size: examples per batch.
        seed: with the epoch's number it decides the order.
        train: whether the examples are shuffled and the transform may draw random numbers.
        transform: maps the inputs (B, ...) of a batch, which are on the net's device, to what the
            model reads. Its second argument draws random numbers on the CPU, and is None outside of
            training: a RowDraws if it is called `row_draws`, else a generator for the whole batch.
        ids: N names of the examples; their numbers if absent.
        lengths: (N,) of sequences that are padded to (N, T, ...). Batches then hold sequences of
            about the same length, cut off behind their longest.
    """

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
        inputs, labels = as_tensors(inputs, "inputs"), as_tensors(labels, "labels")
        sizes = {len(part) for part in tensors((inputs, labels))}
        if len(sizes) != 1:
            raise DataError(f"inputs and labels hold {sorted(sizes)} examples, want one number")
        self.num_examples = sizes.pop()  # N
        if self.num_examples == 0:
            raise DataError("a split has no examples")
        if ids is not None and len(ids) != self.num_examples:
            raise DataError(f"{len(ids)} ids for {self.num_examples} examples, want as many")
        self.inputs, self.labels, self.lengths = inputs, labels, lengths
        self.batch_size, self.seed, self.train = batch_size, seed, train
        self.transform = transform
        self.device = torch.device("cpu")  # where batches are transformed
        self.place: Callable[[Any], Any] | None = None  # what is left to do for the net
        self.names: Sequence[Any] | None = ids

    @property
    def kind(self) -> str:  # type: ignore[override] # of the protocol, where it may be set
        """How examples are ordered, for the log."""
        if not self.train:
            return "in order"
        return f"shuffled every epoch (seed {self.seed}){told_draws(self.transform)}"

    @property
    def ids(self) -> list[Any]:
        """Names of the examples, or their numbers, in the order of evaluation."""
        order = self._evaluation_order().tolist()
        return order if self.names is None else [self.names[i] for i in order]

    def put_on(self, device: torch.device, params: Params) -> None:
        """Transform batches on the device, and keep all examples there if they leave enough room.

        They may take a quarter of its free memory; the transform is the same either way. (MPS lacks
        some of what transforms use: it gets what the CPU has transformed.)
        """
        held = {part.dtype for part in tensors((self.inputs, self.labels))}
        cast = torch.float64 in held or params.precision == "float64"
        if device.type == "mps" or cast or params.channels_last:
            self.place = placement(params, device)
        if device.type == "mps":
            return
        self.device = device
        size = sum(part.nbytes for part in tensors((self.inputs, self.labels)))
        if size <= free_memory(device) // 4:
            self.inputs, self.labels = apply(lambda x: x.to(device), (self.inputs, self.labels))

    def subset(self, index: Tensor) -> "Batches":
        """Return the same of the examples (M,) only."""
        chosen = copy.copy(self)
        chosen.inputs, chosen.labels = apply(lambda x: x[index], (self.inputs, self.labels))
        chosen.lengths = None if self.lengths is None else self.lengths[index]
        chosen.names = index.tolist() if self.names is None else [self.names[i] for i in index]
        chosen.num_examples = len(index)
        return chosen

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(split_into_batches(torch.arange(self.num_examples), self.batch_size, self.train))

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def _evaluation_order(self) -> Tensor:
        if self.lengths is None:
            return torch.arange(self.num_examples)
        return torch.argsort(self.lengths, stable=True)

    def plan(self, epoch: int) -> list[IndexBatch]:
        """Return the numbers (B,) of the examples of every batch; in evaluation they are in order.

        Sequences are shuffled, sorted by length within stretches of 64 batches, cut into batches,
        and the batches shuffled: little padding, and another mixture in every epoch.
        """
        lengths = self.lengths if self.train else None
        order = epoch_order(self.num_examples, self.seed, epoch)
        order = order if self.train else self._evaluation_order()
        if lengths is not None:
            stretches = order.split(64 * self.batch_size)
            order = torch.cat([part[lengths[part].argsort(stable=True)] for part in stretches])
        batches = split_into_batches(order, self.batch_size, self.train)
        if lengths is not None:
            batches = [batches[i] for i in epoch_order(len(batches), self.seed + 1, epoch).tolist()]
        return [IndexBatch(i, index) for i, index in enumerate(batches)]

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan.

        Each of several processes makes its own rows only, unless the transform draws for a batch.
        """
        home, by_rows = tensors(self.inputs)[0].device, draws_by_rows(self.transform)
        for planned in part:
            length = None if self.lengths is None else int(self.lengths[planned.index].max())
            whole = planned.rows is None or not by_rows
            chosen = planned.index if whole else planned.index[planned.rows]
            index = chosen.to(home, non_blocking=True)
            inputs = self._gather(self.inputs, index, length)
            labels = self._gather(self.labels, index, length)
            if self.transform is not None:
                of = by_rows, self.seed, epoch, chosen, planned.number
                inputs = self.transform(inputs, make_draws(*of) if self.train else None)
            if whole and planned.rows is not None:
                inputs, labels = _rows((inputs, labels), planned.rows)
            if self.place is not None:
                inputs, labels = self.place(inputs), self.place(labels)
            yield inputs, labels

    def rows(self, value: Tensor, index: Any, length: int | None) -> Tensor:
        """Return rows of a tensor (N, ...); of one padded like the inputs, (N, T, ...), cut off."""
        if length is None or value.ndim == 1:
            return value[index]
        padded = value.shape[1] == tensors(self.inputs)[0].shape[1]
        return value[index, :length] if padded else value[index]

    def _gather(self, value: Any, index: Tensor, length: int | None) -> Any:
        """Return the examples (B,) of a value's tensors, cut off behind `length`, on the device.

        They go to a GPU from pinned memory, else CUDA would end all queued work first.
        """
        if not isinstance(value, Tensor):
            return apply(lambda x: self._gather(x, index, length), value)
        value = self.rows(value, index, length)
        if value.device.type == "cpu" and self.device.type == "cuda":
            value = value.pin_memory()
        return value.to(self.device, non_blocking=True)


def rows_of_stream(batch: Batch, planned: IndexBatch) -> tuple[Batch, IndexBatch]:
    """Return this process's rows of a batch, and which they are, if all processes have read it.

    In the first batch of an epoch it is held against what the others have read. Of a stream that
    the processes divide all rows are this process's.
    """
    if planned.rows is not None:
        return batch, planned._replace(fraction=planned.fraction * (num_examples(batch) or 1))
    if planned.number == 0:
        parts = [x.contiguous().reshape(-1).view(torch.uint8) for x in tensors(batch)]
        told = "the processes read different examples of a stream: each must read all"
        processes.check_same([int(part.sum()) for part in parts], told)
    planned = planned._replace(index=range(num_examples(batch) or 0))
    planned = planned.of_process(processes.rank(), processes.world_size())
    return (batch if planned.rows is None else _rows(batch, planned.rows)), planned


def _rows(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch; DataError if its tensors do not have as many of them."""
    sizes = {len(x) for x in tensors(batch)}
    if len(sizes) > 1:
        raise DataError(f"a batch holds {sorted(sizes)} rows, want as many of each")
    return apply(lambda x: x[rows], batch)
