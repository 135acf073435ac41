"""Loading a task whose files may have been edited since this process imported them."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec

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
