"""All that the page of results shows, as JSON types, and the file that shows it."""

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.base.files import parse_rows
from core.base.parsing import read_mapping
from core.base.pictures import DARK, LIGHT, spans_decades
from core.results.gathering import Result
from core.results.page.looks import look_closer
from core.results.rows import (
    Row,
    best_setting,
    differing_params,
    leaves,
    less_is_better,
    main_metric,
    members,
    metric_names,
)
from core.results.tables import FOOTNOTE, Column, in_common

HERE = Path(__file__).parent
SCRIPTS = ("base.js", "table.js", "charts.js", "looks.js", "start.js")
MAX_NUMBERS = 300_000  # of learning curves: about 2 MB
MAX_EPOCHS = 1000  # of one curve; longer ones are thinned
MAX_LOOKS = 12  # runs whose predictions are in the page


def page_data(rows: Sequence[Row], columns: Sequence[Column], split: str, title: str) -> Any:
    """Return what the page shows; docs/statistics.md says what is left out."""
    metrics, best = metric_names(rows), best_setting(rows)
    runs = [row for row in rows if row.first.is_run]
    names, values = differing_values(runs)
    grouped = {"seed", *runs[0].over} if any(len(row.members) > 1 for row in runs) else set()
    deciding = {*differing_params([row.first for row in runs])} - grouped
    left_out: list[str] = []
    return {
        "title": title,
        "split": split,
        "main": main_metric(rows),
        "metrics": metrics,
        "less": [name for name in metrics if less_is_better(name, rows)],
        "columns": [{"name": column.name, "kind": column.kind} for column in columns],
        "params": names,
        "deciding": [name for name in names if name.split(".")[0] in deciding],
        "log": log_keys(members(runs), names, values),
        "rows": [
            {
                "name": row.name,
                "status": row.first.status,
                "cells": [column.shown[i] for column in columns],
                "keys": [compact(column.values[i]) for column in columns],
                "params": [compact(value) for value in values.get(row.name, ())],
                "runs": [run.name for run in row.members],
                "points": {name: [*map(compact, row.values(name))] for name in metrics},
                "intervals": {n: [*map(compact, ends)] for n, ends in row.intervals.items()},
                "is_run": row.first.is_run,
                **files_of(row),
            }
            for i, row in enumerate(rows)
        ],
        "curves": curves_of(members(rows), left_out),
        "best": best and {"run": best[1].name, "chosen": best[2]},
        **look_closer(chosen_runs(runs, best and best[1], split, left_out), split),
        "left_out": left_out,
        "footnote": FOOTNOTE if any(row.stale for row in rows) else "",
        "colours": {"light": LIGHT, "dark": DARK},
    }


def make_page(data: Any) -> str:
    """Return a page that holds all it needs, charts too if plotly is installed."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    spec = find_spec("plotly")
    origin = spec.origin if spec else None
    library = Path(origin).parent / "package_data/plotly.min.js" if origin else None
    scripts = [path.read_text(encoding="utf-8") for path in map(HERE.joinpath, SCRIPTS)]
    parts = {
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "library": library.read_text(encoding="utf-8") if library and library.exists() else "",
        "script": "".join(scripts),
        "data": text,
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"{{{{{name}}}}}", part)
    return page


def compact(value: Any) -> Any:
    """Round a number to what a screen can show; what is not finite becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else json.dumps(value)


def differing_values(rows: Sequence[Row]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the params that are not the same in all rows, and each row's values by its name."""
    flat = [[dict(leaves(run.params)) for run in row.members] for row in rows]
    known = dict.fromkeys(name for runs in flat for params in runs for name in params)
    first = flat[0][0] if flat else {}
    names = [n for n in known if any(p.get(n) != first.get(n) for runs in flat for p in runs)]
    values = [[in_common([p.get(name) for p in runs]) for name in names] for runs in flat]
    return names, dict(zip([row.name for row in rows], values, strict=True))


def log_keys(
    runs: Sequence[Result], names: Sequence[str], values: dict[str, list[Any]]
) -> list[str]:
    """Return the params whose axis is logarithmic: those of a search's space, and wide ones."""
    found = set()
    for folder in {parent for run in runs for parent in [run.folder, *run.folder.parents][:4]}:
        with suppress(UsageError, AttributeError):
            if (path := folder / "search.yaml").exists():
                space = read_mapping(path).get("space", {}).items()
                found |= {n for n, how in space if isinstance(how, dict) and how.get("log")}
    for name, column in zip(names, zip(*values.values(), strict=True), strict=False):
        if name != "seed" and spans_decades(column):
            found.add(name)
    return sorted(found)


def files_of(row: Row) -> dict[str, Any]:
    """Return the files to link to, of every run, and when the first of them was started."""
    files: dict[str, list[str]] = {}
    started: float | None = None
    for run in row.members if row.first.is_run else ():
        files[run.name] = []
        for name in ("params.json", "params.yaml", "train.log"):
            with suppress(OSError):
                written = os.stat(run.folder / name).st_mtime
                files[run.name].append(name)
                started = min(written, started or written) if name != "train.log" else started
    return {"files": files, "started": started and round(started)}


def curves_of(runs: Sequence[Result], left_out: list[str]) -> dict[str, dict[str, list[Any]]]:
    """Return the learning curves by run, and the seconds that an epoch ended after the start."""
    curves, size, missing, thinned = {}, 0, 0, 0
    for run in runs:
        step = -(-max(map(len, run.curves.values()), default=0) // MAX_EPOCHS)
        if not step:
            continue
        thin = {name: values[::-step][::-1] for name, values in run.curves.items()}  # with the last
        size += sum(map(len, thin.values()))
        if size > MAX_NUMBERS:
            missing += 1
            continue
        thinned += step > 1
        curves[run.name] = {name: [*map(compact, values.tolist())] for name, values in thin.items()}
        if "epoch" in thin and (ends := epoch_ends(run.folder / "times.jsonl")):
            curves[run.name]["seconds"] = [ends.get(epoch) for epoch in thin["epoch"].tolist()]
    if missing:
        left_out.append(f"Learning curves of {missing} runs: the page would be too large.")
    if thinned:
        left_out.append(f"Epochs of {thinned} runs: of more than {MAX_EPOCHS} every few are drawn.")
    return curves


def epoch_ends(path: Path) -> dict[float, float]:
    """Return the seconds of training after which each epoch ended; {} if they are not known."""
    ends: dict[float, float] = {}
    total = 0.0
    with suppress(OSError):
        for row in parse_rows(path.read_bytes())[0]:
            seconds = row.get("seconds")
            total += seconds if isinstance(seconds, int | float) and seconds > 0 else 0.0
            ends[row.get("epoch", 0)] = round(total, 1)
    return ends


def chosen_runs(
    rows: Sequence[Row], best: Result | None, split: str, left_out: list[str]
) -> list[Result]:
    """Return the runs whose predictions the page has: the best, and the first rows' medians."""
    found = [best] if best else []
    more = 0
    for row in rows:
        if not any((run.folder / f"predictions_{split}.npz").exists() for run in row.members):
            continue
        median = best_setting([row])
        run = median[1] if median else row.first
        more += run not in found and len(found) >= MAX_LOOKS
        if run not in found and len(found) < MAX_LOOKS:
            found.append(run)
    if more:
        left_out.append(f"Predictions of {more} rows: those of the first {MAX_LOOKS} are in it.")
    return found
