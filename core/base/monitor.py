"""What is watched: the metric that picks the best epoch, and whether losses are finite."""

import math

import torch
from torch import Tensor

from core.base.errors import UsageError, did_you_mean
from core.base.params import Params
from core.task import Task


def check_monitor(params: Params, task: Task) -> None:
    """Check before data are read that the monitored metric is not a misspelt one."""
    known = [*task.metrics, "loss"]
    hint = did_you_mean(params.monitor or "", known)
    if params.monitor not in (None, *known) and hint:
        raise UsageError(f"'monitor' is {params.monitor!r}{hint}")


def monitored_mode(params: Params, name: str) -> str:
    """Return "max" if more of the metric `name` is better, else "min"."""
    return params.monitor_mode or ("min" if name == "loss" else "max")


def monitored(params: Params, metrics: dict[str, float]) -> tuple[str, bool]:
    """Return the name of the metric that picks the best epoch, and whether more is better."""
    name = params.monitor or ("accuracy" if "accuracy" in metrics else "loss")
    if name not in metrics:
        raise UsageError(f"'monitor' is {name!r}, want one of {', '.join(metrics)}")
    return name, monitored_mode(params, name) == "max"


def is_better(params: Params, new: dict[str, float], old: dict[str, float]) -> bool:
    """Tell whether validation metrics beat others; a tie does not, nor does NaN."""
    name, more = monitored(params, new)
    before = old.get(name, math.nan)
    if math.isnan(before):
        return not math.isnan(new[name])
    return new[name] > before if more else new[name] < before


class LossCheck:
    """Remembers the first step whose loss was not finite, without waiting for a GPU."""

    def __init__(self) -> None:
        self.bad: Tensor | None = None  # () of the first bad step, or -1

    def note(self, loss: Tensor, step: int) -> None:
        """Look at the loss () of a step."""
        here = torch.where(loss.detach().isfinite(), -1, step)
        self.bad = here if self.bad is None else torch.where(self.bad < 0, here, self.bad)

    def first_bad(self) -> int | None:
        """Return the first bad step since the last call, if there was one; waits for the GPU."""
        bad, self.bad = -1 if self.bad is None else int(self.bad), None
        return bad if bad >= 0 else None
