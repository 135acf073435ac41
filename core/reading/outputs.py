"""What a task's outputs and labels mean, found out on a first batch and then fixed for the run.

Shapes alone leave questions open: which axis holds the classes where there are as many as tokens,
which labels the loss ignores, whether scores are logits. The task's own loss answers them: it is
asked what it does with outputs and labels that were made for the question.
"""

import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.base.classification import IGNORED
from core.base.errors import DataError, UsageError
from core.base.params import Params
from core.machine.devices import autocast_for, device_of
from core.machine.nested import apply, example, num_examples, tensors
from core.machine.random_states import seeded
from core.task import Loader, Task, counted, default_collect, default_loss_weight, is_integer

KINDS = ("logits", "probabilities", "other")  # of outputs
CANDIDATES = (-100, -1, 255, 0)  # labels that mark padding somewhere
HALF = (torch.bfloat16, torch.float16)
ASKED = 2**22  # values of outputs, of at most 8 examples, with which a loss is asked


@dataclass(frozen=True)
class Reading:
    """What was found out; kept in checkpoints.

    Args:
        labelled: whether the batch had labels. A split without them is then not scored.
        outputs: "logits" or "probabilities" of classes, else "other".
        num_classes: K, where outputs score classes.
        class_axis: of outputs, -1 or 1; None where they have none.
        ignored: labels that do not count in the loss.
    """

    labelled: bool = True
    outputs: str = "other"
    num_classes: int | None = None
    class_axis: int | None = None
    ignored: tuple[int, ...] = IGNORED

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Reading":
        """Return what `values` made of one."""
        return cls(**{**values, "ignored": tuple(values["ignored"])})

    def values(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint."""
        return asdict(self)

    def apply(self, task: Task) -> Task:
        """Return the task, whose default `collect` and `loss_weight` go by this reading."""
        collect, weight = task.collect, task.loss_weight
        if collect is default_collect:
            collect = partial(default_collect, class_axis=self.class_axis)
        if weight is default_loss_weight:
            weight = partial(default_loss_weight, ignored=self.ignored)
        return replace(task, labelled=self.labelled, collect=collect, loss_weight=weight)

    def told(self, task: Task) -> str:
        """Say it in a line of the log; the task is the one that `apply` returned."""
        scores = f"{self.outputs} of {self.num_classes} classes"
        parts = ["not scores of classes" if self.outputs == "other" else scores]
        if getattr(task.loss_weight, "func", None) is not default_loss_weight:
            parts.append("means weighted by loss_weight")
        elif self.num_classes or self.ignored:
            parts.append(f"labels ignored: {' and '.join(map(str, self.ignored)) or 'none'}")
        return f"Outputs: {', '.join(parts)}"


def read_batch(task: Task, outputs: Any, labels: Any) -> Reading:
    """Find out what outputs and labels of a batch mean.

    Raises:
        DataError: shapes leave two readings, and the loss does not tell them apart.
        UsageError: `outputs` of net.py does not fit what the net gives.
    """
    if not task.labelled or not is_integer(labels):
        labelled = task.labelled and labels is not None
        return Reading(labelled, _declared(task, None) or "other", ignored=())
    loss, few = LossProbe(task), _few(outputs, labels)
    axis = _class_axis(loss, *few, task)
    odd = [] if axis is None else _outside(labels, outputs.shape[axis]).unique().tolist()
    ignored = _ignored_labels(loss, *few, dict.fromkeys([*CANDIDATES, *odd[:8]]))
    if axis is None:
        return Reading(True, _declared(task, None) or "other", ignored=ignored)
    num_classes = outputs.shape[axis]
    kind = _declared(task, outputs.movedim(axis, -1))
    if kind is None:
        scored = "probabilities" if _sum_to_one(outputs, axis) else "logits"
        kind = scored if _prefers_right(loss, *few, axis) else "other"
    elif kind != "other" and len(wrong := _outside(labels[counted(labels, ignored)], num_classes)):
        raise DataError(f"label {wrong[0]}: outputs are {kind} of {num_classes} classes")
    return Reading(True, kind, None if kind == "other" else num_classes, axis, ignored)


def _few(outputs: Any, labels: Tensor) -> tuple[Any, Tensor]:
    """Return examples from all over a batch, few of which are enough to ask a loss."""
    count = num_examples(labels) or 1
    size = sum(part.numel() for part in tensors(outputs)) // count
    rows = min(count, 8, max(2, ASKED // max(size, 1)))
    parts = [example((outputs, labels), i * count // rows, count) for i in range(rows)]
    return joined(parts)


class LossProbe:
    """A task's loss that is asked a question; None is the answer if it cannot be."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, outputs: Any, labels: Any, seed: int = 0) -> float | None:
        """Return the loss of a batch, of outputs with at least 32 bits."""
        device = next((part.device for part in tensors(labels)), None)
        outputs = apply(lambda x: x.float() if x.dtype in HALF else x, outputs)
        with torch.no_grad(), seeded(seed, device=device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return float(self.task.losses(outputs, labels)["loss"])
            except Exception:  # the task's own code may raise anything
                return None


def same(a: float | None, b: float | None, tolerance: float = 1e-5) -> bool:
    """Tell whether two answers are equal but for rounding."""
    return a is not None and b is not None and abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-3)


def _invented(outputs: Any, seed: int) -> Any:
    """Return random outputs of the same shapes, between 0 and 1."""
    draws = torch.Generator().manual_seed(seed)

    def draw(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return 0.01 + 0.98 * torch.rand(x.shape, generator=draws).to(x)

    return apply(draw, outputs)


def joined(parts: Sequence[Any]) -> Any:
    """Join batches of one structure along the first dimension."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([*parts]) if first.ndim else first
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)([joined(each) for each in zip(*parts, strict=True)])
    return first


def _outside(labels: Tensor, num_classes: int) -> Tensor:
    return labels[(labels < 0) | (labels >= num_classes)]


def _ignored_labels(
    loss: Callable[..., float | None], outputs: Any, labels: Tensor, candidates: Collection[int]
) -> tuple[int, ...]:
    """Return the candidates whose outputs do not matter to the loss.

    Of a batch twice as long, the second half gets the label in question: whatever the outputs
    there, the loss must be that of the first half. If the loss cannot be asked, it is -100 and -1.
    """
    marks = ~counted(labels, candidates)
    labels = labels.masked_fill(marks, int(labels[~marks].min()) if not marks.all() else 1)
    half, *others = (_invented(outputs, seed) for seed in range(3))
    alone, found = loss(half, labels), []
    if alone is None:
        return IGNORED
    lowest, highest = torch.iinfo(labels.dtype).min, torch.iinfo(labels.dtype).max
    for label in candidates:
        if lowest <= label <= highest:
            both = torch.cat([labels, torch.full_like(labels, label)])
            if all(same(loss(joined([half, other]), both), alone) for other in others):
                found.append(label)
    return tuple(found)


def _class_axis(
    loss: Callable[..., float | None], outputs: Any, labels: Tensor, task: Task
) -> int | None:
    """Return the axis of outputs that holds a score for every class, -1 or 1; None if none does.

    Raises:
        DataError: both may, and the loss does not tell.
    """
    if not (isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.ndim > 1):
        return None
    merged = outputs.ndim == 2 and labels.ndim == 2 and len(outputs) == labels.numel()
    last = outputs.shape[-1] > 1 and (outputs.shape[:-1] == labels.shape or merged)
    second = outputs.ndim > 2 and outputs.shape[:1] + outputs.shape[2:] == labels.shape
    second = second and outputs.shape[1] > 1
    if not (last and second):
        return -1 if last else 1 if second else None
    # Both: what the loss sees is then the same if outputs and labels are permuted together.
    given = _invented(outputs, 0)
    order = torch.arange(labels.shape[1], device=labels.device).roll(1)
    before = loss(given, labels)
    fits = [a for a in (-1, 1) if same(before, loss(_permuted(given, a, order), labels[:, order]))]
    if len(fits) == 1:
        return fits[0]
    if task.collect is not default_collect:
        return -1
    raise DataError(
        f"outputs {tuple(outputs.shape)} and labels {tuple(labels.shape)} can be read in two "
        "ways:\nthe classes may lie along the last axis or the second, and the loss does not tell."
        "\nDefine collect(outputs, labels) in net.py: it says what the metrics see."
    )


def _permuted(outputs: Tensor, class_axis: int, order: Tensor) -> Tensor:
    return outputs[:, order] if class_axis == -1 else outputs[:, :, order]


def _prefers_right(
    loss: Callable[..., float | None], outputs: Tensor, labels: Tensor, axis: int
) -> bool:
    """Tell whether the loss wants a high score for the label itself, as it does with classes.

    The distance between embeddings, for one, is the same whichever number a class has.
    """
    count, shape = outputs.shape[axis], outputs.movedim(axis, -1).shape
    probable = _sum_to_one(outputs, axis)

    def scored(numbers: Tensor) -> Tensor:
        chosen = torch.nn.functional.one_hot(numbers.clamp(0, count - 1).long(), count)
        scores = (0.1 + 0.8 * chosen.reshape(shape)).to(outputs.dtype)
        scores = scores / scores.sum(-1, keepdim=True)
        return (scores if probable else scores.log()).movedim(-1, axis)

    right, wrong = loss(scored(labels), labels), loss(scored((labels + 1) % count), labels)
    return right is None or wrong is None or (right < wrong and not same(right, wrong))


def _sum_to_one(outputs: Tensor, axis: int) -> bool:
    sums = outputs.detach().float().sum(axis)
    return bool((outputs >= 0).all()) and bool((sums - 1).abs().max() < 1e-2)


def _declared(task: Task, scores: Tensor | None) -> str | None:
    """Return the task's own `outputs`, checked against the scores (..., K) of a batch."""
    kind = task.outputs
    if kind not in (*KINDS, None):
        raise UsageError(f"{task.name}.net.outputs is {kind!r}, want one of {', '.join(KINDS)}")
    if kind in ("logits", "probabilities") and scores is None:
        raise UsageError(
            f"{task.name}.net.outputs is {kind!r}, but outputs and labels of a batch do not fit\n"
            "as scores of classes and class numbers"
        )
    if scores is not None and kind == "probabilities" and not _sum_to_one(scores, -1):
        raise UsageError(
            f"{task.name}.net.outputs is 'probabilities', but they do not sum to 1 over classes"
        )
    if scores is not None and kind == "logits" and _sum_to_one(scores, -1):
        logging.warning("Note: outputs are said to be logits, but are 0 or more and sum to 1.")
    return kind


def first_outputs(task: Task, model: nn.Module, loader: Loader, params: Params) -> tuple[Any, Any]:
    """Return outputs and labels of a loader's first batch; the net is left in eval mode."""
    device, before = device_of(model), {*model.state_dict()}
    model.eval()
    with seeded(params.seed, device=device), torch.no_grad(), autocast_for(params, device)():
        found = task.forward(model, loader.first_batch(), params)
    if new := [name for name in model.state_dict() if name not in before]:
        told = "in forward, too late for optimizers and checkpoints: make it in __init__"
        raise UsageError(f"the net makes {new[0]!r} {told}")
    return found
