"""The points that a search tries, planned or learned from earlier ones, and their runs' names."""

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.search.space import Point, Settings, point_key


def planned_points(settings: Settings) -> list[Point] | None:
    """Return the points of a method that needs no results: those of N trials begin those of more.

    Points that come again are left out, so a small space may hold fewer than were asked for.

    Returns:
        The points, or None for a method that learns from results.
    """
    if settings.method == "grid":
        values = [[d.value(i) for i in range(d.count)] for d in settings.space.values()]
        return [dict(zip(settings.space, v, strict=True)) for v in itertools.product(*values)]
    if settings.method not in ("random", "qmc"):
        return None
    points: dict[str, Point] = {}
    for point in itertools.islice(_drawn(settings), 20 * settings.trials):
        points.setdefault(point_key(point), point)
        if len(points) == settings.trials:
            break
    return list(points.values())


def _drawn(settings: Settings) -> Iterator[Point]:
    study = _scratch_study(settings.method, settings.seed, "minimize")
    space = _distributions(settings)
    while True:
        trial = study.ask(space)
        yield as_point(settings, trial.params)
        study.tell(trial, 0.0)


@dataclass(frozen=True)
class Tried:
    """What is known of an earlier trial: its point, value if it has one, and sampler's notes."""

    point: Point
    value: float | None
    notes: dict[str, Any]


def next_point(
    settings: Settings, history: Sequence[Tried], more_is_better: bool
) -> tuple[Point, dict[str, Any]]:
    """Return what a method that learns from results tries next, and its notes for later calls.

    A pure function of its arguments, so that a search that was killed goes on with the points that
    it would have had. A point that has been tried is asked for again up to 20 times.
    """
    from optuna.trial import TrialState, create_trial

    from core.machine.random_states import mixed_seed  # imports torch

    direction = "maximize" if more_is_better else "minimize"
    space, tried = _distributions(settings), [earlier.point for earlier in history]
    for attempt in range(20):
        seed = mixed_seed(settings.seed, len(history), attempt)
        study = _scratch_study(settings.method, seed, direction)
        for earlier in history:
            if settings.holds(earlier.point):
                state = TrialState.RUNNING if earlier.value is None else TrialState.COMPLETE
                params = as_params(settings, earlier.point)
                study.add_trial(
                    create_trial(
                        state=state,
                        value=earlier.value,
                        params=params,
                        distributions=space,
                        system_attrs=earlier.notes,
                    )
                )
        trial = study.ask(space)
        point = as_point(settings, trial.params)
        if point not in tried:
            break
    return point, study.get_trials(deepcopy=False)[-1].system_attrs


def _distributions(settings: Settings) -> dict[str, Any]:
    return {name: dimension.distribution() for name, dimension in settings.space.items()}


def _scratch_study(method: str, seed: int, direction: Any) -> Any:
    import optuna
    from optuna import samplers

    quiet: dict[str, Any] = {"warn_independent_sampling": False}
    make: dict[str, Callable[[], Any]] = {
        "random": lambda: samplers.RandomSampler(seed=seed),
        "qmc": lambda: samplers.QMCSampler(scramble=True, seed=seed, **quiet),
        "tpe": lambda: samplers.TPESampler(seed=seed, constant_liar=True),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed, **quiet),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of QMCSampler
        return optuna.create_study(sampler=make[method](), direction=direction)


def as_params(settings: Settings, point: Point) -> dict[str, Any]:
    """Return a point as Optuna knows it: choices are JSON texts."""
    return {
        name: point[name] if dimension.choices is None else json.dumps(point[name])
        for name, dimension in settings.space.items()
    }


def as_point(settings: Settings, params: dict[str, Any]) -> Point:
    """Return the point that Optuna's params stand for; numbers are rounded to six digits.

    In steps they have twelve, or they would leave the steps.
    """
    point: Point = {}
    for name, dimension in settings.space.items():
        if dimension.choices is not None:
            point[name] = json.loads(params[name])
        else:
            digits = 6 if dimension.step is None else 12
            value = params[name] if dimension.whole else float(f"{params[name]:.{digits}g}")
            point[name] = min(max(value, dimension.low), dimension.high)
    return point


def trial_name(point: Point) -> str:
    """Return the folder's name of a point: "learning_rate_0.001-batch_size_32".

    Where a value holds other characters than such names can have, or the name is long, a few digits
    of the point's hash keep different points apart.
    """
    name = "-".join(f"{key}_{value}" for key, value in point.items())
    clean = re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:120]
    digest = hashlib.sha256(json.dumps(point).encode()).hexdigest()[:8]
    return clean if clean == name else f"{clean}-{digest}"
