"""Which validation metric picks the best epoch."""

import math

from core.errors import UsageError, did_you_mean
from core.params import Params
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
