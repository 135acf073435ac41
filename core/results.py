"""Collecting the runs below a folder, in whatever state, and joining those of other seeds.

Torch is not imported here, and no file is opened that the table does not need: 10,000 runs take
seconds.
"""

import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UsageError, did_you_mean
from core.interrupt import has_writer
from core.keys import KEYS
from core.params import read_mapping

OURS = {"results.md", "results.csv", "results.tex", "results.json", "report.html"}
OURS |= {"curves.png", "seeds.png"}
PARAMS_FILES = ("params.json", "params.yaml")
RUN_FILES = {*PARAMS_FILES, "params.resolved.json", "metrics.jsonl", "train.log", "last.pt"}
# Params that do not make a setting another one.
ASIDE = {"data_dir", "cuda", "num_threads"} | {name for name, key in KEYS.items() if key.machine}
LOG_BYTES = 65_536  # read at either end of a train.log
MARK = re.compile(
    rb"INFO: (?:(?P<interrupted>Training |Epoch \d+/\d+  train)|(?P<stopped>Stopped by)"
    rb"|(?P<finished>Done after|[^\n]*: complete, nothing to do))|ERROR: (?P<failed>[^\n]*)"
)
WEIGHTS = re.compile(rb"Net: ([\d,]+) weights to train")


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
    data: str | None = None  # fingerprint
    code: Any = None  # hashes
    is_run: bool = True

    @property
    def epochs(self) -> int | None:
        """Number of the last epoch that was validated."""
        numbers = self.curves.get("epoch")
        return int(numbers[-1]) if numbers and math.isfinite(numbers[-1]) else None


@dataclass
class Row:
    """A line of the table: a run, or runs that differ in nothing but their seed."""

    name: str
    members: list[Result]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def first(self) -> Result:
        """The run that stands for what all have in common."""
        return self.members[0]

    def values(self, metric: str) -> list[float]:
        """Return the metric of every run that has it."""
        return [run.metrics[metric] for run in self.members if metric in run.metrics]


def number(value: Any) -> float | None:
    """Return a JSON number as a float, null as NaN, and None for anything else."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e308 else math.nan


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
    visible = sorted(entry for entry in is_folder if entry[0] != "." and entry != "__pycache__")
    below = [entry for entry in visible if is_folder[entry]]
    search = "search.yaml" in files and not files & {"train.log", "metrics.jsonl", "last.pt"}
    results = any(f.startswith("metrics_") and f.endswith(".json") for f in files)
    is_run = bool(files & RUN_FILES or results) and not search
    if is_run:
        yield read_run(folder, name or ".", files, split)
    elif not (in_run or search or below) and name:
        status = "not a run" if visible else "empty folder"
        yield Result(name, folder, status, is_run=False)
    elif not (in_run or search):
        for file in (entry for entry in visible if entry in files - OURS):
            place = f"{name}/{file}" if name else file
            yield Result(place, folder / file, "not a run", is_run=False)
    for entry in below:
        place = f"{name}/{entry}" if name else entry
        yield from _walk(folder / entry, place, in_run or is_run, split, seen)


def read_run(folder: Path, name: str, files: set[str], split: str) -> Result:
    """Read what a run's folder holds; damaged files are named in its notes."""
    faults: list[str] = []
    run = Result(name, folder, "")
    recorded = read_json(folder, "params.resolved.json", files, faults)
    run.params = recorded.get("params") or _params(folder, files, faults)
    data = recorded.get("data") or {}
    run.data, run.code = data.get("sha256"), recorded.get("code")
    if data.get("made_up"):
        run.notes.append(f"on {data['made_up']}")
    best = read_json(folder, "metrics_val_best_weights.json", files, faults)
    chosen = best if split == "val" else {}
    chosen = chosen or read_json(folder, f"metrics_{split}_best.json", files, faults)
    values = {name: number(value) for name, value in chosen.items()}
    run.metrics = {name: value for name, value in values.items() if value is not None}
    rows = read_rows(folder, "metrics.jsonl", files, faults)
    columns = dict.fromkeys(name for row in rows for name in row)
    for column in columns:
        cells = [number(row.get(column)) for row in rows]
        if all(cell is not None for cell in cells):
            run.curves[column] = array("d", cells)  # type: ignore[arg-type]
    for row in rows:
        if best and all(row.get(f"val_{name}") == value for name, value in best.items()):
            epoch = row.get("epoch")
            run.best_epoch = epoch if isinstance(epoch, int) else None
            break
    times = [number(r.get("seconds")) for r in read_rows(folder, "times.jsonl", files, faults)]
    run.seconds = math.fsum(t for t in times if t and t > 0) if times else None
    looks = read_rows(folder, "evaluations.jsonl", files, faults)
    run.test_looks = sum(row.get("split") == "test" for row in looks)
    log = _read_log(folder, files, faults)
    if found := WEIGHTS.search(log):
        run.weights = int(found[1].replace(b",", b""))
    run.status = _status(run, files, log)
    if faults and run.status != "running":
        run.status = "damaged"
    run.notes = faults + run.notes
    return run


def _status(run: Result, files: set[str], log: bytes) -> str:
    """Say how a run stands: by its lock, then by the last that its log says, then by its files."""
    if ".lock" in files and has_writer(run.folder):
        return "running"
    marks = list(MARK.finditer(log))
    if marks:
        if (error := marks[-1]["failed"]) is not None:
            run.notes.append(error.decode(errors="replace").strip()[:200])
        return str(marks[-1].lastgroup)
    if run.epochs is not None:
        return "finished" if run.epochs >= run.params.get("num_epochs", math.inf) else "interrupted"
    return "results only" if run.metrics else "not started"


def _params(folder: Path, files: set[str], faults: list[str]) -> dict[str, Any]:
    present = [name for name in PARAMS_FILES if name in files]
    try:
        if not present:
            raise UsageError(f"{folder}/params.json: no such file")
        return read_mapping(folder / present[0])
    except (UsageError, RecursionError) as error:
        faults.append(str(error).removeprefix(f"{folder}{os.sep}"))
        return {}


def _read(folder: Path, name: str, files: set[str], faults: list[str]) -> bytes:
    try:
        return (folder / name).read_bytes() if name in files else b""
    except OSError as error:
        faults.append(f"{name}: {error.strerror}")
        return b""


def _read_log(folder: Path, files: set[str], faults: list[str]) -> bytes:
    log = _read(folder, "train.log", files, faults)
    return log if len(log) <= 2 * LOG_BYTES else log[:LOG_BYTES] + b"\n" + log[-LOG_BYTES:]


def read_json(folder: Path, name: str, files: set[str], faults: list[str]) -> dict[str, Any]:
    """Read a JSON object; {} if the file is absent, or damaged, which is added to the faults."""
    text = _read(folder, name, files, faults)
    try:
        value = json.loads(text) if name in files else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        faults.append(f"{name}: damaged")
        return {}
    return value


def read_rows(folder: Path, name: str, files: set[str], faults: list[str]) -> list[dict[str, Any]]:
    """Read one JSON object a line, up to the first that is damaged, which is named."""
    lines = _read(folder, name, files, faults).split(b"\n")
    end = lines.pop()
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
        if not end and len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return rows
    except (ValueError, RecursionError):
        pass
    rows = []
    with suppress(ValueError, RecursionError):
        for line in lines:
            row = json.loads(line)
            if not isinstance(row, dict):
                break
            rows.append(row)
    faults.append(f"{name}: line {len(rows) + 1} is damaged or cut short")
    return rows


def group(runs: Sequence[Result], together: bool = True) -> list[Row]:
    """Return rows: with `together`, finished runs that differ in nothing but `seed` share one.

    A run whose seed a row has already is another start of the same, and gets a row of its own.
    """
    rows: dict[str, dict[str, Result]] = {}
    for run in runs:
        setting = sorted((n, v) for n, v in run.params.items() if n not in {*ASIDE, "seed"})
        complete = run.status in ("finished", "results only") and "seed" in run.params
        key = json.dumps([setting, run.data, run.status]) if complete and together else run.name
        seed = json.dumps(run.params.get("seed"))
        if earlier := rows.get(key, {}).get(seed):
            run.notes.append(f"same seed as {earlier.name}")
            key = run.name
        rows.setdefault(key, {})[seed] = run
    for row in rows.values():
        if any(run.code != next(iter(row.values())).code for run in row.values()):
            next(iter(row.values())).notes.append("the code of the task differs between these runs")
    return [Row(common_name(list(row.values())), list(row.values())) for row in rows.values()]


def common_name(runs: Sequence[Result]) -> str:
    """Return "base_seed{1,2}" for runs named base_seed1 and base_seed2."""
    names = [run.name for run in runs]
    if len(names) == 1:
        return names[0]
    start = os.path.commonprefix(names)  # noqa: RUF071 - of letters
    turned = [name[len(start) :][::-1] for name in names]
    end = os.path.commonprefix(turned)[::-1]  # noqa: RUF071
    parts = [name[len(start) : len(name) - len(end)] for name in names]
    shown = parts if len(parts) < 5 else [*parts[:2], "...", parts[-1]]
    return f"{start}{{{','.join(shown)}}}{end}"


def main_metric(runs: Sequence[Result]) -> str | None:
    """Return the metric that picked the best epoch in most of the runs; None if there is none."""
    usual = ("accuracy" if "accuracy" in run.metrics else "loss" for run in runs)
    names = [run.params.get("monitor") or name for run, name in zip(runs, usual, strict=True)]
    counts = Counter(n for n, run in zip(names, runs, strict=True) if n in run.metrics)
    others = (name for run in runs for name in run.metrics)
    return counts.most_common(1)[0][0] if counts else next(others, None)


def less_is_better(metric: str, runs: Sequence[Result]) -> bool:
    """Tell whether a metric is a loss, or is monitored as one."""
    modes = {r.params.get("monitor_mode") for r in runs if r.params.get("monitor") == metric}
    return metric.endswith("loss") if not modes - {None} else "min" in modes


def differing_params(runs: Sequence[Result]) -> list[str]:
    """Return the params that decide results and are not the same in every run.

    A task's own keys are looked at among the runs of that task. A declared key that a run does not
    have is at its default there.
    """
    defaults = {name: key.default for name, key in KEYS.items()}
    values: dict[tuple[str, Any], set[str]] = {}
    names = [name for name in dict.fromkeys(n for r in runs for n in r.params) if name not in ASIDE]
    tasks: dict[Any, set[str]] = {}
    for run in runs:
        tasks.setdefault(run.params.get("task"), set()).update(run.params)
    for run in runs:
        task = run.params.get("task")
        for name in names if run.params else []:
            if name in KEYS or name in tasks[task]:
                value = run.params.get(name, defaults.get(name))
                place = (name, None if name in KEYS else task)
                values.setdefault(place, set()).add(json.dumps(value))
    differing = {name for (name, _), found in values.items() if len(found) > 1}
    return [name for name in names if name in differing]


def find_row(rows: Sequence[Row], name: str) -> Row:
    """Return the row of a name in the table, of one of its runs, or of a run's path.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    path = Path(name).resolve()
    for row in rows:
        names = {row.name, *(run.name for run in row.members)}
        if row.first.is_run and (
            name.rstrip("/") in names or any(run.folder.resolve() == path for run in row.members)
        ):
            return row
    known = [run.name for row in rows for run in row.members if run.is_run]
    raise UsageError(f"{name}: no such run below the parent_dir{did_you_mean(name, known)}")
