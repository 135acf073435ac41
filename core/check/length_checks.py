"""Pictures that two splits share, flipped or resized, and examples of odd length."""

from itertools import islice
from typing import Any

import torch

from core.check.data_checks import inputs_of
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.task import is_integer
from core.training.state import State

MOST = 3000  # examples of a split that are looked at
LONGER = 100  # times the median length


def lengths_are_alike(subject: Subject) -> str:
    """No example is a hundred times longer than most: its whole batch would be padded to it."""
    told = []
    for split, loader in subject.own_loaders.items():
        lengths: dict[Any, int] = {}
        for name, inputs in islice(inputs_of(loader), MOST):
            parts = [part for part in tensors(inputs) if part.ndim]
            if parts:
                lengths[name] = max(parts[0].shape)
        if len(lengths) < 3:
            continue
        middle = sorted(lengths.values())[len(lengths) // 2]
        name = max(lengths, key=lambda each: lengths[each])
        if lengths[name] > LONGER * max(1, middle):
            raise FaultError(
                f"{split}, example {name}: {lengths[name]:,} long, most are about {middle:,}. "
                "Is a separator missing in the data? Cut it off or leave it out"
            )
        told.append(f"{split} up to {lengths[name]}")
    if not told:
        raise NotApplicableError("examples have no length")
    return ", ".join(told)


def padding_changes_nothing(subject: Subject) -> str:
    """A short example gives the same outputs alone and padded to the length of a long one."""
    state, loader = subject.fresh(precision=subject.precise), subject.own_loaders["val"]
    lengths = {}
    for i, (_, inputs) in enumerate(islice(inputs_of(loader), 200)):
        parts = [part for part in tensors(inputs) if part.ndim]
        lengths[i] = max(parts[0].shape) if parts else 0
    short, long = (f(lengths, key=lambda i: lengths[i]) for f in (min, max))
    if lengths[short] == lengths[long]:
        return _padding_of_one_length(subject, state)
    alone, padded = (subject.forward(state, subject.batch_of(loader, index))[0]
                     for index in ([short], [short, long]))  # fmt: skip
    one, other = ([x for x in tensors(outputs) if x.ndim] for outputs in (alone, padded))
    for a, b in zip(one, other, strict=True):
        b = b[: len(b) // 2] if len(b) != len(a) and len(b) % 2 == 0 else b[: len(a)]
        b = b[tuple(map(slice, a.shape))]
        if a.shape != b.shape:
            raise NotApplicableError("outputs of padded examples cannot be taken apart")
        if not torch.allclose(a, b, 0.0, subject.rounding * max(1.0, float(a.abs().max()))):
            raise FaultError(
                f"outputs of an example of length {lengths[short]} change if it is padded to "
                f"{lengths[long]}. Does the net read padding? Pass lengths or a mask"
            )
    return f"lengths {lengths[short]} and {lengths[long]}"


def _padding_of_one_length(subject: Subject, state: State) -> str:
    """Cut off what all examples of a batch of integers (B, T) may end with, and compare."""
    batch = subject.loaders["val"].first_batch()
    pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not pair or not all(is_integer(part) for part in batch) or batch[0].ndim != 2:
        raise NotApplicableError("examples are of one length")
    x, labels = batch
    mark = x[:, -1].mode().values
    lengths = ((x != mark).cumsum(1).argmax(1) + 1).tolist()  # up to the last other number
    i = min(range(len(x)), key=lambda i: lengths[i])
    if (x[:, -1] == mark).float().mean() < 0.5 or lengths[i] == x.shape[1]:
        raise NotApplicableError("examples are of one length, without padding")
    cut = (
        x[i : i + 1, : lengths[i]],
        labels[i : i + 1, : lengths[i]] if labels.ndim > 1 else labels[i : i + 1],
    )
    try:
        alone, padded = (
            subject.forward(state, type(batch)(each))[0]
            for each in (cut, (x[i : i + 1], labels[i : i + 1]))
        )
    except (ValueError, RuntimeError) as error:
        raise NotApplicableError("the net takes examples of one length only") from error
    for a, b in zip(tensors(alone), tensors(padded), strict=True):
        if a.ndim != b.ndim:
            raise NotApplicableError("outputs of padded examples cannot be taken apart")
        b = b[tuple(map(slice, a.shape))]
        if not torch.allclose(a, b, 0.0, subject.rounding * max(1.0, float(a.abs().max()))):
            raise DoubtError(
                f"outputs of an example of length {lengths[i]} change if its padding ({int(mark)}) "
                "is cut off. Does the net read the last column, or a mean over all?"
            )
    return f"length {lengths[i]} and {x.shape[1]}"
