"""The checks of pictures: shared by splits, pixels in their place, flips."""

import time
from itertools import combinations, islice, product
from typing import Any

import torch
from torch import Tensor

from core.check.data_checks import inputs_of
from core.check.subject import FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.task import Loader

SIDE, MOST = 24, 3000  # pixels of a thumbnail's side; pictures of a split that are compared
ALIKE, DETAIL = 0.995, 12  # least correlation; least number of different columns of a thumbnail
FEW = 0.05  # of the smaller split: up to here it is said, above it is a fault
INTERLEAVED, SOME = 0.1, 100  # of correlation; pictures that are looked at
LEARNING, SURELY, OFTEN = 6.0, 0.6, 0.15  # seconds; of answers, of pictures that are flipped
ENOUGH = 10  # pictures of a class
MOST_FLIPPED = 32  # pictures that are compared


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


def flips_keep_classes(subject: Subject) -> str:
    """Where training pictures are flipped, a flipped picture of a class does not look like another.

    A net is trained for seconds on validation, which is not augmented, and asked about its flipped
    pictures.
    """
    loader = subject.loaders["train"]
    axis = _flipped_axis(loader)
    classes = subject.num_classes()
    state, end = subject.fresh(constant_rate=True), time.monotonic() + LEARNING
    batches = [batch for batch in islice(subject.loaders["val"].epoch(0), 64) if len(batch) == 2]
    while time.monotonic() < end:
        for batch in batches:
            subject.step(state, batch)
    counts = torch.zeros(2, classes, classes)  # plain or flipped; the label, and the answer
    for x, y in batches:
        for turned, each in enumerate((x, x.flip(axis))):
            found = subject.forward(state, (each, y))[0].argmax(1)
            for label, answer in zip(y.tolist(), found.tolist(), strict=True):
                counts[turned, label, answer] += 1
    plain, flipped = counts / counts.sum(2, keepdim=True).clamp(min=1)
    enough = [k for k in range(classes) if counts[0, k].sum() >= ENOUGH]
    if len(enough) < 2:
        raise NotApplicableError("validation has too few pictures of each class")
    for a, b in combinations(enough, 2):
        right = min(plain[a, a], plain[b, b])
        if right > SURELY and min(flipped[a, b], flipped[b, a]) > SURELY:
            raise FaultError(
                f"training flips pictures, and a flipped picture of class {a} looks like class "
                f"{b}, so its label is wrong. Leave this flip out"
            )
    return f"{sum(map(len, (y for _, y in batches)))} flipped pictures of val"


def _flipped_axis(loader: Loader) -> int:
    """Return the axis along which training flips pictures (B, C, H, W), 2 or 3."""
    plan = list(islice(loader.plan(0), 2))
    if plan[0].index is None:
        raise NotApplicableError("a stream does not number its examples")
    epochs = [list(loader.load(epoch, plan)) for epoch in range(3)]
    first = epochs[0][0]
    pair = isinstance(first, tuple | list) and len(first) == 2
    if not (pair and all(isinstance(x, Tensor) for x in first) and first[0].ndim == 4):
        raise NotApplicableError("batches are no pictures with labels")
    pictures = [torch.cat([x for x, _ in batches]).float().cpu() for batches in epochs]
    pictures = [x - x.mean((2, 3), keepdim=True) for x in pictures]
    for axis in (3, 2):
        turned = [
            _likeness(a, b.flip(axis)) > _likeness(a, b) + 0.1
            for a, b in combinations([x[:MOST_FLIPPED] for x in pictures], 2)
            if a.shape == b.shape
        ]
        if turned and float(torch.stack(turned).float().mean()) > OFTEN:
            masks = [torch.cat([y for _, y in batches]).float().cpu() for batches in epochs]
            if masks[0].shape[-2:] == pictures[0].shape[-2:]:
                _turned_with_their_masks(masks, turned, axis - 4)
            return axis
    raise NotApplicableError("training does not flip pictures")


def _turned_with_their_masks(masks: list[Tensor], turned: list[Tensor], axis: int) -> None:
    """Raise FaultError if masks (N, H, W) stay as they are where their pictures are flipped."""
    kept = with_them = 0
    for (a, b), chosen in zip(
        combinations([m[:MOST_FLIPPED] for m in masks], 2), turned, strict=True
    ):
        one, other = a[chosen], b[chosen]
        away = [(one != each).float().flatten(1).mean(1) for each in (other, other.flip(axis))]
        kept += int((away[0] < away[1]).sum())
        with_them += int((away[1] < away[0]).sum())
    if kept > with_them:
        raise FaultError(
            "training flips pictures, but not their masks, so pixels get labels of others. Flip "
            "both by the same draw"
        )
    raise NotApplicableError("training flips pictures and their masks together")


def _likeness(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation (N,) of pictures, at the best of shifts by up to four pixels."""
    found = []
    for down, right in product(range(-4, 5), repeat=2):
        one, other = a.flatten(1), b.roll((down, right), (2, 3)).flatten(1)
        found.append((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)).clamp(min=1e-9))
    return torch.stack(found).amax(0)
