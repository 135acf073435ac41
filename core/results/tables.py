"""The table of runs: its columns and order, and writing it as text, Markdown, CSV, LaTeX, JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.results.rows import Row, differing_params, less_is_better, main_metric, metric_names

LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": "\\textbackslash{}", "±": "$\\pm$"}
LATEX |= {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "|": "\\textbar{}"}
LATEX |= {"†": "$\\dagger$", "<": "\\textless{}", ">": "\\textgreater{}", '"': "''"}
FOOTNOTE = "† stale: not of the run's best checkpoint and its data as they are now, so in no mean, "
FOOTNOTE += "comparison or choice; evaluate.py gives new ones"
MARKDOWN = {sign: f"\\{sign}" for sign in "\\`*_[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass
class Column:
    """A column: its values for machines, and as shown. `fine` ones are for machines only."""

    name: str
    values: Sequence[Any]
    shown: list[str] = field(default_factory=list)  # by default the values with four digits
    kind: str = ""  # "metrics", "params" or ""
    fine: bool = False

    def __post_init__(self) -> None:
        self.shown = self.shown or [digits(value) for value in self.values]


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


def with_mark(row: Row, metric: str) -> str:
    """Return a metric as the table shows it: stale numbers do not count, and have a mark."""
    stale = [run.stale[metric] for run in row.members if metric in run.stale]
    text = with_deviation(row.values(metric) or stale)
    return f"{text} †" if stale else text


def duration(seconds: float | None) -> str:
    """Return "1:02:03", or "45.2 s" below a minute."""
    if seconds is None or seconds < 60:
        return "" if seconds is None else f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def metric_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of all metrics of all runs, the main one first, and its interval."""
    main, columns = main_metric(rows), []
    for name in sorted(metric_names(rows), key=lambda name: name != main):
        found = [row.values(name) for row in rows]
        means, deviations = zip(*map(summary, found), strict=True)
        lows, highs = zip(*(row.intervals.get(name, (None, None)) for row in rows), strict=True)
        columns.append(Column(name, means, [with_mark(row, name) for row in rows], "metrics"))
        if name == main:
            ends = zip(lows, highs, strict=True)
            shown = ["" if low is None else f"[{low:.4g}, {high:.4g}]" for low, high in ends]
            columns.append(Column(f"{name} 95%", [None] * len(rows), shown))
        for part, values in (("sd", deviations), ("low", lows), ("high", highs)):
            columns.append(Column(f"{name} {part}", values, kind="metrics", fine=True))
    return columns


def make_columns(rows: Sequence[Row], params: str) -> list[Column]:
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
        *metric_columns(rows),
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


def in_common(values: Sequence[Any]) -> Any:
    """Return what equal values are, or different ones as text: "1, 2"."""
    same = all(value == values[0] for value in values)
    return values[0] if same else ", ".join(map(digits, values))


def sort_rows(rows: list[Row], columns: list[Column], by: str | None, reverse: bool) -> list[Row]:
    """Return the rows in the order of a column, by default the main metric.

    Metrics begin with the best value, other columns with the least. Rows without a value follow,
    and then what is not a run.
    """
    by = by or main_metric(rows) or "run"
    known = {column.name: column for column in columns}
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


def lines_of(columns: Sequence[Column], signs: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the header and the rows as cells; `signs` says what to write for some characters."""

    def escaped(text: str) -> str:
        words = " ".join(text.split())
        return "".join(signs.get(sign, sign) if sign.isprintable() else "?" for sign in words)

    cells = ([escaped(cell) for cell in [column.name, *column.shown]] for column in columns)
    return list(zip(*cells, strict=True))


def terminal(columns: Sequence[Column], width: int | None = None) -> str:
    """Return aligned text. What does not fit into `width` characters is left out, and named.

    Names of runs and the first metric stay; a long name loses its middle.
    """
    lines = lines_of(columns, {})
    sizes = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    metric = next((i for i, column in enumerate(columns) if column.kind == "metrics"), 0)
    shown = list(range(len(columns)))
    while width and sum(sizes[i] + 2 for i in shown) > width:
        others = [i for i in shown if i not in (0, metric)]
        if not others:
            sizes[0] = max(12, width - sizes[metric] - 4)
            break
        shown.remove(others[-1])
    text = []
    for line in lines:
        cells = [middle_out(line[i], sizes[i]).ljust(sizes[i]) for i in shown]
        text.append("  ".join(cells).rstrip())
    if missing := [column.name for i, column in enumerate(columns) if i not in shown]:
        text.append(f"(not shown, too wide: {', '.join(missing)})")
    return "\n".join(text)


def middle_out(text: str, most: int) -> str:
    """Return a text of at most so many letters, without its middle if it is longer."""
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"


def markdown(columns: Sequence[Column]) -> str:
    """Return the pipe table of the CS230 template."""
    header, *body = lines_of(columns, MARKDOWN)
    lines = [header, ["---"] * len(columns), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(columns: Sequence[Column]) -> str:
    """Return a tabular, which needs no package."""
    header, *body = [" & ".join(line) + " \\\\" for line in lines_of(columns, LATEX)]
    kinds = "".join("r" if column.kind == "metrics" else "l" for column in columns)
    lines = [f"\\begin{{tabular}}{{{kinds}}}", "\\hline", header, "\\hline", *body, "\\hline"]
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"


def comma_separated(columns: Sequence[Column]) -> str:
    """Return CSV with all digits, deviations and intervals in columns of their own, time in s."""
    nested = dict | list | bool  # written as JSON
    cells = [
        [c.name, *(json.dumps(value) if isinstance(value, nested) else value for value in c.values)]
        for c in columns
        if any(value is not None for value in c.values) or (c.kind == "metrics" and not c.fine)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*cells, strict=True))
    return text.getvalue()


def as_json(columns: Sequence[Column], **facts: Any) -> str:
    """Return a JSON object with facts, and one object for each row, all digits; NaN is null."""
    rows: list[dict[str, Any]] = [{"metrics": {}, "params": {}} for _ in columns[0].values]
    for column in columns:
        for row, value in zip(rows, column.values, strict=True):
            if value is not None:
                finite = not isinstance(value, float) or math.isfinite(value)
                (row[column.kind] if column.kind else row)[column.name] = value if finite else None
    return json.dumps({**facts, "rows": rows}, indent=1, allow_nan=False) + "\n"
