"""Optimizers of torch, by their own names."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.base.errors import UsageError, did_you_mean, spelled
from core.base.params import Params
from core.task import Task
from core.training.engines import divided_as, is_sharded

FUSED = ("Adam", "AdamW", "SGD")  # update all weights in one pass, on every kind of device


def class_of(module: Any, base: type, key: str, name: str) -> type:
    """Find a class of torch by its own name; UsageError says which there are."""
    names = [
        other
        for other, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value is not base
        and other[0] != "_"
    ]
    if name not in names:
        hint = did_you_mean(name, names)
        raise UsageError(f"{key!r} is {spelled(name)}, want a class of {module.__name__}{hint}")
    return getattr(module, name)


def check_args(cls: type, key: str, args: dict[str, Any], taken: tuple[str, ...]) -> None:
    """Check the names of a class's arguments; those in `taken` are given by us."""
    known = [name for name in inspect.signature(cls).parameters if name not in taken]
    for name in args:
        if name in taken[1:]:
            raise UsageError(f"{key!r} holds {name!r}: set the key learning_rate instead")
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"{key!r}: {cls.__name__} takes no {name!r}{hint}")


def check_optimizer(params: Params, task: Task) -> Optimizer | None:
    """Check the optimizer and its arguments before data are read, by making it for a tiny net."""
    optimizer = class_of(torch.optim, Optimizer, "optimizer", params.optimizer)
    check_args(optimizer, "optimizer_args", params.optimizer_args, ("params", "lr"))
    if params.optimizer == "LBFGS" and task.train_step is None:
        raise UsageError("'optimizer': LBFGS needs a closure: define train_step in net.py")
    return None if task.make_optimizer else _build_optimizer(nn.Linear(1, 1, bias=False), params)


def make_optimizers(task: Task, model: nn.Module, params: Params) -> dict[str, Optimizer]:
    """Make the optimizers of the task, by name; one called "main" if there is just one."""
    made = (task.make_optimizer or _build_optimizer)(model, params)
    made = dict(made) if isinstance(made, Mapping) else {"main": made}
    if not {*map(id, weights_of(*made.values()))} <= {*map(id, model.parameters())}:
        told = (
            "gives weights that are not the net's: no checkpoint holds them. Make them part of Net"
        )
        raise UsageError(f"make_optimizer of net.py {told}")
    return made


def _build_optimizer(model: nn.Module, params: Params) -> Optimizer:
    """Make the optimizer that the params name, over the weights that are trained."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise UsageError(
            "the net has no weights to train: define train_step, or check requires_grad"
        )
    optimizer, args = getattr(torch.optim, params.optimizer), params.optimizer_args
    in_parts = params.optimizer == "SGD" and is_sharded(model)  # for which torch has no kernel
    if params.optimizer in FUSED and not in_parts and _can_be_fused(model, weights, args):
        args = {"fused": True} | args  # on a CPU five times as fast as what torch does unasked
    try:
        return optimizer(weights, lr=params.learning_rate, **args)
    except (TypeError, ValueError) as error:
        raise UsageError(f"'optimizer_args': {params.optimizer}: {error}") from error


def _can_be_fused(model: nn.Module, weights: list[nn.Parameter], args: dict[str, Any]) -> bool:
    """Tell whether nothing in the net or the optimizer's arguments stands against `fused`."""
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    real = all(weight.is_floating_point() for weight in weights)
    return real and not sparse and {"foreach", "differentiable"}.isdisjoint(args)


def weights_of(*optimizers: Optimizer) -> list[Tensor]:
    """Return the weights that optimizers change."""
    groups = [group for each in optimizers for group in each.param_groups]
    return [w for group in groups for w in group["params"] if w.requires_grad]


def lay_out_as_weights(optimizer: Optimizer) -> None:
    """Copy what an optimizer has loaded, each weight's tensors in that weight's memory format.

    Fused kernels pair numbers by their place in memory.
    """
    for weight, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape == weight.shape:
                same = torch.empty_like(weight, dtype=value.dtype)
                kept[name] = same.copy_(divided_as(weight, value))
            elif isinstance(value, Tensor):
                kept[name] = value.clone()
