"""The trivial answers that a net must beat: always the most frequent class, and pure chance."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from core.base.classification import IGNORED
from core.task import Collected, Task, is_integer


def constant_answer(labels: Tensor, train_labels: Tensor, num_classes: int) -> Tensor:
    """Return outputs (..., K) for labels (...): always the most frequent training label."""
    counts = torch.bincount(train_labels[train_labels >= 0].long().flatten(), minlength=num_classes)
    return nn.functional.one_hot(counts.argmax(), num_classes).float().expand(*labels.shape, -1)


def count_classes(outputs: Any, labels: Any) -> int | None:
    """Return K where outputs (B, K), (B, T, K) or (B*T, K) score the classes of integer labels."""
    if not (is_integer(labels) and isinstance(outputs, Tensor) and outputs.is_floating_point()):
        return None
    merged = labels.ndim == 2 and outputs.ndim == 2 and len(outputs) == labels.numel()
    fits = outputs.ndim > 1 and outputs.shape[:-1] == labels.shape
    return outputs.shape[-1] if (fits or merged) and outputs.shape[-1] > 1 else None


def chance_loss(task: Task, outputs: Tensor, labels: Tensor, num_classes: int) -> float:
    """Return the loss of a uniform answer; for cross-entropy it is ln K."""
    uniform = torch.full_like(outputs, -math.log(num_classes))  # logits or log-probabilities
    return float(task.losses(uniform, labels)["loss"])


def baseline(
    task: Task, train_loader: Any, val_loader: Any, outputs: Any, labels: Any
) -> dict[str, float]:
    """Return the validation metrics of the constant answer; "loss" is that of a uniform answer.

    Args:
        task: whose metrics and loss are taken.
        train_loader: its `labels` say which class is the most frequent.
        val_loader: its `labels` are what the answer is held against.
        outputs: of one batch, (B, K), (B, T, K) or (B*T, K): they tell K.
        labels: of that batch, (B,) or (B, T).

    Returns:
        The metrics; {} where labels are not class numbers, or the loaders do not show them.
    """
    known: list[Any] = [getattr(loader, "labels", None) for loader in (train_loader, val_loader)]
    num_classes = count_classes(outputs, labels)
    if num_classes is None or not all(map(is_integer, known)):
        return {}
    train_labels, val_labels = (part.cpu() for part in known)
    if max(int(train_labels.max()), int(val_labels.max())) >= num_classes:
        return {}
    constant = Collected(task)
    constant.add(constant_answer(val_labels, train_labels, num_classes), val_labels)
    chance = chance_loss(task, outputs, labels, num_classes)
    return constant.metrics() | {"loss": chance}


def unseen_classes(loaders: dict[str, Any]) -> list[int]:
    """Return the classes that validation examples have, but no training example."""
    labels = [getattr(loaders[split], "labels", None) for split in ("val", "train")]
    if not all(map(is_integer, labels)):
        return []
    val, train = (set(part.unique().tolist()) for part in labels if part is not None)
    return sorted(val - train - set(IGNORED))
