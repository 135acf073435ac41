"""What a search says, and what it does not: best points, edges, importance, seed noise, a plot."""

import json
import math
import random
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from core.base.keys import KEYS
from core.base.pictures import LIGHT, save, spans_decades
from core.search.points import Tried, study_of
from core.search.record import state_of
from core.search.space import Point, grid_values, holds
from core.search.study import Study

SHOWN = 5  # points of the list of best ones
NEAR = 0.05  # fraction of a range that counts as its edge


def report(study: Study, metric: str, parent_dir: Path) -> str:
    """Return the report of a search as text, and draw `search.png` into its folder."""
    trials = study.trials()
    complete: list[Any] = [t for t in trials if t.state.name == "COMPLETE"]
    complete.sort(key=lambda t: t.value, reverse=study.more_is_better)
    counts = Counter(map(state_of, trials))
    kinds = ("paused", "pruned", "failed", "running")
    others = [f"{counts[kind]} {kind}" for kind in kinds if counts[kind]]
    promoted = sum(len(t.user_attrs.get("decisions", [])) > 1 for t in trials)
    others += [f"{promoted} promoted"] if promoted else []
    lines = [", ".join([f"{len(complete)} of {study.size(trials)} trials complete", *others])]
    for failed in (t for t in trials if t.state.name == "FAIL"):
        lines.append(f"Failed: {failed.user_attrs['name']} (--retry_failed runs it again)")
        lines.append(textwrap.indent(failed.user_attrs.get("why", ""), "    "))
    if not complete:
        return "\n".join(lines)
    lines += ["", f"Best by {metric} on the validation split:"]
    for trial in complete[:SHOWN]:
        values, point = trial.user_attrs["values"], trial.user_attrs["point"]
        spread = f" ± {statistics.stdev(values):.4f} over {len(values)} seeds" if values[1:] else ""
        words = ", ".join(f"{name} {json.dumps(value)}" for name, value in point.items())
        lines.append(f"  {trial.value:.4f}{spread}  {words}")
    worse = [trial for trial in complete if trial.value != complete[0].value]
    lines += ["", *(_edges(study, complete[0].user_attrs["point"]) if worse else ())]
    lines += [*_importance(study, complete), *_noise(study, complete)]
    picture = _draw(study, complete, metric, parent_dir / "search.png")
    return "\n".join([*lines, f"Each key's values against {metric}: {picture}"])


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


def _importance(study: Study, complete: Sequence[Any]) -> Iterator[str]:
    """Tell how much of the difference between good and other points each key explains."""
    if len(study.settings.space) < 2:
        return
    points = [Tried(t.user_attrs["point"], t.value, {}) for t in complete]
    searched = study_of(study.settings, points, study.more_is_better)
    if len(searched.trials) < 10:
        yield "Importance of the keys: needs 10 complete trials in the space."
        return
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    parts = get_param_importances(searched, evaluator=PedAnovaImportanceEvaluator())
    words = ", ".join(f"{name} {part:.2f}" for name, part in parts.items())
    yield f"Importance of the keys (PED-ANOVA, Watanabe et al. 2023): {words}."


def _noise(study: Study, complete: Sequence[Any]) -> Iterator[str]:
    """Tell which points differ from the best by less than seeds make them differ.

    With s the standard deviation over seeds, pooled over all points, two means over r seeds differ
    at the 5% level if they are t * s * sqrt(2 / r) apart (Student's t, pooled variance).
    """
    repeats = study.settings.repeats
    if len(complete) < 2:
        return
    if repeats < 2:
        yield "One seed a point: seed noise is not known; `repeats: 3` in search.yaml measures it."
        return
    from scipy import stats

    variances = [statistics.variance(t.user_attrs["values"]) for t in complete]
    spread = math.sqrt(statistics.fmean(variances))
    threshold = stats.t.ppf(0.975, len(complete) * (repeats - 1)) * spread * math.sqrt(2 / repeats)
    others, best = complete[1:], complete[0].value
    near = sum(abs(t.value - best) <= threshold for t in others)
    yield f"Seed noise: standard deviation {spread:.4f} over seeds, pooled over all points."
    apart = complete[1].value - best
    words = "cannot be told apart" if abs(apart) <= threshold else "differ"
    yield f"The best point and the runner-up {words}: {abs(apart):.4f} between their means."
    basis = f"within {threshold:.4f}, 5% level, {repeats} seeds"
    yield f"{near} of the other {len(others)} points cannot be told from the best ({basis})."


def _draw(study: Study, complete: Sequence[Any], metric: str, path: Path) -> Path:
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
        shown = [t for t in complete if name in t.user_attrs["point"]]  # the space may have grown
        if not shown:
            continue
        values = [t.user_attrs["point"][name] for t in shown]
        numbers = all(type(value) in (int, float) for value in values)
        places, kinds = values, sorted({json.dumps(value) for value in values})
        if not numbers:  # beside one another, so that equal ones are seen
            rng = random.Random(0)
            places = [kinds.index(json.dumps(v)) + rng.uniform(-0.15, 0.15) for v in values]
            axis.set_xticks(range(len(kinds)), kinds)
        axis.scatter(places, [t.value for t in shown], s=18, color=LIGHT[0], alpha=0.8)
        best = [axis.scatter(places[0], shown[0].value, **star)]
        if spans_decades(values) or getattr(dimension, "log", False):  # choices have no scale
            axis.set_xscale("log")
    axes[0].set_ylabel(f"validation {metric}")
    figure.legend(handles=best, loc="outside upper right", frameon=False)
    save(figure, path)
    return path
