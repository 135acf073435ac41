"""Intervals for the rows of the table; whether two rows can be told apart; how two runs differ."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from core.base.errors import DataError
from core.base.params import Params
from core.base.predictions import Predictions
from core.results.gathering import Result, fitting_predictions
from core.results.rows import Row, less_is_better, members, metric_names
from core.results.statistics import Metric, aligned, bootstrap, over_seeds, score
from core.results.tables import with_deviation

TOO_SLOW = "1,000 calls of the metric take too long (--seconds)"


def scored(runs: Sequence[Result], split: str) -> tuple[dict[str, Metric], list[Predictions]]:
    """Return metrics and predictions of a task's runs; UserError if the two do not fit together."""
    from core.run.code import import_task  # imports torch

    params = Params.of({"task": "model"} | runs[0].params, runs[0].folder)
    found = [fitting_predictions(run, split) for run in runs]
    try:
        metrics = {name: m for name, m in import_task(params).metrics.items() if callable(m)}
    except Exception as error:  # it is the user's code
        raise DataError(f"task {params.task} cannot be imported: {error}") from error
    for run, predictions in zip(runs, found, strict=True):
        for name in metrics.keys() & run.metrics.keys():
            value, recorded = score(predictions, metrics[name]), run.metrics[name]
            if not math.isclose(value, recorded, rel_tol=1e-3, abs_tol=1e-3):
                raise DataError(
                    f"predictions_{split}.npz gives {name} {value:.4g}, but {recorded:.4g} is "
                    "recorded: other weights, or another metric"
                )
    return {name: m for name, m in metrics.items() if name in runs[0].metrics}, aligned(found)


def add_intervals(rows: Sequence[Row], split: str, seconds: float) -> None:
    """Give the rows whose runs have predictions the 95% intervals of their metrics.

    A metric for which `seconds`, those of all rows, are too few has none, and a note says so.
    """
    end = time.monotonic() + seconds
    for row in [row for row in rows if row.first.is_run]:
        if row.over and len(row.members) > 1:
            row.first.notes.append(f"no interval of a mean over {' and '.join(row.over)}")
        elif not row.stale and all(
            (run.folder / f"predictions_{split}.npz").exists() for run in row.members
        ):
            try:
                metrics, found = scored(row.members, split)
                terms = [(1 / len(found), p) for p in found]
                row.intervals = bootstrap(terms, metrics, end - time.monotonic())
                slow = [name for name in metrics if name not in row.intervals]
                row.first.notes += [f"no interval of {name}: {TOO_SLOW}" for name in slow]
            except Exception as error:  # damaged predictions, or a fault of the user's metric
                row.first.notes.append(f"no interval: {error}")


def compare(a: Row, b: Row, split: str, seconds: float) -> str:
    """Say for every metric whether `a` and `b` can be told apart, over examples and over seeds.

    For a metric that takes more than `seconds` over examples, it says so instead.
    """
    for run in [run for run in members([a, b]) if run.stale]:
        raise DataError(f"{run.name}: stale, its {split} numbers {run.stale_why}; evaluate again")
    metrics, found = scored(members([a, b]), split)
    sizes = len(a.members), len(b.members)
    weights = [1 / sizes[0]] * sizes[0] + [-1 / sizes[1]] * sizes[1]
    intervals = bootstrap(list(zip(weights, found, strict=True)), metrics, seconds)
    lines = [f"A: {a.name}", f"B: {b.name}", ""]
    for name in metric_names([a, b]):
        x, y = a.values(name), b.values(name)
        if not (x and y):
            continue
        is_fraction = all(0 <= value <= 1 for value in [*x, *y]) and name in metrics
        scale, unit = (100, " points") if is_fraction else (1, "")
        gap = scale * (sum(x) / len(x) - sum(y) / len(y))
        better = "A" if (gap > 0) != less_is_better(name, [a, b]) else "B"
        same, apart = "not distinguishable", f"{better} is better"
        lines.append(f"{name}: A {with_deviation(x)}, B {with_deviation(y)}")
        if name in intervals:
            low, high = (scale * end for end in intervals[name])
            interval = f"95% interval [{low:.2f}, {high:.2f}]"
            verdict = same if low <= 0 <= high else apart
            lines.append(f"  over examples: {gap:+.2f}{unit}, {interval}: {verdict}")
        elif name in metrics:
            lines.append(f"  over examples: {TOO_SLOW}")
        if min(sizes) > 1 and sizes == (len(x), len(y)):
            p, least = over_seeds(x, y), 2 / math.comb(sum(sizes), sizes[0])
            verdict = apart if p <= 0.05 else same
            lines.append(f"  over seeds: {gap:+.2f}{unit}, p = {p:.2g}: {verdict}")
            if least > 0.05:
                lines[-1] += f" (with so few seeds p cannot be below {least:.2g})"
    name = {"val": "validation", "train": "training"}.get(split, split)
    told = f"would a different set of {len(found[0])} {name} examples change the verdict?"
    lines += ["", f"'Over examples': {told}"]
    if min(sizes) > 1:
        lines.append(f"'Over seeds': would other seeds than these {sizes[0]} and {sizes[1]}?")
    else:
        lines.append("'Over seeds': unknown. Train several seeds of each, five or more if you can.")
    return "\n".join(lines)


def differences(a: Result, b: Result) -> str:
    """Return lines that name everything recorded in which two runs differ."""
    one, other = (flat(run.recorded | {"params": run.params}) for run in (a, b))
    lines = [
        f"{name}: {one.get(name, '(absent)')} -> {other.get(name, '(absent)')}"
        for name in one | other
        if one.get(name) != other.get(name)
        and name.split(".")[0] not in ("command", "resumed_with")
    ]
    if not lines:
        lines.append("Nothing that was recorded differs: params, versions, code, data, device.")
    return "\n".join([f"A: {a.name}", f"B: {b.name}", "", *lines, "", first_difference(a, b)])


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return {"versions.torch": "2.11"} for {"versions": {"torch": "2.11"}}."""
    if not (isinstance(value, Mapping) and value):
        return {name: value if isinstance(value, str) else json.dumps(value)}
    parts = [flat(item, f"{name}.{key}".removeprefix(".")) for key, item in value.items()]
    return {key: text for part in parts for key, text in part.items()}


def first_difference(a: Result, b: Result) -> str:
    """Say in which epoch the rows of two metrics.jsonl first differ."""
    columns = [name for name in a.curves if name in b.curves]
    epochs = min((len(run.curves[name]) for run in (a, b) for name in columns), default=0)
    if not epochs:
        return "One of them has no metrics.jsonl to compare."
    for i in range(epochs):
        pairs = {name: (a.curves[name][i], b.curves[name][i]) for name in columns}
        apart = [n for n, (x, y) in pairs.items() if x != y and not math.isnan(x + y)]
        if apart:
            shown = ", ".join("{} {:.8g} against {:.8g}".format(n, *pairs[n]) for n in apart[:3])
            step = f", step {pairs['step'][0]:g}" if "step" in pairs else ""
            return f"The metrics first differ in epoch {pairs['epoch'][0]:g}{step}: {shown}"
    return f"The metrics are the same, to the bit, in the {epochs} epochs that both have."
