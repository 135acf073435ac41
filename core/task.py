"""The contract of a task, with the default for every name that a task may leave out.

`model/__init__.py` tells the contract to the person who writes a task.
"""

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import partial
from inspect import signature
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from core.base.classification import IGNORED
from core.base.errors import UsageError
from core.base.params import Params
from core.machine.nested import num_examples, tensors

Batch = Any  # what a loader yields: (inputs, labels), or tuples, lists and dicts of tensors
IN_DATA_LOADER = ("fetch_dataloader", "data_dir", "read_inputs", "show")  # the others: in net.py


class IndexBatch(NamedTuple):
    """Which examples a batch holds, and which of its rows this process takes."""

    number: int  # of the batch in its epoch
    index: Any = None  # (B,) numbers of the examples; None in a stream, where they have none
    rows: slice | None = None  # of this process; None: all that there are
    fraction: float = 1.0  # of the batch's rows that are this process's; of a divided stream: a row

    def of_process(self, rank: int, world_size: int) -> "IndexBatch":
        """Return the rows of a process, at least two, as batch normalisation needs them.

        Where they are too few, the last processes get the first two again, which may not count.
        """
        if self.index is None:  # of a stream, whose rows are counted when they are there
            return self
        count = len(self.index)
        sharing = min(world_size, max(1, count // 2))
        if rank >= sharing:
            return self._replace(rows=slice(2), fraction=0.0)
        own = len(range(rank, count, sharing))
        return self._replace(rows=slice(rank, None, sharing), fraction=own / count)


class Loader(Protocol):
    """Batches of a split: `plan` says which examples each holds, `load` makes them.

    An epoch that goes on in its middle, several processes, and checks of a few batches are parts of
    a plan.
    """

    kind: str  # for the log: where order and randomness come from
    num_examples: int  # N, of an epoch
    labels: Any  # of all examples, where they can be had without reading every one, or None

    @property
    def ids(self) -> list[Any] | None:
        """Names of the examples in the order of evaluation, or None."""

    def put_on(self, device: torch.device, params: Params) -> None:
        """Yield batches on the device, in the precision and memory format of the params."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def plan(self, epoch: int) -> Iterable[IndexBatch]:
        """Return the batches of an epoch, a pure function of its number."""

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan, on the device."""

    def first_batch(self) -> Batch:
        """Return the first batch of epoch 0."""
        return next(self.epoch(0))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from the batch number `start` on."""
        return self.load(number, islice(self.plan(number), start, None))


def is_integer(labels: Any) -> bool:
    """Tell whether labels are one tensor of class numbers."""
    return isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool
    )


def counted(labels: Tensor, ignored: Collection[int]) -> Tensor:
    """Tell of each integer label whether it is none of those that the loss ignores."""
    labels = labels.long() if labels.dtype is torch.uint8 else labels
    found = torch.ones_like(labels, dtype=torch.bool)
    for label in ignored:
        found &= labels != label
    return found


def default_loss_weight(outputs: Any, labels: Any, ignored: Collection[int] = IGNORED) -> Tensor:
    """Count the terms of a mean loss: the integer labels not ignored, else the examples."""
    if is_integer(labels):
        return counted(labels, ignored).sum()
    found = tensors(labels) or tensors(outputs)
    count = num_examples(labels) or num_examples(outputs) or 1
    return torch.full((), count, device=found[0].device if found else None)


def default_collect(outputs: Any, labels: Any, class_axis: int | None = -1) -> tuple[Any, Any]:
    """Keep every example's outputs and labels; of sequences, one row a token.

    Integer labels (B, T) with outputs (B, T, K) or (B*T, K) become (B*T,) and (B*T, K).
    """
    if class_axis != 1 and is_integer(labels) and labels.ndim == 2 and isinstance(outputs, Tensor):
        if outputs.ndim == 3 and outputs.shape[:2] == labels.shape:
            return outputs.flatten(0, 1), labels.flatten()
        if outputs.ndim == 2 and len(outputs) == labels.numel() and outputs.shape != labels.shape:
            return outputs, labels.flatten()
    return outputs, labels


def default_forward(model: nn.Module, batch: Batch, params: Params) -> tuple[Any, Any]:
    """Run the model on a batch (inputs, labels)."""
    if isinstance(batch, Mapping | Tensor) or not (hasattr(batch, "__len__") and len(batch) == 2):
        kind = type(batch).__name__
        if isinstance(batch, Mapping):
            kind += f" with the keys {', '.join(map(str, batch))}"
        elif isinstance(batch, tuple | list):
            kind += f" of {len(batch)}"
        raise UsageError(
            f"a batch is a {kind}, not (inputs, labels):\ndefine forward(model, batch, params) -> "
            "(outputs, labels) in net.py"
        )
    inputs, labels = batch
    return model(inputs), labels


def given(function: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """Return a function that is given those of the values whose names its signature has."""
    try:
        asked = signature(function).parameters.keys() & values
    except (TypeError, ValueError):  # a function of C does not tell
        return function
    return partial(function, **{name: values[name] for name in asked}) if asked else function


@dataclass(frozen=True)
class Task:
    """The names of one task package, each as the task defines it or its default."""

    name: str
    Net: Callable[[Params], nn.Module]
    loss_fn: Callable[..., Any]
    metrics: Mapping[str, Any]
    fetch_dataloader: Callable[..., dict[str, Any]]
    loss_weight: Callable[[Any, Any], Tensor] = default_loss_weight
    collect: Callable[[Any, Any], tuple[Any, Any]] = default_collect
    forward: Callable[[nn.Module, Batch, Params], tuple[Any, Any]] = default_forward
    initialize: Callable[[nn.Module, Params], object] | None = None
    make_optimizer: Callable[..., Any] | None = None
    make_scheduler: Callable[..., Any] | None = None
    train_step: Callable[..., dict[str, Tensor]] | None = None
    blocks: Callable[[nn.Module], Iterable[nn.Module]] | None = None  # of `shard`
    predict: Callable[[nn.Module, Any, Params], Iterable[Any]] | None = None
    outputs: str | None = None  # "logits", "probabilities" or "other"
    class_names: Callable[[Params], list[str]] | None = None
    show: Callable[..., bytes | str] | None = None
    read_inputs: Callable[..., Iterable[tuple[str, Any]]] | None = None
    data_dir: str | None = None
    labelled: bool = True  # whether the loss needs labels; a split without is then not scored
    waived_checks: Mapping[str, str] = field(default_factory=dict)  # of check.py, with the reason

    def with_params(self, params: Params) -> "Task":
        """Return the task, of which loss, metrics and the like get params if they ask for them."""
        bound: dict[str, Any] = {
            name: given(getattr(self, name), params=params)
            for name in ("loss_fn", "loss_weight", "collect")
        }
        metrics = {
            name: metric if hasattr(metric, "compute") else given(metric, params=params)
            for name, metric in self.metrics.items()
        }
        return replace(self, **bound, metrics=metrics)

    def losses(self, outputs: Any, labels: Any) -> dict[str, Tensor]:
        """Return the named losses () of a batch; "loss" is the one that is minimised."""
        given = self.loss_fn(outputs, labels)
        losses = dict(given) if isinstance(given, Mapping) else {"loss": given}
        single = [isinstance(loss, Tensor) and loss.numel() == 1 for loss in losses.values()]
        if not ("loss" in losses and all(single)):
            told = "want a tensor (), such as a mean, or a dict of them with the key 'loss'"
            raise UsageError(f"{self.name}.net.loss_fn: {told}")
        return losses


def load_task(name: str) -> Task:
    """Import the package `name`; UsageError if a name that every task must have is missing."""
    net = importlib.import_module(f"{name}.net")
    data_loader = importlib.import_module(f"{name}.data_loader")
    found: dict[str, Any] = {"name": name}
    for each in fields(Task)[1:]:
        module = data_loader if each.name in IN_DATA_LOADER else net
        if hasattr(module, each.name):
            found[each.name] = getattr(module, each.name)
        elif each.default is MISSING and each.default_factory is MISSING:
            where = f"{module.__file__}: {each.name!r} is missing"
            raise UsageError(f"{where} (see model/__init__.py)")
    return Task(**found)
