"""Freeze-thaw: the next epochs go to the trial, paused or new, whose end promises most.

The model is that of Swersky, Snoek & Adams 2014, section 3: each trial has an asymptote, a Gaussian
process over the points, about which its curve is a Gaussian process of its own, whose kernel is a
mixture of exponential decays. Its parameters are not sampled by slices, but averaged over draws
from a prior that are weighted by their likelihood. What is trained next is what has the largest
expected improvement of the last epoch over the best value so far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from scipy.special import logsumexp, ndtr

from core.search.halving import Curve, Step
from core.search.settings import Settings
from core.search.space import Point, grid_values

DRAWS = 32  # of the model's parameters
POOL = 200  # new points that are compared
Array = np.ndarray


def next_step(
    settings: Settings, curves: Sequence[Curve], pool: Sequence[Point], parallel: int
) -> Step | None:
    """Return what is trained next; None if the budget is spent or earlier results must come first.

    Decision number n knows what decisions 0 to n - `parallel` led to, and nothing else, whatever
    has come meanwhile: so it depends on neither the speed nor the number of processes.
    """
    budget, thawed = settings.budget, settings.thaw_epochs
    made = sum(len(curve.decisions) for curve in curves)
    known = [_known(curve, made - parallel) for curve in curves]
    if None in known:
        return None
    seen = [curve for curve in known if curve is not None]
    spent = sum(len(s.values) if s.over else s.decisions[-1][1] for s in seen)
    idle = [i for i, c in enumerate(seen) if c.paused and c.goal == curves[i].goal]
    new = pool[:POOL]
    if spent >= budget or not (idle or new):
        return None
    mean, deviation = forecast(settings, [c.point for c in seen] + [*new], [c.values for c in seen])
    best = max(idle, key=lambda i: (mean[i], -i), default=None)
    if best is not None and budget - spent <= settings.epochs - len(seen[best].values):
        return Step(best, settings.epochs)  # what is left takes the best trial to its end
    reached = max((curve.best(settings.epochs) for curve in seen), default=-math.inf)
    scores = improvement(mean, deviation, reached if math.isfinite(reached) else mean.max())
    places = [*idle, *range(len(seen), len(seen) + len(new))]
    place = max(places, key=lambda i: (scores[i], -i))
    if place >= len(seen):
        return Step(None, min(thawed, settings.epochs), new[place - len(seen)])
    return Step(place, min(len(seen[place].values) + thawed, settings.epochs))


def _known(curve: Curve, last: int) -> Curve | None:
    """Return a trial as the decisions up to number `last` left it; None if that is not known."""
    goal = max((goal for number, goal in curve.decisions if number <= last), default=0)
    if goal > len(curve.values) and not curve.over:
        return None
    over = curve.over and curve.decisions[-1][0] <= last
    return Curve(curve.values[:goal], goal, over, curve.point, curve.decisions)


def improvement(mean: Array, deviation: Array, reached: float) -> Array:
    """Return the expected improvement over the value `reached` (Jones et al. 1998, equation 15)."""
    z = (mean - reached) / deviation
    return deviation * (z * ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class Drawn:
    """Parameters of the model, drawn from their prior: D draws; values have deviation 1."""

    lengths: Array  # (D, P): of the points' coordinates, for the asymptotes
    height: Array  # (D,): variance of the asymptotes
    decay: Array  # (D,): variance about the asymptote in epoch 0
    alpha: Array  # (D,)
    beta: Array  # (D,): of the epochs
    noise: Array  # (D,): variance

    @classmethod
    def of(cls, coordinates: int, epochs: int) -> "Drawn":
        """Draw, always the same."""
        draw = np.random.default_rng(0).normal(size=(DRAWS, coordinates + 5))
        spread = np.exp(0.8 * draw)
        height, decay, alpha, beta, noise = spread[:, coordinates:].T
        lengths = 0.7 * spread[:, :coordinates]
        return cls(lengths, height, 2 * decay, alpha, beta * epochs / 8, 0.02 * noise**1.5)

    def kernel(self, one: Array, other: Array) -> Array:
        """Return the covariance (D, S, T) of epochs (S,) and (T,) about the asymptote."""
        sums = one[:, None] + other[None, :]
        beta, alpha = self.beta[:, None, None], self.alpha[:, None, None]
        return self.decay[:, None, None] * (beta / (sums + beta)) ** alpha


def forecast(
    settings: Settings, points: Sequence[Point], curves: Sequence[Sequence[float]]
) -> tuple[Array, Array]:
    """Return mean and deviation (N,) of the last epoch's value at N points.

    `curves` holds the values so far of the first M of them.
    """
    lengths = [*map(len, curves), *[0] * (len(points) - len(curves))]
    flat, center, scale = _standardized(curves)
    x = np.array([_coordinates(settings, point) for point in points])  # (N, P)
    drawn = Drawn.of(x.shape[1], settings.epochs)
    count = len(points)
    told = np.zeros((DRAWS, count))  # how much each curve says of its asymptote
    pull = np.zeros((DRAWS, count))  # ... times what it says
    share = np.ones((DRAWS, count))  # of the asymptote in the forecast
    ends = np.zeros((DRAWS, count))  # what the curve itself adds to it
    last = np.array([float(settings.epochs)])
    own = np.repeat(drawn.kernel(last, last)[:, 0], count, axis=1)  # variance (D, N)
    evidence = np.zeros(DRAWS)
    for length in sorted({n for n in lengths if n}):
        those = [i for i, n in enumerate(lengths) if n == length]
        y = np.array([flat[i] for i in those])  # (C, T)
        epochs = np.arange(1.0, length + 1)
        noise = drawn.noise[:, None, None] * np.eye(length)
        covariance = drawn.kernel(epochs, epochs) + noise  # (D, T, T)
        inverse = np.linalg.inv(covariance)
        to_last = drawn.kernel(epochs, last)[:, :, 0]  # (D, T)
        weights = np.einsum("dst,dt->ds", inverse, to_last)
        sums = inverse.sum(2)  # (D, T)
        told[:, those] = sums.sum(1)[:, None]
        pull[:, those] = sums @ y.T
        share[:, those] = (1 - weights.sum(1))[:, None]
        ends[:, those] = weights @ y.T
        own[:, those] -= (weights * to_last).sum(1)[:, None]
        evidence -= np.einsum("cs,dst,ct->d", y, inverse, y) / 2
        evidence -= len(those) * np.linalg.slogdet(covariance)[1] / 2
    seen = [i for i, n in enumerate(lengths) if n]
    scaled = x[None] / drawn.lengths[:, None]  # (D, N, P)
    away = ((scaled[:, :, None] - scaled[:, None, seen]) ** 2).sum(3)  # (D, N, M)
    across = drawn.height[:, None, None] * np.exp(-away / 2) + 1.0  # and a mean that is N(0, 1)
    gain = np.eye(len(seen)) + told[:, seen, None] * across[:, seen]  # (D, M, M)
    sides = told[:, seen, None] * across.transpose(0, 2, 1)  # (D, M, N)
    solved = np.linalg.solve(gain, np.concatenate([pull[:, seen, None], sides], 2))
    asymptote = np.einsum("dnm,dm->dn", across, solved[:, :, 0])
    variance = drawn.height[:, None] + 1.0 - np.einsum("dnm,dmn->dn", across, solved[:, :, 1:])
    evidence += (pull * asymptote).sum(1) / 2 - np.linalg.slogdet(gain)[1] / 2
    weight = np.exp(evidence - logsumexp(evidence))[:, None]  # (D, 1)
    means = ends + share * asymptote
    mean = (weight * means).sum(0)
    spread = own + share**2 * variance + (means - mean) ** 2
    deviation = np.sqrt(np.maximum((weight * spread).sum(0), 1e-12))
    return mean * scale + center, deviation * scale


def _standardized(curves: Sequence[Sequence[float]]) -> tuple[list[Array], float, float]:
    """Return curves with mean 0 and deviation 1, and what these were; very bad values are raised.

    A loss that explodes would leave no difference between the others.
    """
    values = np.array([value for curve in curves for value in curve if math.isfinite(value)])
    if not values.size:
        return [np.zeros(len(curve)) for curve in curves], 0.0, 1.0
    low, middle, high = np.quantile(values, [0.25, 0.5, 1.0])
    floor = middle - 3 * max(high - middle, middle - low, 1e-12)
    kept = [np.maximum(np.array(curve, dtype=float), floor) for curve in curves]
    joined = np.concatenate(kept)
    center, scale = float(joined.mean()), float(joined.std()) or 1.0
    return [(curve - center) / scale for curve in kept], center, scale


def _coordinates(settings: Settings, point: Point) -> list[float]:
    """Return a point in the unit cube: numbers on their scale, other choices one of several.

    Keys that the point does not have lie in the middle.
    """
    found = list[float]()
    for name, dimension in settings.space.items():
        value: Any = point.get(name)
        if not isinstance(dimension, CategoricalDistribution):
            scale = math.log if dimension.log else float
            low, high = scale(dimension.low), scale(dimension.high)
            found.append((scale(value) - low) / (high - low) if name in point else 0.5)
            continue
        choices = grid_values(dimension)
        if all(type(choice) in (int, float) for choice in choices):
            place = sorted(choices).index(value) if name in point else (len(choices) - 1) / 2
            found.append(place / max(1, len(choices) - 1))
        else:
            found += [(name in point and choice == value) / math.sqrt(2) for choice in choices]
    return found
