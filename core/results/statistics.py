"""What chance does to a metric: resamples of saved predictions, and comparisons over seeds.

docs/statistics.md has formulas and sources. What is resampled are examples: whole sequences.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from tqdm import tqdm

from core.base.errors import DataError
from core.base.examples import BAR, Metric, in_order, score, subset, values_of_examples
from core.base.predictions import Predictions, first_array

RESAMPLES = 1000  # Efron & Tibshirani 1993, p. 188: enough for percentiles


def resampled(
    runs: Sequence[Predictions], metrics: Mapping[str, Metric], seconds: float = math.inf
) -> dict[str, np.ndarray]:
    """Return each metric of R runs on 1,000 resamples of their N examples, (1000, R).

    The resamples depend on N alone, so that differences are paired, also between two calls (Efron &
    Tibshirani 1993, section 13.3). Metrics that would take more than some seconds are left out.
    """
    count, draws = len(runs[0]), dict[str, np.ndarray]()
    means, others = dict[str, np.ndarray](), dict[str, Metric]()
    for name, metric in metrics.items():
        began = time.monotonic()
        score(runs[0], metric)
        took = (time.monotonic() - began) * len(runs)
        if took * RESAMPLES > seconds:
            continue
        quick = took * count < seconds
        found = [values_of_examples(one, metric) if quick else None for one in runs]
        values = [each for each in found if each is not None]
        if len(values) == len(runs):
            means[name] = np.stack(values)  # (R, N)
        else:
            others[name] = metric
            seconds -= took * RESAMPLES
        draws[name] = np.empty((RESAMPLES, len(runs)))
    for i, examples in enumerate(tqdm(resamples(count), total=RESAMPLES, **BAR)):
        for name, each in means.items():
            draws[name][i] = each[:, examples].mean(axis=1)
        for j, one in enumerate(runs if others else ()):
            drawn = subset(one, examples)
            for name, metric in others.items():
                draws[name][i, j] = score(drawn, metric)
    return draws


def resamples(count: int) -> Iterator[np.ndarray]:
    """Yield 1,000 resamples of N examples, each (N,): the same ones for the same N."""
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield rng.integers(count, size=count)


def over_both(draws: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return draws of the means of groups of runs over examples and over seeds, (1000, G).

    As in the multi-bootstrap (Sellam et al. 2022), each draw has other examples and other seeds.
    What seeds add is drawn from Student's t, since resamples of few seeds vary too little. Their
    variance is pooled over the groups, without what examples alone make runs differ.

    Args:
        draws: (1000, R) values of runs, as `resampled` returns them.
        groups: the columns of each group: its seeds. If each has one, only examples are drawn.
    """
    means = np.stack([draws[:, columns].mean(axis=1) for columns in groups], axis=1)
    sizes = np.array([len(columns) for columns in groups])
    if not (freedom := sizes.sum() - len(sizes)):
        return means

    def variance(values: np.ndarray) -> Any:
        parts = [len(each) * values[..., each].var(axis=-1) for each in groups]
        return sum(parts) / freedom

    known = draws[~np.isnan(draws).any(axis=1)]
    of_scores = variance(known.mean(axis=0)) if len(known) else math.nan
    of_examples = variance(known).mean() - of_scores if len(known) else math.nan
    rng = np.random.default_rng(1)
    normal = rng.normal(size=means.shape)
    student = normal / np.sqrt(rng.chisquare(freedom, (len(means), 1)) / freedom)
    return means + student * np.sqrt(max(of_scores - of_examples, 0.0) / sizes)


def interval(draws: np.ndarray, count: int | None = None) -> tuple[float, float]:
    """Return the 95% percentile interval of draws (1000,) but those of NaN; of those alone, NaN.

    Where all draws are 0 or all are 1, no resample differs; Wilson's interval (1927) of `count`
    examples, if it is given, takes its place.
    """
    if not len(draws := draws[~np.isnan(draws)]):
        return math.nan, math.nan
    if count and draws.min() == draws.max() and draws[0] in (0, 1):
        from scipy.stats import binomtest

        low, high = binomtest(round(draws[0] * count), count).proportion_ci(method="wilson")
    else:
        low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def level(looks: int) -> float:
    """Return how sure each of several intervals must be, so that 95% hold all (Dunn 1961)."""
    return 1 - 0.05 / looks


def widened(
    ends: tuple[float, float], centre: float, looks: int, bounded: bool = False
) -> tuple[float, float]:
    """Return a 95% interval around a score, widened so that those of all looks hold with 95%.

    Each side grows as a normal distribution's would: 1,000 resamples show no rarer values. Those of
    a `bounded` metric stay in [0, 1].
    """
    if looks == 1:
        return ends
    quantile = NormalDist().inv_cdf
    factor = quantile(0.5 + level(looks) / 2) / quantile(0.975)
    low, high = (centre + factor * (end - centre) for end in ends)
    return (max(low, 0.0), min(high, 1.0)) if bounded else (low, high)


def luck(draws: np.ndarray, scores: np.ndarray) -> float:
    """Return by how much the best of R settings is overrated, because it was chosen for its score.

    Each resample chooses its best, whose score on the examples left out is what to expect on new
    ones (BBC, Tsamardinos et al. 2018). On average it lies as far below the score on all examples
    as the score on the resample lies above it, so nothing is scored a second time.

    Args:
        draws: (1000, R) scores on resamples, where more is better.
        scores: (R,) scores on all examples.
    """
    draws = draws[~np.isnan(draws).any(axis=1)]
    chosen = draws.argmax(axis=1)
    left_out = 2 * scores[chosen] - draws[np.arange(len(draws)), chosen]
    return float(scores.max() - left_out.mean())


def aligned(all_predictions: Sequence[Predictions]) -> list[Predictions]:
    """Bring predictions into one order; DataError if their examples or labels are not the same."""
    result = [in_order(each) for each in all_predictions]
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
