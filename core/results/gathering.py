"""Collecting the runs below a folder, in whatever state they are.

Torch is not imported here, and no file is opened that the table does not need: 10,000 runs take
seconds.
"""

import json
import math
import os
from array import array
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.base.files import parse_rows
from core.base.parsing import read_mapping
from core.machine.locks import LOCK, has_writer

OURS = {"results.md", "results.csv", "results.tex", "results.json", "report.html"}
OURS |= {"curves.png", "seeds.png"}
RUN_FILES = {"params.json", "params.yaml", "params.resolved.json"}
RUN_FILES |= {"metrics.jsonl", "train.log", "last.pt"}


@dataclass
class Result:
    """One folder: what it is, and what its files say. `curves` has one array per column."""

    name: str
    folder: Path
    status: str
    notes: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, "array[float]"] = field(default_factory=dict)
    best_epoch: int | None = None
    seconds: float | None = None
    weights: int | None = None
    test_looks: int = 0
    data: dict[str, Any] = field(default_factory=dict)  # its fingerprint
    code: Any = None  # hashes of the task's files
    is_run: bool = True

    @property
    def epochs(self) -> int | None:
        """Number of the last epoch that was validated."""
        numbers = self.curves.get("epoch")
        return int(numbers[-1]) if numbers and math.isfinite(numbers[-1]) else None


def number(value: Any) -> float | None:
    """Return a JSON number as a float, null as NaN, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return None
    return math.nan if value is None or abs(value) > 1e308 else float(value)


def gather(parent_dir: Path, split: str) -> list[Result]:
    """Read everything below a folder, sorted by name; what is not a run is at the end."""
    found = list(_walk(parent_dir, "", False, split, set()))
    return sorted(found, key=lambda result: not result.is_run)


def _walk(
    folder: Path, name: str, in_run: bool, split: str, seen: set[tuple[int, int]]
) -> Iterator[Result]:
    """Yield the folder if it is a run, the runs below it, and what beside them is not a run."""
    try:
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:  # a link back to where we came from
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as entries:
            is_folder = {
                e.name: os.path.isdir(e.path) if e.is_symlink() else e.is_dir() for e in entries
            }
    except OSError as error:
        yield Result(name, folder, "unreadable", [error.strerror or ""], is_run=False)
        return
    files = {entry for entry in is_folder if not is_folder[entry]}
    places = {  # names that are not UTF-8 are shown with question marks
        entry: f"{name}/{entry}".strip("/").encode("utf-8", "replace").decode()
        for entry in sorted(is_folder)
        if entry[0] != "." and entry != "__pycache__"
    }
    below = [entry for entry in places if is_folder[entry]]
    search = "search.yaml" in files and not files & {"train.log", "metrics.jsonl", "last.pt"}
    results = any(f.startswith("metrics_") and f.endswith(".json") for f in files)
    is_run = bool(files & RUN_FILES or results) and not search
    if is_run:
        yield RunFolder(folder, files).read(name or ".", split)
    elif not (in_run or search or below) and name:
        status = "not a run" if places else "empty folder"
        yield Result(name, folder, status, is_run=False)
    elif not (in_run or search):
        for file in (entry for entry in places if entry in files - OURS):
            yield Result(places[file], folder / file, "not a run", is_run=False)
    for entry in below:
        yield from _walk(folder / entry, places[entry], in_run or is_run, split, seen)


class RunFolder:
    """Reads the files of a run; what is damaged in them is added to `faults`."""

    def __init__(self, folder: Path, files: Container[str]) -> None:
        self.folder, self.files = folder, files
        self.faults: list[str] = []

    def read(self, name: str, split: str) -> Result:
        """Return all that the table, the page and the comparisons need."""
        run = Result(name, self.folder, "")
        recorded = self.mapping("params.resolved.json")
        data, params = recorded.get("data"), recorded.get("params")
        run.params = params if isinstance(params, dict) else self._params()
        run.data, run.code = data if isinstance(data, dict) else {}, recorded.get("code")
        if run.data.get("made_up"):
            run.notes.append(f"on {run.data['made_up']}")
        best = self.mapping("metrics_val_best_weights.json")
        chosen = best if split == "val" else {}
        chosen = chosen or self.mapping(f"metrics_{split}_best.json")
        values = {name: number(value) for name, value in chosen.items()}
        run.metrics = {name: value for name, value in values.items() if value is not None}
        rows = self.rows("metrics.jsonl")
        for column in rows[0] if rows else []:
            try:
                run.curves[column] = array("d", [row[column] for row in rows])
            except (KeyError, TypeError, OverflowError):  # a null, or no number
                cells = [number(row.get(column)) for row in rows]
                if None not in cells:
                    run.curves[column] = array("d", cells)  # type: ignore[arg-type]
        for row in rows if best else []:
            if all(row.get(f"val_{name}") == value for name, value in best.items()):
                run.best_epoch = row["epoch"] if isinstance(row.get("epoch"), int) else None
                break
        times = [number(row.get("seconds")) for row in self.rows("times.jsonl")]
        run.seconds = math.fsum(t for t in times if t and t > 0) if times else None
        looks = self.rows("evaluations.jsonl")
        run.test_looks = sum(row.get("split") == "test" for row in looks)
        run.status = self._status(run)
        if self.faults and run.status != "running":
            run.status = "damaged"
        run.notes = self.faults + run.notes
        return run

    def _status(self, run: Result) -> str:
        """Return how a run stands: by its lock, else by its status file, else by other files."""
        recorded = self.mapping("status.json")
        run.weights = recorded.get("parameters")
        if LOCK in self.files and has_writer(self.folder):
            return "running"
        if (state := recorded.get("state")) is not None:
            if error := recorded.get("error"):
                run.notes.append(" ".join(str(error).split())[:200])
            return "interrupted" if state == "running" else str(state)  # killed
        if run.epochs is not None:
            asked = number(run.params.get("num_epochs")) or math.inf
            return "finished" if run.epochs >= asked else "interrupted"
        return "results only" if run.metrics else "not started"

    def _params(self) -> dict[str, Any]:
        for name in ("params.json", "params.yaml"):
            if name in self.files:
                try:
                    return read_mapping(self.folder / name)
                except (UsageError, RecursionError) as error:
                    self.faults.append(str(error).removeprefix(f"{self.folder}{os.sep}"))
                    return {}
        self.faults.append("no params file")
        return {}

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes() if name in self.files else b""
        except OSError as error:
            self.faults.append(f"{name}: {error.strerror}")
            return b""

    def mapping(self, name: str) -> dict[str, Any]:
        """Read a JSON object; {} if the file is absent or damaged."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self._bytes(name) or "{}")
            if isinstance(value, dict):
                return value
        self.faults.append(f"{name}: damaged")
        return {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Read one JSON object a line, up to the first that is damaged."""
        rows, sound = parse_rows(self._bytes(name))
        if not sound:
            self.faults.append(f"{name}: line {len(rows) + 1} is damaged or cut short")
        return rows
