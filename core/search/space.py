"""The space of a search: what each key may be, and reading that from search.yaml."""

import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from core.base import params
from core.base.errors import UsageError, did_you_mean, spelled
from core.base.keys import KEYS, KINDS, Key, of_type
from core.base.parsing import looks_like

# What one key may be. Choices are JSON texts, because Optuna's cannot be lists or mappings.
Dimension = CategoricalDistribution | FloatDistribution | IntDistribution
Point = dict[str, Any]  # a value for every key of the space
SHORT = {"learning_rate": "lr", "batch_size": "batch", "dropout_rate": "dropout"}
SHORT |= {"weight_decay": "wd", "num_epochs": "epochs", "lr_scheduler": "schedule"}


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


def refuse_unknown(values: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise UsageError for the first name that is not known."""
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known) or f", want one of {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {name!r}{hint}")


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


def read_dimension(path: str, name: str, values: Any, base: dict[str, Any]) -> Dimension:
    """Return what a key may be; UsageError if its values could not stand in a params file."""
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
    refuse_unknown(values, ("low", "high", "log", "step"), where)
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


def read_condition(
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


def compact(value: Any) -> str:
    """Return a value in few letters: 5e-3 for 0.005, .05 for 0.05."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value if isinstance(value, str) else json.dumps(value)
    exact, digits = f"{value:.3g}", f"{value:.2e}"
    mantissa, exponent = digits.split("e")
    scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    plain = exact.replace("0.", ".", 1) if exact.startswith(("0.", "-0.")) else exact
    small = 0 < abs(value) < 0.01 and len(scientific) <= len(plain)
    return scientific if small or len(scientific) < len(plain) else plain


def short_keys(point: Mapping[str, Any]) -> dict[str, str]:
    """Return short names of a point's keys, if they tell them apart: lr for learning_rate."""
    last = {name: name.rpartition(".")[2] for name in point}
    short = {name: SHORT.get(word, word) for name, word in last.items()}
    return short if len({*short.values()}) == len(point) else {name: name for name in point}
