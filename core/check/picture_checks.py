"""The checks of pictures: shared by splits, pixels in their place, flips."""

import time
from itertools import combinations, islice, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, normalize

from core.base.classification import confusion_matrix
from core.check.examples import inputs_of, is_pair, picture_of
from core.check.subject import FaultError, NotApplicableError, Subject
from core.machine.nested import as_array
from core.task import Loader

SIDE, MOST = 24, 3000  # pixels of a thumbnail's side; pictures of a split that are compared
ALIKE, DETAIL = 0.995, 12  # least correlation; least number of different columns of a thumbnail
FEW = 0.05  # of the smaller split: up to here it is said, above it is a fault
INTERLEAVED, SOME = 0.1, 100  # of correlation; pictures that are looked at
LEARNING, SURELY, OFTEN = 6.0, 0.6, 0.15  # seconds; of answers, of pictures that are flipped
ENOUGH = 10  # pictures of a class
MOST_FLIPPED = 32  # pictures that are compared


def _thumbnail(inputs: Any) -> Tensor | None:
    """Return a grey picture (24 * 24,) of mean 0 and length 1; None of what is no picture."""
    x = picture_of(inputs)
    if x is None or min(x.shape[1:]) < 8:
        return None
    grey = x.float().mean(0, keepdim=True)[None]
    small = interpolate(grey, (SIDE, SIDE), mode="area")[0, 0]
    if len(small.round(decimals=4).unique(dim=1)[0]) < DETAIL:  # too plain to tell
        return None
    return normalize((small - small.mean()).flatten(), dim=0, eps=1e-6)


def pictures_are_in_one_split(subject: Subject) -> str:
    """No picture of a split is found in another one, not even flipped or of another size."""
    found: dict[str, dict[Any, Tensor]] = {}  # of each split, thumbnails by name
    for split, loader in subject.splits().items():
        examples = islice(inputs_of(loader), MOST)
        small = {name: x for name, inputs in examples if (x := _thumbnail(inputs)) is not None}
        found |= {split: small} if small else {}
    if len(found) < 2:
        raise NotApplicableError("inputs are no pictures")
    told = []
    for one, other in combinations(found, 2):
        names, others = [*found[one]], [*found[other]]
        a, b = (torch.stack([*found[split].values()]) for split in (one, other))
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
    return "; ".join(told) or ", ".join(f"{name} {len(each)}" for name, each in found.items())


def _smoothness(inputs: Any) -> Tensor:
    """Return how pixels correlate with the next (row 0) and the third next (1), down and right."""
    x = picture_of(inputs)
    if x is None or x.shape[0] != 3 or min(x.shape[1:]) < 12:
        raise NotApplicableError("inputs are no pictures of three channels")
    x = x.float() - x.float().mean()
    both = x.mT, x  # down, right
    found = [[(y[..., k:] * y[..., :-k]).mean() for y in both] for k in (1, 3)]
    return torch.tensor(found) / x.var().clamp(1e-9)


def pixels_are_in_place(subject: Subject) -> str:
    """Pixels are like their neighbours, more than like those three further on.

    After `reshape`, where `permute` should bring the channels to the front, they are not.
    """
    shown = islice(inputs_of(subject.own_loaders["train"]), SOME)
    near, far = torch.stack([_smoothness(inputs) for _, inputs in shown]).mean(0)
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
    axis, classes = _flipped_axis(subject.loaders["train"]), subject.num_classes()
    state, end = subject.fresh(constant_rate=True), time.monotonic() + LEARNING
    batches = [*filter(is_pair, islice(subject.loaders["val"].epoch(0), 64))]
    while time.monotonic() < end:
        for batch in batches:
            subject.step(state, batch)
    counts = np.zeros((2, classes, classes))  # plain or flipped; the label, and the answer
    for x, y in batches:
        for turned, each in enumerate((x, x.flip(axis))):
            answers = subject.forward(state, (each, y))[0].argmax(1)
            counts[turned] += confusion_matrix(as_array(answers), as_array(y), classes)
    plain, flipped = counts / counts.sum(2, keepdims=True).clip(1)
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
    if not (is_pair(first) and all(isinstance(x, Tensor) for x in first) and first[0].ndim == 4):
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
    pairs = combinations([m[:MOST_FLIPPED] for m in masks], 2)
    for (a, b), chosen in zip(pairs, turned, strict=True):
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
    shifts = product(range(-4, 5), repeat=2)
    turned = (b.roll(shift, (2, 3)).flatten(1) for shift in shifts)
    return torch.stack([cosine_similarity(a.flatten(1), each) for each in turned]).amax(0)
