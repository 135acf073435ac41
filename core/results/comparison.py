"""Intervals for the rows of the table, and whether two of them can be told apart."""

import math
from collections.abc import Sequence

from core.base.errors import DataError, UserError
from core.base.params import task_folder
from core.base.predictions import Predictions, read_predictions
from core.results.gathering import Result
from core.results.rows import Row, less_is_better
from core.results.statistics import (
    Metric,
    aligned,
    bootstrap,
    over_seeds,
    score,
)
from core.results.tables import with_deviation


def scored(runs: Sequence[Result], split: str) -> tuple[dict[str, Metric], list[Predictions]]:
    """Return a task's metrics, and the predictions of some of its runs.

    Raises:
        UserError: the task or the predictions are missing or damaged, or do not give the metrics
            that the runs have recorded.
    """
    from core.task import load_task  # imports torch

    name = runs[0].params.get("task", "model")
    task_folder(name, str(runs[0].folder))
    try:
        metrics = {n: m for n, m in load_task(name).metrics.items() if callable(m)}
    except Exception as error:  # it is the user's code
        raise DataError(f"task {name} cannot be imported: {error}") from error
    found = [read_predictions(run.folder / f"predictions_{split}.npz") for run in runs]
    for run, predictions in zip(runs, found, strict=True):
        for metric in metrics.keys() & run.metrics.keys():
            value, recorded = score(predictions, metrics[metric]), run.metrics[metric]
            if not math.isclose(value, recorded, rel_tol=1e-3, abs_tol=1e-3):
                raise DataError(
                    f"predictions_{split}.npz gives {metric} {value:.4g}, but {recorded:.4g} is "
                    "recorded: other weights, or another metric"
                )
    return {name: m for name, m in metrics.items() if name in runs[0].metrics}, aligned(found)


def add_intervals(rows: Sequence[Row], split: str) -> None:
    """Give the rows whose runs have predictions the 95% intervals of their metrics."""
    for row in rows:
        if all((run.folder / f"predictions_{split}.npz").exists() for run in row.members):
            try:
                metrics, found = scored(row.members, split)
                row.intervals = bootstrap([(1 / len(found), p) for p in found], metrics)
            except UserError as error:
                row.first.notes.append(f"no interval: {error}")


def compare(a: Row, b: Row, split: str) -> str:
    """Say for every metric whether `a` and `b` can be told apart, and over which variation.

    Raises:
        DataError: predictions are missing, or are not of the same examples.
    """
    runs = [*a.members, *b.members]
    metrics, found = scored(runs, split)
    sizes = len(a.members), len(b.members)
    weights = [1 / sizes[0]] * sizes[0] + [-1 / sizes[1]] * sizes[1]
    intervals = bootstrap(list(zip(weights, found, strict=True)), metrics)
    lines = [f"A: {a.name}", f"B: {b.name}", ""]
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        x, y = a.values(name), b.values(name)
        if not (x and y):
            continue
        share = all(0 <= value <= 1 for value in [*x, *y]) and name in metrics
        scale, unit = (100, " points") if share else (1, "")
        gap = scale * (sum(x) / len(x) - sum(y) / len(y))
        words = "A", "B"
        if less_is_better(name, runs):
            words = "B", "A"
        better = words[0] if gap > 0 else words[1]
        lines.append(f"{name}: A {with_deviation(x)}, B {with_deviation(y)}")
        if name in intervals:
            low, high = (scale * end for end in intervals[name])
            apart = not low <= 0 <= high
            verdict = f"{better} is better" if apart else "not distinguishable"
            ends = f"95% interval [{low:.2f}, {high:.2f}]"
            lines.append(f"  over examples: {gap:+.2f}{unit}, {ends}: {verdict}")
        if min(sizes) > 1 and sizes == (len(x), len(y)):
            p, least = over_seeds(x, y), 2 / math.comb(sum(sizes), sizes[0])
            verdict = f"{better} is better" if p <= 0.05 else "not distinguishable"
            if least > 0.05:
                verdict += f" (with so few seeds p cannot be below {least:.2g})"
            lines.append(f"  over seeds: {gap:+.2f}{unit}, p = {p:.2g}: {verdict}")
    lines += ["", f"Over examples: would it hold on others than these {len(found[0])} of {split}?"]
    if min(sizes) > 1:
        lines.append(f"Over seeds: would it hold for others than these {sizes[0]} and {sizes[1]}?")
    else:
        lines.append("Over seeds: unknown; each needs runs of several seeds, best five or more.")
    return "\n".join(lines)
