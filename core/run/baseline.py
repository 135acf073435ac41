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
from core.reading.outputs import LossProbe, Reading, first_outputs, read_batch
from core.task import Loader, Task, counted, is_integer
from core.training.state import State
from core.training.tally import score


@dataclass(frozen=True)
class FirstLook:
    """What is known before the first step."""

    loss: float  # of the net, on the first validation batch
    baseline: dict[str, float]  # validation metrics and loss of an answer without looking
    unseen: list[int]  # classes that validation examples have, but no training example
    misfits: list[str]  # what outputs, labels and metrics show to be wrong
    of_classes: bool = True  # whether the answer is a class, or else a number

    @property
    def answer(self) -> str:
        """What the answer without looking is."""
        return "the most frequent class" if self.of_classes else "the mean of the labels"

    @property
    def of_loss(self) -> str:
        """Whose loss `baseline` holds."""
        return "chance" if self.of_classes else "that of the mean"


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
    unseen, of_classes = unseen_classes(loaders, reading.ignored), reading.outputs != "other"
    return FirstLook(float(losses["loss"]), values, unseen, found, of_classes)


def chance_loss(task: Task, reading: Reading, outputs: Tensor, labels: Tensor) -> float:
    """Return the loss of a uniform answer; for cross-entropy it is ln K."""
    num_classes = reading.num_classes or 1
    uniform = 1 / num_classes if reading.outputs == "probabilities" else -math.log(num_classes)
    return float(task.losses(torch.full_like(outputs, uniform), labels)["loss"])


def baseline(
    task: Task, reading: Reading, loaders: Mapping[str, Loader], outputs: Any, labels: Any
) -> dict[str, float]:
    """Return the validation metrics of a constant answer, and its loss.

    Of classes it is the most frequent one of the training labels, and "loss" that of a uniform
    answer. Of numbers it is the mean of the training labels, of 0 and 1 its logit if that costs
    less. Outputs (B, K), (B, T, K), (B*T, K) or as labels are, and labels (B,) or (B, T), are of
    one batch. Elsewhere, or where loaders do not show their labels, it is {}.
    """
    known = [loaders[split].labels for split in ("train", "val")]
    numbers = all(isinstance(x, Tensor) and x.is_floating_point() for x in [*known, outputs])
    if numbers and outputs.shape == labels.shape:
        train, val = (part.cpu().float() for part in known)
        mean, yes_or_no = train.mean(0, keepdim=True), ((train == 0) | (train == 1)).all()
        means = [mean, mean.logit(1e-6)] if yes_or_no else [mean]
        answers = [x.expand(val.shape).contiguous() for x in means]
        costs = [LossProbe(task)(x.to(outputs), val.to(outputs.device)) for x in answers]
        told = [(cost, i) for i, cost in enumerate(costs) if cost is not None]
        cost, best = min(told, default=(None, 0))
        return {} if cost is None else score(task, answers[best], val) | {"loss": cost}
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
