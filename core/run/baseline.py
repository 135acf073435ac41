"""What needs no learning: always the most frequent class, and pure chance."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.task import Loader, Task, counted, is_integer
from core.training.reading import Reading
from core.training.tally import score


def chance_loss(task: Task, reading: Reading, outputs: Tensor, labels: Tensor) -> float:
    """Return the loss of a uniform answer; for cross-entropy it is ln K."""
    num_classes = reading.num_classes or 1
    probable = reading.outputs == "probabilities"
    uniform = 1 / num_classes if probable else -math.log(num_classes)
    return float(task.losses(torch.full_like(outputs, uniform), labels)["loss"])


def baseline(
    task: Task, reading: Reading, loaders: Mapping[str, Loader], outputs: Any, labels: Any
) -> dict[str, float]:
    """Return the validation metrics of the constant answer; "loss" is that of a uniform answer.

    Args:
        task: whose metrics and loss are taken.
        reading: what outputs and labels mean.
        loaders: of "train" and "val"; their `labels` say which class is the most frequent, and
            what the answer is held against.
        outputs: of one batch, (B, K), (B, T, K) or (B*T, K).
        labels: of that batch, (B,) or (B, T).

    Returns:
        The metrics; {} where outputs do not score classes, or the loaders do not show their labels.
    """
    known = [loaders[split].labels for split in ("train", "val")]
    if reading.class_axis != -1 or reading.num_classes is None or not all(map(is_integer, known)):
        return {}
    train_labels, val_labels = (part.cpu().long() for part in known)
    train, val = (part[counted(part, reading.ignored)] for part in (train_labels, val_labels))
    both = torch.cat([train, val])
    if len(train) == 0 or both.min() < 0 or both.max() >= reading.num_classes:
        return {}
    most = nn.functional.one_hot(train.bincount().argmax(), reading.num_classes).float()
    constant = most.expand(*val_labels.shape, -1)
    return score(task, constant, val_labels) | {"loss": chance_loss(task, reading, outputs, labels)}


def unseen_classes(loaders: Mapping[str, Loader], ignored: Collection[int]) -> list[int]:
    """Return the classes that validation examples have, but no training example."""
    labels = [loaders[split].labels for split in ("val", "train")]
    if not all(map(is_integer, labels)):
        return []
    val, train = (set(part.unique().tolist()) for part in labels)
    return sorted(val - train - set(ignored))
