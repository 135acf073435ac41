"""Rows of the table, one for all runs that differ in their seed only, and how rows differ."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, mode
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.base.files import finite_or_none
from core.base.keys import DEFAULTS, KEYS, decides
from core.base.monitor import monitored, more_is_better
from core.results.gathering import Result


@dataclass
class Row:
    """A line of the table: a run, or runs that differ in nothing but seed or another key."""

    members: list[Result]
    over: tuple[str, ...] = ()  # the keys beside seed that are averaged over
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def first(self) -> Result:
        """The run that stands for what all have in common."""
        return self.members[0]

    @cached_property
    def _parts(self) -> tuple[str, list[str], str]:
        """What the names of the runs begin with, what differs, and what they end with."""
        names = [run.name for run in self.members]
        if len(names) == 1:
            return names[0], [], ""
        start = os.path.commonprefix(names)  # noqa: RUF071 - of letters
        turned = [name[len(start) :][::-1] for name in names]
        end = os.path.commonprefix(turned)[::-1]  # noqa: RUF071
        return start, [name[len(start) : len(name) - len(end)] for name in names], end

    @property
    def name(self) -> str:
        """Name of the run; "base_seed{1,2}" of base_seed1 and base_seed2."""
        start, parts, end = self._parts
        shown = parts if len(parts) < 5 else [*parts[:2], "...", parts[-1]]
        return f"{start}{{{','.join(shown)}}}{end}" if parts else start

    @property
    def setting(self) -> str:
        """Name of the run, or what seeds have in common: "base" of base_seed1 and base_seed2."""
        start, parts, end = self._parts
        return re.sub(r"[-_.]*(seed)?[-_.=]*$", "", start) + end if parts else start

    @property
    def stale(self) -> dict[str, dict[str, float | None]] | None:
        """Numbers that are left out, because they do not fit the run as it is now; by run."""
        runs = [run for run in self.members if run.stale]
        return {r.name: {n: finite_or_none(x) for n, x in r.stale.items()} for r in runs} or None

    def values(self, metric: str) -> list[float]:
        """Return the metric of every run that has it."""
        return [run.metrics[metric] for run in self.members if metric in run.metrics]


def group(runs: Sequence[Result], together: bool = True, over: Sequence[str] = ()) -> list[Row]:
    """Return rows: with `together`, finished runs that differ in nothing but `seed` share one.

    So do runs that differ in the keys `over`, as folds of a cross-validation do. A run whose seed a
    row has already is another start of the same, and gets a row of its own. UsageError: no run has
    such a key.
    """
    known = dict.fromkeys(name for run in runs for name in run.params)
    if unknown := [name for name in over if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise UsageError(f"--average_over: no run has a param {unknown[0]!r}{hint}")
    varied = ("seed", *over)
    by_key: dict[str, dict[str, Result]] = {}  # by setting, then by seed
    for run in runs:
        key, seed = run.name, json.dumps([run.params.get(name) for name in varied])
        if together and run.status in ("finished", "results only") and "seed" in run.params:
            setting = {n: v for n, v in run.params.items() if n not in varied and decides(n, False)}
            key = json.dumps([run.status, run.data.get("sha256"), setting], sort_keys=True)
        if earlier := by_key.get(key, {}).get(seed):
            run.notes.append(f"same {' and '.join(varied)} as {earlier.name}")
            key = run.name
        by_key.setdefault(key, {})[seed] = run
    rows = [Row(list(by_seed.values()), over=tuple(over)) for by_seed in by_key.values()]
    for row in rows:
        if not all(same_code(run, row.first) for run in row.members):
            row.first.notes.append("the task's code is not the same in these runs")
    return rows


def same_code(a: Result, b: Result) -> bool:
    """Tell whether the files of code that both runs have recorded are the same."""
    one, other = (run.recorded.get("code") for run in (a, b))
    if not (isinstance(one, dict) and isinstance(other, dict)):  # damaged, or of before it was
        return one == other
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def members(rows: Sequence[Row]) -> list[Result]:
    """Return the runs of all rows."""
    return [run for row in rows for run in row.members]


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of all metrics of all runs."""
    return list(dict.fromkeys(n for run in members(rows) for n in [*run.metrics, *run.stale]))


def main_metric(rows: Sequence[Row]) -> str | None:
    """Return the metric that picked the best epoch in most of the runs; None if there is none."""
    chosen = [(monitor(run)[0], run) for run in members(rows)]
    names = [n for n, run in chosen if n in run.metrics or n in run.stale] or metric_names(rows)[:1]
    return mode(names) if names else None


def monitor(run: Result) -> tuple[str, bool]:
    """Return the metric that picked the best epoch, and whether more is better: as recorded."""
    if run.monitored is None:
        run.monitored = _monitor(run)
    return run.monitored


def _monitor(run: Result) -> tuple[str, bool]:
    if {"monitor", "monitor_mode"} <= run.recorded.keys():
        return run.recorded["monitor"], run.recorded["monitor_mode"] == "max"
    names = [*run.metrics, *run.stale, *run.val]
    with suppress(UsageError):
        return monitored(run.params, names)
    return run.params["monitor"], True  # a run of before a name had to say it


def less_is_better(metric: str, rows: Sequence[Row]) -> bool:
    """Tell whether less of a metric is better: as the runs that monitor it say, or its name."""
    found = [monitor(run) for run in members(rows)]
    directions = [more for name, more in found if name == metric]
    return not all(directions) if directions else more_is_better(metric) is False


def best_setting(rows: Sequence[Row]) -> tuple[Row, Result, str] | None:
    """Choose the best row, the run that stands for it, and say by what; None without numbers.

    The validation split chooses, whichever is shown: by the mean over seeds of the metric that most
    runs monitor. The median seed stands for a row, of an even number the worse one in the middle.
    """
    names = [name for run in members(rows) if (name := monitor(run)[0]) in run.val]
    if not names:
        return None
    metric = mode(names)
    sign = -1 if less_is_better(metric, rows) else 1

    def worth(runs: Sequence[Result]) -> float:
        mean = sign * fmean(run.val[metric] for run in runs)
        return mean if math.isfinite(mean) else -math.inf

    found = [(row, [run for run in row.members if metric in run.val]) for row in rows]
    found.sort(key=lambda pair: pair[0].name)  # of equal ones the first by name
    row, seeds = max((pair for pair in found if pair[1]), key=lambda pair: worth(pair[1]))
    run = sorted(seeds, key=lambda run: worth([run]), reverse=True)[len(seeds) // 2]
    of_seeds = f", mean of {len(seeds)} seeds; {run.name} is the median seed"
    if row.over:
        of_seeds = f", mean of {len(seeds)} runs; {run.name} is the median"
    return row, run, f"by val {metric}" + (of_seeds if len(seeds) > 1 else "")


def differing_params(runs: Sequence[Result]) -> list[str]:
    """Return the params that decide results and are not the same in every run.

    A declared key that a run does not have is at its default there. A task's own keys are compared
    among the runs of that task.
    """
    known = [run.params for run in runs if run.params]
    of_task = {str(params.get("task")): params for params in known}  # one run of every task

    def differs(name: str, params: dict[str, Any]) -> bool:
        other = known[0] if name in KEYS else of_task[str(params.get("task"))]
        default = DEFAULTS.get(name)
        return bool(params.get(name, default) != other.get(name, default))

    names = dict.fromkeys(name for params in known for name in params if decides(name, False))
    return [name for name in names if any(differs(name, params) for params in known)]


def leaves(params: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("optimizer_args.weight_decay", 0.05) for nested params."""
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}", value


def find_run(rows: Sequence[Row], name: str) -> Result:
    """Return the run of that name or path; the first one of a row that is named otherwise."""
    row, path = find_row(rows, name), Path(name).resolve()
    named = [r for r in row.members if name.rstrip("/") == r.name or r.folder.resolve() == path]
    return (named or row.members)[0]


def find_row(rows: Sequence[Row], name: str) -> Row:
    """Return the row of a run's name or path, of a setting, or of a number in the table.

    UsageError: there is none, or a setting is not the only one of its name.
    """
    path, word = Path(name).resolve(), name.rstrip("/")
    runs_only = [row for row in rows if row.first.is_run]
    for row in runs_only:
        for run in row.members:
            if word in (row.name, run.name) or run.folder.resolve() == path:
                return row
    found = [row for row in runs_only if row.setting == word]
    if not found and word.isdecimal() and 0 < int(word) <= len(runs_only):
        found = [runs_only[int(word) - 1]]
    if len(found) > 1:
        raise UsageError(f"{name}: could be {' or '.join(row.name for row in found)}")
    if found:
        return found[0]
    hint = did_you_mean(name, [row.setting for row in runs_only])
    hint = hint or did_you_mean(name, [run.name for run in members(runs_only)])
    raise UsageError(f"{name}: no such run below the parent_dir{hint}")
