"""Reading JSON and YAML strictly: what people get wrong is an error, not another value."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from core.base.errors import UsageError


class _Yaml(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: `1e-3` is a number, `no` is a string."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a dict, refusing a key that stands twice."""
        _refuse_repeated(key.value for key, _ in node.value)
        return super().construct_mapping(node, deep)


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _name, _pattern, _first in [
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
]:
    _whole = re.compile(f"^({_pattern})$")
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _whole, _first)
_Yaml.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: float(re.sub(r"\.(?=[inIN])", "", node.value))
)


def _refuse_repeated(names: Iterable[Any]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise UsageError(f"key {name!r} stands twice")
        seen.add(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(name for name, _ in pairs)
    return dict(pairs)


def _refuse_non_finite(value: Any, name: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name!r} is {value}, want a finite number")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, key)
    if isinstance(value, list):
        for item in value:
            _refuse_non_finite(item, name)


def parse_yaml(text: str) -> Any:
    """Read one YAML value strictly; UsageError tells the line of a mistake."""
    try:
        value = yaml.load(text, _Yaml)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UsageError(f"{line}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(str(error).splitlines()[0]) from error
    _refuse_non_finite(value)
    return value


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise UsageError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    _refuse_non_finite(value)
    return value


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds one mapping with string keys.

    Raises:
        UsageError: the file is missing, empty, not UTF-8 or not a mapping; a key stands twice; a
            number is not finite.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise UsageError("the file is empty")
        value = parse_yaml(text) if path.suffix in (".yaml", ".yml") else _parse_json(text)
        if not isinstance(value, dict):
            raise UsageError(f"found {type(value).__name__}, want a mapping of keys to values")
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UsageError(f"key {odd[0]!r} is not a string")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a UTF-8 text file") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return value
