"""Outputs, labels and metrics that do not fit, found on a first batch; nothing fails on them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.machine.nested import apply, as_array, example, num_examples
from core.reading.outputs import LossProbe, Reading, joined, same
from core.task import Task, counted, is_integer

CONTRAST = (
    "the loss holds the examples of a batch against each other, so that losses of other batch "
    "sizes cannot be compared"
)


def misfits(task: Task, reading: Reading, outputs: Any, labels: Any) -> list[str]:
    """Say in sentences what a batch shows to be wrong; [] if nothing is.

    Args:
        task: its loss and metrics are asked with these outputs, and with changed ones.
        reading: what outputs and labels mean.
        outputs: of one batch.
        labels: of that batch.
    """
    found = []
    plain = isinstance(outputs, Tensor) and isinstance(labels, Tensor)
    if plain and outputs.ndim and labels.ndim:
        if reading.class_axis is None:
            found.append(_broadcast(task, outputs.detach(), labels))
        found.append(_counted_padding(task, reading, outputs, labels))
    if not any(found):
        found.append(_mean_of_other_terms(task, outputs, labels))
    return [each for each in found if each]


def _mean_of_other_terms(task: Task, outputs: Any, labels: Any) -> str | None:
    """Look for a loss that is no mean over the terms which loss_weight counts.

    That of a batch must be the mean of its examples' losses, weighted by loss_weight. A loss that
    draws random numbers cannot be held against anything.
    """
    count = num_examples(labels) or num_examples(outputs)
    if (labels is None and task.labelled) or count is None or count < 2:
        return None
    loss = LossProbe(task)
    rows = min(count, 8)  # from all over the batch
    alone = [example((outputs, labels), i * count // rows, count) for i in range(rows)]
    whole = joined(alone)
    together = loss(*whole)
    if together is None or not same(together, loss(whole[0], whole[1], 1)):
        return None
    values = [(loss(*each), float(task.loss_weight(*each))) for each in alone]
    terms = [(value, weight) for value, weight in values if weight > 0]
    if not terms or any(value is None or math.isnan(value) for value, _ in terms):
        return None
    if len(terms) > 1 and same(together, sum(value or 0.0 for value, _ in terms), 1e-3):
        return (
            "the loss of a batch is the sum of its examples' losses, so gradients grow with "
            "batch_size. Take the mean: reduction='mean', or .mean() in loss_fn"
        )
    least, most = (f(value or 0.0 for value, _ in terms) for f in (min, max))
    slack = 1e-3 * max(abs(least), abs(most), 1e-3)
    if not least - slack <= together <= most + slack:
        return CONTRAST
    total = sum((value or 0.0) * weight for value, weight in terms)
    if same(together, total / sum(weight for _, weight in terms), 1e-3):
        return None
    return (
        "the loss of a batch is not the mean of its examples' losses, weighted by loss_weight: "
        "means of a split depend on the batch size. Does loss_fn weigh classes? Define loss_weight "
        "if it is a mean of other terms"
    )


def _broadcast(task: Task, outputs: Tensor, labels: Tensor) -> str | None:
    """Look for a loss or metric that computes with all pairs of outputs and labels.

    Outputs (B, 1) and labels (B,) broadcast to (B, B). What computes with pairs gives another value
    for outputs of the shape of the labels.
    """
    if len(outputs) == 1 and len(labels) == 1:
        outputs, labels = torch.cat([outputs, outputs + 1]), torch.cat([labels, labels])
    if outputs.shape == labels.shape or outputs.numel() != labels.numel():
        return None
    together = torch.broadcast_shapes(outputs.shape, labels.shape)
    if together in (outputs.shape, labels.shape):
        return None
    names, loss = [], LossProbe(task)
    alike = loss(outputs.reshape(labels.shape), labels)
    if alike is not None and not same(loss(outputs, labels), alike):
        names.append("the loss")
    kept, known = task.collect(outputs, labels)
    if isinstance(kept, Tensor) and kept.numel() == known.numel():
        names += _metrics_that_differ(task, known, kept, kept.reshape(known.shape))
    if not names:
        return None
    return (
        f"outputs {tuple(outputs.shape)} and labels {tuple(labels.shape)} become "
        f"{tuple(together)} in {' and '.join(names)}: every output meets every label. "
        "Give both one shape, as by outputs.squeeze(1)"
    )


def _counted_padding(task: Task, reading: Reading, outputs: Any, labels: Any) -> str | None:
    """Look for a metric that counts labels which the loss ignores."""
    kept, known = task.collect(outputs, labels)
    if not (isinstance(kept, Tensor) and is_integer(known) and len(kept) == len(known)):
        return None
    rows = ~counted(known, reading.ignored)
    if known.ndim != 1 or not rows.any() or rows.all():
        return None
    changed = kept.detach().clone()
    changed[rows] = changed[rows].roll(1, -1) if changed.ndim > 1 else changed[rows] + 1
    names = _metrics_that_differ(task, known, kept, changed)
    if not names:
        return None
    return f"labels that the loss ignores are counted by {' and '.join(names)}: leave them out"


def _metrics_that_differ(task: Task, labels: Tensor, one: Tensor, other: Tensor) -> list[str]:
    found = []
    for name, metric in task.metrics.items():
        if not hasattr(metric, "compute"):
            values = [_value(metric, outputs, labels) for outputs in (one, other)]
            if values[1] is not None and not same(values[0], values[1]):
                found.append(name)
    return found


def _value(metric: Callable[..., Any], outputs: Tensor, labels: Tensor) -> float | None:
    try:
        return float(metric(*apply(lambda x: as_array(x).copy(), (outputs, labels))))
    except Exception:  # the task's own code may raise anything
        return None
