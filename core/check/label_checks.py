"""The checks of labels: their order, their classes, whether they go with the inputs."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.reading.outputs import LossProbe
from core.task import Loader, counted, is_integer

Z = 6.0  # standard deviations from chance at which a check fails: once in a thousand million
LOST = 0.15  # of the agreement within validation
UNEVEN, SURE = 1.5, 3.0  # how often one is the other; a sure logit
FEW, SOME = 20, 2000  # labels that are needed, and examples that a probe takes


def labels_in_order(subject: Subject, split: str, most: int = 50_000) -> Tensor:
    """Return labels of a split as they are trained on: class numbers, or numbers, (N,)."""
    found, count = list[Tensor](), 0
    for batch in subject.own_loaders[split].epoch(0):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and torch.is_tensor(batch[1])):
            break
        labels = batch[1].detach().cpu()
        if labels.ndim != 1:
            break
        found.append(labels)
        if (count := count + len(labels)) >= most:
            break
    if count < FEW:
        raise NotApplicableError("batches are not (inputs, one label an example), or they are few")
    labels = torch.cat(found)
    return labels[counted(labels, subject.reading.ignored)] if is_integer(labels) else labels


def training_examples_are_mixed(subject: Subject) -> str:
    """Training labels come in no order: neighbours are not more alike than by chance."""
    labels = labels_in_order(subject, "train").double()
    n = len(labels)
    if is_integer(labels_in_order(subject, "train")):
        _, counts = labels.unique(return_counts=True)
        expected = float((counts * (counts - 1)).sum()) / n  # pairs of equal neighbours
        alike = float((labels[1:] == labels[:-1]).sum())
        z = (alike - expected) / math.sqrt(max(1.0, expected * (1 - expected / n)))
    else:
        a, b = labels[1:] - labels.mean(), labels[:-1] - labels.mean()
        z = float((a * b).sum() / (a * a).sum().clamp(min=1e-12)) * math.sqrt(n)
    if z > Z:
        raise FaultError(
            "training examples come sorted by their labels, so every batch shows few of them. "
            "Shuffle: shuffle=True in DataLoader, train=True in utils.Batches"
        )
    return f"{n} labels"


def every_class_has_examples(subject: Subject) -> str:
    """Labels count from 0, and the net has no score for a class that cannot occur."""
    classes = subject.num_classes()
    seen = torch.zeros(classes, dtype=torch.long)
    for labels in _integer_labels(subject, subject.own_loaders["train"]):
        inside = labels[(labels >= 0) & (labels < classes)]
        seen += inside.bincount(minlength=classes)
    unseen = (seen == 0).nonzero().flatten().tolist()
    missing = [k for k in unseen if k not in subject.reading.ignored]
    if missing == [0] and classes > 2:
        raise FaultError(
            f"class 0 has no training example, classes 1 to {classes - 1} have: do labels count "
            f"from 1? Subtract 1 from them, and give the net {classes - 1} outputs"
        )
    named = f", none for class {', '.join(map(str, missing[:3]))}" if missing else ""
    return f"{classes - len(missing)} of {classes} classes have training examples{named}"


def _integer_labels(subject: Subject, loader: Loader) -> Iterator[Tensor]:
    if is_integer(loader.labels):
        batches: Any = [(None, loader.labels)]
    else:
        batches = islice(loader.epoch(0), 1000)
    for batch in batches:
        if isinstance(batch, tuple | list) and len(batch) == 2 and is_integer(batch[1]):
            labels = batch[1].flatten().long().cpu()
            yield labels[counted(labels, subject.reading.ignored)]


def labels_are_of_one_kind(subject: Subject) -> str:
    """Labels are class numbers, about as frequent in validation as in training."""
    from scipy.stats import chi2_contingency

    classes, counts = subject.num_classes(), []
    for split in ("train", "val"):
        loader = subject.own_loaders[split]
        known = is_integer(loader.labels)
        batches = [(None, loader.labels)] if known else islice(loader.epoch(0), 1000)
        parts = [
            batch[1].flatten().long().cpu()
            for batch in batches
            if isinstance(batch, tuple | list) and len(batch) == 2 and is_integer(batch[1])
        ]
        if not parts:
            raise NotApplicableError("batches are not (inputs, integer labels)")
        labels = torch.cat(parts)
        labels = labels[counted(labels, subject.reading.ignored)]
        if len(wrong := labels[(labels < 0) | (labels >= classes)]):
            raise FaultError(f"{split}: label {int(wrong[0])}, the net scores 0 to {classes - 1}")
        counts.append(labels.bincount(minlength=classes))
    table = torch.stack(counts).double()  # (2, K)
    if len(unseen := torch.nonzero((table[0] == 0) & (table[1] > 0))):
        raise FaultError(f"class {int(unseen[0])} is in the validation split, but not in training")
    train, val = table / table.sum(dim=1, keepdim=True)
    apart = (train - val).abs()
    k = apart.argmax()
    told = f"class {k}: {train[k]:.0%} of train, {val[k]:.0%} of val"
    present = table[:, table.any(dim=0)].numpy()
    # A total variation of 0.15, at four standard deviations in the test of homogeneity.
    if apart.sum() / 2 > 0.15 and chi2_contingency(present, correction=False).pvalue < 3e-5:
        raise DoubtError(f"{told}. Were the splits drawn at random? Resampled training is no fault")
    return f"{classes} classes; the largest difference is {told}"


def _sample(subject: Subject, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return flat inputs (N, D), scaled, and class numbers (N,) of up to 2,000 examples."""
    rows, labels = list[Tensor](), list[Tensor]()
    for batch in subject.own_loaders[split].epoch(0):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and is_integer(batch[1])):
            break
        inputs = tensors(batch[0])
        if batch[1].ndim != 1 or len(inputs) != 1 or not inputs[0].is_floating_point():
            break
        x = inputs[0].detach().float().cpu()
        if x.ndim == 4 and min(x.shape[2:]) > 16:
            x = torch.nn.functional.adaptive_avg_pool2d(x, 16)
        rows.append(x.flatten(1))
        labels.append(batch[1].cpu())
        if sum(map(len, labels)) >= SOME:
            break
    if not rows or len({row.shape[1] for row in rows}) > 1:
        raise NotApplicableError(
            "inputs are not one tensor of floats of one size, with a class each"
        )
    return torch.cat(rows).numpy(), torch.cat(labels).numpy()


def _neighbours(x: np.ndarray, y: np.ndarray, of: np.ndarray, own: bool) -> np.ndarray:
    """Return the label of the nearest example among (x, y) for each of `of`; not itself if own."""
    centre, spread = x.mean(0), x.std(0) + 1e-6
    a, b = (of - centre) / spread, (x - centre) / spread
    apart = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    if own:
        np.fill_diagonal(apart, np.inf)
    found: np.ndarray = y[apart.argmin(1)]
    return found


def labels_go_with_inputs(subject: Subject) -> str:
    """Near examples have like labels, in each split and from one to the other.

    It fails only where the other split shows how clearly that would be seen: at five standard
    deviations or more, and is seen at less than one.
    """
    subject.num_classes()
    parts = {split: _sample(subject, split) for split in ("train", "val")}
    (x, y), (u, v) = parts.values()
    if min(len(y), len(v)) < FEW or x.shape[1] != u.shape[1]:
        raise NotApplicableError("too few examples")
    across = _Agreement(_neighbours(x, y, u, own=False), v)
    own = {s: _Agreement(_neighbours(a, b, a, own=True), b) for s, (a, b) in parts.items()}
    told = f"the nearest training example has the label of {across.right:.0%} of val"
    lost = own["val"].right - across.right
    if lost > LOST and across.expected(own["val"]) - across.z > Z and own["train"].z > 3:
        raise _of_other_classes(across, v) or DoubtError(
            f"{told}, but within val {own['val'].right:.0%} agree. Does augmentation, such as a "
            "flip, change what a label means? Is the order of the classes the same?"
        )
    if across.z >= 1:
        return f"{told}, chance is {across.chance:.0%}"
    for bad, good in (("train", "val"), ("val", "train")):
        if own[bad].z < 1 and own[good].z > 3 and own[bad].expected(own[good]) > 5:
            raise FaultError(
                f"labels of {bad} do not go with its inputs: near examples agree as by chance, "
                f"but not in {good}. Are files and labels read in the same order?"
            )
    return f"{told}: no better than chance, so this cannot tell whether labels and inputs match"


def _of_other_classes(across: "_Agreement", labels: np.ndarray) -> FaultError | None:
    """Return the error for classes of which most look like another class of training."""
    moved = []
    for k in np.unique(across.found):
        counts = np.bincount(labels[across.found == k])
        other = int(counts.argmax())
        if other != k and counts[other] > 0.6 * counts.sum() and counts.sum() >= 5:
            moved.append(f"{k} is {other}")
    if len(moved) < 2:
        return None
    return FaultError(
        "labels mean different things in train and val: what is class "
        f"{' and what is '.join(moved[:2])} in val. Is the order of the classes the same?"
    )


class _Agreement:
    """How often labels (N,) that were found are the true ones, against chance."""

    def __init__(self, found: np.ndarray, labels: np.ndarray) -> None:
        self.found, self.count = found, len(found)
        often = np.bincount(found, minlength=1 + int(labels.max())) / len(found)
        self.right = float((found == labels).mean())
        self.chance = float(often[labels].mean())
        self.z = self.expected(self)

    def expected(self, other: "_Agreement") -> float:
        """Return in standard deviations how far from chance the other's fraction would be here."""
        spread = math.sqrt(max(self.chance * (1 - self.chance), 1e-3) / self.count)
        return (other.right - self.chance) / spread


def rare_labels_weigh_no_less(subject: Subject) -> str:
    """A wrong answer costs no less for a rare label than for a frequent one."""
    state = subject.fresh()
    outputs, labels = subject.forward(state, subject.loaders["val"].first_batch())
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
        raise NotApplicableError("outputs or labels are not one tensor")
    of_classes = subject.reading.outputs == "logits" and labels.ndim == 1 and outputs.ndim == 2
    compare = _two_classes if of_classes else _yes_and_no
    names, shares, wanted, answers = compare(subject, outputs, labels)
    if shares[1] == 0 or shares[0] < UNEVEN * shares[1]:
        raise NotApplicableError("labels are about as frequent as each other")
    probe = LossProbe(state.task)
    pairs = zip(answers, wanted, strict=True)
    costs = [probe(SURE * answer.to(outputs), each) for answer, each in pairs]
    if costs[0] is None or costs[1] is None:
        raise NotApplicableError("the loss takes no made-up outputs")
    if costs[0] > UNEVEN * costs[1]:
        raise FaultError(
            f"to miss {names[0]}, {shares[0]:.0%} of the training labels, costs "
            f"{costs[0] / max(costs[1], 1e-9):.1f} times as much as to miss {names[1]}, "
            f"{shares[1]:.0%}. Are weight or pos_weight upside down?"
        )
    return f"{names[0]} {shares[0]:.0%}, {names[1]} {shares[1]:.0%}"


Uneven = tuple[list[str], list[float], list[Tensor], list[Tensor]]


def _two_classes(subject: Subject, outputs: Tensor, labels: Tensor) -> Uneven:
    """Return the most and least frequent class, their shares, and answers that miss one of them.

    These are labels (2,) and scores (2, K), once for the frequent and once for the rare class.
    """
    classes = outputs.shape[1]
    parts = [*_integer_labels(subject, subject.own_loaders["train"])]
    if not parts:
        raise NotApplicableError("training batches have no class for each example")
    found = torch.cat(parts)
    shares = found.bincount(minlength=classes)[:classes] / len(found)
    often, seldom = int(shares.argmax()), int(shares.masked_fill(shares == 0, 2.0).argmin())
    names = [f"class {often}", f"class {seldom}"]
    wanted = torch.tensor([often, seldom]).to(labels)
    answers = [torch.nn.functional.one_hot(torch.tensor([k, k]), classes) for k in (seldom, often)]
    return names, [float(shares[often]), float(shares[seldom])], [wanted, wanted], answers


def _yes_and_no(subject: Subject, outputs: Tensor, labels: Tensor) -> Uneven:
    """Return the same for the label that is most often, or least often, yes: of shape (2, L)."""
    known = subject.own_loaders["train"].labels
    yes = known if isinstance(known, Tensor) else labels
    fitting = outputs.shape == labels.shape and yes.is_floating_point() and yes.ndim == 2
    if not fitting or not bool(((yes == 0) | (yes == 1)).all()):
        raise NotApplicableError("labels are neither classes, nor yes or no")
    shares = yes.double().mean(0)
    column = int((shares - 0.5).abs().argmax())
    share = float(shares[column])
    order = [0, 1] if share < 0.5 else [1, 0]  # the frequent answer, and the rare one
    wanted = [torch.zeros_like(labels[:2]).index_fill(1, torch.tensor(column), k) for k in order]
    answers = [2 * each - 1 for each in wanted]
    for answer in answers:
        answer[0, column] *= -1
    names = [f"{('no', 'yes')[k]!r} of label {column}" for k in order]
    return names, [max(share, 1 - share), min(share, 1 - share)], wanted, answers
