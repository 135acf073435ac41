"""The checks of how a net is trained: dropout, the schedule, first weights."""

import warnings
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.overrides import TorchFunctionMode

from core.base.errors import NumericError
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.training.schedule import make_schedule

MOST_DROPPED = 0.8  # of a layer's units
GONE, HALF = 1e-4, 0.5  # of the highest rate; of the run
SAME = 1e-5  # of the largest weight: how far units are apart at least
MOST_UPDATES = 20_000  # of a schedule that are followed
DROPOUTS = ("dropout", "dropout_", "feature_dropout", "dropout1d", "dropout2d", "dropout3d")


class _NoteDropout(TorchFunctionMode):
    """Keeps the largest p with which units are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DROPOUTS:
            p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else 1))
            self.most = max(self.most, float(p) if training else 0.0)
        return func(*args, **kwargs)


def dropout_keeps_enough(subject: Subject) -> str:
    """Dropout's p is the fraction that is dropped: above 0.8 hardly anything is left to learn."""
    state, noted = subject.fresh(), _NoteDropout()
    most = max((m.dropout for m in state.model.modules() if isinstance(m, nn.RNNBase)), default=0.0)
    with noted, suppress(NumericError):  # of a loss that is not finite other checks tell
        subject.step(state, subject.loaders["train"].first_batch())
    most = max(most, noted.most)
    if most > MOST_DROPPED:
        raise FaultError(
            f"p is {most:g}, the fraction of units that are dropped. Was {1 - most:.3g} meant, "
            "with p as the fraction that is kept?"
        )
    if most == 0:
        raise NotApplicableError("no dropout in a step of training")
    return f"p is {most:g}"


def the_rate_lasts(subject: Subject) -> str:
    """The schedule leaves a learning rate for at least half of the run."""
    state = subject.fresh()
    batches = len(subject.own_loaders["train"])
    schedule = make_schedule(state.task, state.optimizers, state.params, batches)
    schedulers = [*schedule.schedulers.values()]
    if not schedulers or any(isinstance(s, ReduceLROnPlateau) for s in schedulers):
        raise NotApplicableError("no schedule, or one that follows the monitored metric")
    epochs, updates = state.params.num_epochs, schedule.updates_per_epoch
    count = epochs * (updates if schedule.counts_updates else 1)
    if not 2 < count <= MOST_UPDATES:
        raise NotApplicableError(f"{count} steps of the schedule")
    rates = list[float]()
    groups = [group for each in state.optimizers.values() for group in each.param_groups]
    with warnings.catch_warnings(action="ignore"):  # torch: a step before the optimizer's first
        for _ in range(count):
            rates.append(max(group["lr"] for group in groups))
            for scheduler in schedulers:
                scheduler.step()
    lasting = [i for i, rate in enumerate(rates) if rate > GONE * max(rates)]
    if not lasting or lasting[-1] + 1 < HALF * count:
        epoch = (lasting[-1] if lasting else 0) / count * epochs + 1
        counted = "updates" if schedule.counts_updates else "epochs"
        raise FaultError(
            f"after epoch {epoch:.3g} of {epochs} the rate is below {GONE:g} of its highest. The "
            f"schedule counts {counted}: do its step_size, gamma or milestones?"
        )
    return f"{max(rates):.3g} at most, {rates[-1]:.3g} at the end"


def units_differ(subject: Subject) -> str:
    """After five steps the units of a layer are not all alike, as with constant first weights."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    try:
        trained = subject.trained()
    except NumericError as error:  # of which the next check tells
        raise NotApplicableError("the loss is not finite") from error
    layers = {
        name: module.weight.detach()
        for name, module in trained.model.named_modules()
        if isinstance(module, kinds) and module.weight.requires_grad and len(module.weight) > 1
    }
    if not layers:
        raise NotApplicableError("no linear or convolutional layers that are trained")
    for name, weight in layers.items():
        if (weight - weight[:1]).abs().max() <= SAME * weight.abs().max():
            raise FaultError(
                f"all {len(weight)} units of {name or 'the net'} have the same weights, and learn "
                "the same. Draw the first weights at random, as PyTorch does by default"
            )
    return f"{len(layers)} layers"


def frozen_weights_are_loaded(subject: Subject) -> str:
    """Frozen weights come from somewhere: they are not random, as before anything was loaded."""
    one, other = subject.fresh(), subject.fresh(other_weights=True)
    frozen = {n: w for n, w in one.model.named_parameters() if not w.requires_grad}
    if not frozen:
        raise NotApplicableError("no weights are frozen")
    if one.task.initialize is not None:
        one.task.initialize(other.model, other.params)
    theirs = dict(other.model.named_parameters())
    drawn = [name for name, w in frozen.items() if not torch.equal(w, theirs[name])]
    if drawn:
        raise DoubtError(
            f"frozen, and random: {', '.join(drawn[:2])}. Nothing has loaded them. Do the names in "
            "the file fit? load_state_dict(..., strict=False) skips those that do not"
        )
    return f"{len(frozen)} weights"


def a_step_stays_in_train_mode(subject: Subject) -> str:
    """A train_step of the task's own leaves the net in train mode, as the next step needs it."""
    state = subject.fresh()
    if state.task.train_step is None:
        raise NotApplicableError("the default step is used")
    resting = {name for name, m in state.model.train().named_modules() if not m.training}
    subject.step(state, subject.loaders["train"].first_batch())
    names = {name for name, m in state.model.named_modules() if not m.training}
    if left := sorted(names - resting):
        raise FaultError(
            f"train_step leaves {left[0] or 'the net'} in eval mode, so dropout and batch norm are "
            "off from then on. Call model.train() after model.eval()"
        )
    return "in train mode"
