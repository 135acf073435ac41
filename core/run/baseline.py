"""What needs no learning: always the most frequent class, and pure chance."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.base.classification import IGNORED
from core.task import Loader, Task, is_integer
from core.training.tally import score


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
    task: Task, loaders: Mapping[str, Loader], outputs: Any, labels: Any
) -> dict[str, float]:
    """Return the validation metrics of the constant answer; "loss" is that of a uniform answer.

    The `labels` of the loaders of "train" and "val" say which class is the most frequent, and what
    the answer is held against; {} where they are no class numbers, or not shown. `outputs` (B, K),
    (B, T, K) or (B*T, K) of a batch with `labels` (B,) or (B, T) tell K.
    """
    num_classes = count_classes(outputs, labels)
    known = [loaders[split].labels for split in ("train", "val")]
    if num_classes is None or not all(map(is_integer, known)):
        return {}
    train_labels, val_labels = (part.cpu() for part in known)
    if max(int(train_labels.max()), int(val_labels.max())) >= num_classes:
        return {}
    constant = constant_answer(val_labels, train_labels, num_classes)
    chance = chance_loss(task, outputs, labels, num_classes)
    return score(task, constant, val_labels) | {"loss": chance}


def unseen_classes(loaders: Mapping[str, Loader]) -> list[int]:
    """Return the classes that validation examples have, but no training example."""
    labels = [loaders[split].labels for split in ("val", "train")]
    if not all(map(is_integer, labels)):
        return []
    val, train = (set(part.unique().tolist()) for part in labels)
    return sorted(val - train - set(IGNORED))
