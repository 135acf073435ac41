"""What checks read of a loader: examples one by one, pairs of inputs and labels, class numbers."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from core.base.errors import DataError, UserError
from core.check.subject import NotApplicableError, Subject
from core.data.batches import Batches
from core.data.dataloaders import ExactLoader
from core.data.known import known_ids
from core.machine.nested import apply, tensors
from core.task import Loader, counted, is_integer


def is_pair(batch: Any) -> bool:
    """Tell whether a batch, or an example, is (inputs, labels)."""
    return isinstance(batch, tuple | list) and len(batch) == 2


def pair(batch: Any) -> tuple[Any, Any]:
    """Return inputs and labels of a batch; NotApplicableError if it is anything else."""
    if not is_pair(batch):
        raise NotApplicableError("batches are not (inputs, labels)")
    return batch[0], batch[1]


def own_numbers(loader: ExactLoader) -> Sequence[int]:
    """Return the numbers of a split's examples, which may be a part of its dataset's."""
    if not loader.own_order:
        return range(len(loader.names))
    return sorted({int(i) for planned in loader.plan(0) for i in planned.index})


def inputs_of(loader: Loader) -> Iterator[tuple[Any, Any]]:
    """Yield name and inputs of the examples, as far as a loader shows them one by one."""
    if isinstance(loader, Batches):
        lengths = loader.lengths
        for i, name in enumerate(loader.names or range(loader.num_examples)):
            length = None if lengths is None else int(lengths[i])
            rows = partial(loader.rows, index=slice(i, i + 1), length=length)
            yield name, apply(rows, loader.inputs)
    elif isinstance(loader, ExactLoader):
        names = known_ids(loader.loader.dataset)
        for i in own_numbers(loader):
            try:
                item = loader.examples[0, i]
            except UserError:
                raise
            except Exception as error:
                raise DataError(f"{names[i]}: {type(error).__name__}: {error}") from error
            yield names[i], item[0] if is_pair(item) else item
    else:
        raise NotApplicableError("a stream does not show its examples one by one")


def bytes_of(value: Any) -> tuple[bytes, ...]:
    """Return what each tensor of a batch, or of an example's inputs, holds."""
    raw = [x.detach().cpu().contiguous().flatten().view(torch.uint8) for x in tensors(value)]
    return tuple(x.numpy().tobytes() for x in raw)


def length_of(inputs: Any) -> int:
    """Return the longest side of the first tensor of an example's inputs; 0 if there is none."""
    return next((max(part.shape) for part in tensors(inputs) if part.ndim), 0)


def picture_of(inputs: Any) -> Tensor | None:
    """Return the one tensor of an example's inputs if it may be a picture (C, H, W), else None."""
    parts = tensors(inputs)
    x = parts[0].cpu() if len(parts) == 1 else torch.empty(0)
    x = x[0] if x.ndim == 4 and len(x) == 1 else x
    return x if x.ndim == 3 and x.shape[0] in (1, 3) else None


def rows_of(loader: Loader, batches: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (B, ...) of floats and labels (B,) of batches, up to one of another kind."""
    for batch in islice(loader.epoch(0), batches):
        parts = [part.detach().cpu() for part in tensors(batch)]
        if not (is_pair(batch) and len(parts) == 2 and parts[0].is_floating_point()):
            return
        x, labels = parts
        if x.ndim == 0 or labels.numel() != len(x):
            return
        yield x, labels.flatten()


def class_numbers(subject: Subject, split: str) -> Tensor:
    """Return the class numbers (N,) of a split that the loss does not ignore."""
    loader = subject.own_loaders[split]
    if is_integer(loader.labels):
        parts = [loader.labels]
    else:
        batches = islice(loader.epoch(0), 1000)
        parts = [batch[1] for batch in batches if is_pair(batch) and is_integer(batch[1])]
    if not parts:
        raise NotApplicableError("batches are not (inputs, integer labels)")
    labels = torch.cat([part.flatten().long().cpu() for part in parts])
    return labels[counted(labels, subject.reading.ignored)]
