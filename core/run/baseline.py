"""A first look: what the first batch tells, and what needs no learning."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.base.monitor import check_monitor
from core.machine.random_states import seeded
from core.reading.misfits import misfits
from core.reading.outputs import Reading, first_outputs, read_batch
from core.task import Loader, Task, counted, is_integer
from core.training.state import State
from core.training.tally import score


@dataclass(frozen=True)
class FirstLook:
    """What is known before the first step."""

    loss: float  # of the net, on the first validation batch
    baseline: dict[str, float]  # validation metrics of the most frequent class, loss of chance
    unseen: list[int]  # classes that validation examples have, but no training example
    misfits: list[str]  # what outputs, labels and metrics show to be wrong


def look(state: State, loaders: Mapping[str, Loader], known: bool) -> FirstLook:
    """Run the net on one batch; unless it is known, find out what outputs and labels mean."""
    params, task = state.params, state.task
    outputs, labels = first_outputs(task, state.model, loaders["val"], params)
    # A resumed run draws what it would have drawn.
    with seeded(params.seed, device=state.device), torch.no_grad():
        with state.autocast():
            losses = task.losses(outputs, labels)
        check_monitor(params.dict, task.metrics, losses)
        if not known:
            state.adopt(read_batch(task, outputs, labels))
        task, reading = state.task, state.reading
        found = misfits(task, reading, outputs, labels)
        with state.autocast():
            values = baseline(task, reading, loaders, outputs, labels)
    return FirstLook(float(losses["loss"]), values, unseen_classes(loaders, reading.ignored), found)


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

    The labels of the loaders "train" and "val" say which class is the most frequent, and what it is
    held against. Outputs (B, K), (B, T, K) or (B*T, K) and labels (B,) or (B, T) are of one batch.
    Where outputs do not score classes, or loaders do not show their labels, it is {}.
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
