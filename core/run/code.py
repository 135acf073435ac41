"""Loading a task whose files may have been edited since this process imported them."""

import ast
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from core.base import imported
from core.base.errors import UsageError
from core.base.params import ROOT, Params, task_folder
from core.task import Task, load_task


def import_task(params: Params) -> Task:
    """Load the task of some params, anew if it was edited since, and give it the params.

    UsageError: core was edited since, or another package has the task's name.
    """
    name = params.task
    edited = imported.edited()
    if fixed := [path for path in edited if not imported.can_be_forgotten(path)]:
        raise UsageError(f"{fixed[0]}: edited since Python imported it; start Python anew")
    if edited:
        imported.forget()
    path = task_folder(name, "task") / "net.py"
    for file in path.parent.glob("*.py"):
        imported.forget_bytecode(file)
    try:
        spec = find_spec(f"{name}.net")  # imports the packages around it
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None or not path.samefile(str(spec.origin)):
        other = spec.origin if spec else sys.modules.get(name.partition(".")[0])
        told = f"task {name!r}: Python finds {other} in place of {path}"
        raise UsageError(f"{told}\nRename one of the two packages, or start Python in {ROOT}.")
    task = load_task(name)
    imported.hashes()
    return task.with_params(params)


def hash_code(task: str) -> dict[str, str]:
    """Return hashes, by path, of a task's folder and of all outside core that is imported."""
    files = task_folder(task, "task").glob("*.py")
    return {
        path.relative_to(ROOT).as_posix(): imported.hash_of(path) for path in files
    } | imported.hashes()


def edited_since(recorded: Mapping[str, str], task: str) -> list[str]:
    """Return the files that held something else when the hashes of a run were recorded."""
    return [name for name, new in hash_code(task).items() if recorded.get(name, new) != new]


def hash_scores(task: Task) -> dict[str, str]:
    """Return hashes, by name, of the code of every metric and of the loss.

    The code is the function, and what it calls or reads in the project. Comments do not count.
    """
    of_all = hash_text(*_sources(task.collect, set()), *_sources(task.loss_weight, set()))
    scores = {**task.metrics, "loss": task.loss_fn}
    return {name: hash_text(of_all, *_sources(each, set())) for name, each in scores.items()}


def hash_text(*parts: str) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _sources(value: Any, seen: set[int]) -> Iterator[str]:
    """Yield the code of a function or of an object's class, and of what it names in the project."""
    while hasattr(value, "func"):  # a partial function
        value = value.func
    with suppress(TypeError, ValueError):
        yield json.dumps(value)  # a constant
        return
    if not isinstance(value, type | FunctionType | BuiltinFunctionType):
        value = type(value)
    if id(value) in seen:
        return
    seen.add(id(value))
    yield f"{value.__module__}.{value.__qualname__}"
    file = Path(getattr(sys.modules.get(str(value.__module__)), "__file__", None) or "/")
    if not file.is_relative_to(ROOT) or "site-packages" in file.parts:
        return
    with suppress(OSError, TypeError):
        text = textwrap.dedent(inspect.getsource(value))
        with suppress(SyntaxError):  # part of a line, as a lambda may be
            text = ast.unparse(ast.parse(text))
        yield text
    for function in [value, *vars(value).values()]:
        if isinstance(function, FunctionType):
            cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
            known = function.__globals__ | {name: cell.cell_contents for name, cell in cells}
            for name in sorted(known.keys() & {*_names(function.__code__)}):
                yield from _sources(known[name], seen)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function uses, those of functions inside it too."""
    yield from (*code.co_names, *code.co_freevars)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
