"""The space of a search: what search.yaml says."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.base.keys import KEYS
from core.base.params import check_names, check_values
from core.base.parsing import read_mapping

Point = dict[str, Any]  # a value for every key of the space

METHODS = ("grid", "random", "qmc", "tpe", "cmaes")
RANGE = ("low", "high", "log", "step")
LARGEST_GRID = 100_000


@dataclass(frozen=True)
class Dimension:
    """What one key may be: one of `choices`, or a number from `low` to `high`, both included."""

    name: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are allowed."""
        return isinstance(self.low, int)

    @property
    def count(self) -> int:
        """How many values a grid has."""
        if self.choices is not None:
            return len(self.choices)
        return int((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def value(self, i: int) -> Any:
        """Return value `i` of a grid."""
        if self.choices is not None:
            return self.choices[i]
        value = self.low + i * (self.step or 1)
        # 0.1 + 2 * 0.1 is 0.30000000000000004, which nobody asked for.
        return value if self.whole else float(f"{value:.12g}")

    def distribution(self) -> Any:
        """Return the dimension as Optuna knows it; choices are written as JSON texts."""
        from optuna import distributions

        if self.choices is not None:
            return distributions.CategoricalDistribution([json.dumps(v) for v in self.choices])
        low, high, log = self.low, self.high, self.log
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return distributions.IntDistribution(int(low), int(high), log=log, step=step)
        return distributions.FloatDistribution(low, high, log=log, step=self.step)

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one of this dimension."""
        if self.choices is not None:
            return json.dumps(value) in map(json.dumps, self.choices)
        if type(value) not in ((int,) if self.whole else (int, float)):
            return False
        steps = 0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-8


@dataclass(frozen=True)
class Settings:
    """What a search.yaml says.

    `prune` is (epochs before the first comparison, one of how many goes on), or None.
    """

    method: str
    space: dict[str, Dimension]
    trials: int
    seed: int
    repeats: int
    prune: tuple[int, int] | None

    def holds(self, point: Point) -> bool:
        """Tell whether a point, which may come from another space, lies in this one."""
        return all(name in point and d.holds(point[name]) for name, d in self.space.items())


def read_settings(path: Path, base: dict[str, Any]) -> Settings:
    """Read a search.yaml.

    Args:
        path: the file.
        base: the params that all trials share.

    Raises:
        UsageError: a key or value is not one of a search, or could not stand in a params file.
    """
    written = read_mapping(path)
    known = ("method", "space", "trials", "seed", "repeats", "prune")
    _refuse_unknown(written, known, str(path))
    method = written.get("method", "grid")
    if method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        raise UsageError(f"{path}: 'method' is {method!r}{hint}, want one of {', '.join(METHODS)}")
    space = _read_space(path, written.get("space"), base)
    size = 1
    for dimension in space.values():
        if method == "grid" and not (dimension.choices or dimension.step or dimension.whole):
            raise UsageError(f"{path}: a grid needs a 'step' for {dimension.name!r}, or choices")
        size *= dimension.count if method == "grid" else 1
    if size > LARGEST_GRID:
        raise UsageError(
            f"{path}: a grid of {size} points, want at most {LARGEST_GRID}: larger steps, or random"
        )
    if method == "grid" and "trials" in written:
        raise UsageError(f"{path}: 'trials' does not go with a grid, which has {size} points")
    if method != "grid" and "trials" not in written:
        raise UsageError(f"{path}: 'trials' is missing: how many points may method {method} try?")
    if method == "cmaes" and all(d.choices is not None for d in space.values()):
        raise UsageError(f"{path}: cmaes needs a key with 'low' and 'high'; choices it cannot use")
    repeats = _whole(path, written, "repeats", 1, 1)
    if repeats > 1 and "seed" in space:
        raise UsageError(f"{path}: 'repeats' sets the seeds, so 'seed' cannot be in the space")
    return Settings(
        method=method,
        space=space,
        trials=_whole(path, written, "trials", size, 1),
        seed=KEYS["seed"].check(written.get("seed", KEYS["seed"].default), str(path)),
        repeats=repeats,
        prune=_read_prune(path, written.get("prune")),
    )


def _refuse_unknown(values: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known) or f", want one of {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {name!r}{hint}")


def _whole(path: Path, written: dict[str, Any], name: str, default: int, low: int) -> int:
    value = written.get(name, default)
    if type(value) is not int or value < low:
        raise UsageError(f"{path}: {name!r} is {value!r}, want a whole number of at least {low}")
    return value


def _read_space(path: Path, space: Any, base: dict[str, Any]) -> dict[str, Dimension]:
    if not (isinstance(space, dict) and space and all(isinstance(name, str) for name in space)):
        raise UsageError(f"{path}: 'space' is {space!r}, want keys with their values")
    if warnings := check_names(space, base.get("task", "model"), str(path), base):
        raise UsageError(warnings[0])
    return {name: _read_dimension(path, name, values) for name, values in space.items()}


def _read_dimension(path: Path, name: str, values: Any) -> Dimension:
    where = f"{path}: space of {name!r}"
    if isinstance(values, list):
        if not values:
            raise UsageError(f"{where} holds no values")
        choices = [check_values({name: value}, str(path))[name] for value in values]
        if len({point_key({name: choice}) for choice in choices}) < len(choices):
            raise UsageError(f"{where} holds a value twice")
        return Dimension(name, tuple(choices))
    if not (isinstance(values, dict) and {"low", "high"} <= set(values)):
        raise UsageError(f"{where} is {values!r}, want a list or {{low, high, log, step}}")
    _refuse_unknown(values, RANGE, where)
    ends = [check_values({name: values[end]}, str(path))[name] for end in ("low", "high")]
    if not all(type(end) in (int, float) for end in ends):
        raise UsageError(f"{where}: 'low' and 'high' are {ends}, want numbers")
    whole = all(type(end) is int for end in ends)
    low, high = ends if whole else map(float, ends)
    log, step = values.get("log", False), values.get("step")
    if type(log) is not bool or (log and low <= 0) or low >= high:
        raise UsageError(f"{where}: want low < high, and 0 < low where log is true")
    if step is not None and (type(step) not in ((int,) if whole else (int, float)) or step <= 0):
        raise UsageError(f"{where}: 'step' is {step!r}, want a number above 0 like low and high")
    if step is not None and log:
        raise UsageError(f"{where}: 'log' and 'step' do not go together")
    dimension = Dimension(name, None, low, high, log, step)
    # Steps may end below `high`: then the last of them is the edge of the space.
    return replace(dimension, high=dimension.value(dimension.count - 1)) if step else dimension


def _read_prune(path: Path, prune: Any) -> tuple[int, int] | None:
    if prune is None:
        return None
    if not (isinstance(prune, dict) and set(prune) <= {"after", "keep"}):
        raise UsageError(f"{path}: 'prune' is {prune!r}, want {{after: epochs, keep: share}}")
    after, keep = prune.get("after", 1), prune.get("keep", 0.5)
    if type(after) is not int or after < 1:
        raise UsageError(f"{path}: prune 'after' is {after!r}, want epochs of at least 1")
    if type(keep) is not float or not 0 < keep <= 0.5 or abs(1 / keep - round(1 / keep)) > 0.05:
        raise UsageError(f"{path}: prune 'keep' is {keep!r}, want 0.5, 0.33, 0.25, 0.2 ...")
    return after, round(1 / keep)


def point_key(point: Point) -> str:
    """Return a text that is the same for equal points, in whatever order their keys stand."""
    return json.dumps(point, sort_keys=True)
