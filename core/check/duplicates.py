"""Pictures that two splits share, flipped or resized, and examples of odd length."""

from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor

from core.check.data_checks import inputs_of
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.task import is_integer
from core.training.state import State

SIDE, MOST = 24, 3000  # pixels of a thumbnail's side; pictures of a split that are compared
ALIKE, DETAIL = 0.995, 12  # least correlation; least number of different columns of a thumbnail
FEW = 0.05  # of the smaller split: up to here it is said, above it is a fault
LONGER = 100  # times the median length
INTERLEAVED, SOME = 0.1, 100  # of correlation; pictures that are looked at


def _thumbnail(x: Tensor) -> Tensor | None:
    """Return a grey picture (24 * 24,) of mean 0 and length 1; None of what is no picture."""
    x = x[0] if x.ndim == 4 and len(x) == 1 else x
    if x.ndim != 3 or x.shape[0] not in (1, 3) or min(x.shape[1:]) < 8:
        return None
    grey = x.float().mean(0, keepdim=True)[None]
    small = torch.nn.functional.interpolate(grey, (SIDE, SIDE), mode="area")[0, 0]
    if len(small.round(decimals=4).unique(dim=1)[0]) < DETAIL:  # too plain to tell
        return None
    small = small - small.mean()
    return (small / small.norm().clamp(min=1e-6)).flatten()


def pictures_are_in_one_split(subject: Subject) -> str:
    """No picture of a split is found in another one, not even flipped or of another size."""
    found: dict[str, tuple[Tensor, list[Any]]] = {}
    for split, loader in subject.splits().items():
        thumbnails, names = [], []
        for name, inputs in islice(inputs_of(loader), MOST):
            parts = tensors(inputs)
            small = _thumbnail(parts[0].cpu()) if len(parts) == 1 else None
            if small is not None:
                thumbnails.append(small)
                names.append(name)
        if thumbnails:
            found[split] = torch.stack(thumbnails), names
    if len(found) < 2:
        raise NotApplicableError("inputs are no pictures")
    told = []
    for one, other in combinations(found, 2):
        (a, names), (b, others) = found[one], found[other]
        flipped = b.reshape(-1, SIDE, SIDE).flip(2).flatten(1)
        likeness = torch.maximum(a @ b.T, a @ flipped.T)
        pairs = (likeness.max(dim=0).values > ALIKE).nonzero().flatten().tolist()
        if not pairs:
            continue
        i = pairs[0]
        shown = f"{others[i]} of {other} is like {names[int(likeness[:, i].argmax())]} of {one}"
        share = len(pairs) / min(len(a), len(b))
        if share > FEW:
            raise FaultError(
                f"{len(pairs)} pictures of {other} are those of {one}, but for size or direction: "
                f"{shown}. Split the data before you augment or copy"
            )
        told.append(f"{len(pairs)} of {other} may be those of {one}: {shown}")
    return "; ".join(told) or ", ".join(f"{name} {len(each[1])}" for name, each in found.items())


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


def pixels_are_in_place(subject: Subject) -> str:
    """Pixels are like their neighbours, more than like those three further on.

    After `reshape`, where `permute` should bring the channels to the front, they are not.
    """
    near, far = torch.zeros(2), torch.zeros(2)
    count = 0
    for _, inputs in islice(inputs_of(subject.own_loaders["train"]), SOME):
        parts = tensors(inputs)
        x = parts[0].cpu().float() if len(parts) == 1 else torch.empty(0)
        x = x[0] if x.ndim == 4 and len(x) == 1 else x
        if x.ndim != 3 or x.shape[0] != 3 or min(x.shape[1:]) < 12:
            raise NotApplicableError("inputs are no pictures of three channels")
        x = x - x.mean()
        for axis in (0, 1):
            turned = x.movedim(axis + 1, -1)
            for found, lag in ((near, 1), (far, 3)):
                found[axis] += (turned[..., lag:] * turned[..., :-lag]).mean() / x.var().clamp(1e-9)
        count += 1
    near, far = near / count, far / count
    if float((far - near).max()) > INTERLEAVED:
        raise FaultError(
            "a pixel is more like its third neighbour than its next one. Did reshape or view make "
            "(3, H, W) of pictures (H, W, 3)? Use permute(2, 0, 1)"
        )
    return f"correlation of neighbours {float(near.mean()):.2f}"
