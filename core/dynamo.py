"""torch._dynamo, imported when something is compiled and no longer for every optimizer.

Optimizers of torch import the compiler only to tell it to leave them alone: a second and a half of
every start, and 900 modules. Here a stand-in takes that message. Whatever else is asked of it
(torch.compile asks) imports the real module, which takes its place for good.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


class StandIn(ModuleType):
    """What optimizers use of torch._dynamo, as long as nothing is compiled."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.disabled: list[Any] = []

    def graph_break(self, *args: Any, **kwargs: Any) -> None:
        """End a compiled graph: there is none."""

    def disable(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the function as it is, and remember it for the real module."""
        self.disabled.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        """Give way to the real module; it imports parts of itself, so `__path__` counts, too."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)  # inspect and pickle look at every module's
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME], torch._dynamo
            for function in self.disabled:
                vars(function).pop("__dynamo_disable", None)  # where torch keeps what it was given
        return getattr(importlib.import_module(NAME), name)


def import_when_used() -> None:
    """Put the stand-in into place, unless the real module is there already."""
    if NAME not in sys.modules:
        torch._dynamo = sys.modules[NAME] = StandIn()
