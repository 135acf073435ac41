"""Reading, checking and saving params files."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from core.base.errors import UsageError, did_you_mean
from core.base.files import write_json
from core.base.keys import KEYS

ROOT = Path(__file__).resolve().parents[2]


class _Yaml(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: `1e-3` is a number, `no` is a string."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a dict, refusing a key that stands twice."""
        keys = [key.value for key, _ in node.value]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise UsageError(f"key {repeated[0]!r} stands twice")
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile("^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
_Yaml.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: float(re.sub(r"\.(?=[inIN])", "", node.value))
)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"key {name!r} stands twice")
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


class MissingKeyError(UsageError, AttributeError):
    """A key that was asked for is not in the params."""


class Params:
    """Hyperparameters as attributes: `params.learning_rate`.

    Args:
        path: a JSON or YAML file that holds one mapping.
    """

    __slots__ = ("__dict__", "_path")

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self.update(path)

    if TYPE_CHECKING:  # any key may be set

        def __setattr__(self, name: str, value: Any) -> None: ...

    @classmethod
    def of(cls, values: dict[str, Any], path: str | Path) -> "Params":
        """Make Params of a dict; `path` is what errors name as their source."""
        params = cls.__new__(cls)
        params._path = str(path)
        params.__dict__.update(values)
        return params

    @property
    def dict(self) -> dict[str, Any]:
        """All keys and values; changing this dict changes the params."""
        return self.__dict__

    def save(self, path: str | Path) -> None:
        """Write all keys and values to a JSON file."""
        write_json(path, self.__dict__)

    def update(self, path: str | Path) -> None:
        """Take in the keys of another JSON or YAML file; those there already are replaced."""
        values = read_mapping(path)
        for name in values:
            if hasattr(Params, name):
                raise UsageError(f"{path}: key {name!r} is a name that Params itself uses")
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickle and copy ask for such names before _path is set
            raise AttributeError(name)
        hint = did_you_mean(name, self.__dict__)
        raise MissingKeyError(f"{self._path}: no key {name!r}{hint}")

    def __repr__(self) -> str:
        return f"Params({self.__dict__})"


def find_params_file(model_dir: str | Path) -> Path:
    """Return the one `params.json` or `params.yaml` of a folder; UsageError if none or both."""
    folder = Path(model_dir)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = [path for name in ("params.json", "params.yaml") if (path := folder / name).exists()]
    if not found:
        raise UsageError(f"{folder}: holds neither params.json nor params.yaml")
    if len(found) == 2:
        raise UsageError(f"{folder}: holds both params.json and params.yaml, want one of them")
    return found[0]


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` strings, the values as YAML: ["learning_rate=1e-3"] -> a dict."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (equals and name.isidentifier()):
            raise UsageError(f"--set: found {setting!r}, want key=value")
        if name in overrides:
            raise UsageError(f"--set: key {name!r} is given twice")
        try:
            overrides[name] = parse_yaml(text)
        except UsageError as error:
            raise UsageError(f"--set {setting}: {error}") from error
    return overrides


def task_folder(task: str, where: str) -> Path:
    """Return the folder of the package `task`, a dotted name below the repository's root."""
    names = task.split(".")
    folder = ROOT.joinpath(*names)
    if not all(name.isidentifier() for name in names):
        raise UsageError(f"{where}: 'task' is {task!r}, want a dotted name such as 'model'")
    for name in ("net.py", "data_loader.py"):
        if not (folder / name).is_file():
            raise UsageError(
                f"{where}: 'task' is {task!r}, but there is no {'/'.join(names)}/{name}"
            )
    return folder


def check_names(
    values: dict[str, Any], task: str, where: str, beside: Iterable[str] = ()
) -> list[str]:
    """Return a warning for every key that nothing seems to read.

    A key is known when it is declared, or occurs as a word in a Python file of the task's
    top-level package.

    Args:
        values: the keys to check, with their values.
        task: dotted name of the task.
        where: the file or option that holds the keys, for messages.
        beside: keys of another source, which `values` may be meant to override.

    Raises:
        UsageError: an unknown key resembles a declared key, a `params.<name>` of the task or a key
            of `beside` that is itself absent from `values`: most likely a slip of the pen.
    """
    top = ROOT / task.split(".")[0]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(top.rglob("*.py")))
    words = set(re.findall(r"\w+", code))
    absent = {*KEYS, *re.findall(r"\bparams\.(\w+)", code), *beside} - set(values)
    warnings = []
    for name in values:
        if name in KEYS or name in words:
            continue
        if hint := did_you_mean(name, sorted(absent)):
            raise UsageError(f"{where}: unknown key {name!r}{hint}")
        warnings.append(f"{where}: nothing in {top.name}/ reads the key {name!r}")
    return warnings


def check_values(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return `values` with every declared key checked for its type and range."""
    checked = {
        name: KEYS[name].check(value, where) if name in KEYS else value
        for name, value in values.items()
    }
    for name in checked:
        if hasattr(Params, name) or name.startswith("_"):
            raise UsageError(f"{where}: key {name!r} is a name that Params itself uses")
    return checked


def load_params(path: Path, overrides: dict[str, Any]) -> tuple[Params, list[str]]:
    """Read a params file strictly, lay `overrides` over it, and fill in the defaults.

    Returns:
        The params in force, and warnings for the log.

    Raises:
        UsageError: the file, a key or a value is not as it should be; the message names it.
    """
    written = check_values(read_mapping(path), str(path))
    values = written | check_values(overrides, "--set")
    task = values.get("task", KEYS["task"].default)
    task_folder(task, "--set" if "task" in overrides else str(path))
    warnings = check_names(written, task, str(path))
    warnings += check_names(overrides, task, "--set", beside=written)
    defaults = {name: key.default for name, key in KEYS.items()}
    return Params.of(defaults | values, path), warnings
