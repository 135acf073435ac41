"""Metrics of some of the examples of a split, and of single ones; no torch."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from core.base.predictions import Predictions

BAR: dict[str, Any] = {"leave": False, "disable": None}  # shown on a terminal
Metric = Callable[[Any, Any], float]


def subset(predictions: Predictions, examples: np.ndarray) -> Predictions:
    """Return the predictions of some examples, in their order."""
    rows, ids, starts = predictions.rows(examples), predictions.ids, predictions.starts

    def part(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: array[rows] for name, array in value.items()}
        if isinstance(value, tuple):
            return tuple(array[rows] for array in value)
        return None if value is None else value[rows]

    ids = None if ids is None else ids[examples]
    starts = None if starts is None else np.append(0, np.diff(starts)[examples].cumsum())
    kept = {"outputs": part(predictions.outputs), "labels": part(predictions.labels)}
    return replace(predictions, **kept, ids=ids, starts=starts)


def in_order(predictions: Predictions) -> Predictions:
    """Return predictions in the order of their ids; without ids they are numbered."""
    ids = np.arange(len(predictions)) if predictions.ids is None else predictions.ids
    return subset(replace(predictions, ids=ids), np.argsort(ids, kind="stable"))


def score(predictions: Predictions, metric: Metric) -> float:
    """Return a metric of all examples; it may change what it is given."""
    return float(metric(*copy.deepcopy((predictions.outputs, predictions.labels))))


def values_of_examples(predictions: Predictions, metric: Metric) -> np.ndarray | None:
    """Return (N,) metrics of single examples if their mean is the metric of any set; else None.

    That is tried on five random sets, first of few examples: most other metrics then cost little.
    """
    count, rng = len(predictions), np.random.default_rng(0)
    values = np.full(count, np.nan)
    for tried in sorted({min(count, 16), count}):
        try:
            with warnings.catch_warnings(action="ignore"):  # of a mean of nothing
                for i in tqdm(np.flatnonzero(np.isnan(values[:tried])), **BAR):
                    values[i] = score(subset(predictions, np.array([i])), metric)
            sets = [rng.integers(tried, size=tried) for _ in range(5)]
            whole = [score(subset(predictions, chosen), metric) for chosen in sets]
        except Exception:  # the user's metric, which may not be made for one example
            return None
        if not np.allclose([values[chosen].mean() for chosen in sets], whole, rtol=1e-6, atol=1e-9):
            return None
    return values
