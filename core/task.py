"""The contract of a task, with the default for every name that a task may leave out.

`model/__init__.py` tells the contract to the person who writes a task.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.base.classification import IGNORED
from core.base.errors import DataError, UsageError
from core.base.params import Params
from core.machine.nested import apply, tensors

Batch = Any  # what a loader yields: (inputs, labels), or tuples, lists and dicts of tensors


def is_integer(labels: Any) -> bool:
    """Tell whether labels are one tensor of class numbers."""
    return isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool
    )


def default_loss_weight(outputs: Any, labels: Any) -> Tensor:
    """Count the terms of a mean loss: the integer labels not ignored, else the examples."""
    if is_integer(labels):
        signed = labels.to(torch.int64) if labels.dtype is torch.uint8 else labels
        return ((signed != IGNORED[0]) & (signed != IGNORED[1])).sum()
    found = tensors(labels) or tensors(outputs)
    if not found:
        return torch.tensor(1.0)
    return torch.full((), len(found[0]) if found[0].ndim else 1, device=found[0].device)


def default_collect(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """Keep every example's outputs and labels; of sequences, one row a token.

    Integer labels (B, T) with outputs (B, T, K) or (B*T, K) become (B*T,) and (B*T, K).
    """
    if is_integer(labels) and labels.ndim == 2 and isinstance(outputs, Tensor):
        if outputs.ndim == 3 and outputs.shape[:2] == labels.shape:
            return outputs.flatten(0, 1), labels.flatten()
        if outputs.ndim == 2 and len(outputs) == labels.numel():
            return outputs, labels.flatten()
    return outputs, labels


def default_forward(model: nn.Module, batch: Batch, params: Params) -> tuple[Any, Any]:
    """Run the model on a batch (inputs, labels)."""
    inputs, labels = batch
    return model(inputs), labels


@dataclass(frozen=True)
class Task:
    """The names of one task package, each as the task defines it or its default."""

    name: str
    Net: Callable[[Params], nn.Module]
    loss_fn: Callable[..., Any]
    metrics: Mapping[str, Any]
    fetch_dataloader: Callable[..., dict[str, Any]]
    loss_weight: Callable[[Any, Any], Tensor]
    collect: Callable[[Any, Any], tuple[Any, Any]]
    forward: Callable[[nn.Module, Batch, Params], tuple[Any, Any]]
    make_optimizer: Callable[..., Any] | None
    make_scheduler: Callable[..., Any] | None
    train_step: Callable[..., dict[str, Any]] | None
    class_names: Callable[[Params], list[str]] | None
    show: Callable[..., bytes | str] | None
    read_inputs: Callable[[list[str], Params], Iterable[tuple[str, Any]]] | None
    data_dir: str | None

    def losses(self, outputs: Any, labels: Any) -> dict[str, Tensor]:
        """Return the named losses () of a batch; "loss" is the one that is minimised."""
        losses = self.loss_fn(outputs, labels)
        if isinstance(losses, Tensor):
            return {"loss": losses}
        if not (isinstance(losses, Mapping) and "loss" in losses):
            raise TypeError(
                f"{self.name}.net.loss_fn: want a tensor, or a dict with the key 'loss'"
            )
        return dict(losses)


def load_task(name: str) -> Task:
    """Import the package `name`; UsageError if a name that every task must have is missing."""
    net = importlib.import_module(f"{name}.net")
    data_loader = importlib.import_module(f"{name}.data_loader")

    def required(module: ModuleType, attribute: str) -> Any:
        if not hasattr(module, attribute):
            raise UsageError(f"{module.__file__}: {attribute!r} is missing (see model/__init__.py)")
        return getattr(module, attribute)

    return Task(
        name=name,
        Net=required(net, "Net"),
        loss_fn=required(net, "loss_fn"),
        metrics=required(net, "metrics"),
        fetch_dataloader=required(data_loader, "fetch_dataloader"),
        loss_weight=getattr(net, "loss_weight", default_loss_weight),
        collect=getattr(net, "collect", default_collect),
        forward=getattr(net, "forward", default_forward),
        make_optimizer=getattr(net, "make_optimizer", None),
        make_scheduler=getattr(net, "make_scheduler", None),
        train_step=getattr(net, "train_step", None),
        class_names=getattr(net, "class_names", None),
        show=getattr(data_loader, "show", None),
        read_inputs=getattr(data_loader, "read_inputs", None),
        data_dir=getattr(data_loader, "data_dir", None),
    )


def to_numpy(value: Any) -> Any:
    """Turn the tensors inside tuples, lists and dicts into NumPy arrays."""

    def array(x: Tensor) -> Any:
        return (x.float() if x.dtype is torch.bfloat16 else x).detach().cpu().numpy()

    return apply(array, value)


def join(parts: list[Any]) -> Any:
    """Join what was kept of many batches along the first dimension.

    Raises:
        DataError: the shapes of two batches do not fit; the task needs a `collect` of its own.
    """
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: join([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple | list) and not isinstance(first[0], str | int | float):
        return tuple(join([part[i] for part in parts]) for i in range(len(first)))
    if isinstance(first, tuple | list):
        return np.array([item for part in parts for item in part])
    if not isinstance(first, Tensor):
        return first
    try:
        return torch.cat([part.detach().reshape(part.shape or (1,)) for part in parts])
    except RuntimeError:
        shapes = sorted({tuple(part.shape) for part in parts})
        raise DataError(
            f"outputs or labels of two batches do not join: shapes {shapes[0]} and {shapes[-1]}.\n"
            "Define collect(outputs, labels) in net.py: it says what is kept of a batch."
        ) from None


def _streams(metric: Any) -> bool:
    return all(hasattr(metric, name) for name in ("update", "compute", "reset"))


class Collected:
    """Outputs and labels of many batches, as the task's `collect` keeps them, and their metrics.

    They stay on the device until they are asked for, so that adding a batch does not wait for it.

    Args:
        task: says what is kept, and which metrics there are.
        keep: False if batches need not be kept for any but the metrics: those with update(),
            compute() and reset() then see each batch as it comes, and can do without the whole.
        labelled: whether metrics need labels; they are then not taken of batches without.
    """

    def __init__(self, task: Task, keep: bool = True, labelled: bool = True) -> None:
        self.task, self.labelled = task, labelled
        self.streaming = {name: m for name, m in task.metrics.items() if _streams(m)}
        self.keep = keep or len(self.streaming) < len(task.metrics)
        self.batches: list[tuple[Any, Any]] = []
        self.scored = False
        for metric in self.streaming.values():
            metric.reset()

    def add(self, outputs: Any, labels: Any) -> None:
        """Take in one batch."""
        self._take(*self.task.collect(outputs, labels))

    def _take(self, outputs: Any, labels: Any) -> None:
        if labels is not None or not self.labelled:
            self.scored = True
            for metric in self.streaming.values():
                metric.update(outputs, labels)
        if self.keep:
            self.batches.append((outputs, labels))

    def seen(self) -> list[tuple[Any, Any]]:
        """Return what `restore` takes, for a checkpoint in mid-epoch."""
        return self.batches

    def restore(self, batches: list[tuple[Any, Any]]) -> None:
        """Take in what a checkpoint in mid-epoch held of the batches so far."""
        for outputs, labels in batches:
            self._take(outputs, labels)

    @property
    def nbytes(self) -> int:
        """Size of all that is kept."""
        return sum(part.nbytes for part in tensors(self.batches))

    def arrays(self) -> tuple[Any, Any]:
        """Return outputs and labels of all batches as NumPy arrays, or tuples, dicts of them."""
        return to_numpy(join(self.batches)) if self.batches else (None, None)

    def metrics(self) -> dict[str, float]:
        """Return every metric of all that was taken in; {} if there was nothing to score."""
        if not self.scored:
            return {}
        outputs, labels = self.arrays()
        return {
            name: float(metric.compute() if name in self.streaming else metric(outputs, labels))
            for name, metric in self.task.metrics.items()
        }
