"""Hyperparameters: reading a params file, checking its keys and values, overriding them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.base.errors import UsageError, did_you_mean, spelled
from core.base.files import write_json
from core.base.keys import DEFAULTS, KEYS, MISTAKEN, of_type
from core.base.parsing import looks_like, parse_yaml, read_mapping, scalars

ROOT = Path(__file__).resolve().parents[2]


class MissingKeyError(UsageError, AttributeError):
    """A key that was asked for is not in the params."""


class Params:
    """Hyperparameters of a JSON or YAML file, as attributes: `params.learning_rate`."""

    __slots__ = ("__dict__", "_path")

    dict = property(attrgetter("__dict__"), doc="All keys and values; a change of it is kept.")

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self.update(path)

    if TYPE_CHECKING:  # any key may be set

        def __setattr__(self, name: str, value: Any) -> None: ...

    @classmethod
    def of(cls, values: Mapping[str, Any], path: str | Path) -> "Params":
        """Make Params of a dict; `path` is what errors name as their source."""
        params = cls.__new__(cls)
        params._path = str(path)
        params.__dict__.update(values)
        return params

    def save(self, path: str | Path) -> None:
        """Write all keys and values to a JSON file."""
        write_json(path, self.__dict__)

    def update(self, path: str | Path) -> None:
        """Take in the keys of another JSON or YAML file; those there already are replaced."""
        values = read_params(path)
        _refuse_own_names(values, str(path))
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickle and copy ask for such names before _path is set
            raise AttributeError(name)
        hint = did_you_mean(name, self.__dict__)
        raise MissingKeyError(f"{self._path}: no key {name!r}{hint}")

    def __repr__(self) -> str:
        return f"Params({self.__dict__})"


def _refuse_own_names(names: Iterable[str], where: str) -> None:
    for name in names:
        if hasattr(Params, name) or name.startswith("_"):
            raise UsageError(f"{where}: key {name!r} is a name that Params itself uses")


def read_params(path: str | Path) -> dict[str, Any]:
    """Read a params file; its key "$schema", which is for editors, is left out."""
    values = read_mapping(path)
    values.pop("$schema", None)
    return values


def find_params_file(model_dir: str | Path) -> Path:
    """Return the one `params.json` or `params.yaml` of a folder; UsageError if none or both."""
    folder = Path(model_dir)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = [path for name in ("params.json", "params.yaml") if (path := folder / name).exists()]
    if len(found) != 1:
        pair = "both params.json and" if found else "neither params.json nor"
        raise UsageError(f"{folder}: holds {pair} params.yaml, want one of them")
    return found[0]


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` strings, the values as YAML: ["learning_rate=1e-3"] -> a dict."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (equals and all(part.isidentifier() for part in name.split("."))):
            raise UsageError(f"--set: found {setting!r}, want key=value")
        if name in overrides:
            raise UsageError(f"--set: key {name!r} is given twice")
        try:
            overrides[name] = parse_yaml(text, name)
        except UsageError as error:
            raise UsageError(f"--set {name}: {error}") from error
    return overrides


def laid_over(
    values: Mapping[str, Any], changes: Mapping[str, Any], where: str = "--set"
) -> dict[str, Any]:
    """Return values with changes; "optimizer_args.momentum" changes one key of a mapping.

    UsageError: what has such a key is no mapping.
    """
    changed = dict(values)
    for name, value in changes.items():
        top, dot, inner = name.partition(".")
        if dot:
            held = changed.get(top, DEFAULTS.get(top))
            if not isinstance(held, Mapping):
                raise UsageError(f"{where}: {name!r}, but {top!r} is {spelled(held)}, no mapping")
            value = laid_over(held, {inner: value}, where)
        changed[top] = value
    return changed


def task_folder(task: str, where: str) -> Path:
    """Return the folder of the package `task`, a dotted name below the repository's root."""
    names = task.split(".")
    folder = ROOT.joinpath(*names)
    if not all(name.isidentifier() for name in names):
        raise UsageError(f"{where}: 'task' is {spelled(task)}, want a dotted name such as 'model'")
    for name in ("net.py", "data_loader.py"):
        if not (folder / name).is_file():
            wanted = f"but there is no {'/'.join(names)}/{name}"
            raise UsageError(f"{where}: 'task' is {spelled(task)}, {wanted}")
    return folder


def _reads(code: str, name: str) -> bool:
    """Tell whether Python code holds "name", or x.name of any object but self; not x.name()."""
    word = re.escape(name)
    read = rf"[\"']{word}[\"']|(?<=\w)(?<!\bself)\.{word}\b(?!\()"
    return re.search(read, code) is not None


def check_names(
    values: dict[str, Any], task: str, where: str, beside: Iterable[str] = ()
) -> list[str]:
    """Return a warning for every key that nothing seems to read, or whose string may be a slip.

    A key is known when it is declared, or a word in a Python file of the task's top-level package;
    a word that is not read of params, as in `self.dropout`, may stand for a longer key. `where`
    names the source of `values`, which may be meant to override the keys of `beside`.

    UsageError: an unknown key is an argument of an optimizer, or resembles a key that is absent: a
    declared one, a `params.<name>` of the task, one of `beside`; or a string is "true" or "false".
    """
    top = ROOT / task.split(".")[0]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(top.rglob("*.py")))
    warnings = []
    own = {n: v for n, v in values.items() if n not in KEYS or isinstance(v, dict)}
    for name, text in scalars(own):
        if isinstance(text, str) and (other := looks_like(text)):
            found = f"{where}: {name!r} is the string {text!r}"
            if text.strip().lower() in ("true", "false"):
                raise UsageError(f"{found}, which code takes for true; write it without quotes")
            warnings.append(f"{found}; if {other} is meant, write it as such")
    for name in (name for name in values if name not in KEYS):
        known = _reads(code, name) or name in beside or "**params" in code
        wanted = set() if known else {*re.findall(r"\bparams\.(\w+)", code), *beside} - set(values)
        longer = [key for key in sorted(wanted) if not known and f"_{name}_" in f"_{key}_"]
        if name in MISTAKEN and not known:
            raise UsageError(f"{where}: nothing reads {name!r}: set {MISTAKEN[name]!r}")
        if not longer and re.search(rf"\b{re.escape(name)}\b", code):
            continue
        absent = wanted | (KEYS.keys() - set(values))
        if hint := did_you_mean(name, longer or sorted(absent), 0.0 if longer else 0.75):
            raise UsageError(f"{where}: unknown key {name!r}{hint}")
        warnings.append(f"{where}: nothing in {top.name}/ reads the key {name!r}")
    return warnings


def check_values(
    values: dict[str, Any], where: str, beside: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return `values` with every declared key checked for its type and range.

    A number of another key is of the type that it has in `beside`, however it is spelt.
    """
    _refuse_own_names(values, where)
    return {
        n: KEYS[n].check(v, where) if n in KEYS else of_type(v, type((beside or {}).get(n)))
        for n, v in values.items()
    }


def expanded(overrides: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides of whole keys: those of keys in a mapping hold all of the mapping."""
    whole = laid_over(values, overrides)
    return {top: whole[top] for top in dict.fromkeys(name.split(".")[0] for name in overrides)}


def load_params(path: Path, overrides: dict[str, Any]) -> tuple[Params, list[str]]:
    """Read a params file strictly, lay `overrides` over it, and fill in the defaults.

    Returns the params in force, and warnings for the log; a UsageError names the file and key.
    """
    written = check_values(read_params(path), str(path))
    overrides = expanded(overrides, written)
    values = written | check_values(overrides, "--set", beside=written)
    task = values.get("task", DEFAULTS["task"])
    task_folder(task, "--set" if "task" in overrides else str(path))
    warnings = check_names(written, task, str(path))
    warnings += check_names(overrides, task, "--set", beside=written)
    return Params.of(DEFAULTS | values, path), warnings
