"""Rows of the table: runs that differ only in their seed together, and in what the rows differ."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.base.keys import DEFAULTS, KEYS, decides
from core.base.monitor import monitored, more_is_better
from core.results.gathering import Result


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


def group(runs: Sequence[Result], together: bool = True) -> list[Row]:
    """Return rows: with `together`, finished runs that differ in nothing but `seed` share one.

    A run whose seed a row has already is another start of the same, and gets a row of its own.
    """
    rows: dict[str, dict[str, Result]] = {}
    for run in runs:
        key, seed = run.name, json.dumps(run.params.get("seed"))
        if together and run.status in ("finished", "results only") and "seed" in run.params:
            setting = sorted(
                p for p in run.params.items() if decides(p[0], to_the_bit=False) and p[0] != "seed"
            )
            key = json.dumps([run.status, run.data.get("sha256"), setting])
        if earlier := rows.get(key, {}).get(seed):
            run.notes.append(f"same seed as {earlier.name}")
            key = run.name
        rows.setdefault(key, {})[seed] = run
    members = [list(row.values()) for row in rows.values()]
    for row in members:
        if any(run.code != row[0].code for run in row):
            row[0].notes.append("the task's code is not the same in these runs")
    return [Row(common_name([run.name for run in row]), row) for row in members]


def common_name(names: Sequence[str]) -> str:
    """Return "base_seed{1,2}" for base_seed1 and base_seed2."""
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
    names = (monitored(run.params, run.metrics)[0] for run in runs)
    counts = Counter(name for name, run in zip(names, runs, strict=True) if name in run.metrics)
    others = (name for run in runs for name in run.metrics)
    return counts.most_common(1)[0][0] if counts else next(others, None)


def less_is_better(metric: str, runs: Sequence[Result]) -> bool:
    """Tell whether less of a metric is better: as the runs that monitor it say, or its name."""
    found = [monitored(run.params, run.metrics) for run in runs]
    directions = [more for name, more in found if name == metric]
    return not all(directions) if directions else not more_is_better(metric)


def differing_params(runs: Sequence[Result]) -> list[str]:
    """Return the params that decide results and are not the same in every run.

    A declared key that a run does not have is at its default there. A task's own keys are compared
    among the runs of that task.
    """
    tasks: dict[str, list[dict[str, Any]]] = {"": []}
    for run in runs:
        if run.params:
            tasks[""].append({n: run.params.get(n, default) for n, default in DEFAULTS.items()})
            own = {name: value for name, value in run.params.items() if name not in KEYS}
            tasks.setdefault(f"task {run.params.get('task')}", []).append(own)
    names = dict.fromkeys(name for run in runs for name in run.params if decides(name, False))
    return [
        name
        for name in names
        if any(any(p.get(name) != found[0].get(name) for p in found) for found in tasks.values())
    ]


def find_row(rows: Sequence[Row], name: str) -> Row:
    """Return the row of a name in the table, of one of its runs, or of a run's path.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    path, known = Path(name).resolve(), []
    for row in rows:
        for run in row.members if row.first.is_run else []:
            known.append(run.name)
            if name.rstrip("/") in (row.name, run.name) or run.folder.resolve() == path:
                return row
    raise UsageError(f"{name}: no such run below the parent_dir{did_you_mean(name, known)}")
