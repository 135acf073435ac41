"""What a search says, and what it does not: best points, edges, importance, seed noise, a plot."""

import json
import math
import random
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from core.base.keys import KEYS
from core.base.pictures import LIGHT, save, spans_decades
from core.search.points import Tried, study_of
from core.search.racing import front, least_difference, means, pooled
from core.search.record import number_of, state_of
from core.search.space import Point, grid_values, holds
from core.search.study import Study

SHOWN = 5  # points of the list of best ones
NEAR = 0.05  # fraction of a range that counts as its edge


@dataclass(frozen=True)
class Found:
    """A complete trial: its point, and its values, by seed and goal."""

    number: int
    point: Point
    values: list[list[float]]

    @property
    def mean(self) -> float:
        """The mean over seeds of what is judged first."""
        return means(self.values)[0]

    @property
    def first(self) -> list[float]:
        """The values of what is judged first, one for every seed."""
        return [values[0] for values in self.values]


def report(study: Study, parent_dir: Path) -> str:
    """Return the report of a search as text, and draw `search.png` into its folder."""
    trials, metric = study.trials(), study.metric
    complete = [Found(number_of(t), t.user_attrs["point"], v) for t, v in study.ranked()]
    counts = Counter(map(state_of, trials))
    kinds = ("paused", "pruned", "failed", "running")
    others = [f"{counts[kind]} {kind}" for kind in kinds if counts[kind]]
    promoted = sum(len(t.user_attrs.get("decisions", [])) > 1 for t in trials)
    others += [f"{promoted} promoted"] if promoted else []
    lines = [", ".join([f"{len(complete)} of {study.size(trials)} trials complete", *others])]
    for failed in (t for t in trials if t.state.name == "FAIL"):
        lines.append(f"Failed: {failed.user_attrs['name']} (--retry_failed runs it again)")
        lines.append(textwrap.indent(failed.user_attrs.get("why", ""), "    "))
    broken = study.failed_seeds()
    for name in (t.user_attrs["name"] for t in trials if number_of(t) in broken):
        lines.append(f"Failed: a further seed of {name} (--retry_failed runs it again)")
    if not complete:
        return "\n".join(lines)
    lines += ["", f"Best by {metric} on the validation split:"]
    lines += [f"  {_told(trial.first)}  {_words(trial.point)}" for trial in complete[:SHOWN]]
    worse = [trial for trial in complete if trial.mean != complete[0].mean]
    lines += ["", *(_edges(study, complete[0].point) if worse else ())]
    lines += [*_importance(study, complete), *_noise(complete)]
    picture = _draw(study, complete, metric, parent_dir / "search.png")
    lines.append(f"Each key's values against {metric}: {picture}")
    if len(study.goals) > 1:
        lines += _trade_offs(study, complete, parent_dir / "pareto.png")
    return "\n".join(lines)


def _words(point: Point) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in point.items())


def _told(values: Sequence[float]) -> str:
    """Return a mean with its standard deviation over seeds."""
    spread, freedom = pooled([values])
    told = f" ± {spread:.4f} over {len(values)} seeds" if freedom else ""
    return f"{sum(values) / len(values):.4f}{told}"


def _trade_offs(study: Study, complete: Sequence[Found], path: Path) -> Iterator[str]:
    """Name the points on the Pareto front, and draw it: nothing is better in all goals."""
    from matplotlib.figure import Figure

    names, signs = [*study.goals], study.signs
    signed = {
        t.number: [s * v for s, v in zip(signs, means(t.values), strict=True)] for t in complete
    }
    on_front = set(front(signed))
    best = [trial for trial in complete if trial.number in on_front]
    yield f"\nPareto front, {len(best)} of {len(complete)} points ({', '.join(names)}):"
    for trial in best:
        values = ", ".join(f"{value:.6g}" for value in means(trial.values))
        yield f"  {values}  {_words(trial.point)}"
    figure = Figure(figsize=(4 * (len(names) - 1) + 0.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(names) - 1, squeeze=False)[0]
    for i, axis in enumerate(axes, start=1):
        for group, colour in ((complete, LIGHT[0]), (best, LIGHT[1])):
            places = [(means(t.values)[i], t.mean) for t in group]
            axis.scatter(*zip(*places, strict=True), s=24, color=colour)
        if spans_decades([means(t.values)[i] for t in complete]):
            axis.set_xscale("log")
        axis.set_xlabel(names[i])
        axis.set_ylabel(f"validation {names[0]}")
        axis.grid(alpha=0.3)
    figure.suptitle("orange: on the Pareto front", fontsize=9)
    save(figure, path)
    yield f"{names[0]} against {' and '.join(names[1:])}: {path}"


def _edges(study: Study, best: Point) -> Iterator[str]:
    """Name the keys whose best value lies at the end of what was searched."""
    for name, dimension in study.settings.space.items():
        scale: Callable[[float], float] = float
        if isinstance(dimension, CategoricalDistribution):
            values, near = grid_values(dimension), 0.0
        else:
            scale = math.log if dimension.log else float
            values = [dimension.low, dimension.high]
            near = NEAR * (scale(dimension.high) - scale(dimension.low))
        numbers = all(type(value) in (int, float) for value in values)
        if len(values) < 2 or not numbers or not holds(dimension, best.get(name)):
            continue
        for word, end in (("below", min(values)), ("beyond", max(values))):
            is_last = name in KEYS and end in (KEYS[name].low, KEYS[name].high)  # that is allowed
            if abs(scale(best[name]) - scale(end)) <= near and not is_last:
                edge = f"The best {name}, {best[name]:g}, lies at the edge of the space"
                yield f"{edge}: extend {name} {word} {end:g}."


def _importance(study: Study, complete: Sequence[Found]) -> Iterator[str]:
    """Tell how much of the difference between good and other points each key explains."""
    if len(study.settings.space) < 2:
        return
    points = [Tried(t.point, [t.mean], {}) for t in complete]
    searched = study_of(study.settings, points, [study.goals[study.metric]])
    if len(searched.trials) < 10:
        yield "Importance of the keys: needs 10 complete trials in the space."
        return
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    parts = get_param_importances(searched, evaluator=PedAnovaImportanceEvaluator())
    words = ", ".join(f"{name} {part:.2f}" for name, part in parts.items())
    yield f"Importance of the keys (PED-ANOVA, Watanabe et al. 2023): {words}."


def _noise(complete: Sequence[Found]) -> Iterator[str]:
    """Tell which points differ from the best by less than seeds make them differ.

    With s the standard deviation over seeds, pooled over all points, two means over q and r seeds
    differ at the 5% level if they are t * s * sqrt(1 / q + 1 / r) apart (Student's t).
    """
    if len(complete) < 2:
        return
    spread, freedom = pooled([trial.first for trial in complete])
    if not freedom:
        yield "One seed a point: seed noise is not known; `repeats: 3` in search.yaml measures it."
        return
    best, others = complete[0], complete[1:]

    def same(trial: Found) -> bool:
        seeds = len(best.values), len(trial.values)
        return abs(trial.mean - best.mean) <= least_difference(spread, freedom, seeds)

    yield f"Seed noise: standard deviation {spread:.4f} over seeds, pooled over all points."
    words = "cannot be told apart" if same(others[0]) else "differ"
    apart = abs(others[0].mean - best.mean)
    yield f"The best point and the runner-up {words}: {apart:.4f} between their means (5% level)."
    near = sum(map(same, others))
    yield f"{near} of the other {len(others)} points cannot be told from the best."
    seeds = Counter(len(trial.values) for trial in complete)
    counts = ", ".join(f"{count} with {n}" for n, count in sorted(seeds.items()))
    yield f"Seeds of the points: {counts}." if len(seeds) > 1 else f"Seeds of each: {max(seeds)}."


def _draw(study: Study, complete: Sequence[Found], metric: str, path: Path) -> Path:
    """Draw the metric over the values of each key."""
    from matplotlib.figure import Figure

    space = study.settings.space
    figure = Figure(figsize=(3.2 * len(space) + 0.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(space), sharey=True, squeeze=False)[0]
    star = {"s": 60, "marker": "*", "color": LIGHT[1], "label": "best"}
    best: list[Any] = []
    for axis, (name, dimension) in zip(axes, space.items(), strict=True):
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
        shown = [t for t in complete if name in t.point]  # the space may have grown
        if not shown:
            continue
        values = [t.point[name] for t in shown]
        numbers = all(type(value) in (int, float) for value in values)
        places, kinds = values, sorted({json.dumps(value) for value in values})
        if not numbers:  # beside one another, so that equal ones are seen
            rng = random.Random(0)
            places = [kinds.index(json.dumps(v)) + rng.uniform(-0.15, 0.15) for v in values]
            axis.set_xticks(range(len(kinds)), kinds)
        axis.scatter(places, [t.mean for t in shown], s=18, color=LIGHT[0], alpha=0.8)
        best = [axis.scatter(places[0], shown[0].mean, **star)]
        if spans_decades(values) or getattr(dimension, "log", False):  # choices have no scale
            axis.set_xscale("log")
    axes[0].set_ylabel(f"validation {metric}")
    figure.legend(handles=best, loc="outside upper right", frameon=False)
    save(figure, path)
    return path
