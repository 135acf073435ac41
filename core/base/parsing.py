"""Reading JSON and YAML strictly: what people get wrong is an error, not another value."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from core.base.errors import UsageError

DEEPEST, ALIASES = 50, 20  # levels of nesting; most of a file
TANGLED = "a value is nested too deeply, or holds itself"
_NUMBER = r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
# Also in spellings that are strings here: 010, 0x10, 1_000, 0,5, 5%, inf, 1:30, 1/3.
_LIKE_A_NUMBER = (
    r"[-+]?(0[xob]\w+|[\d_]*[.,]?\d[\d_]*[.,]?(e[-+]?\d+)?%?|[.]?(inf|nan))|\d+([:/]\d+)+"
)


def looks_like(text: str) -> str:
    """Return what a string may be meant for: "true or false", "null" or "a number"; else ""."""
    word = text.strip().lower()
    if word in ("true", "false", "yes", "no", "on", "off", "y", "n"):
        return "true or false"
    if word == "null" or text.strip() == "None":
        return "null"
    return "a number" if re.fullmatch(_LIKE_A_NUMBER, word) else ""


class _Unquoted(str):
    """A word that other readers of YAML take for a switch or null, and that stands unquoted."""


class _Yaml(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: `1e-3` is a number, `0x10` and `1_000` are strings."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name

    aliases = 0  # so far; twenty can repeat a value 1,500 times, sixty 3 billion times

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a value, refusing tags, which stand for what JSON cannot hold, and many aliases."""
        event = self.peek_event()
        self.aliases += isinstance(event, yaml.AliasEvent)
        if self.aliases > ALIASES:
            raise UsageError(f"more than {ALIASES} aliases: write the values out")
        if tag := getattr(event, "tag", None):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            raise UsageError(f"line {event.start_mark.line + 1}: found {tag}, want a plain value")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Read a mapping, refusing a key that stands twice."""
        node = super().compose_mapping_node(anchor)
        _unique([(key.value, key) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        for key, _ in node.value:
            key.style = '"'  # a key is a name, whatever it looks like
        return node

    def text(self, node: Any) -> str:
        """Return a string, marked where only quotes would tell that it is one."""
        unclear = node.style is None and looks_like(node.value) in ("true or false", "null")
        return _Unquoted(node.value) if unclear else str(node.value)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= 18 else math.inf  # fits 64 bits


for _name, _pattern, _first in [
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
    ("merge", "<<", ["<"]),
]:
    _whole = re.compile(f"^({_pattern})$")
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _whole, _first)
_Yaml.add_constructor("tag:yaml.org,2002:str", _Yaml.text)
_Yaml.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _integer(node.value))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise UsageError(f"key {name!r} stands twice")
    return dict(pairs)


def scalars(value: Any, name: Any = "", depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield what mappings and lists hold at their ends, each with the key nearest to it."""
    if not isinstance(value, dict | list):
        yield name, value
        return
    if depth > DEEPEST:
        raise UsageError(TANGLED)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from scalars(item, key if isinstance(value, dict) else name, depth + 1)


def _refuse_unclear(value: Any, of: str = "") -> None:
    for name, item in scalars(value, of):
        if isinstance(item, float) and not math.isfinite(item):
            found = "nan" if math.isnan(item) else "infinite or too large"
            raise UsageError(f"{name!r} is {found}, want a finite number")
        if isinstance(item, _Unquoted):
            wanted = f'{looks_like(item)}, or "{item}" in quotes for a string'
            raise UsageError(f"{name!r} is {item!r}, want {wanted}")


def parse_yaml(text: str, name: str = "") -> Any:
    """Read one YAML value, of the key `name`, strictly; UsageError tells the line of a mistake."""
    try:
        value = yaml.load(text, _Yaml)
        _refuse_unclear(value, name)
    except (yaml.YAMLError, ValueError) as error:
        mark, told = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise UsageError(line + (told or str(error).splitlines()[0])) from error
    except RecursionError:
        raise UsageError(TANGLED) from None
    return value


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds one mapping with string keys.

    UsageError tells that the file is missing, empty, not UTF-8 or not a mapping; that a key stands
    twice, a number is not finite, or a word of YAML needs quotes.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # to read a pipe would wait for ever
            raise UsageError("not a file")
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise UsageError("the file is empty")
        of_yaml = path.suffix in (".yaml", ".yml")
        how: Any = {"object_pairs_hook": _unique, "parse_int": _integer}
        value = parse_yaml(text) if of_yaml else json.loads(text, **how)
        _refuse_unclear(value)
        if not isinstance(value, dict):
            raise UsageError(f"found {type(value).__name__}, want a mapping of keys to values")
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UsageError(f"key {odd[0]!r} is not a string")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a UTF-8 text file") from error
    except (OSError, ValueError, RecursionError) as error:  # a JSONDecodeError tells the line
        deep = isinstance(error, RecursionError)
        raise UsageError(
            f"{path}: {TANGLED if deep else getattr(error, 'strerror', error)}"
        ) from error
    return value
