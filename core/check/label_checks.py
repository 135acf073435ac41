"""The checks of labels: their order, their classes, whether they go with the inputs."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.check.examples import class_numbers, is_pair, rows_of
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.reading.outputs import LossProbe
from core.task import counted, is_integer

Z = 6.0  # standard deviations from chance at which a check fails: once in a thousand million
LOST = 0.15  # of the agreement within validation
UNEVEN, SURE = 1.5, 3.0  # how often one is the other; a sure logit
FEW, SOME, MANY = 20, 2000, 50_000  # labels: needed; of a probe; looked at in their order


def training_examples_are_mixed(subject: Subject) -> str:
    """Training labels come in no order: neighbours are not more alike than by chance."""
    found, count = list[Tensor](), 0
    for batch in subject.own_loaders["train"].epoch(0):
        labels = batch[1] if is_pair(batch) else None
        if not isinstance(labels, Tensor) or labels.ndim != 1 or count >= MANY:
            break
        found.append(labels.detach().cpu())
        count += len(labels)
    if count < FEW:
        raise NotApplicableError("batches are not (inputs, one label an example), or they are few")
    labels = torch.cat(found)
    if is_integer(labels):
        labels = labels[counted(labels, subject.reading.ignored)]
        _, counts = labels.unique(return_counts=True)
        n, counts = len(labels), counts.double()
        expected = float((counts * (counts - 1)).sum()) / n  # pairs of equal neighbours
        alike = float((labels[1:] == labels[:-1]).sum())
        z = (alike - expected) / math.sqrt(max(1.0, expected * (1 - expected / n)))
    else:
        n, away = len(labels), labels.double() - labels.double().mean()
        z = float(away[1:] @ away[:-1] / away[1:].square().sum().clamp(min=1e-12)) * math.sqrt(n)
    if z > Z:
        raise FaultError(
            "training examples come sorted by their labels, so every batch shows few of them. "
            "Shuffle: shuffle=True in DataLoader, train=True in utils.Batches"
        )
    return f"{n} labels"


def every_class_has_examples(subject: Subject) -> str:
    """Labels count from 0, and the net has no score for a class that cannot occur."""
    classes = subject.num_classes()
    seen = {*class_numbers(subject, "train").unique().tolist()}
    missing = [k for k in range(classes) if k not in seen and k not in subject.reading.ignored]
    if missing == [0] and classes > 2:
        raise FaultError(
            f"class 0 has no training example, classes 1 to {classes - 1} have: do labels count "
            f"from 1? Subtract 1 from them, and give the net {classes - 1} outputs"
        )
    named = f", none for class {', '.join(map(str, missing[:3]))}" if missing else ""
    return f"{classes - len(missing)} of {classes} classes have training examples{named}"


def labels_are_of_one_kind(subject: Subject) -> str:
    """Labels are class numbers, about as frequent in validation as in training."""
    from scipy.stats import chi2_contingency

    classes, counts = subject.num_classes(), []
    for split in ("train", "val"):
        labels = class_numbers(subject, split)
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


def _sample(subject: Subject, split: str) -> tuple[Tensor, np.ndarray]:
    """Return flat inputs (N, D), scaled, and class numbers (N,) of up to 2,000 examples."""
    rows, labels = list[Tensor](), list[Tensor]()
    for x, numbers in rows_of(subject.own_loaders[split]):
        if not is_integer(numbers) or sum(map(len, labels)) >= SOME:
            break
        if x.ndim == 4 and min(x.shape[2:]) > 16:
            x = torch.nn.functional.adaptive_avg_pool2d(x.float(), 16)
        rows.append(x.float().reshape(len(x), -1))
        labels.append(numbers)
    if len({row.shape[1] for row in rows}) != 1:
        told = "inputs are not one tensor of floats of one size, with a class each"
        raise NotApplicableError(told)
    return torch.cat(rows), torch.cat(labels).numpy()


def _nearest(x: Tensor, of: Tensor) -> np.ndarray:
    """Return which of x (N, D) is nearest to each of `of` (M, D), as (M,); no one to itself."""
    centre, spread = x.mean(0), x.std(0, correction=0) + 1e-6
    apart = torch.cdist((of - centre) / spread, (x - centre) / spread)
    if of is x:
        apart.fill_diagonal_(math.inf)
    nearest: np.ndarray = apart.argmin(1).numpy()
    return nearest


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
    across = _Agreement(y[_nearest(x, u)], v)
    own = {split: _Agreement(b[_nearest(a, a)], b) for split, (a, b) in parts.items()}
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
    state, outputs, labels = subject.first_answers()
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
        raise NotApplicableError("outputs or labels are not one tensor")
    of_classes = subject.reading.outputs == "logits" and labels.ndim == 1 and outputs.ndim == 2
    compare = _two_classes if of_classes else _yes_and_no
    often, rare = compare(subject, outputs, labels)
    if rare.share == 0 or often.share < UNEVEN * rare.share:
        raise NotApplicableError("labels are about as frequent as each other")
    probe = LossProbe(state.task)
    costs = [probe(SURE * each.answer.to(outputs), each.labels) for each in (often, rare)]
    if costs[0] is None or costs[1] is None:
        raise NotApplicableError("the loss takes no made-up outputs")
    if costs[0] > UNEVEN * costs[1]:
        raise FaultError(
            f"to miss {often.name}, {often.share:.0%} of the training labels, costs "
            f"{costs[0] / max(costs[1], 1e-9):.1f} times as much as to miss {rare.name}, "
            f"{rare.share:.0%}. Are weight or pos_weight upside down?"
        )
    return f"{often.name} {often.share:.0%}, {rare.name} {rare.share:.0%}"


class _Miss(NamedTuple):
    """A label with its share of all, and an answer to the labels of two examples that misses it."""

    name: str
    share: float
    labels: Tensor
    answer: Tensor  # 1 and 0, or 1 and -1


def _two_classes(subject: Subject, outputs: Tensor, labels: Tensor) -> list[_Miss]:
    """Return the most and the least frequent class: labels (2,) and answers (2, K)."""
    classes, found = outputs.shape[1], class_numbers(subject, "train")
    shares = found.bincount(minlength=classes)[:classes] / len(found)
    pair = int(shares.argmax()), int(shares.masked_fill(shares == 0, 2.0).argmin())
    return [
        _Miss(
            f"class {missed}",
            float(shares[missed]),
            torch.tensor(pair).to(labels),
            torch.nn.functional.one_hot(torch.tensor([said, said]), classes),
        )
        for missed, said in (pair, pair[::-1])
    ]


def _yes_and_no(subject: Subject, outputs: Tensor, labels: Tensor) -> list[_Miss]:
    """Return the frequent and the rare answer to the most uneven label: all (2, L)."""
    known = subject.own_loaders["train"].labels
    yes = known if isinstance(known, Tensor) else labels
    fitting = outputs.shape == labels.shape and yes.is_floating_point() and yes.ndim == 2
    if not fitting or not bool(((yes == 0) | (yes == 1)).all()):
        raise NotApplicableError("labels are neither classes, nor yes or no")
    shares = yes.double().mean(0)
    column = int((shares - 0.5).abs().argmax())
    share, found = float(shares[column]), list[_Miss]()
    for missed in (0, 1) if share < 0.5 else (1, 0):
        wanted = torch.zeros_like(labels[:2]).index_fill(1, torch.tensor(column), missed)
        answer = 2 * wanted - 1
        answer[0, column] *= -1
        name = f"{('no', 'yes')[missed]!r} of label {column}"
        found.append(_Miss(name, share if missed else 1 - share, wanted, answer))
    return found
