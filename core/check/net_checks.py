"""The checks of a net: is it sound, before hours are spent on it?

A check returns a word on what it found. It raises `FaultError` where the net is not sound, and
`NotApplicableError` where it can tell nothing. check.py and tests/test_tasks.py run all of them.
"""

import random
import signal
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import Stopped
from core.check.subject import FaultError, NotApplicableError, Short, Subject, first_difference
from core.machine.nested import example, tensors
from core.machine.signals import Stop
from core.run.baseline import chance_loss, count_classes
from core.run.opening import ending, open_run
from core.task import Batch, Loader
from core.training.checkpoint import load_weights, plain, read_checkpoint, write_checkpoint
from core.training.state import State
from core.training.tally import join


def first_loss_is_near_chance(subject: Subject) -> str:
    """A net that knows nothing yet answers at random: ln K for cross-entropy over K classes."""
    state = subject.fresh()
    state.model.eval()
    with torch.no_grad():
        outputs, labels = subject.forward(state, subject.loaders["val"].first_batch())
        classes = count_classes(outputs, labels)
        if classes is None:
            raise NotApplicableError("outputs are not scores of classes that integer labels name")
        loss = float(state.task.losses(outputs, labels)["loss"])
        chance = chance_loss(state.task, outputs, labels, classes)
    if not chance / 2 <= loss <= 2 * chance:
        raise FaultError(
            f"it is {loss:.3g}, chance is {chance:.3g}. Are inputs not scaled, first weights too "
            "large, or a softmax in front of a loss that wants logits?"
        )
    return f"{loss:.3f}, chance is {chance:.3f}"


def gradient_reaches_every_weight(subject: Subject) -> str:
    """Within five steps every parameter gets a gradient that is finite and not 0 throughout."""
    state, reached = subject.fresh(), set()
    weights = {name: w for name, w in state.model.named_parameters() if w.requires_grad}
    if not weights:
        raise NotApplicableError("the net has no parameters to train")
    before = {name: w.detach().clone() for name, w in weights.items()}

    def note(name: str) -> Any:
        def look(weight: Tensor) -> None:
            if weight.grad is not None and not weight.grad.isfinite().all():
                raise FaultError(
                    f"the gradient of {name} is not finite. check.py --replay tells where"
                )
            if weight.grad is not None and weight.grad.any():
                reached.add(name)

        return look

    hooks = [w.register_post_accumulate_grad_hook(note(name)) for name, w in weights.items()]
    subject.steps(state, 5)
    for hook in hooks:
        hook.remove()
    changed = {name for name, w in weights.items() if not torch.equal(w, before[name])}
    if missing := sorted(weights.keys() - (reached or changed)):
        raise FaultError(
            f"none for {', '.join(missing[:3])}. Is it left out of forward, detached, or behind a "
            "ReLU that is always 0? requires_grad_(False) if that is meant"
        )
    if still := sorted(weights.keys() - changed):
        raise FaultError(f"{', '.join(still[:3])} never changes. Does the optimizer hold it?")
    return f"{len(weights)} parameters"


def one_batch_is_learned(subject: Subject) -> str:
    """Without dropout and schedule the net learns a batch by heart within 200 steps."""
    state = subject.fresh(constant_rate=True, grad_accumulation=1)
    if len(state.optimizers) > 1:
        raise NotApplicableError("several optimizers may work against each other")
    for module in state.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    batch = subject.loaders["train"].first_batch()
    losses: list[float] = []
    for _ in range(10):
        losses += subject.steps(state, 20, batch)
        share = share_right(subject, state, batch)
        if share is not None and share <= 0.9 and len(losses) == 200:
            state.model.train()
            with torch.no_grad():  # at a high rate, the means of batch normalisation lag behind
                for _ in range(50):
                    subject.forward(state, batch)
            share = share_right(subject, state, batch)
        found = f"loss {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} steps"
        found += "" if share is None else f", {share:.0%} right in eval mode"
        halved = losses[0] - losses[-1] > 0.5 * abs(losses[0])
        if halved if share is None else share > 0.9:
            return found
    raise FaultError(
        f"{found}. Is the learning rate off, the net too small, or do inputs and labels not fit?"
    )


@torch.no_grad()
def share_right(subject: Subject, state: State, batch: Batch) -> float | None:
    """Return the share of right answers in eval mode; None if outputs are not scores of classes."""
    state.model.eval()
    outputs, labels = subject.forward(state, batch)
    if count_classes(outputs, labels) is None:
        return None
    outputs, labels = state.task.collect(outputs, labels)
    return float((outputs.argmax(-1) == labels)[labels >= 0].float().mean())


@torch.no_grad()
def examples_do_not_meet(subject: Subject) -> str:
    """In eval mode the outputs of an example are the same alone and among others."""
    state, (batch, count) = subject.fresh(**subject.finely), subject.batch_of_several()
    state.model.eval()
    whole, _ = subject.forward(state, batch)
    for i in range(min(count, 8)):
        try:
            alone, _ = subject.forward(state, example(batch, i, count))
        except (ValueError, RuntimeError) as error:
            raise FaultError(
                f"example {i} cannot be evaluated alone: {error}. Is something normalised over "
                "the batch, or do rows depend on their number?"
            ) from error
        for a, b in zip(tensors(alone), tensors(example(whole, i, count)), strict=True):
            if a.shape != b.shape:
                raise FaultError(
                    f"example {i} has outputs {tuple(a.shape)} alone, {tuple(b.shape)} in a batch "
                    f"of {count}. Does a view or reshape merge examples?"
                )
            apart = float((a.double() - b.double()).abs().max()) if a.ndim and a.numel() else 0.0
            if not apart <= subject.rounding * max(1.0, float(b.double().abs().max())):
                raise FaultError(
                    f"outputs of example {i} differ by {apart:.2g} between alone and in a batch of "
                    f"{count}. Is something normalised over the batch, or rows mixed by a view?"
                )
    return f"{min(count, 8)} examples"


@torch.no_grad()
def a_batch_of_one_is_evaluated(subject: Subject) -> None:
    """The last batch of a split may hold one example: its outputs join those of the others."""
    state, (batch, count) = subject.fresh(), subject.batch_of_several()
    state.model.eval()
    parts = []
    for each in (batch, example(batch, 0, count)):
        outputs, labels = subject.forward(state, each)
        if labels is not None or not subject.labelled:
            loss = state.task.losses(outputs, labels)["loss"]
            if not loss.isfinite() and state.task.loss_weight(outputs, labels) > 0:
                raise FaultError("its loss is not finite. Is there a deviation over the batch?")
        parts.append((outputs, labels))
    several, one = ([part.ndim for part in tensors(outputs)] for outputs, _ in parts)
    if several != one:
        raise FaultError(f"outputs have {one} dimensions, of several {several}. Is it squeeze()d?")
    join([state.task.collect(*part) for part in parts])


def saved_weights_are_the_whole_net(subject: Subject) -> None:
    """A new net with the saved weights gives the outputs of the old one."""
    state, other = subject.fresh(), subject.fresh()
    subject.steps(state, 3)
    path = subject.folder / "saved.pt"
    write_checkpoint(path, plain({"state_dict": state.model.state_dict()}))
    load_weights(other.model, read_checkpoint(path)["state_dict"], path)
    batch, outputs = subject.loaders["val"].first_batch(), []
    for each in (state, other):
        each.model.eval()
        with torch.no_grad():
            outputs.append(subject.forward(each, batch)[0])
    if first_difference(outputs[0], outputs[1], "outputs", subject.noise) is not None:
        raise FaultError(
            "the loaded net gives other outputs. Is there state that is neither a parameter nor "
            "a buffer? register_buffer keeps a tensor, nn.ModuleList a list of layers"
        )


def evaluation_repeats_itself(subject: Subject) -> str:
    """Two evaluations give the same numbers."""
    state, loader = subject.fresh(), Short(subject.loaders["val"], 8)
    found = [subject.evaluate(state, loader) for _ in range(2)]
    if where := first_difference(found[0], found[1], "it", subject.noise):
        raise FaultError(f"{where} differs. Does the net or the loader draw random numbers?")
    return f"{len(loader)} batches"


def batch_size_changes_no_number(subject: Subject) -> str:
    """Loss and metrics of 64 validation examples are the same in batches of 1, 16 and 64."""
    state, found = subject.fresh(**subject.finely), []
    for size in (1, 16, 64):
        loader = subject.fetch("val", batch_size=size)
        total = loader.num_examples
        if total is None or len(loader) != -(-total // size):
            raise NotApplicableError("the loader does not obey batch_size")
        found.append(subject.evaluate(state, Short(loader, 64 // size)))
        if where := first_difference(found[-1], found[0], "it", subject.rounding):
            name = where.rpartition(", ")[2]
            raise FaultError(
                f"{name} is {found[0][name]:.6g} in batches of 1, {found[-1][name]:.6g} in batches "
                f"of {size}. Does the loss's mean fit loss_weight, and metrics whole splits?"
            )
    return f"{min(64, total)} examples"


def the_same_seed_gives_the_same_steps(subject: Subject) -> str:
    """Two nets made and trained alike for five steps have the same weights, to the bit."""
    weights = []
    for _ in range(2):
        state = subject.fresh()
        subject.steps(state, 5)
        weights.append(plain(state.model.state_dict()))
    if where := first_difference(weights[0], weights[1], "weights"):
        subject.excuse(where)
        raise FaultError(f"{where} differs. Are random numbers drawn from a generator of its own?")
    return "5 steps"


class StopAt(Stop):
    """Stops a run as a signal would, when it is asked for the n-th time whether one has come."""

    def __init__(self, number: int = -1) -> None:
        super().__init__()
        self.number, self.asked = number, 0
        self.agree = self._count

    def _count(self, requested: int, due: int) -> list[int]:
        self.asked += 1
        return [signal.SIGTERM if self.asked == self.number else requested, due]


def a_resumed_run_ends_bit_equal(subject: Subject) -> str:
    """A run of some batches that is stopped at random, and goes on, ends as one that is not.

    It is the user's own run, two epochs of it, with shortened loaders.
    """
    batches = {"train": max(6, 2 * subject.state.params.grad_accumulation), "val": 2}
    loaders: dict[str, Loader] = {n: Short(subject.loaders[n], c) for n, c in batches.items()}

    def start(name: str, stop: StopAt) -> None:
        run = open_run(subject.subfolder(name), subject.overrides | {"num_epochs": 2})
        subject.lend(run, loaders)
        run.stop = stop
        torch.compiler.reset()  # what an earlier run has compiled
        with suppress(Stopped), ending(run):
            subject.train.train_to_the_end(run)

    counter = StopAt()
    start("whole", counter)
    number = random.Random(subject.seed).randrange(1, counter.asked + 1)
    start("stopped", StopAt(number))
    stopped = read_checkpoint(subject.folder / "stopped" / "last.pt")
    start("stopped", StopAt())
    ends = [read_checkpoint(subject.folder / name / "last.pt") for name in ("stopped", "whole")]
    at = f"stopped after step {stopped['step']} of {ends[1]['step']} (--seed {subject.seed})"
    first = ("state_dict", "optim_dict", "random_states", "metrics")
    where = None
    for part in [*first, *(name for name in ends[0] if name not in first)]:
        where = where or first_difference(ends[0][part], ends[1][part], part)
    if where is None:
        return at
    subject.excuse(where)
    raise FaultError(
        f"{where} differs, {at}. Does the net keep state that is neither a parameter nor a buffer, "
        "or train_step something that is not in state.extra?"
    )
