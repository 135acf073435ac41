"""The space of a search: what search.yaml says."""

import json
import logging
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from core.base import params, parsing
from core.base.errors import UsageError, did_you_mean, spelled
from core.base.keys import KEYS, KINDS, Key, of_type
from core.base.parsing import looks_like

# What one key may be. Choices are JSON texts, because Optuna's cannot be lists or mappings.
Dimension = CategoricalDistribution | FloatDistribution | IntDistribution
Point = dict[str, Any]  # a value for every key of the space

PLANNED = ("grid", "random", "qmc")  # know their points beforehand
PAUSING = ("asha", "freeze_thaw")  # stop trials and go on with some; their points are planned
METHODS = (*PLANNED, "tpe", "gp", "cmaes", "auto", *PAUSING)
LARGEST_GRID = 100_000
MOST_OF_GP = 250  # trials of method auto, beyond which tpe is taken
# Keys that only some methods have.
OWN = {"rungs": ("asha",), "thaw": ("freeze_thaw",), "points": PAUSING}
OWN |= {"prune": tuple(name for name in METHODS if name not in PAUSING)}
KNOWN = ("method", "space", "trials", "seed", "repeats", *OWN)


def point_key(point: Point) -> str:
    """Return a text that is the same for equal points, in whatever order their keys stand."""
    return json.dumps(point, sort_keys=True)


def to_optuna(dimension: Dimension, value: Any) -> Any:
    """Return a value of a point as Optuna knows it."""
    return json.dumps(value) if isinstance(dimension, CategoricalDistribution) else value


def from_optuna(dimension: Dimension, value: Any) -> Any:
    """Return a value of Optuna's as it stands in a point, where real numbers are rounded."""
    if isinstance(dimension, CategoricalDistribution):
        return json.loads(value)
    if isinstance(dimension, FloatDistribution):
        digits = 12 if dimension.step else 6  # six could leave the steps
        value = float(f"{value:.{digits}g}")
    return min(max(value, dimension.low), dimension.high)


def holds(dimension: Dimension, value: Any) -> bool:
    """Tell whether a value, which may come from another space, is one of this dimension."""
    if isinstance(dimension, CategoricalDistribution):
        return json.dumps(value) in dimension.choices
    if type(value) not in (int, type(dimension.low)):
        return False
    steps = (value - dimension.low) / dimension.step if dimension.step else 0
    return dimension.low <= value <= dimension.high and abs(steps - round(steps)) < 1e-8


def grid_size(dimension: Dimension) -> int:
    """Return how many values a grid has."""
    if isinstance(dimension, CategoricalDistribution):
        return len(dimension.choices)
    return round((dimension.high - dimension.low) / (dimension.step or 1)) + 1


def grid_values(dimension: Dimension) -> list[Any]:
    """Return the values of a grid."""
    if isinstance(dimension, CategoricalDistribution):
        return [from_optuna(dimension, choice) for choice in dimension.choices]
    low, step = dimension.low, dimension.step or 1
    return [from_optuna(dimension, low + i * step) for i in range(grid_size(dimension))]


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
    prune: tuple[int, int] | None  # epochs before the first comparison, one of how many goes on
    points: str  # the method that gives points: `method`, or of one of PAUSING its `points`
    epochs: int  # of a trial, if the space does not say
    rungs: tuple[int, int]  # of asha, as `prune`
    budget: int  # epochs of all trials of freeze_thaw
    thaw_epochs: int  # of one of its decisions
    parallel: int | None  # its trials at once; None: as many as the search begins with

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
    _refuse_unknown(written, KNOWN, where)
    names = written.get("space")
    method = _one_of(written, "method", METHODS, "grid", where)
    if not (isinstance(names, dict) and names and all(isinstance(name, str) for name in names)):
        raise UsageError(f"{path}: 'space' is {spelled(names)}, want keys with their values")
    pausing, points = method in PAUSING, method
    if pausing:
        points = _one_of(written, "points", PLANNED, "random", where)
    elif method == "auto":  # a Gaussian process takes the cube of the number of trials
        points = "gp" if written.get("trials", 1) <= MOST_OF_GP else "tpe"
    for name, methods in OWN.items():
        if written.get(name) is not None and method not in methods:
            raise UsageError(f"{path}: {name!r} does not go with method {method}")
    if pausing and "num_epochs" in names:
        raise UsageError(f"{path}: method {method} needs one 'num_epochs' for all trials")
    task = base.get("task", "model")
    tops = dict.fromkeys(name.split(".")[0] for name in names)
    if messages := params.check_names(tops, task, where, base):
        raise UsageError(messages[0])
    space: dict[str, Dimension] = {}
    when = {}
    for name, values in names.items():
        if isinstance(values, dict) and "when" in values:
            when[name] = _read_condition(where, name, values["when"], space)
            values = {n: v for n, v in values.items() if n != "when"}
            values = values["choices"] if [*values] == ["choices"] else values
        space[name] = _read_dimension(where, name, values, base)
    if points == "grid":
        written["trials"] = _check_grid(space, "trials" in written, where)
    elif "trials" not in written:
        raise UsageError(f"{path}: 'trials' is missing: how many points may method {points} try?")
    if method == "cmaes" and all(isinstance(d, CategoricalDistribution) for d in space.values()):
        raise UsageError(f"{path}: cmaes needs a key with 'low' and 'high'; choices it cannot use")
    repeats = _at_least_one(written, "repeats", where)
    if repeats > 1 and "seed" in space:
        raise UsageError(f"{path}: 'repeats' sets the seeds, so 'seed' cannot be in the space")
    trials = _at_least_one(written, "trials", where)
    epochs, thaw = base.get("num_epochs", KEYS["num_epochs"].default), _read_thaw(written, where)
    return Settings(
        base=base,
        method=method,
        space=space,
        when=when,
        trials=trials,
        seed=KEYS["seed"].check(written.get("seed", KEYS["seed"].default), where),
        repeats=repeats,
        prune=_read_rungs(written, "prune", where) if written.get("prune") is not None else None,
        points=points,
        epochs=epochs,
        rungs=_read_rungs({"rungs": {"keep": 0.33}, **written}, "rungs", where),
        budget=thaw.get("budget") or max(epochs, trials * epochs // 3),
        thaw_epochs=thaw.get("epochs") or max(1, epochs // 20),
        parallel=thaw.get("parallel"),
    )


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


def _refuse_unknown(values: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known) or f", want one of {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {name!r}{hint}")


def _at_least_one(values: dict[str, Any], name: str, where: str) -> int:
    return Key(name, int, 1, "", 1, LARGEST_GRID).check(values.get(name, 1), where)


def _like(value: Any, base: Any, where: str) -> Any:
    """Return a value as the type of the base params' value: 0 is 0.0 where that is 0.8.

    Raises:
        UsageError: it is of another type, and may be a slip: 1.5 or "2" or true beside 1.
    """
    if isinstance(base, dict) and isinstance(value, dict):
        return {name: _like(item, base.get(name), where) for name, item in value.items()}
    if isinstance(base, list) and isinstance(value, list) and len(base) == len(value):
        return [_like(item, other, where) for item, other in zip(value, base, strict=True)]
    value, kind = of_type(value, type(base)), type(base)
    slip = bool(looks_like(value)) if isinstance(value, str) else isinstance(value, int | float)
    if slip and type(value) is not kind and kind in (bool, int, float, str):
        advice = f"; write {base}.0 there if fractions are meant" if kind is int else ""
        wanted = f"{KINDS[kind]} like the {spelled(base)} of the params{advice}"
        raise UsageError(f"{where} holds {spelled(value)}, want {wanted}")
    return value


def _read_dimension(path: str, name: str, values: Any, base: dict[str, Any]) -> Dimension:
    where = f"{path}: space of {name!r}"

    def read(value: Any) -> Any:
        if name not in KEYS or KEYS[name].type is dict:
            value = _like(value, model, where)
        return params.check_values({name: value}, path)[name]

    top, *inner = name.split(".")
    model = base.get(top, KEYS[top].default if top in KEYS else None)
    for key in inner:
        if not isinstance(model, dict):
            raise UsageError(f"{where}: {top!r} of the params is {spelled(model)}, no mapping")
        model = model.get(key)
    if isinstance(values, list):
        if not values:
            raise UsageError(f"{where} holds no values")
        if model is None and {type(v) for v in values if v is not None} == {int, float}:
            model = 0.0  # [0, 0.5] are of one type
        choices = [read(value) for value in values]
        if len({point_key({name: choice}) for choice in choices}) < len(choices):
            raise UsageError(f"{where} holds a value twice")
        return CategoricalDistribution([json.dumps(choice) for choice in choices])
    if not (isinstance(values, dict) and {"low", "high"} <= set(values)):
        raise UsageError(f"{where} is {spelled(values)}, want a list or {{low, high, log, step}}")
    _refuse_unknown(values, ("low", "high", "log", "step"), where)
    low, high = read(values["low"]), read(values["high"])
    if not {type(low), type(high)} <= {int, float}:
        raise UsageError(f"{where}: 'low' and 'high' are {spelled([low, high])}, want numbers")
    whole = type(low) is type(high) is int
    if whole and model is None and name not in KEYS:
        logging.warning("Note: %s is of whole numbers: the params have no %r to tell", where, name)
    log = Key("log", bool, False, "").check(values.get("log", False), where)
    if low >= high or (log and low <= 0):
        raise UsageError(f"{where}: want low < high, and 0 < low where log is true")
    step = Key("step", int if whole else float, None, "", above=0).check(values.get("step"), where)
    if step is not None and log:
        raise UsageError(f"{where}: 'log' and 'step' do not go together")
    with warnings.catch_warnings(action="ignore"):  # steps may end below `high`, which is lowered
        if whole:
            return IntDistribution(low, high, log, step or 1)
        return FloatDistribution(low, high, log, step)


def _read_condition(
    path: str, name: str, when: Any, space: dict[str, Dimension]
) -> dict[str, list[Any]]:
    """Return the earlier keys that a key depends on, each with the values that call for it."""
    where = f"{path}: space of {name!r}: 'when'"
    if not (isinstance(when, dict) and when):
        raise UsageError(f"{where} is {spelled(when)}, want {{key: value}} or {{key: [values]}}")
    found = {}
    for other, values in when.items():
        if other not in space:
            hint = did_you_mean(str(other), space)
            raise UsageError(f"{where}: {other!r} is no key of the space before it{hint}")
        found[other] = values if isinstance(values, list) else [values]
        for value in found[other]:
            if not holds(space[other], value):
                raise UsageError(f"{where}: {spelled(value)} is none of the values of {other!r}")
    return found


def _read_rungs(written: dict[str, Any], name: str, where: str) -> tuple[int, int]:
    """Return the epoch of the first comparison, and one of how many trials goes on from each."""
    rungs = written[name]
    if not (isinstance(rungs, dict) and set(rungs) <= {"after", "keep"}):
        wanted = "want {after: epochs, keep: fraction}"
        raise UsageError(f"{where}: {name!r} is {spelled(rungs)}, {wanted}")
    keep = rungs.get("keep", 0.5)
    if type(keep) is not float or not 0 < keep <= 0.5 or abs(1 / keep - round(1 / keep)) > 0.05:
        wanted = "want 0.5, 0.33, 0.25, 0.2 ..."
        raise UsageError(f"{where}: {name} 'keep' is {spelled(keep)}, {wanted}")
    return _at_least_one(rungs, "after", f"{where}: {name}"), round(1 / keep)


def _read_thaw(written: dict[str, Any], where: str) -> dict[str, int]:
    thaw = written.get("thaw") or {}
    if not isinstance(thaw, dict):
        wanted = "want {budget: epochs, epochs: at once, parallel: trials}"
        raise UsageError(f"{where}: 'thaw' is {spelled(thaw)}, {wanted}")
    _refuse_unknown(thaw, ("budget", "epochs", "parallel"), f"{where}: thaw")
    return {name: _at_least_one(thaw, name, f"{where}: thaw") for name in thaw}
