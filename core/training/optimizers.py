"""Optimizers and learning-rate schedulers of torch, by their own names."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from core.base.errors import UsageError, did_you_mean
from core.base.monitor import monitored_mode
from core.base.params import Params
from core.machine import compiler as dynamo
from core.task import Task

FUSED = ("Adam", "AdamW", "SGD")  # update all weights in one pass, on every kind of device
PER_UPDATE = ("OneCycleLR", "CyclicLR")  # their lengths are counted in updates
LENGTHS = ("total_steps", "T_max")  # arguments that are filled in with the length of the run
SHAPES = {*LENGTHS, "epochs", "total_iters"}  # arguments that tie a schedule to a length

dynamo.import_when_compiling()


def _class_of(module: Any, base: type, key: str, name: str) -> type:
    """Find a class of torch by its own name, or say which there are."""
    names = [
        other
        for other, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value is not base
        and other[0] != "_"
    ]
    if name not in names:
        raise UsageError(
            f"{key!r} is {name!r}, want a class of {module.__name__}{did_you_mean(name, names)}"
        )
    return getattr(module, name)


def _check_args(cls: type, key: str, args: dict[str, Any], taken: tuple[str, ...]) -> None:
    known = [name for name in inspect.signature(cls).parameters if name not in taken]
    for name in args:
        if name in taken[1:]:
            raise UsageError(f"{key!r} holds {name!r}: set the key learning_rate instead")
        if name not in known:
            raise UsageError(
                f"{key!r}: {cls.__name__} takes no {name!r}{did_you_mean(name, known)}"
            )


def check_optimizer_params(params: Params, task: Task) -> None:
    """Check optimizer and scheduler and their arguments, by making them for a tiny net."""
    optimizer = _class_of(torch.optim, torch.optim.Optimizer, "optimizer", params.optimizer)
    _check_args(optimizer, "optimizer_args", params.optimizer_args, ("params", "lr"))
    if params.lr_scheduler is not None:
        schedulers = torch.optim.lr_scheduler
        base = schedulers.LRScheduler
        scheduler = _class_of(schedulers, base, "lr_scheduler", params.lr_scheduler)
        _check_args(scheduler, "lr_scheduler_args", params.lr_scheduler_args, ("optimizer",))
        if not {"schedulers", "lr_lambda"}.isdisjoint(inspect.signature(scheduler).parameters):
            raise UsageError(
                f"'lr_scheduler': {params.lr_scheduler} needs a make_scheduler in net.py"
            )
        if params.lr_scheduler == "ReduceLROnPlateau" and params.lr_scheduler_interval == "update":
            raise UsageError(
                "'lr_scheduler_interval' is 'update', but ReduceLROnPlateau needs 'epoch'"
            )
    if params.optimizer == "LBFGS" and task.train_step is None:
        raise UsageError("'optimizer': LBFGS needs a closure: define train_step in net.py")
    if task.make_optimizer is None:
        trial = build_optimizer(nn.Linear(1, 1), params)
        if task.make_scheduler is None:
            build_scheduler(trial, params, updates_per_epoch=None)


def _can_be_fused(model: nn.Module, weights: list[nn.Parameter], args: dict[str, Any]) -> bool:
    """Tell whether nothing in the net or the optimizer's arguments stands against `fused`."""
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    real = all(weight.is_floating_point() for weight in weights)
    return real and not sparse and {"foreach", "differentiable"}.isdisjoint(args)


def build_optimizer(model: nn.Module, params: Params) -> torch.optim.Optimizer:
    """Make the optimizer that the params name, over the weights that are trained."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise UsageError(
            "the net has no weights to train: define train_step, or check requires_grad"
        )
    optimizer, args = getattr(torch.optim, params.optimizer), params.optimizer_args
    if params.optimizer in FUSED and _can_be_fused(model, weights, args):
        args = {"fused": True} | args  # on a CPU five times as fast as what torch does unasked
    try:
        return optimizer(weights, lr=params.learning_rate, **args)
    except (TypeError, ValueError) as error:
        raise UsageError(f"'optimizer_args': {params.optimizer}: {error}") from error


def make_optimizers(
    task: Task, model: nn.Module, params: Params
) -> dict[str, torch.optim.Optimizer]:
    """Make the optimizers of the task, by name; one called "main" if there is just one."""
    made = (task.make_optimizer or build_optimizer)(model, params)
    return dict(made) if isinstance(made, Mapping) else {"main": made}


def make_schedulers(
    task: Task,
    optimizers: dict[str, torch.optim.Optimizer],
    params: Params,
    updates_per_epoch: int,
) -> dict[str, Any]:
    """Make the schedulers of the task, by name; {} if there are none."""
    if task.make_scheduler is None:
        monitor = "accuracy" if "accuracy" in task.metrics else "loss"
        made: Any = {
            n: build_scheduler(o, params, updates_per_epoch, monitor) for n, o in optimizers.items()
        }
    else:
        given = optimizers["main"] if list(optimizers) == ["main"] else optimizers
        made = task.make_scheduler(given, params, updates_per_epoch)
        made = made if isinstance(made, Mapping) else {"main": made}
    return {name: scheduler for name, scheduler in made.items() if scheduler is not None}


def step_after_update(schedulers: Iterable[Any]) -> None:
    """Step schedulers that count updates; one that follows a metric never does."""
    for scheduler in schedulers:
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()


def step_after_epoch(schedulers: Iterable[Any], value: float, per_update: bool) -> None:
    """Step schedulers at the end of an epoch whose monitored metric is `value`."""
    for scheduler in schedulers:
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(value)
        elif not per_update:
            scheduler.step()


def update_averages(averaged: AveragedModel, model: nn.Module) -> None:
    """Do what AveragedModel's update_parameters does, without waiting for a GPU in every step.

    That copies the number of updates to the weights' device, where a moving average needs none.
    """
    if not averaged.n_averaged:  # a tensor of the CPU
        averaged.update_parameters(model)
        return
    averages, weights = (
        [weight.detach() for weight in net.parameters()] for net in (averaged.module, model)
    )
    assert averaged.multi_avg_fn is not None
    averaged.multi_avg_fn(averages, weights, averaged.n_averaged)
    for own, new in zip(averaged.module.buffers(), model.buffers(), strict=True):
        own.copy_(new)
    averaged.n_averaged += 1


def steps_per_update(params: Params, task: Task | None = None) -> bool:
    """Tell whether the scheduler steps after every update, rather than after every epoch.

    "auto" means yes for a `make_scheduler` of the task's own, which is told the steps per epoch.
    """
    if params.lr_scheduler_interval == "auto":
        if task is not None and task.make_scheduler is not None:
            return True
        return params.lr_scheduler in PER_UPDATE
    return params.lr_scheduler_interval == "update"


def schedule_depends_on_length(params: Params, task: Task) -> bool:
    """Tell whether the schedule of a longer run differs from that of a shorter one."""
    if task.make_scheduler is not None:
        return True
    if params.lr_scheduler is None:
        return False
    scheduler = getattr(torch.optim.lr_scheduler, params.lr_scheduler)
    return not SHAPES.isdisjoint(inspect.signature(scheduler).parameters)


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    params: Params,
    updates_per_epoch: int | None,
    default_monitor: str = "loss",
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """Make the scheduler that the params name, or None.

    Of its arguments, lengths that are left out are those of the whole run, and a largest rate that
    is left out is `learning_rate`. While `updates_per_epoch` is not known yet (None), lengths are
    not checked.
    """
    if params.lr_scheduler is None:
        return None
    scheduler = getattr(torch.optim.lr_scheduler, params.lr_scheduler)
    args = dict(params.lr_scheduler_args)
    steps = (updates_per_epoch or 1000) if steps_per_update(params) else 1
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
        args["mode"] = monitored_mode(params, params.monitor or default_monitor)
    try:
        return scheduler(optimizer, **args)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        where = f"'lr_scheduler_args': {params.lr_scheduler}, for a run of {length} steps"
        raise UsageError(f"{where}: {error}") from error
