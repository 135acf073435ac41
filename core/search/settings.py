"""What a search.yaml says: the method, its space, and what else it may set."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from core.base import params, parsing
from core.base.errors import UsageError, did_you_mean, spelled
from core.base.keys import DEFAULTS, KEYS, Key
from core.base.monitor import more_is_better
from core.search.space import (
    Dimension,
    Point,
    grid_size,
    holds,
    read_condition,
    read_dimension,
    refuse_unknown,
)

PLANNED = ("grid", "random", "qmc")  # know their points beforehand
PAUSING = ("asha", "freeze_thaw")  # stop trials and go on with some; their points are planned
LEARNING = ("tpe", "gp", "cmaes", "auto")  # from the results of earlier trials
METHODS = (*PLANNED, *LEARNING, *PAUSING)
RECORD = "search.journal"  # in the folder of a search
LARGEST_GRID = 100_000
MOST_OF_GP = 250  # trials of method auto, beyond which tpe is taken
# Keys that only some methods have.
OWN = {"rungs": ("asha",), "thaw": ("freeze_thaw",), "points": PAUSING, "start_from": LEARNING}
OWN |= {"prune": tuple(name for name in METHODS if name not in PAUSING)}
OWN |= {"objectives": tuple(name for name in METHODS if name not in (*PAUSING, "cmaes"))}
KNOWN = ("method", "space", "trials", "seed", "repeats", "race", *OWN)
COSTS = ("seconds", "parameters")  # objectives that are no metric; less is better


@dataclass(frozen=True)
class Settings:
    """What a search.yaml says, beside the params that all trials share."""

    base: dict[str, Any]
    method: str
    space: dict[str, Any]  # of Dimensions
    when: dict[str, dict[str, list[Any]]]  # of keys with a condition: others, and their values
    trials: int
    seed: int
    repeats: int
    race: bool  # whether only contenders get further seeds
    objectives: tuple[str, ...]  # (): the monitored metric
    prune: tuple[int, int] | None  # epochs before the first comparison, one of how many goes on
    points: str  # the method that gives points: `method`, or of one of PAUSING its `points`
    epochs: int  # of a trial, if the space does not say
    rungs: tuple[int, int]  # of asha, as `prune`
    budget: int  # epochs of all trials of freeze_thaw
    thaw_epochs: int  # of one of its decisions
    parallel: int | None  # its trials at once; None: as many as the search begins with
    start_from: Path | None  # folder of an earlier search, whose trials a method learns from

    @property
    def pausing(self) -> bool:
        """Whether trials are stopped, and some of them go on later."""
        return self.method in PAUSING

    def holds(self, point: Point) -> bool:
        """Tell whether a point, which may come from another space, lies in this one."""
        there = {name: d for name, d in self.space.items() if self._asked_for(name, point)}
        return all(name in point and holds(d, point[name]) for name, d in there.items())

    def _asked_for(self, name: str, point: Point) -> bool:
        conditions = self.when.get(name, {}).items()
        return all(other in point and point[other] in values for other, values in conditions)

    def reduced(self, point: Point) -> Point:
        """Return a point without the keys whose condition it does not meet."""
        kept: Point = {}
        for name in self.space:  # a condition is of earlier keys
            if name in point and self._asked_for(name, kept):
                kept[name] = point[name]
        return kept


def read_settings(path: Path, base: dict[str, Any]) -> Settings:
    """Read a search.yaml; `base` holds the params that all trials share.

    Raises:
        UsageError: a key or value is not one of a search, or could not stand in a params file.
    """
    written, where = parsing.read_mapping(path), str(path)
    refuse_unknown(written, KNOWN, where)
    names = written.get("space")
    method = _one_of(written, "method", METHODS, "grid", where)
    if not (isinstance(names, dict) and names and all(isinstance(name, str) for name in names)):
        raise UsageError(f"{path}: 'space' is {spelled(names)}, want keys with their values")
    pausing, points = method in PAUSING, method
    if pausing:
        points = _one_of(written, "points", PLANNED, "random", where)
    for name, methods in OWN.items():
        if written.get(name) is not None and method not in methods:
            raise UsageError(f"{path}: {name!r} does not go with method {method}")
    if pausing and "num_epochs" in names:
        raise UsageError(f"{path}: method {method} needs one 'num_epochs' for all trials")
    space, when = _read_space(names, base, where)
    if points == "grid":
        written["trials"] = _check_grid(space, "trials" in written, where)
    elif "trials" not in written:
        raise UsageError(f"{path}: 'trials' is missing: how many points may method {points} try?")
    if method == "cmaes" and all(isinstance(d, CategoricalDistribution) for d in space.values()):
        raise UsageError(f"{path}: cmaes needs a key with 'low' and 'high'; choices it cannot use")
    start = written.get("start_from")
    if start is not None and not (isinstance(start, str) and Path(start, RECORD).exists()):
        raise UsageError(f"{path}: 'start_from' is {spelled(start)}, want a folder with {RECORD}")
    repeats = _at_least_one(written, "repeats", where)
    if repeats > 1 and "seed" in space:
        raise UsageError(f"{path}: 'repeats' sets the seeds, so 'seed' cannot be in the space")
    trials = _at_least_one(written, "trials", where)
    if method == "auto":  # a Gaussian process takes the cube of the number of trials
        points = "gp" if trials <= MOST_OF_GP else "tpe"
    epochs, thaw = int(base.get("num_epochs", DEFAULTS["num_epochs"])), _read_thaw(written, where)
    return Settings(
        base=base,
        method=method,
        space=space,
        when=when,
        trials=trials,
        seed=KEYS["seed"].check(written.get("seed", KEYS["seed"].default), where),
        repeats=repeats,
        race=Key("race", bool, True, "").check(written.get("race", True), where),
        objectives=_read_objectives(written, where),
        prune=_read_rungs(written, "prune", where) if written.get("prune") is not None else None,
        points=points,
        epochs=epochs,
        rungs=_read_rungs({"rungs": {}, **written}, "rungs", where),
        budget=thaw.get("budget") or max(epochs, trials * epochs // 3),
        thaw_epochs=thaw.get("epochs") or max(1, epochs // 20),
        parallel=thaw.get("parallel"),
        start_from=None if start is None else Path(start),
    )


def _read_space(
    names: dict[str, Any], base: dict[str, Any], where: str
) -> tuple[dict[str, Dimension], dict[str, dict[str, list[Any]]]]:
    """Return what each key may be, and the conditions of those that have some."""
    tops = dict.fromkeys(name.split(".")[0] for name in names)
    if messages := params.check_names(tops, base.get("task", "model"), where, base):
        raise UsageError(messages[0])
    space: dict[str, Dimension] = {}
    when = {}
    for name, values in names.items():
        if isinstance(values, dict) and "when" in values:
            when[name] = read_condition(where, name, values["when"], space)
            values = {n: v for n, v in values.items() if n != "when"}
            values = values["choices"] if [*values] == ["choices"] else values
        space[name] = read_dimension(where, name, values, base)
    return space, when


def read_goals(
    settings: Settings, main: str, more: bool, metrics: Collection[str]
) -> dict[str, bool]:
    """Return what trials are judged by, each with whether more of it is better.

    `main` is the monitored metric, with its direction. UsageError: the task has no such metric, or
    its name does not say the direction.
    """
    goals, where = dict[str, bool](), "search.yaml: 'objectives'"
    known = {name: more_is_better(name) for name in metrics} | {"loss": False, main: more}
    for name in settings.objectives:
        if name in COSTS and name not in metrics:
            goals[name] = False
        elif known.get(name) is None:
            hint = "" if name in known else did_you_mean(name, known)
            wanted = f"want {', '.join(n for n, d in known.items() if d is not None)}"
            wanted += f" or {' or '.join(COSTS)}"
            unclear = ", whose direction is not known (monitor it)" if name in known else ""
            raise UsageError(f"{where} holds {spelled(name)}{unclear}{hint}, {wanted}")
        else:
            goals[name] = known[name] is True
    if settings.objectives[:1] and settings.objectives[0] not in known:
        raise UsageError(f"{where}: the first is {spelled(settings.objectives[0])}, want a metric")
    return goals or {main: more}


def _read_objectives(written: dict[str, Any], where: str) -> tuple[str, ...]:
    """Return what trials are judged by if not by one metric; that they exist is checked later."""
    names = written.get("objectives", [])
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if "objectives" in written and not (texts and len({*names}) == len(names) in (2, 3)):
        wanted = f"want a list of two or three: metrics, {' or '.join(COSTS)}"
        raise UsageError(f"{where}: 'objectives' is {spelled(names)}, {wanted}")
    if names and written.get("prune") is not None:
        raise UsageError(f"{where}: 'prune' does not go with several objectives")
    return tuple(names)


def _one_of(
    written: dict[str, Any], name: str, known: Sequence[str], default: str, where: str
) -> str:
    value = written.get(name, default)
    if value not in known:
        hint = did_you_mean(str(value), known)
        wanted = f"want one of {', '.join(known)}"
        raise UsageError(f"{where}: {name!r} is {spelled(value)}{hint}, {wanted}")
    return str(value)


def _check_grid(space: dict[str, Dimension], has_trials: bool, where: str) -> int:
    """Return how many points a grid has; UsageError if it cannot be made."""
    for name, dimension in space.items():
        if isinstance(dimension, FloatDistribution) and dimension.step is None:
            raise UsageError(f"{where}: a grid needs a 'step' for {name!r}, or choices")
    size = math.prod(map(grid_size, space.values()))
    if size > LARGEST_GRID:
        wanted = f"want at most {LARGEST_GRID}: larger steps, or random"
        raise UsageError(f"{where}: a grid of {size} points, {wanted}")
    if has_trials:
        raise UsageError(f"{where}: 'trials' does not go with a grid, which has {size} points")
    return size


def _at_least_one(values: dict[str, Any], name: str, where: str) -> int:
    return Key(name, int, 1, "", 1, LARGEST_GRID).check(values.get(name, 1), where)


def _read_rungs(written: dict[str, Any], name: str, where: str) -> tuple[int, int]:
    """Return the epoch of the first comparison, and one of how many trials goes on from each."""
    rungs = written[name]
    if not (isinstance(rungs, dict) and set(rungs) <= {"after", "keep"}):
        wanted = "want {after: epochs, keep: fraction}"
        raise UsageError(f"{where}: {name!r} is {spelled(rungs)}, {wanted}")
    keep = rungs.get("keep", 0.5 if name == "prune" else 0.33)
    if type(keep) is not float or not 0 < keep <= 0.5 or abs(1 / keep - round(1 / keep)) > 0.05:
        wanted = "want 0.5, 0.33, 0.25, 0.2 ..."
        raise UsageError(f"{where}: {name} 'keep' is {spelled(keep)}, {wanted}")
    return _at_least_one(rungs, "after", f"{where}: {name}"), round(1 / keep)


def _read_thaw(written: dict[str, Any], where: str) -> dict[str, int]:
    thaw = written.get("thaw") or {}
    if not isinstance(thaw, dict):
        wanted = "want {budget: epochs, epochs: at once, parallel: trials}"
        raise UsageError(f"{where}: 'thaw' is {spelled(thaw)}, {wanted}")
    refuse_unknown(thaw, ("budget", "epochs", "parallel"), f"{where}: thaw")
    return {name: _at_least_one(thaw, name, f"{where}: thaw") for name in thaw}
