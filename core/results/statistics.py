"""What chance does to a metric: intervals and comparisons from saved predictions, and over seeds.

docs/statistics.md has the formulas and their sources. The unit that is resampled is an example: of
sequences a whole one with all its tokens.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.base.errors import DataError
from core.base.predictions import Predictions, first_array, gather_rows

RESAMPLES = 1000  # Efron & Tibshirani 1993, p. 188: enough for percentiles
FEW = 64  # distinct values up to which resamples of a mean are drawn as counts
Metric = Callable[[Any, Any], float]


def score(predictions: Predictions, metric: Metric, examples: np.ndarray | None = None) -> float:
    """Return a metric of some examples, or of all."""
    outputs, labels = predictions.outputs, predictions.labels
    if examples is not None:
        outputs, labels = examples_of(predictions, examples)
    return float(metric(outputs, labels))


def examples_of(predictions: Predictions, examples: np.ndarray) -> tuple[Any, Any]:
    """Return outputs and labels of some examples."""
    rows = predictions.rows(examples)
    return gather_rows(predictions.outputs, rows), gather_rows(predictions.labels, rows)


def values_of_examples(predictions: Predictions, metric: Metric) -> np.ndarray | None:
    """Return (N,) metrics of single examples if their mean is the metric of any set; else None.

    That is tried on five random sets, first with few examples, so that most metrics for which it
    does not hold cost little.
    """
    count, rng = len(predictions), np.random.default_rng(0)
    values = np.full(count, np.nan)
    for tried in sorted({min(count, 16), count}):
        try:
            with warnings.catch_warnings(action="ignore"):  # of a mean of nothing
                for i in np.flatnonzero(np.isnan(values[:tried])):
                    values[i] = score(predictions, metric, np.array([i]))
            sets = [rng.integers(tried, size=tried) for _ in range(5)]
            whole = [score(predictions, metric, chosen) for chosen in sets]
        except Exception:  # the user's metric, which may not be made for one example
            return None
        if not np.allclose([values[chosen].mean() for chosen in sets], whole, rtol=1e-6, atol=1e-9):
            return None
    return values


Terms = Sequence[tuple[float, Predictions]]  # a weighted sum of one metric over several runs


def bootstrap(terms: Terms, metrics: Mapping[str, Metric]) -> dict[str, tuple[float, float]]:
    """Return 95% percentile intervals of sums of metrics (Efron & Tibshirani 1993, section 13.3).

    The same examples are drawn for every run of a sum, which is what makes a difference paired.
    """
    intervals, others = {}, dict(metrics)
    for name, metric in metrics.items():
        parts = []
        for weight, predictions in terms:
            values = values_of_examples(predictions, metric)
            if values is None:
                break
            parts.append(weight * values)
        else:
            intervals[name] = interval_of_mean(np.sum(parts, axis=0))
            del others[name]
    return intervals | (_by_resampling(terms, others) if others else {})


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the bootstrap's 95% interval of the mean of values (N,).

    Where the values are few different ones, a resample is drawn as how often it has each, which is
    the same distribution. Where all are 0 or all are 1, no resample differs, and Wilson's interval
    (1927) is given in its place.
    """
    from scipy.stats import binomtest
    from scipy.stats import bootstrap as resample

    count = len(values)
    distinct, counts = np.unique(values.round(12), return_counts=True)
    if len(distinct) == 1 and distinct[0] in (0, 1):
        wilson = binomtest(int(values.sum()), count).proportion_ci(method="wilson")
        return float(wilson.low), float(wilson.high)
    if len(distinct) <= FEW:
        draws = np.random.default_rng(0).multinomial(count, counts / count, RESAMPLES)
        low, high = np.percentile(draws @ distinct / count, [2.5, 97.5])
        return float(low), float(high)
    batch = max(1, 5_000_000 // count)
    found = resample(
        (values,), np.mean, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _by_resampling(terms: Terms, metrics: Mapping[str, Metric]) -> dict[str, tuple[float, float]]:
    """Compute metrics anew for every resample; all of them from one gathering of its rows."""
    from scipy.stats import bootstrap as resample

    def statistic(examples: np.ndarray, axis: int = -1) -> np.ndarray:
        sets = examples.reshape(-1, examples.shape[-1])
        totals = np.zeros((len(metrics), len(sets)))
        for weight, predictions in terms:
            for j, chosen in enumerate(sets):
                rows = predictions.rows(chosen)
                outputs, labels = (
                    gather_rows(predictions.outputs, rows),
                    gather_rows(predictions.labels, rows),
                )
                totals[:, j] += [weight * float(m(outputs, labels)) for m in metrics.values()]
        return totals.reshape(len(metrics), *examples.shape[:-1])

    count = len(terms[0][1])
    found = resample(
        (np.arange(count),),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, 100_000 // count),
        vectorized=True,
        method="percentile",
        rng=0,
    ).confidence_interval
    return {n: (float(found.low[i]), float(found.high[i])) for i, n in enumerate(metrics)}


def aligned(all_predictions: Sequence[Predictions]) -> list[Predictions]:
    """Bring the predictions of several runs into one order of examples.

    Raises:
        DataError: they are not of the same examples with the same labels.
    """
    result = []
    for old in all_predictions:
        order = np.arange(len(old)) if old.ids is None else np.argsort(old.ids, kind="stable")
        outputs, labels = examples_of(old, order)
        starts = None if old.starts is None else np.append(0, np.diff(old.starts)[order].cumsum())
        ids = order if old.ids is None else old.ids[order]
        result.append(Predictions(outputs, labels, ids, starts))
        for one, other in ((ids, result[0].ids), (result[-1].labels, result[0].labels)):
            if one is not None and not np.array_equal(first_array(one), first_array(other)):
                raise DataError(
                    "these runs were not scored on the same examples with the same labels"
                )
    return result


def over_seeds(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the p-value of the two-sided permutation test of equal means over seeds.

    All divisions into two groups are tried if there are at most 10,000, else that many at random
    (Efron & Tibshirani 1993, chapter 15).
    """
    from scipy.stats import permutation_test

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis) - y.mean(axis)

    test = permutation_test((a, b), difference, vectorized=True, n_resamples=10_000, rng=0)
    return float(test.pvalue)
