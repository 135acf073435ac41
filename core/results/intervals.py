"""Intervals for the rows of the table, and what chance says of its best row."""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from core.base.errors import DataError
from core.base.examples import Metric, score
from core.base.params import Params
from core.base.predictions import Predictions, first_array
from core.results.gathering import Result, fitting_predictions
from core.results.rows import Row, less_is_better, members, metric_names
from core.results.statistics import (
    aligned,
    interval,
    luck,
    over_both,
    over_seeds,
    resampled,
    widened,
)

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


@dataclass
class Chance:
    """What chance does to the rows of a table, by their numbers."""

    draws: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # (1000, seeds)
    examples: dict[int, str] = field(default_factory=dict)  # which ones a row was scored on
    missing: dict[str, list[str]] = field(default_factory=dict)  # why rows have no interval
    looks: int = 1  # at the test split, which intervals allow for

    def apart(self, rows: Sequence[Row], a: int, b: int, metric: str) -> bool:
        """Tell whether two rows differ by more than chance, of seeds and examples."""
        x, y = rows[a].values(metric), rows[b].values(metric)
        if all(metric in self.draws.get(i, {}) for i in (a, b)):
            if self.examples[a] != self.examples[b]:
                return False
            parts = [self.draws[i][metric] for i in (a, b)]
            groups = [range(len(x)), range(len(x), len(x) + len(y))]
            means = over_both(np.concatenate(parts, axis=1), groups)
            low, high = interval(means[:, 0] - means[:, 1])
            return low > 0 or high < 0
        return min(len(x), len(y)) > 1 and over_seeds(x, y) <= 0.05

    def bold(self, rows: Sequence[Row]) -> set[tuple[int, str]]:
        """Return row and metric of the best values that can be told from the next best."""
        found = set()
        for metric in metric_names(rows):
            scores = {i: fmean(v) for i, row in enumerate(rows) if (v := row.values(metric))}
            sign = 1 if less_is_better(metric, rows) else -1
            order = sorted(scores, key=lambda i: (sign * scores[i], i))
            if len(order) > 1 and self.apart(rows, order[0], order[1], metric):
                found.add((order[0], metric))
        return found

    def winners_luck(self, rows: Sequence[Row], metric: str, split: str) -> dict[str, Any] | None:
        """Return by how much the best of the rows is overrated, if validation chose it of several.

        The keys: `metric`, `rows` (how many it was chosen of), `by`.
        """
        known = [i for i in self.draws if metric in self.draws[i]]
        same = [i for i in known if self.examples[i] == self.examples[known[0]]]
        if len(same) < 2 or split != "val":  # no other split has chosen
            return None
        sign = -1 if less_is_better(metric, rows) else 1
        means = [over_both(d := self.draws[i][metric], [range(d.shape[1])]) for i in same]
        scores = np.array([fmean(rows[i].values(metric)) for i in same])
        by = luck(sign * np.concatenate(means, axis=1), sign * scores)
        return {"metric": metric, "rows": len(same), "by": by}


def add_intervals(
    rows: Sequence[Row], split: str, seconds: float, most: int | None = None
) -> Chance:
    """Give the first `most` rows whose runs have predictions the 95% intervals of their metrics.

    A row or a metric for which `seconds`, those of all rows, are too few has none. Nor has a mean
    over a key other than seed. Why there is none stands in `missing` of what is returned. Those of
    the test split allow for all looks at it.
    """
    end, chance = time.monotonic() + seconds, Chance()
    if split == "test":
        chance.looks = max(1, sum(run.test_looks for run in members(rows)))
    file = f"predictions_{split}.npz"
    for i, row in enumerate(rows[:most]):
        if not (row.first.is_run and row.values(next(iter(metric_names([row])), ""))):
            continue
        why = ""
        if row.over and len(row.members) > 1:
            why = f"it is a mean over {' and '.join(row.over)}"
        elif not all((run.folder / file).exists() for run in row.members):
            why = f"no {file}"
        elif time.monotonic() > end:
            why = "no time left (--seconds)"
        else:
            try:
                metrics, found = scored(row.members, split)
                draws = resampled(found, metrics, end - time.monotonic())
                chance.draws[i], chance.examples[i] = draws, examples_of(found[0], row)
                for name, each in draws.items():
                    means = over_both(each, [range(len(found))])[:, 0]
                    ends, centre = interval(means, len(found[0])), fmean(row.values(name))
                    bounded = not less_is_better(name, [row]) and 0 <= centre <= 1
                    row.intervals[name] = widened(ends, centre, chance.looks, bounded)
                if slow := [name for name in metrics if name not in draws]:
                    why = f"{', '.join(slow)}: {TOO_SLOW}"
            except Exception as error:  # damaged predictions, or a fault of the user's metric
                why = str(error)
        if why:
            chance.missing.setdefault(why, []).append(row.name)
    return chance


def examples_of(predictions: Predictions, row: Row) -> str:
    """Return a hash that two rows share if the same task scored them on the same examples."""
    found = hashlib.sha256(str(row.first.params.get("task")).encode())
    for array in (first_array(predictions.ids), first_array(predictions.labels)):
        found.update(array.tobytes())
    return found.hexdigest()
