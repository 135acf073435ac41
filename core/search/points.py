"""The points that a search tries, planned or learned from earlier ones, and their runs' names."""

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from core.search.settings import PLANNED, Settings
from core.search.space import (
    Point,
    compact,
    from_optuna,
    grid_values,
    point_key,
    short_keys,
    to_optuna,
)

# Of every method but grid: makes its sampler from a seed.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": RandomSampler,
    "qmc": lambda seed: QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False),
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True, multivariate=True, group=True),
    "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}


@dataclass(frozen=True)
class Tried:
    """What is known of an earlier trial: its point, values if it has some, and sampler's notes."""

    point: Point
    values: Sequence[float] | None
    notes: dict[str, Any]


def directions_of(more: Iterable[bool]) -> list[StudyDirection]:
    """Return Optuna's directions of objectives: whether more is better, of each."""
    return [StudyDirection.MAXIMIZE if each else StudyDirection.MINIMIZE for each in more]


def planned_points(settings: Settings) -> list[Point] | None:
    """Return the points of a method that needs no results, or None for one that does.

    Those of N trials begin those of more. Points that come again are left out, so a small space may
    hold fewer than were asked for.
    """
    if settings.points == "grid":
        combinations = itertools.product(*map(grid_values, settings.space.values()))
        whole = (dict(zip(settings.space, values, strict=True)) for values in combinations)
        reduced = [settings.reduced(point) for point in whole]
        return [*{point_key(point): point for point in reduced}.values()]
    if settings.points not in PLANNED:
        return None
    study, points = study_of(settings, [], [False], settings.seed), dict[str, Point]()
    for _ in range(20 * settings.trials):
        trial = study.ask(settings.space)
        study.tell(trial, 0.0)
        point = _point_of(trial, settings)
        points.setdefault(point_key(point), point)
        if len(points) == settings.trials:
            break
    return list(points.values())


def next_point(
    settings: Settings, history: Sequence[Tried], more: Sequence[bool]
) -> tuple[Point, dict[str, Any]]:
    """Return what a method that learns from results tries next, and its notes for later calls.

    `more` says of each objective whether more of it is better.
    A pure function of its arguments, so that a search that was killed goes on with the points that
    it would have had. A point that has been tried is asked for again up to 20 times.
    """
    from core.machine.random_states import mixed_seed  # imports torch

    tried = [earlier.point for earlier in history]
    for attempt in range(20):
        seed = mixed_seed(settings.seed, len(history), attempt)
        study = study_of(settings, history, more, seed)
        point = _point_of(study.ask(settings.space), settings)
        if point not in tried:
            break
    return point, study.get_trials(deepcopy=False)[-1].system_attrs


def study_of(
    settings: Settings, history: Sequence[Tried], more: Sequence[bool], seed: int = 0
) -> optuna.Study:
    """Return a study in memory that knows of the earlier trials whose points lie in the space."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of some samplers
        sampler = SAMPLERS[settings.points](seed) if settings.points in SAMPLERS else None
    study = optuna.create_study(sampler=sampler, directions=directions_of(more))
    for earlier in (tried for tried in history if settings.holds(tried.point)):
        point = settings.reduced(earlier.point)
        trial = create_trial(
            state=TrialState.RUNNING if earlier.values is None else TrialState.COMPLETE,
            values=earlier.values,
            params={n: to_optuna(d, point[n]) for n, d in settings.space.items() if n in point},
            distributions={n: d for n, d in settings.space.items() if n in point},
            system_attrs=earlier.notes,
        )
        study.add_trial(trial)
    return study


def _point_of(trial: optuna.Trial, settings: Settings) -> Point:
    whole = {name: from_optuna(d, trial.params[name]) for name, d in settings.space.items()}
    return settings.reduced(whole)


def trial_name(point: Point) -> str:
    """Return the folder's name of a point: "lr=1e-3,dropout=0.3".

    Where a value holds other characters than such names can have, or the name is long, a few digits
    of the point's hash keep different points apart.
    """
    parts = [f"{key}={_exact(point[name])}" for name, key in short_keys(point).items()]
    return _safe(",".join(parts), point)


def earlier_name(point: Point) -> str:
    """Return the name that earlier versions gave: "learning_rate_0.001-batch_size_32"."""
    return _safe("-".join(f"{key}_{value}" for key, value in point.items()), point)


def folder_of(parent_dir: Path | None, point: Point) -> str:
    """Return the name of a point's folder: the earlier one if there is one, or seeds of it."""
    name = earlier_name(point)
    with_seed = re.compile(re.escape(name) + r"(-seed_\d+)?")
    found = parent_dir.glob(f"{name}*") if parent_dir else ()
    return name if any(with_seed.fullmatch(path.name) for path in found) else trial_name(point)


def _exact(value: Any) -> str:
    """Return a value in few letters, but with all its digits."""
    short = compact(value)
    if not isinstance(value, float):
        return short
    if short.lstrip("-").startswith("."):
        short = short.replace(".", "0.", 1)
    return short if float(short) == value else repr(value)


def _safe(name: str, point: Point) -> str:
    clean = re.sub(r"[^A-Za-z0-9_.+=,-]", "_", name)[:120]
    digest = hashlib.sha256(json.dumps(point).encode()).hexdigest()[:8]
    return clean if clean == name else f"{clean}-{digest}"
