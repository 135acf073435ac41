"""Which metric picks the best epoch, and in which direction; decided here alone."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from core.base.errors import UsageError, did_you_mean


def monitored(params: Mapping[str, Any], names: Iterable[str]) -> tuple[str, bool]:
    """Return the name of the metric that picks the best epoch, and whether more is better.

    Args:
        params: `monitor` and `monitor_mode` are read; either may be absent or None.
        names: of the metrics that there are.
    """
    name = params.get("monitor") or ("accuracy" if "accuracy" in names else "loss")
    mode = params.get("monitor_mode") or ("max" if more_is_better(name) else "min")
    return name, mode == "max"


def more_is_better(name: str) -> bool:
    """Tell by its name alone whether more of a metric is better."""
    return not name.endswith("loss")


def check_monitor(params: Mapping[str, Any], names: Iterable[str], complete: bool = True) -> None:
    """Check that the monitored metric is one of those that there are.

    Args:
        params: see `monitored`.
        names: of the metrics.
        complete: False while parts of the loss may be missing from `names`: then only what
            resembles one of them is refused.
    """
    known = [*names]
    name, _ = monitored(params, known)
    hint = did_you_mean(name, known)
    if name not in known and (hint or complete):
        wanted = hint or f", want one of {', '.join(known)}"
        raise UsageError(f"'monitor' is {name!r}{wanted}")


def is_better(new: float, old: float, more: bool) -> bool:
    """Tell whether one value beats another; a tie does not, nor does NaN."""
    if math.isnan(old):
        return not math.isnan(new)
    return new > old if more else new < old
