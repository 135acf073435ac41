"""The checks of a net and of its training."""

import statistics
import time
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import UserError
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.random_states import seeded
from core.reading.misfits import CONTRAST
from core.reading.outputs import LossProbe
from core.run.baseline import chance_loss
from core.task import Batch, is_integer
from core.training.state import State

LOW, FALLS = 0.3, 0.8  # a first loss of a net that has learned; the last one, of another's first
MOST_IGNORED = 0.3  # of the labels
FAR = 10.0  # times chance: above it, and below its inverse, a first loss is a fault
VANISHED = 1e-9  # of the largest gradient
SPIKE = 50.0  # times the first loss
LEARNED, PATIENCE = 0.1, 10.0  # of the loss of a constant answer; seconds for numbers as labels


def outputs_fit_labels(subject: Subject) -> str:
    """Loss and metrics hold every output against its own label, and leave padding out."""
    if found := [each for each in subject.misfits if each != CONTRAST]:
        raise FaultError(". ".join(found))
    if subject.misfits:
        raise DoubtError(f"{CONTRAST}. It is so if pairs or triplets of a batch are meant")
    state, _, labels = subject.first_answers()
    if is_integer(labels) and labels.ndim in (1, 3):  # in sequences a label may mark padding
        for each in (k for k in subject.reading.ignored if k >= 0):
            if (share := float((labels == each).float().mean())) > MOST_IGNORED:
                raise DoubtError(
                    f"{share:.0%} of the labels are {each}, which the loss ignores: the net never "
                    "learns it. Is ignore_index meant?"
                )
    return subject.reading.told(state.task).removeprefix("Outputs: ")


def first_loss_is_near_chance(subject: Subject) -> str:
    """A net that knows nothing yet answers at random: ln K for cross-entropy over K classes."""
    subject.num_classes()
    state, outputs, labels = subject.first_answers()
    loss = float(state.task.losses(outputs, labels)["loss"])
    chance = chance_loss(state.task, state.reading, outputs, labels)
    told = f"{loss:.3g}, chance is {chance:.3g}"
    hint = f"{told}. Are inputs scaled, first weights small, and outputs logits?"
    if not chance / FAR <= loss <= FAR * chance:
        raise FaultError(hint)
    if not chance / 2 <= loss <= 2 * chance:
        raise DoubtError(hint)
    return told


def gradient_reaches_every_weight(subject: Subject) -> str:
    """Within five steps every parameter gets a gradient that is finite and not 0 throughout."""
    state, largest = subject.fresh(), dict[str, float]()
    weights = {name: w for name, w in state.model.named_parameters() if w.requires_grad}
    before = {name: w.detach().clone() for name, w in weights.items()}
    for batch in islice(subject.batches(subject.loaders), 5):
        subject.step(state, batch)
        for name, w in weights.items():
            found = (w - before[name] if w.grad is None else w.grad).detach()  # some remove it
            if not found.isfinite().all():
                raise FaultError(
                    f"the gradient of {name} is not finite. check.py --replay tells where"
                )
            largest[name] = max(largest.get(name, 0.0), float(found.abs().max()))
    vanished = VANISHED * max(largest.values(), default=0.0)
    # The gradient of a bias may be 0 but for rounding, as that of attention's keys.
    if faint := [n for n, most in largest.items() if 0 < most < vanished and weights[n].ndim > 1]:
        raise FaultError(
            f"the gradient of {', '.join(sorted(faint)[:3])} is at most {largest[faint[0]]:.1g}. "
            "It vanishes on its way through many layers or steps, such as padding behind a text"
        )
    if missing := sorted(name for name, most in largest.items() if not most):
        hint = "Is it left out, detached, or behind a dead ReLU? If it is meant, freeze it"
        raise FaultError(f"no gradient for {', '.join(missing[:3])}. {hint}: requires_grad_(False)")
    if still := sorted(name for name, w in weights.items() if torch.equal(w, before[name])):
        raise FaultError(f"{', '.join(still[:3])} never changes. Does the optimizer hold it?")
    return f"{len(weights)} parameters"


def one_batch_is_learned(subject: Subject, split: str = "train") -> str:
    """Without dropout and schedule the net learns a batch by heart.

    Within 200 steps it gets nine in ten right. Where labels are numbers it has more steps, and the
    loss must fall to a tenth of that of their mean as answer; elsewhere to a half.
    """
    state = subject.fresh(constant_rate=True, grad_accumulation=1)
    if len(state.optimizers) > 1:
        raise NotApplicableError("several optimizers may work against each other")
    for module in state.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    batch, losses = subject.loaders[split].first_batch(), list[float]()
    floor = _floor(state, *subject.forward(state, batch))
    began, most = time.monotonic(), 200 if floor is None else 3000
    while len(losses) < 200 or (len(losses) < most and time.monotonic() - began < PATIENCE):
        losses += [subject.step(state, batch)["loss"].item() for _ in range(20)]
        right = accuracy(subject, state, batch)
        if right is not None and right <= 0.9 and len(losses) == 200:
            state.model.train()
            with torch.no_grad(), state.autocast():
                for _ in range(50):  # at a high rate, the means of batch normalisation lag behind
                    state.task.forward(state.model, batch, state.params)
            right = accuracy(subject, state, batch)
        told = f"loss {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} steps"
        told += "" if right is None else f", {right:.0%} right in eval mode"
        goal = losses[0] - 0.5 * abs(losses[0]) if floor is None else floor
        falls = losses[0] < LOW or statistics.fmean(losses[-20:]) < FALLS * losses[0]
        if losses[-1] < goal if right is None else right > 0.9 and falls:
            if max(losses) > SPIKE * max(abs(losses[0]), (floor or 0) / LEARNED):
                raise FaultError(
                    f"the loss jumps from {losses[0]:.3g} to {max(losses):.3g} before it falls. "
                    "Lower learning_rate: try a tenth, or check.py --find_lr"
                )
            return told
    if floor is not None:
        told += f"; the mean of the labels as answer costs {floor / LEARNED:.3g}"
    why = ". Is learning_rate off, the net too small, or do labels not fit?"
    if split == "train":
        with suppress(UserError):
            one_batch_is_learned(subject, "val")
            why = "; but a batch of val is learned. Does augmentation change inputs and not their "
            why += "labels?"
    raise FaultError(told + why)


def vectors_of_a_class_are_near(subject: Subject) -> str:
    """After training on a batch, vectors of one class are nearer to each other than to others."""
    state, batch = subject.fresh(constant_rate=True), subject.loaders["train"].first_batch()
    if subject.reading.outputs != "other" or len(state.optimizers) > 1:
        raise NotApplicableError("outputs are no vectors with a class each")

    def distances() -> tuple[float, float]:
        vectors, labels = state.task.collect(*subject.forward(state, batch))
        fitting = isinstance(vectors, Tensor) and is_integer(labels) and labels.ndim == 1
        if not (fitting and vectors.ndim == 2 and len(vectors) == len(labels)):
            raise NotApplicableError("outputs are no vectors with a class each")
        apart = torch.cdist(vectors.float(), vectors.float())
        alike = labels[:, None] == labels
        pairs = alike & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if not pairs.any() or alike.all():
            raise NotApplicableError("a batch has one class, or no two examples of one")
        return float(apart[pairs].mean()), float(apart[~alike].mean())

    distances()
    for _ in range(100):
        subject.step(state, batch)
    own, other = distances()
    if own > other:
        raise FaultError(
            f"after 100 steps vectors of one class are {own:.3g} apart, those of two {other:.3g}. "
            "Is the sign of the loss wrong, or a similarity taken as a distance?"
        )
    return f"{own:.3g} apart in a class, {other:.3g} between classes"


def _floor(state: State, outputs: Any, labels: Any) -> float | None:
    """Return a tenth of the loss of the mean label as answer, for numbers as labels."""
    numbers = torch.is_tensor(labels) and labels.is_floating_point()
    if not (numbers and torch.is_tensor(outputs) and outputs.shape == labels.shape):
        return None
    constant = labels.mean(0, keepdim=True).expand_as(labels).to(outputs.dtype)
    found = LossProbe(state.task)(constant, labels)
    return None if found is None or found <= 0 else LEARNED * found


def steps_update_once(subject: Subject) -> str:
    """A train_step of the task's own changes weights, and uses every gradient once."""
    state = subject.fresh(constant_rate=True, grad_accumulation=1)
    if state.task.train_step is None:
        raise NotApplicableError("the default step is used")
    batch, weights = subject.loaders["train"].first_batch(), [*state.model.parameters()]
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    found = list[list[Tensor]]()
    for _ in range(2):
        state.model.load_state_dict(before)
        with seeded(0, device=state.device):
            subject.step(state, batch)
        found.append([w.grad.detach().clone() for w in weights if w.grad is not None])
    if not any((value != before[name]).any() for name, value in state.model.state_dict().items()):
        raise FaultError("train_step changes nothing. Does it call state.update(loss)?")
    pairs = [*zip(*found, strict=False)]
    doubled = all(torch.allclose(b, 2 * a, 1e-3, 1e-7) for a, b in pairs)
    if doubled and any(a.any() for a, _ in pairs):
        told = "gradients of the step before are added to those of a step"
        raise FaultError(f"{told}. Call zero_grad(), or state.update(loss), which does it")
    return "two steps"


def accuracy(subject: Subject, state: State, batch: Batch) -> float | None:
    """Return the fraction of right answers in eval mode; None if outputs are not class scores."""
    if subject.reading.num_classes is None:
        return None
    found, labels = subject.classes(*subject.forward(state, batch))
    return float((found == labels).float().mean())
