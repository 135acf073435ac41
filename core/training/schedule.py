"""Learning-rate schedulers of torch, by their own names, and when they step."""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from core.base.errors import UsageError, spelled
from core.base.monitor import monitored
from core.base.params import Params
from core.task import Task
from core.training.optimizers import check_args, class_of

PER_UPDATE = ("OneCycleLR", "CyclicLR")  # their lengths are counted in updates
LENGTHS = ("total_steps", "T_max")  # arguments that default to the length of the run
TIED_TO_LENGTH = {*LENGTHS, "epochs", "total_iters"}  # arguments that give a schedule a length


class Schedule:
    """The schedulers of a run, by name.

    Args:
        schedulers: one for each optimizer, or what `make_scheduler` returned; {} if there are none.
        counts_updates: whether they step after every update, rather than after every epoch. One
            that follows the monitored metric steps after epochs all the same.
        updates_per_epoch: how many updates an epoch has.
    """

    def __init__(
        self, schedulers: dict[str, Any], counts_updates: bool, updates_per_epoch: int
    ) -> None:
        self.schedulers, self.counts_updates = schedulers, counts_updates
        self.updates_per_epoch = updates_per_epoch
        counting = [s for s in schedulers.values() if not isinstance(s, ReduceLROnPlateau)]
        self.per_update = counting if counts_updates else []

    def end_epoch(self, value: float) -> None:
        """Step the schedulers that count epochs, or follow the monitored metric, now `value`."""
        for scheduler in self.schedulers.values():
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(value)
            elif not self.counts_updates:
                scheduler.step()

    def state_dicts(self) -> dict[str, Any]:
        """Return what `load_state_dicts` takes."""
        return {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()}

    def load_state_dicts(self, states: Mapping[str, Any]) -> None:
        """Put the schedulers where those of a checkpoint stood."""
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(states[name])

    def advance(self, epochs: int) -> None:
        """Bring new schedulers to where they stand after some epochs, but for one on plateau."""
        steps = epochs * (self.updates_per_epoch if self.counts_updates else 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch: a step before the optimizer's first
            for scheduler in self.schedulers.values():
                if not isinstance(scheduler, ReduceLROnPlateau):
                    for _ in range(steps):
                        scheduler.step()


def make_schedule(
    task: Task, optimizers: dict[str, Optimizer], params: Params, num_batches: int
) -> Schedule:
    """Make the schedule of a task or of the params, for epochs of so many batches."""
    updates_per_epoch = math.ceil(num_batches / params.grad_accumulation)
    if task.make_scheduler is None:
        made: Any = {
            name: _build_scheduler(optimizer, task, params, updates_per_epoch)
            for name, optimizer in optimizers.items()
        }
    else:
        given = optimizers["main"] if list(optimizers) == ["main"] else optimizers
        made = task.make_scheduler(given, params, updates_per_epoch)
        made = made if isinstance(made, Mapping) else {"main": made}
    schedulers = {name: scheduler for name, scheduler in made.items() if scheduler is not None}
    return Schedule(schedulers, _counts_updates(params, task), updates_per_epoch)


def _counts_updates(params: Params, task: Task) -> bool:
    """Tell whether schedulers step after every update.

    "auto" means yes for a `make_scheduler` of the task's own, which is told the steps per epoch.
    """
    if params.lr_scheduler_interval == "auto":
        return task.make_scheduler is not None or params.lr_scheduler in PER_UPDATE
    return params.lr_scheduler_interval == "update"


def depends_on_length(params: Params, task: Task) -> bool:
    """Tell whether the schedule of a longer run differs from that of a shorter one."""
    if task.make_scheduler is not None:
        return True
    if params.lr_scheduler is None:
        return False
    scheduler = getattr(torch.optim.lr_scheduler, params.lr_scheduler)
    return not TIED_TO_LENGTH.isdisjoint(inspect.signature(scheduler).parameters)


def check_schedule(params: Params, task: Task, optimizer: Optimizer | None) -> None:
    """Check the scheduler and its arguments before data are read, by making it for an optimizer."""
    if params.lr_scheduler is None:
        return
    scheduler = class_of(torch.optim.lr_scheduler, LRScheduler, "lr_scheduler", params.lr_scheduler)
    check_args(scheduler, "lr_scheduler_args", params.lr_scheduler_args, ("optimizer",))
    if not {"schedulers", "lr_lambda"}.isdisjoint(inspect.signature(scheduler).parameters):
        raise UsageError(f"'lr_scheduler': {params.lr_scheduler} needs a make_scheduler in net.py")
    if params.lr_scheduler == "ReduceLROnPlateau" and params.lr_scheduler_interval == "update":
        raise UsageError("'lr_scheduler_interval' is 'update', but ReduceLROnPlateau needs 'epoch'")
    if optimizer is not None and task.make_scheduler is None:
        made = _build_scheduler(optimizer, task, params, updates_per_epoch=None)
        try:
            if made is not None and not isinstance(made, ReduceLROnPlateau):
                optimizer.step()
                made.step()
        except ZeroDivisionError as error:
            given = f"{params.lr_scheduler} {spelled(params.lr_scheduler_args)}"
            raise UsageError(f"'lr_scheduler_args': {given}: {error}") from error


def _build_scheduler(
    optimizer: Optimizer, task: Task, params: Params, updates_per_epoch: int | None
) -> LRScheduler | None:
    """Make the scheduler that the params name, or None.

    Of its arguments, lengths default to that of the whole run, and the largest rate to
    `learning_rate`. While `updates_per_epoch` is not known yet (None), lengths are not checked.
    """
    if params.lr_scheduler is None:
        return None
    scheduler = getattr(torch.optim.lr_scheduler, params.lr_scheduler)
    args = dict(params.lr_scheduler_args)
    steps = (updates_per_epoch or 1000) if _counts_updates(params, task) else 1
    length = params.num_epochs * steps
    for name in inspect.signature(scheduler).parameters:
        fits = name in LENGTHS or (name == "total_iters" and params.lr_scheduler == "PolynomialLR")
        if fits and name not in args and "epochs" not in args:
            args[name] = length
        if name == "max_lr" and name not in args:
            args[name] = params.learning_rate
    if updates_per_epoch is not None and args.get("total_steps", length) < length:
        raise UsageError(
            f"'lr_scheduler_args': total_steps is {args['total_steps']}, want at least {length}"
        )
    if params.lr_scheduler == "ReduceLROnPlateau" and "mode" not in args:
        args["mode"] = "max" if monitored(params.dict, task.metrics)[1] else "min"
    try:
        return scheduler(optimizer, **args)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        where = f"'lr_scheduler_args': {params.lr_scheduler}, for a run of {length} steps"
        raise UsageError(f"{where}: {error}") from error
