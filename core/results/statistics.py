"""What chance does to a metric: intervals and comparisons from saved predictions, and over seeds.

docs/statistics.md has formulas and sources. What is resampled are examples: whole sequences.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from core.base.errors import DataError
from core.base.predictions import Predictions, first_array

RESAMPLES = 1000  # Efron & Tibshirani 1993, p. 188: enough for percentiles
FEW = 64  # distinct values up to which resamples of a mean are drawn as counts
BAR: dict[str, Any] = {"leave": False, "disable": None}  # shown on a terminal
Metric = Callable[[Any, Any], float]
Terms = Sequence[tuple[float, Predictions]]  # a weighted sum of one metric over several runs


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


def score(predictions: Predictions, metric: Metric) -> float:
    """Return a metric of all examples."""
    return float(metric(predictions.outputs, predictions.labels))


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


def bootstrap(
    terms: Terms, metrics: Mapping[str, Metric], seconds: float = math.inf
) -> dict[str, tuple[float, float]]:
    """Return 95% percentile intervals of sums of metrics (Efron & Tibshirani 1993, section 13.3).

    The same examples are drawn for every run of a sum, which is what makes a difference paired.
    Metrics whose calls would take more than some seconds have none.
    """
    intervals, others = {}, list[str]()
    for name, metric in metrics.items():
        began = time.monotonic()
        score(terms[0][1], metric)
        took = (time.monotonic() - began) * len(terms)  # a call for every run
        if took * RESAMPLES > seconds:
            continue
        quick = took * len(terms[0][1]) < seconds
        found = [(weight, values_of_examples(p, metric) if quick else None) for weight, p in terms]
        parts = [weight * values for weight, values in found if values is not None]
        if len(parts) == len(terms):
            intervals[name] = interval_of_mean(np.sum(parts, axis=0))
        else:
            others.append(name)
            seconds -= took * RESAMPLES
    bar = tqdm(total=RESAMPLES, **BAR)

    def sums(examples: np.ndarray) -> np.ndarray:  # (M,), all from one gathering of the rows
        total = np.zeros(len(others))
        bar.update()
        for weight, predictions in terms:
            drawn = subset(predictions, examples)
            total += [weight * score(drawn, metrics[name]) for name in others]
        return total

    if others:
        low, high = _resample(np.arange(len(terms[0][1])), sums)
        intervals |= {name: (float(low[i]), float(high[i])) for i, name in enumerate(others)}
    bar.close()
    return intervals


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the bootstrap's 95% interval of the mean of values (N,).

    Resamples of few distinct values are drawn as counts, which have the same distribution. Where
    all are 0 or all are 1, no resample differs, and Wilson's interval (1927) takes its place.
    """
    count = len(values)
    distinct, counts = np.unique(values.round(12), return_counts=True)
    if len(distinct) == 1 and distinct[0] in (0, 1):
        from scipy.stats import binomtest

        low, high = binomtest(int(values.sum()), count).proportion_ci(method="wilson")
    elif len(distinct) <= FEW:
        draws = np.random.default_rng(0).multinomial(count, counts / count, RESAMPLES)
        low, high = np.percentile(draws @ distinct / count, [2.5, 97.5])
    else:
        low, high = _resample(values, np.mean)
    return float(low), float(high)


def _resample(values: np.ndarray, statistic: Callable[..., Any]) -> tuple[Any, Any]:
    """Return the ends of the bootstrap's 95% interval of a statistic of values (N,)."""
    from scipy.stats import bootstrap

    batch = max(1, 5_000_000 // len(values))  # of resamples that are in memory at a time
    found = bootstrap(
        (values,), statistic, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=0
    )
    return found.confidence_interval


def aligned(all_predictions: Sequence[Predictions]) -> list[Predictions]:
    """Bring predictions into one order; DataError if their examples or labels are not the same."""
    result = []
    for old in all_predictions:
        ids = np.arange(len(old)) if old.ids is None else old.ids
        result.append(subset(replace(old, ids=ids), np.argsort(ids, kind="stable")))
    pairs = [(first_array(one.ids), first_array(one.labels)) for one in result]
    for ids, labels in pairs:
        if not (np.array_equal(ids, pairs[0][0]) and np.array_equal(labels, pairs[0][1])):
            raise DataError("these runs were not scored on the same examples with the same labels")
    return result


def over_seeds(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the p-value of the two-sided permutation test of equal means over seeds.

    All divisions into two groups are tried if there are at most 10,000, else that many at random
    (Efron & Tibshirani 1993, chapter 15).
    """
    from scipy.stats import permutation_test

    test = permutation_test(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=10_000, rng=0
    )
    return float(test.pvalue)
