"""Collecting the runs below a folder, in whatever state they are; 10,000 take seconds."""

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.base.errors import DataError, UsageError
from core.base.files import parse_rows
from core.base.params import find_params_file, read_params
from core.base.predictions import Predictions, read_predictions
from core.machine.locks import has_writer
from core.results.evaluations import hash_of_best, is_tied, last_fitting

OURS = {"results.md", "results.csv", "results.tex", "results.json", "report.html"}
OURS |= {f"{name}.{kind}" for name in ("curves", "seeds") for kind in ("png", "svg", "pdf")}
OURS |= {"mlflow.db"}
SKIPPED = {"__pycache__", "trackio", "wandb"}
STARTED = {"metrics.jsonl", "train.log", "last.pt"}
RUN_FILES = {"params.json", "params.yaml", "params.resolved.json"} | STARTED


@dataclass
class Result:
    """One folder: what it is, and what its files say."""

    name: str
    folder: Path
    status: str = ""
    notes: list[str] = field(default_factory=list)
    recorded: dict[str, Any] = field(default_factory=dict)  # all of params.resolved.json
    data: dict[str, Any] = field(default_factory=dict)  # of it: folder and fingerprint of the data
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)  # of the best weights, on the split
    val: dict[str, float] = field(default_factory=dict)  # on the validation split
    stale: dict[str, float] = field(default_factory=dict)  # instead of metrics: they do not fit
    stale_why: str = ""
    checkpoint: str | None = None  # SHA-256 of best.pt; if it is gone, the last one recorded
    curves: dict[str, np.ndarray] = field(default_factory=dict)  # columns of metrics.jsonl
    epochs: int | None = None  # number of the last one that was validated
    best_epoch: int | None = None
    seconds: float | None = None
    weights: int | None = None
    test_looks: int = 0
    is_run: bool = True
    monitored: tuple[str, bool] | None = None  # what rows.monitor has found


def gather(parent_dir: Path, split: str) -> list[Result]:
    """Read everything below a folder, sorted by name; what is not a run is at the end.

    UsageError: there is no such folder, or no run in it.
    """
    if not parent_dir.is_dir():
        raise UsageError(f"{parent_dir}: no such folder")
    found: list[Result] = []
    seen: set[str] = set()  # folders, links resolved
    inside: set[str] = set()  # runs, and the folders below them

    def add(path: str, status: str = "", *notes: str) -> Result:
        name = Path(path).relative_to(parent_dir).as_posix()
        name = name.encode("utf-8", "replace").decode()  # a question mark for what is not UTF-8
        found.append(Result(name, Path(path), status, [*notes], is_run=not status))
        return found[-1]

    def add_unreadable(error: OSError) -> None:
        add(error.filename, "unreadable", error.strerror or "")

    for path, folders, files in os.walk(parent_dir, onerror=add_unreadable, followlinks=True):
        if (real := os.path.realpath(path)) in seen:  # a link back to where we came from
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in SKIPPED)
        shown = sorted(name for name in files if not name.startswith((".", "holdout_")))
        results = any(name.startswith("metrics_") and name.endswith(".json") for name in files)
        search = "search.yaml" in files and STARTED.isdisjoint(files)
        is_run = not search and (results or not RUN_FILES.isdisjoint(files))
        in_run = os.path.dirname(path) in inside
        if is_run or in_run:
            inside.add(path)
        if is_run:
            read_run(add(path), split)
        elif not (in_run or search):
            odd = [os.path.join(path, name) for name in shown if name not in OURS]
            for place in odd if folders or path == str(parent_dir) else [path]:
                add(place, "not a run" if shown else "empty folder")
    if not any(run.is_run for run in found):
        raise UsageError(f"{parent_dir}: no folder below it is a run")
    return sorted(found, key=lambda result: not result.is_run)


def read_run(run: Result, split: str) -> None:
    """Read all that the table, the page and the comparisons need; notes say what is damaged."""
    run.recorded = read_object(run, "params.resolved.json")
    params, data = run.recorded.get("params"), run.recorded.get("data")
    run.data = data if isinstance(data, dict) else {}
    try:
        if not isinstance(params, dict):  # a run that has not been started
            params = read_params(find_params_file(run.folder))
        run.params = params
    except (UsageError, RecursionError) as error:
        run.notes.append(str(error).removeprefix(str(run.folder)).lstrip(f":{os.sep} "))
    remarks = read_numbers(run, split)
    rows = read_rows(run, "metrics.jsonl")
    for column in rows[0] if rows else []:
        with suppress(TypeError, ValueError, OverflowError):  # cells that are not numbers
            cells = (row.get(column) for row in rows)  # NumPy makes null NaN
            run.curves[column] = np.fromiter(cells, float, len(rows))
    run.epochs = rows[-1].get("epoch") if rows else None
    if run.val and run.best_epoch is None:  # not recorded
        fits = (row for row in rows if all(row.get(f"val_{n}") == x for n, x in run.val.items()))
        run.best_epoch = next(fits, {}).get("epoch")
    times = [number(row.get("seconds")) for row in read_rows(run, "times.jsonl")]
    run.seconds = math.fsum(t for t in times if t and t > 0) if times else None
    status = read_object(run, "status.json")
    run.weights = status.get("parameters")
    is_damaged = bool(run.notes)
    run.notes += remarks
    if source := run.data.get("made_up"):
        run.notes.append(f"on {source}")
    if reason := status.get("error"):
        run.notes.append(" ".join(str(reason).split())[:200])
    if has_writer(run.folder):
        run.status = "running"
    elif is_damaged:
        run.status = "damaged"
    elif (state := status.get("state")) is not None:
        run.status = "interrupted" if state == "running" else str(state)  # killed
    elif run.epochs is not None:
        asked = number(run.params.get("num_epochs")) or math.inf
        run.status = "finished" if (number(run.epochs) or 0) >= asked else "interrupted"
    else:
        run.status = "results only" if run.metrics else "not started"


def read_numbers(run: Result, split: str) -> list[str]:
    """Read the metrics of the best weights on the split shown and on the validation split.

    Where evaluations.jsonl has no row of a split, metrics_*.json has them. Returns remarks on
    numbers that are stale, or of an unknown checkpoint.
    """
    remarks, rows = [], read_rows(run, "evaluations.jsonl")
    run.test_looks = sum(row.get("split") == "test" for row in rows)
    tied = [row for row in rows if is_tied(row)]
    run.checkpoint = hash_of_best(run.folder, tied)
    for name in dict.fromkeys(["val", split]):
        row, why = last_fitting(tied, name, run.checkpoint, run.data.get("sha256"))
        written = row.get("values") or read_object(run, f"metrics_{name}_best_weights.json")
        written = written or read_object(run, f"metrics_{name}_best.json")
        values = {n: x for n, value in written.items() if (x := number(value)) is not None}
        if why:
            remarks.append(f"stale: {name} numbers {why}")
        elif values and not row and name == split:
            remarks.append(f"{name} numbers of an unknown checkpoint")
        if name == "val":
            run.val = {} if why else values
            run.best_epoch = None if why else row.get("checkpoint", {}).get("epoch")
        if name == split:
            run.metrics, run.stale = ({}, values) if why else (values, {})
            run.stale_why = why
    return remarks


def fitting_predictions(run: Result, split: str) -> Predictions:
    """Read a run's predictions; DataError if they are not of its best.pt and its data."""
    path = run.folder / f"predictions_{split}.npz"
    found = read_predictions(path)
    for made_of, now in (found.checkpoint, run.checkpoint), (found.data, run.data.get("sha256")):
        if None not in (made_of, now) and made_of != now:
            raise DataError(f"{path}: stale, of another best.pt or other data; evaluate again")
    return found


def number(value: Any) -> float | None:
    """Return a JSON number as a float, null as NaN, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return None
    return math.nan if value is None or abs(value) > 1e308 else float(value)


def read_bytes(run: Result, name: str) -> bytes:
    """Read a file of a run; b"" if it is absent, or cannot be read."""
    try:
        return (run.folder / name).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        run.notes.append(f"{name}: {error.strerror}")
        return b""


def read_object(run: Result, name: str) -> dict[str, Any]:
    """Read a JSON object; {} if the file is absent or damaged."""
    with suppress(ValueError, RecursionError):
        value = json.loads(read_bytes(run, name) or "{}")
        if isinstance(value, dict):
            return value
    run.notes.append(f"{name}: damaged")
    return {}


def read_rows(run: Result, name: str) -> list[dict[str, Any]]:
    """Read one JSON object a line, up to the first that is damaged."""
    rows, is_sound = parse_rows(read_bytes(run, name))
    if not is_sound:
        run.notes.append(f"{name}: line {len(rows) + 1} is damaged or cut short")
    return rows
