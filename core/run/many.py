"""Evaluating every finished run below a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, UserError, plural
from core.base.files import finite_or_none
from core.base.parsing import read_mapping
from core.machine.outcome import Outcome
from core.run.folder import STATUS
from core.run.log import format_metrics


def finished_runs(parent: Path) -> list[Path]:
    """Return the folders of finished runs below a folder, sorted; UsageError if there is none."""
    found = []
    for path in sorted(parent.rglob("best.pt")):
        try:
            state = read_mapping(path.with_name(STATUS)).get("state")
        except UsageError:  # no status, or a damaged one
            state = None
        if state == "finished":
            found.append(path.parent)
    if not found:
        raise UsageError(f"{parent}: want a folder with finished runs below it, found none")
    return found


def evaluate_all(parent: Path, evaluate: Callable[[Path], dict[str, Any] | None]) -> Outcome:
    """Evaluate finished runs and print a line for each; one that fails does not stop the others.

    Args:
        parent: the folder that they are in.
        evaluate: evaluates the run in a folder; None if that had been done before.

    Returns:
        Exit code 1 if a run failed; `runs` for `--json`, a {folder, state, ...} each.
    """
    runs: list[dict[str, Any]] = []
    for folder in finished_runs(parent):
        run: dict[str, Any] = {"folder": str(folder), "state": "evaluated"}
        told = "evaluated before"
        try:
            if (done := evaluate(folder)) is None:
                run["state"] = "skipped"
            else:
                told = format_metrics(done["metrics"]) or done.get("verdict", "no labels")
                finite = {n: finite_or_none(value) for n, value in done["metrics"].items()}
                run |= done | {"metrics": finite}
        except Exception as error:  # of the task's code, too
            kind = "" if isinstance(error, UserError | OSError) else f"{type(error).__name__}: "
            run |= {"state": "failed", "error": f"{kind}{error}"}
            told = f"error: {' '.join(run['error'].split())}"
        print(f"{folder}: {told}", flush=True)
        runs.append(run)
    failed = sum(run["state"] == "failed" for run in runs)
    if failed:
        print(f"{plural(failed, 'run', 'runs')} could not be evaluated: see evaluate.log of each")
    return Outcome(int(failed > 0), parent, {}, runs=runs)
