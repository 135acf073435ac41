"""The columns of the table of runs, how their values are shown, and the order of the rows."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.results.rows import Row, differing_params, less_is_better, main_metric, metric_names

FOOTNOTE = "† stale: not of the run's best checkpoint and its data as they are now, so in no mean, "
FOOTNOTE += "comparison or choice; evaluate.py gives new ones"


@dataclass
class Column:
    """A column: its values for machines, and as shown. `fine` ones are for machines only."""

    name: str
    values: Sequence[Any]
    shown: list[str] = field(default_factory=list)  # by default the values with four digits
    kind: str = ""  # "metrics", "params" or ""
    fine: bool = False
    title: str = ""  # by default the name
    bold: frozenset[int] = frozenset()  # rows

    def __post_init__(self) -> None:
        self.shown = self.shown or [digits(value) for value in self.values]
        self.title = self.title or self.name


@dataclass(frozen=True)
class Style:
    """How numbers are shown: fractions as percent, and with how many decimals."""

    percent: bool = False
    decimals: int | None = None  # None: as the largest deviation of the column has two digits
    bold: frozenset[tuple[int, str]] = frozenset()  # row and metric


def digits(value: Any) -> str:
    """Return a value as the table shows it: a number with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def summary(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and sample standard deviation (divided by n - 1); None of too few values."""
    if len(values) < 2:
        return (values[0] if values else None), None
    mean = fmean(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (len(values) - 1))


def with_deviation(values: Sequence[float]) -> str:
    """Return "0.9417 ± 0.0072": mean and standard deviation of several values, or the one value."""
    mean, deviation = summary(values)
    return digits(mean) + ("" if deviation is None else f" ± {deviation:.2g}")


def rounding(values: Sequence[Sequence[float]], decimals: int | None) -> Callable[[float], str]:
    """Return how the numbers of a column, of several rows each, are written: all alike.

    Without `decimals` the largest deviation over seeds has two digits; a column of single values
    has four digits each.
    """
    deviations = [d for each in values if (d := summary(each)[1]) and math.isfinite(d)]
    if decimals is None and deviations:
        decimals = max(0, 1 - math.floor(math.log10(max(deviations))))
    return digits if decimals is None else lambda value: f"{value:.{decimals}f}"


def cell(row: Row, metric: str, scale: float, written: Callable[[float], str]) -> str:
    """Return a metric as the table shows it: stale numbers do not count, and have a mark."""
    stale = [run.stale[metric] for run in row.members if metric in run.stale]
    mean, deviation = summary([scale * value for value in row.values(metric) or stale])
    text = "" if mean is None else written(mean)
    text += "" if deviation is None else f" ± {written(deviation)}"
    return f"{text} †" if stale else text


def duration(seconds: float | None) -> str:
    """Return "1:02:03", or "45.2 s" below a minute."""
    if seconds is None or seconds < 60:
        return "" if seconds is None else f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def metric_columns(rows: Sequence[Row], style: Style) -> list[Column]:
    """Return the columns of all metrics of all runs, the main one first, and its interval."""
    main, columns = main_metric(rows), []
    for name in sorted(metric_names(rows), key=lambda name: name != main):
        found = [row.values(name) for row in rows]
        means, deviations = zip(*map(summary, found), strict=True)
        lows, highs = zip(*(row.intervals.get(name, (None, None)) for row in rows), strict=True)
        fraction = all(0 <= value <= 1 for each in found for value in each)
        fraction = fraction and not less_is_better(name, rows)  # a loss is none
        scale, sign = (100, " (%)") if style.percent and fraction else (1, "")
        scaled = [[scale * value for value in each] for each in found]
        written = rounding(scaled, style.decimals)
        shown = [cell(row, name, scale, written) for row in rows]
        bold = frozenset(i for i in range(len(rows)) if (i, name) in style.bold)
        columns.append(Column(name, means, shown, "metrics", title=name + sign, bold=bold))
        ends = zip(lows, highs, strict=True)
        shown = [
            f"[{written(scale * a)}, {written(scale * b)}]" if a is not None else ""
            for a, b in ends
        ]
        columns.append(Column(f"{name} 95%", [None] * len(rows), shown, fine=name != main))
        for part, values in (("sd", deviations), ("low", lows), ("high", highs)):
            columns.append(Column(f"{name} {part}", values, kind="metrics", fine=True))
    return columns


def make_columns(rows: Sequence[Row], params: str, style: Style = Style()) -> list[Column]:
    """Return the columns that are not empty; `params` is "differ", "all" or "name, name"."""
    runs = [row.first for row in rows]
    grouped = any(len(row.members) > 1 for row in rows)
    names = known = list(dict.fromkeys(name for run in runs for name in run.params))
    if params == "differ":
        varied = {"seed", *rows[0].over} if grouped else set()
        names = [name for name in differing_params(runs) if name not in varied]
    elif params != "all":
        names = [name.strip() for name in params.split(",")]
    if unknown := [name for name in names if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise UsageError(f"--params: no run has a param {unknown[0]!r}{hint}")
    columns = [
        Column("run", [row.name for row in rows]),
        Column("status", [run.status for run in runs]),
        Column("n", [len(row.members) if grouped else None for row in rows]),
        *metric_columns(rows, style),
        Column("stale", [row.stale for row in rows], fine=True),
    ]
    for name in names:
        values = [in_common([run.params.get(name) for run in row.members]) for row in rows]
        columns.append(Column(name, values, kind="params"))
    times = [summary([r.seconds for r in row.members if r.seconds is not None])[0] for row in rows]
    looks = [sum(r.test_looks for r in row.members) if row.first.is_run else None for row in rows]
    notes = [dict.fromkeys(note for run in row.members for note in run.notes) for row in rows]
    columns += [
        Column("best epoch", [in_common([r.best_epoch for r in row.members]) for row in rows]),
        Column("epochs", [in_common([r.epochs for r in row.members]) for row in rows]),
        Column("time", times, [duration(seconds) for seconds in times]),
        Column("weights", [run.weights for run in runs]),
        Column("test looks", looks),
        Column("note", ["; ".join(found) for found in notes]),
    ]
    return [column for column in columns if any(column.shown)]


def chosen(columns: Sequence[Column], names: str) -> list[Column]:
    """Return the columns named by "run, accuracy, learning_rate", in this order.

    What machines get beside a metric (deviation and ends of the interval) follows.
    """
    known = {column.name: column for column in columns}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise UsageError(f"--columns: no column {unknown[0]!r}{hint}")
    parts = [f"{name} {part}" for name in wanted for part in ("sd", "low", "high")]
    fine = [replace(known[name], fine=True) for name in parts if name in known]
    return [replace(known[name], fine=False) for name in wanted] + fine


def in_common(values: Sequence[Any]) -> Any:
    """Return what equal values are, or different ones as text: "1, 2"."""
    same = all(value == values[0] for value in values)
    return values[0] if same else ", ".join(map(digits, values))


def sort_rows(rows: list[Row], by: str | None, reverse: bool) -> list[Row]:
    """Return the rows in the order of a column, by default the main metric.

    Metrics begin with the best value, other columns with the least. Rows without a value follow,
    and then what is not a run.
    """
    by = by or main_metric(rows) or "run"
    names = [name for row in rows for run in row.members for name in run.params]
    known = {column.name: column for column in make_columns(rows, by if by in names else "differ")}
    if by not in known:
        raise UsageError(f"--sort: no column {by!r}{did_you_mean(by, known)}")
    column = known[by]
    if column.kind == "metrics" and not column.fine and not less_is_better(by, rows):
        reverse = not reverse
    empty = [digits(value) in ("", "nan") for value in column.values]  # stale ones are no values

    def key(i: int) -> tuple[int, float, str]:
        value = None if empty[i] else column.values[i]
        return (0, value, "") if isinstance(value, int | float) else (1, 0.0, digits(value))

    order = sorted(range(len(rows)), key=lambda i: rows[i].name)
    order.sort(key=key, reverse=reverse)
    order.sort(key=lambda i: (not rows[i].first.is_run, empty[i]))
    return [rows[i] for i in order]
