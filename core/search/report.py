"""What a search says, and what it does not: best points, edges, importance, seed noise, a plot."""

import json
import math
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.base.keys import KEYS
from core.search.points import as_params
from core.search.space import Dimension, Point
from core.search.study import Study

SHOWN = 5  # points of the list of best ones
NEAR = 0.05  # share of a range that counts as its edge


def report(study: Study, metric: str, parent_dir: Path) -> str:
    """Return the report of a search as text, and draw `search.png` into its folder."""
    trials = study.trials()
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    complete.sort(key=lambda t: t.value, reverse=study.more_is_better)
    counts = [
        f"{sum(t.state.name == state for t in trials)} {word}"
        for state, word in [("PRUNED", "pruned"), ("FAIL", "failed"), ("RUNNING", "running")]
        if any(t.state.name == state for t in trials)
    ]
    lines = [", ".join([f"{len(complete)} of {study.size(trials)} trials complete", *counts])]
    for failed in (t for t in trials if t.state.name == "FAIL"):
        lines.append(f"Failed: {failed.user_attrs['name']} (--retry_failed runs it again)")
        lines.append(textwrap.indent(failed.user_attrs.get("why", ""), "    "))
    if not complete:
        return "\n".join(lines)
    lines += ["", f"Best by {metric} on the validation split:"]
    for trial in complete[:SHOWN]:
        values = trial.user_attrs["values"]
        spread = f" ± {statistics.stdev(values):.4f} over {len(values)} seeds" if values[1:] else ""
        lines.append(f"  {trial.value:.4f}{spread}  {_words(trial.user_attrs['point'])}")
    lines += ["", *_edges(study, complete), *_importance(study, complete), *_noise(study, complete)]
    lines.append(
        f"Each key's values against {metric}: {_draw(study, complete, metric, parent_dir)}"
    )
    return "\n".join(lines)


def _words(point: Point) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in point.items())


def _edges(study: Study, complete: Sequence[Any]) -> Iterator[str]:
    """Name the keys whose best value lies at the end of what was searched."""
    best = complete[0].user_attrs["point"]
    for name, dimension in study.settings.space.items():
        if not dimension.holds(best.get(name)):
            continue
        for end, value in zip(("below", "beyond"), _ends(dimension), strict=True):
            key = KEYS.get(name)
            if key is not None and value in (key.low, key.high):
                continue  # nothing is allowed beyond it
            if value is not None and _is_near(dimension, best[name], value):
                yield (
                    f"The best {name}, {best[name]:g}, lies at the edge of the space: "
                    f"extend {name} {end} {value:g}."
                )


def _ends(dimension: Dimension) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value, or Nones if these are not numbers."""
    values = dimension.choices or (dimension.low, dimension.high)
    if len(values) < 2 or not all(type(value) in (int, float) for value in values):
        return None, None
    return min(values), max(values)


def _is_near(dimension: Dimension, value: float, end: float) -> bool:
    if dimension.choices is not None:
        return value == end
    scale = math.log if dimension.log else float
    width = scale(dimension.high) - scale(dimension.low)
    return abs(scale(value) - scale(end)) <= NEAR * width


def _importance(study: Study, complete: Sequence[Any]) -> Iterator[str]:
    """Tell how much of the difference between good and other points each key explains."""
    space = study.settings.space
    complete = [t for t in complete if study.settings.holds(t.user_attrs["point"])]
    if len(space) < 2:
        return
    if len(complete) < 10:
        yield "Importance of the keys: needs 10 complete trials in the space."
        return
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    distributions = {name: dimension.distribution() for name, dimension in space.items()}
    scratch = optuna.create_study(direction="maximize" if study.more_is_better else "minimize")
    for trial in complete:
        params = as_params(study.settings, trial.user_attrs["point"])
        scratch.add_trial(
            optuna.create_trial(value=trial.value, params=params, distributions=distributions)
        )
    shares = get_param_importances(scratch, evaluator=PedAnovaImportanceEvaluator())
    words = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
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
        yield (
            "One seed a point: how much of the difference is seed noise is not known; "
            "`repeats: 3` in search.yaml tells."
        )
        return
    from scipy import stats

    variances = [statistics.variance(t.user_attrs["values"]) for t in complete]
    spread = math.sqrt(statistics.fmean(variances))
    threshold = stats.t.ppf(0.975, len(complete) * (repeats - 1)) * spread * math.sqrt(2 / repeats)
    near = [t for t in complete[1:] if abs(t.value - complete[0].value) <= threshold]
    yield f"Seed noise: standard deviation {spread:.4f} over seeds, pooled over all points."
    yield (
        f"{len(near)} of the other {len(complete) - 1} points cannot be told from the best (within "
        f"{threshold:.4f}, 5% level, {repeats} seeds)."
    )


def _draw(study: Study, complete: Sequence[Any], metric: str, parent_dir: Path) -> Path:
    """Draw the metric over the values of each key."""
    from matplotlib.figure import Figure

    from core.base.files import replacing

    space = list(study.settings.space.values())
    figure = Figure(figsize=(3.2 * len(space) + 0.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(space), sharey=True, squeeze=False)[0]
    best: list[Any] = []
    for axis, dimension in zip(axes, space, strict=True):
        name = dimension.name
        shown = [t for t in complete if name in t.user_attrs["point"]]  # the space may have grown
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
        if not shown:
            continue
        values = [t.user_attrs["point"][name] for t in shown]
        numbers = all(type(value) in (int, float) for value in values)
        places = values if numbers else [json.dumps(value) for value in values]
        axis.scatter(places, [t.value for t in shown], s=18, color="#4477aa", alpha=0.8)
        star = {"s": 60, "marker": "*", "color": "#cc3311", "label": "best"}
        best = [axis.scatter(places[0], shown[0].value, **star)]
        if dimension.log or (numbers and min(values) > 0 and max(values) >= 50 * min(values)):
            axis.set_xscale("log")
    axes[0].set_ylabel(f"validation {metric}")
    axes[-1].legend(handles=best, loc="best", frameon=False)
    path = parent_dir / "search.png"
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path
