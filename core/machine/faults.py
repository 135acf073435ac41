"""Errors in the code of a task: which line of it, and with what."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

from core.base.params import ROOT

LIBRARIES = {"site-packages", "dist-packages"}


def _is_own(path: Path) -> bool:
    """Tell whether a file is of the project, but not of core or a script at its top."""
    inside = ROOT in path.parents and path.parent != ROOT
    return inside and ROOT / "core" not in path.parents and LIBRARIES.isdisjoint(path.parts)


def task_frame(error: BaseException) -> TracebackType | None:
    """Return the innermost frame of a task's code on the way to an error; None if there is none."""
    found, at = None, error.__traceback__
    while at is not None:
        if _is_own(Path(at.tb_frame.f_code.co_filename)):
            found = at
        at = at.tb_next
    return found


def of_task(error: BaseException) -> str | None:
    """Say where in a task's code an error came up, and the shapes there; None if not in a task's.

    Such as: your loss_fn, model/net.py:28: RuntimeError: ...; outputs (45, 3), labels (45,).
    """
    at = task_frame(error)
    if at is None:
        return None
    code, values = at.tb_frame.f_code, at.tb_frame.f_locals
    shapes = [(n, v.shape) for n, v in values.items() if hasattr(v, "shape") and n[0] != "_"]
    with_shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes[:4])
    place = Path(code.co_filename).relative_to(ROOT).as_posix()
    text = " ".join(str(error).split()) or "no message"
    told = f"your {code.co_name}, {place}:{at.tb_lineno}: {type(error).__name__}: {text}"
    return f"{told}; {with_shapes}" if with_shapes else told


def print_short(error: BaseException) -> bool:
    """Print an error in a task's code in a few lines; returns whether it is one."""
    at, told = task_frame(error), of_task(error)
    if at is None or told is None:
        return False
    line = traceback.extract_tb(at, 1)[0].line
    print(f"error: {told}\n    {line}", file=sys.stderr)
    hint = "" if "Memory" in type(error).__name__ else "; check.py tries the net and its loaders"
    print(f"--traceback shows all frames{hint}.", file=sys.stderr)
    return True
