"""The race of seeds: a search with `repeats` trains further seeds of possible winners only.

Every trial has one seed, and the best half of them, at least two, get a second. Then the variance
over seeds is known, pooled over all trials. Before each further seed, those are left out whose mean
is worse than the best one's by Student's t: at the 5% level, over all comparisons of the race
(Bonferroni). Of several objectives, the trials on the Pareto front go on.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence

Seeds = Sequence[Sequence[float]]  # a trial's values, for each seed those of every objective
LEVEL = 0.05


def means(values: Seeds) -> list[float]:
    """Return the means over seeds, one for each objective."""
    return [statistics.fmean(each) for each in zip(*values, strict=True)]


def front(points: Mapping[int, Sequence[float]]) -> list[int]:
    """Return the points that no other one equals or beats in everything; more is better."""

    def beaten(number: int) -> bool:
        mine = points[number]
        return any(
            tuple(other) != tuple(mine) and all(o >= m for o, m in zip(other, mine, strict=True))
            for other in points.values()
        )

    return [number for number in points if not beaten(number)]


def pooled(groups: Collection[Sequence[float]]) -> tuple[float, int]:
    """Return the standard deviation within groups, pooled, and its degrees of freedom (0: NaN)."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(statistics.pvariance(group) * len(group) for group in groups)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def least_difference(
    spread: float, freedom: int, seeds: tuple[int, int], level: float = LEVEL
) -> float:
    """Return how far two means over so many seeds are apart if they differ (two-sided `level`)."""
    from scipy import stats

    widening = math.sqrt(1 / seeds[0] + 1 / seeds[1])
    return float(stats.t.ppf(1 - level / 2, freedom)) * spread * widening


def first_round(trials: int) -> int:
    """Return how many of so many trials get a second seed."""
    return min(trials, max(2, math.ceil(trials / 2)))


def contenders(scores: Mapping[int, Seeds], repeats: int, race: bool) -> list[int]:
    """Return the trials that have not been left out.

    A pure function of the seeds trained, so that neither speed nor kills change it: a round begins
    when all contenders have the seeds of the last one.

    Args:
        scores: the values of each trial's seeds, where more is better.
        repeats: the number of seeds in the end.
        race: False if all trials get all seeds.
    """
    alive = sorted(scores)
    for seeds in range(1, repeats) if race else ():
        if any(len(scores[number]) < seeds for number in alive):
            break
        alive = _left(scores, alive, seeds, repeats)
    return alive


def _left(scores: Mapping[int, Seeds], alive: list[int], seeds: int, repeats: int) -> list[int]:
    """Return who goes on after a round in which all of `alive` have so many seeds."""
    known = {number: means(scores[number][:seeds]) for number in alive}
    if known and len(known[alive[0]]) > 1:
        return front(known)
    order = sorted(alive, key=lambda number: (-known[number][0], number))
    if seeds == 1:
        return sorted(order[: first_round(len(order))])
    groups = [[values[0] for values in part[:seeds]] for part in scores.values()]
    comparisons = (repeats - 2) * max(1, len(order) - 1)
    apart = least_difference(*pooled(groups), (seeds, seeds), LEVEL / comparisons)
    return sorted(n for n in order if known[order[0]][0] - known[n][0] <= apart)
