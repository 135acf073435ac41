"""The checks of what splits show: each example once, unchanged, on one scale, without its label."""

import math
import time
from itertools import islice, zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from core.base.monitor import monitored
from core.check.examples import is_pair, rows_of
from core.check.subject import DoubtError, FaultError, NotApplicableError, Short, Subject
from core.machine.nested import first_difference as difference
from core.machine.nested import tensors
from core.reading.outputs import LossProbe
from core.task import Loader
from core.training.state import State

HINT = (
    "Do inputs and labels belong together? Are words and categories numbered alike in all splits? "
    "Is the sign of the loss right, and is no part of it too large?"
)
FEW = 20  # numbers or examples that are needed
SCALE = 5.0  # times the other spread, or that many spreads apart
SAME, WIDEST = 0.9999, 5000  # correlation of an input with the label; columns
LEARNING, MOST_STEPS = 8.0, 2000  # seconds and steps of training
EVERY = 50  # steps, validation is looked at
BETTER = 0.95  # of the loss of a constant answer
WORSE = 0.05  # of the metric before training


def validation_shows_each_example_once(subject: Subject) -> str:
    """A validation epoch holds no example twice, and every epoch holds the same ones."""
    loader, found = subject.own_loaders["val"], []
    for epoch in (0, 1):
        index = [planned.index for planned in loader.plan(epoch)]
        if any(part is None for part in index):
            raise NotApplicableError("a stream does not number its examples")
        found.append([int(i) for part in index for i in part])
    hint = "Leave out the sampler of the validation loader: it needs every example once"
    if repeated := len(found[0]) - len({*found[0]}):
        raise FaultError(f"{repeated} of {len(found[0])} places repeat an example. {hint}")
    if {*found[0]} != {*found[1]}:
        raise FaultError(f"epoch 2 holds other examples than epoch 1. {hint}")
    return f"{len(found[0])} examples"


def class_names_agree(subject: Subject) -> str:
    """Datasets that name their classes, as ImageFolder does, number them alike in all splits."""
    named = []
    for loader in subject.own_loaders.values():
        dataset = getattr(getattr(loader, "loader", None), "dataset", None)
        names = getattr(getattr(dataset, "dataset", dataset), "classes", None)
        if not isinstance(names, list | tuple):
            raise NotApplicableError("the datasets do not name their classes")
        named.append(map(str, names))
    pairs = [*zip_longest(*named, fillvalue="none")]
    for k, (own, other) in enumerate(pairs):
        if own != other:
            raise FaultError(
                f"class {k} is {own} in train and {other} in val. Is a folder missing, or its name "
                "another one?"
            )
    return f"{len(pairs)} classes"


def validation_is_not_augmented(subject: Subject) -> str:
    """Validation examples are the same in every epoch: only training is augmented."""
    loader = subject.loaders["val"]
    plan = list(islice(loader.plan(0), 4))
    if plan[0].index is None:
        raise NotApplicableError("a stream does not number its examples")
    one, other = (list(loader.load(epoch, plan)) for epoch in (0, 1))
    if difference(one, other, "val"):
        raise DoubtError(
            "validation examples change from epoch to epoch. Augment those of training only; "
            "random masks or pairs may be meant"
        )
    return f"{len(plan)} batches"


def _numbers(batch: Any) -> list[Tensor]:
    """Return the float tensors among the inputs of a batch, flat."""
    inputs = batch[0] if is_pair(batch) else batch
    return [x.detach().float().cpu().flatten() for x in tensors(inputs) if x.is_floating_point()]


def splits_are_on_one_scale(subject: Subject) -> str:
    """Inputs of all splits have about the same mean and spread: all are scaled alike."""
    spans: dict[str, tuple[float, float]] = {}  # of each split, the middle nine tenths
    for split, loader in subject.splits().items():
        parts = [part for batch in Short(loader, 4).epoch(0) for part in _numbers(batch)]
        found = torch.cat([torch.empty(0), *parts])[:1_000_000]
        if len(found) >= FEW:
            low, high = found.quantile(torch.tensor([0.05, 0.95])).tolist()
            spans[split] = low, high
    if len(spans) < 2 or "train" not in spans:
        raise NotApplicableError("inputs are no float tensors, or few")
    low, high = spans["train"]
    for split, (lowest, highest) in spans.items():
        smaller, larger = sorted((high - low, highest - lowest))
        apart = abs(low + high - lowest - highest) / 2
        if smaller > 0 and (larger > SCALE * smaller or apart > SCALE * larger):
            raise FaultError(
                f"nine tenths of the inputs of {split} lie between {lowest:.3g} and {highest:.3g}, "
                f"those of train between {low:.3g} and {high:.3g}. Scale all splits alike"
            )
    return f"train {low:.3g} to {high:.3g}"


def no_input_is_the_label(subject: Subject) -> str:
    """No column of the inputs tells the label by itself: it would not be known for new examples."""
    found = [
        (x.reshape(len(x), -1).double(), labels.double())
        for x, labels in rows_of(subject.own_loaders["train"], 100)
        if x[0].numel() <= WIDEST
    ]
    widths = {x.shape[1] for x, _ in found}
    if len(widths) != 1 or widths == {1} or sum(len(y) for _, y in found) < FEW:
        raise NotApplicableError("inputs are no columns of numbers, with a label each")
    x, y = map(torch.cat, zip(*found, strict=True))
    likeness = cosine_similarity(x - x.mean(0), (y - y.mean())[:, None], dim=0).abs()
    if float(likeness.max()) > SAME:
        raise FaultError(
            f"column {int(likeness.argmax())} of the inputs is the label, but for its scale. "
            "Leave it out"
        )
    return f"the correlation is {float(likeness.max()):.2f} at most"


def what_is_learned_holds(subject: Subject) -> str:
    """Within seconds of training, val gets better than before, and than a constant answer."""
    state, end = subject.fresh(constant_rate=True), time.monotonic() + LEARNING
    loader, task = Short(subject.loaders["val"], 64), state.task
    name, more = monitored(state.params.dict, task.metrics)
    sign = 1 if more else -1
    before, best = subject.evaluate(state, loader)[name], -math.inf
    if math.isnan(before):
        raise DoubtError(f"{name} is NaN before training. Are all labels of val ignored?")
    told, better = _compared(subject, state, loader)
    for steps, batch in enumerate(subject.batches(subject.loaders), start=1):
        subject.step(state, batch)
        last = steps == MOST_STEPS or time.monotonic() > end
        if last or steps % EVERY == 0:
            best = max(best, sign * subject.evaluate(state, loader)[name])
            now, better = _compared(subject, state, loader)
            told = now or told
            if last or (better is not False and best >= sign * before):
                break
    seen = f"{name} {before:.3g} before training, {sign * best:.3g} after {steps} steps"
    if best < sign * before - WORSE * abs(before):
        raise DoubtError(f"{seen}, at best. {HINT}")
    if better is False:
        raise DoubtError(f"{told}, after {steps} steps. It may need longer. {HINT}")
    return seen + (f"; {told}" if told else "")


def _answer(outputs: Any, labels: Any) -> Any:
    """Return the only one of several outputs that has the shape of the labels."""
    if isinstance(outputs, Tensor) or not isinstance(labels, Tensor):
        return outputs
    fitting = [part for part in tensors(outputs) if part.shape == labels.shape]
    return fitting[0] if len(fitting) == 1 else outputs


def _compared(subject: Subject, state: State, loader: Loader) -> tuple[str, bool | None]:
    """Hold the net's answers against a constant one; says what it found, and whether it is better.

    ("", None) where no constant answer is known.
    """
    pairs = [subject.forward(state, batch) for batch in loader.epoch(0)]
    pairs = [(_answer(x, y), y) for x, y in pairs]
    if not pairs or not all(isinstance(part, Tensor) for pair in pairs for part in pair):
        return "", None
    if subject.reading.num_classes is not None:
        parts = [subject.classes(*pair) for pair in pairs]
        found, labels = map(torch.cat, zip(*parts, strict=True))
        right = float((found == labels).double().mean())
        chance = float(labels.bincount().max()) / len(labels)
        better = right > chance + 2 * math.sqrt(chance * (1 - chance) / len(labels))
        return f"{right:.0%} of val right; the most frequent class alone gives {chance:.0%}", better
    shapes = {y.shape[1:] for _, y in pairs}
    numbers = all(y.is_floating_point() and x.shape == y.shape for x, y in pairs)
    if len(shapes) > 1 or not numbers:
        return "", None
    mean, probe = torch.cat([y for _, y in pairs]).mean(0, keepdim=True), LossProbe(state.task)
    floors: list[Any] = [probe(mean.expand_as(y).to(x), y) for x, y in pairs]
    losses: list[Any] = [probe(x, y) for x, y in pairs]
    if None in (*floors, *losses):  # as of a net with several outputs
        floors = [(mean - y).square().mean() for _, y in pairs]
        losses = [(x - y).square().mean() for x, y in pairs]
    floor, loss = float(sum(floors)) / len(floors), float(sum(losses)) / len(losses)
    return f"val loss {loss:.3g}; the mean of the labels costs {floor:.3g}", loss < BETTER * floor
