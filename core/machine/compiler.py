"""Lets optimizers do without torch._dynamo, the compiler, until something is compiled.

They import it only to be left alone by it: a second and a half of every start, and 900 modules.
Once it is there for another reason, every call goes torch's own way.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

NAME = "torch._dynamo"


def _light(method: Any, inner: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls `inner` instead of a method, as long as the compiler is not there."""

    @functools.wraps(method)
    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        return (method if NAME in sys.modules else inner)(self, *args, **kwargs)

    return call


def _without_graph_breaks(step: Any) -> Callable[..., Any]:
    """Return an optimizer's step as torch wraps it, without breaks of a compiled graph."""

    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step.__wrapped__(self, *args, **kwargs)

    return call


@functools.cache  # once: a second change would undo the first
def import_when_compiling() -> None:
    """Change torch's optimizers so that they import the compiler no more; for the whole process."""
    if NAME in sys.modules:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(Optimizer, name)
        if hasattr(method, "__wrapped__"):
            setattr(Optimizer, name, _light(method, method.__wrapped__))
    for cls in vars(torch.optim).values():
        step = vars(cls).get("step") if inspect.isclass(cls) else None
        if step is not None and step.__code__.co_name == "_use_grad":
            cls.step = _light(step, _without_graph_breaks(step))
