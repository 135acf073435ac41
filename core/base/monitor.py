"""Which metric picks the best epoch, and in which direction; decided here alone."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from core.base.errors import UsageError, did_you_mean, spelled

# Words of a metric's name that say whether less or more of it is better.
LESS = "loss error err mae mse rmse mape msle rmsle nll bce ce perplexity ppl distance dist bpc "
LESS += "bpb wer cer eer fid kid lpips hausdorff cost divergence kl ece brier regret deviation "
LESS += "violation"
MORE = "accuracy acc precision recall f f1 fbeta auc auroc auprc roc ap map iou miou dice jaccard "
MORE += "sensitivity specificity kappa mcc bleu rouge meteor r2 ndcg mrr hits psnr ssim likelihood "
MORE += "correlation pearson spearman reward return top"
ENDS = ("loss", "error", "accuracy", "iou", "auc", "mse", "mae")  # of names such as "meanIoU"
QUALIFIERS = ("top", "f", "ap", "map")  # scores by themselves; "mae_f" is an error of forces
DIRECTIONS = dict.fromkeys(LESS.split(), False) | dict.fromkeys(MORE.split(), True)


def more_is_better(name: str) -> bool | None:
    """Tell by a metric's name whether more of it is better; None if the name does not say it.

    The last word that says it decides: less of "top5_error" is better. "negative" turns it round.
    """
    words = [*map(str.lower, re.findall(r"[A-Z]*[a-z0-9]+|[A-Z0-9]+", name))]
    words += [word.rstrip("0123456789") for word in words if word not in DIRECTIONS]
    words += [end for end in ENDS if name.lower().endswith(end)]
    found = [word for word in words if word in DIRECTIONS]
    found = [word for word in found if word not in QUALIFIERS] or found
    return DIRECTIONS[found[-1]] != bool({"neg", "negative"} & {*words}) if found else None


def monitored(params: Mapping[str, Any], metrics: Collection[str]) -> tuple[str, bool]:
    """Return the name of the metric that picks the best epoch, and whether more is better.

    `monitor` and `monitor_mode` of the params may be absent or None. A name that is none of
    `metrics` is a part of the loss, and less of it is better. UsageError: neither `monitor_mode`
    nor the metric's name says the direction.
    """
    name = params.get("monitor") or ("accuracy" if "accuracy" in metrics else "loss")
    if mode := params.get("monitor_mode"):
        return name, mode == "max"
    more = more_is_better(name) if name in metrics else False
    if more is None:
        raise UsageError(
            f"'monitor' is {spelled(name)}, a name that does not say whether more of it is better: "
            "add\nmonitor_mode, max or min"
        )
    return name, more


def check_monitor(
    params: Mapping[str, Any], metrics: Collection[str], losses: Iterable[str] | None = None
) -> None:
    """Check that the monitored metric is one of `metrics` or of `losses`, the parts of the loss.

    While losses are not known (None), only what resembles a metric is refused. UsageError: there is
    no such metric, or a metric and a part of the loss have one name.
    """
    if both := sorted({*metrics} & {*(losses or ()), "loss"}):
        raise UsageError(f"{both[0]!r} names a metric and a part of the loss: rename one of them")
    known = [*metrics, *(losses or ("loss",))]
    name, _ = monitored(params, metrics)
    hint = did_you_mean(name, known)
    if name not in known and (hint or losses is not None):
        wanted = hint or f", want one of {', '.join(known)}"
        raise UsageError(f"'monitor' is {spelled(name)}{wanted}")


def is_better(new: float, old: float, more: bool) -> bool:
    """Tell whether one value beats another; a tie does not, nor does NaN."""
    if math.isnan(old):
        return not math.isnan(new)
    return new > old if more else new < old
