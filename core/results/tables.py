"""The table of runs: its columns and order, and writing it as text, Markdown, CSV, LaTeX, JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.base.errors import UsageError, did_you_mean
from core.results.rows import Row, differing_params, less_is_better, main_metric

LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "''",
    "±": "$\\pm$",
}
MARKDOWN = {c: f"\\{c}" for c in "\\`*_[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass
class Column:
    """A column: its values for machines, and as shown. `fine` ones are for machines only."""

    name: str
    values: list[Any]
    shown: list[str]
    kind: str = ""  # "metrics", "params" or ""
    fine: bool = False


def digits(value: Any) -> str:
    """Return a value as the table shows it: a number with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample (divided by n - 1); None of fewer than two."""
    if len(values) < 2:
        return None
    middle = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def with_deviation(values: Sequence[float]) -> str:
    """Return "0.9417 ± 0.0072": mean and standard deviation of several values, or the one value."""
    spread = deviation(values)
    return digits(mean(values)) + ("" if spread is None else f" ± {spread:.2g}")


def spent(seconds: float | None) -> str:
    """Return "1:02:03", or "45.2 s" below a minute."""
    if seconds is None or seconds < 60:
        return "" if seconds is None else f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def metric_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of all metrics of all runs, the main one first, and its interval."""
    runs = [run for row in rows for run in row.members]
    main = main_metric(runs)
    names = dict.fromkeys([main] if main else [])
    columns = []
    for name in names | dict.fromkeys(name for run in runs for name in run.metrics):
        found = [row.values(name) for row in rows]
        columns.append(
            Column(name, [mean(v) for v in found], list(map(with_deviation, found)), "metrics")
        )
        deviations = [deviation(values) for values in found]
        ends = [row.intervals.get(name) for row in rows]
        lows, highs = ([None if pair is None else pair[i] for pair in ends] for i in (0, 1))
        if name == main:
            shown = ["" if pair is None else "[{:.4g}, {:.4g}]".format(*pair) for pair in ends]
            columns.append(Column(f"{name} 95%", [None] * len(rows), shown))
        for part, values in (("sd", deviations), ("low", lows), ("high", highs)):
            if any(value is not None for value in values):
                shown = list(map(digits, values))
                columns.append(Column(f"{name} {part}", values, shown, "metrics", fine=True))
    return columns


def make_columns(rows: Sequence[Row], params: str) -> list[Column]:
    """Return all columns.

    Args:
        rows: of the table.
        params: "differ", "all", or the names of some params with commas between them.
    """
    runs = [row.first for row in rows]
    grouped = any(len(row.members) > 1 for row in rows)

    def column(name: str, values: list[Any], show: Any = digits) -> Column:
        return Column(name, values, [show(value) for value in values])

    columns = [
        column("run", [row.name for row in rows]),
        column("status", [r.status for r in runs]),
    ]
    if grouped:
        columns.append(column("n", [len(row.members) for row in rows]))
    columns += metric_columns(rows)
    names = list(dict.fromkeys(name for run in runs for name in run.params))
    if params == "differ":
        names = [n for n in differing_params(runs) if not (grouped and n == "seed")]
    elif params != "all":
        known, names = names, [name.strip() for name in params.split(",")]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"--params: no run has a param {name!r}{did_you_mean(name, known)}"
                )
    for name in names:
        values = [in_common([run.params.get(name) for run in row.members]) for row in rows]
        columns.append(Column(name, values, list(map(digits, values)), "params"))
    times = [[m.seconds for m in row.members if m.seconds is not None] for row in rows]
    looks = [sum(m.test_looks for m in row.members) if row.first.is_run else None for row in rows]
    notes = [dict.fromkeys(note for m in row.members for note in m.notes) for row in rows]
    columns += [
        column("best epoch", [in_common([m.best_epoch for m in row.members]) for row in rows]),
        column("epochs", [in_common([m.epochs for m in row.members]) for row in rows]),
        column("time", [mean(t) for t in times], spent),
        column("weights", [run.weights for run in runs]),
        column("test looks", looks),
        column("note", ["; ".join(found) for found in notes]),
    ]
    return [c for c in columns if any(c.shown) or c.name in ("run", "status")]


def in_common(values: Sequence[Any]) -> Any:
    """Return what equal values are, or different ones as text: "1, 2"."""
    same = all(value == values[0] for value in values)
    return values[0] if same else ", ".join(map(digits, values))


def sort_rows(
    rows: Sequence[Row], columns: Sequence[Column], by: str | None, reverse: bool
) -> list[Row]:
    """Return the rows in the order of a column, by default the main metric.

    Metrics begin with the best value, other columns with the least. What has no value comes last,
    and behind it what is not a run.
    """
    runs = [run for row in rows for run in row.members]
    by = by or main_metric(runs) or "run"
    known = {column.name: column for column in columns}
    if by not in known:
        raise UsageError(f"--sort: no column {by!r}{did_you_mean(by, known)}")
    column = known[by]
    if column.kind == "metrics" and not column.fine and not less_is_better(by, runs):
        reverse = not reverse

    def key(i: int) -> tuple[int, float, str]:
        value = column.values[i]
        is_number = isinstance(value, int | float)
        return (0, value, "") if is_number else (1, 0.0, digits(value))

    order = sorted(range(len(rows)), key=lambda i: rows[i].name)
    present = [i for i in order if column.shown[i] not in ("", "nan")]
    rest = [i for i in order if column.shown[i] in ("", "nan")]
    ordered = [rows[i] for i in [*sorted(present, key=key, reverse=reverse), *rest]]
    return sorted(ordered, key=lambda row: not row.first.is_run)


def terminal(columns: Sequence[Column], width: int | None = None) -> str:
    """Return aligned text. What does not fit into `width` characters is left out, and named."""
    columns = [column for column in columns if not column.fine]
    sizes = [max(len(column.name), *map(len, column.shown)) for column in columns]
    fitting = len(columns)
    while width and fitting > 1 and sum(sizes[:fitting]) + 2 * fitting > width:
        fitting -= 1
    shown = [[escaped(cell, {}) for cell in [c.name, *c.shown]] for c in columns[:fitting]]
    lines = ["  ".join(map(str.ljust, cells, sizes)).rstrip() for cells in zip(*shown, strict=True)]
    if missing := [column.name for column in columns[fitting:]]:
        lines.append(f"(not shown, for want of width: {', '.join(missing)})")
    return "\n".join(lines)


def escaped(text: str, signs: dict[str, str]) -> str:
    """Return one line of text with the signs replaced that mean something else."""
    words = " ".join(text.split())
    return "".join(signs.get(sign, sign) if sign.isprintable() else "?" for sign in words)


def markdown(columns: Sequence[Column]) -> str:
    """Return the pipe table of the CS230 template."""
    columns = [column for column in columns if not column.fine]
    cells = ([escaped(cell, MARKDOWN) for cell in [c.name, "", *c.shown]] for c in columns)
    lines = list(zip(*cells, strict=True))
    lines[1] = ("---",) * len(columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def latex(columns: Sequence[Column]) -> str:
    """Return a tabular, which needs no package."""
    columns = [column for column in columns if not column.fine]
    cells = ([escaped(cell, LATEX) for cell in [c.name, *c.shown]] for c in columns)
    header, *body = [" & ".join(line) + " \\\\" for line in zip(*cells, strict=True)]
    kinds = "".join("r" if column.kind == "metrics" else "l" for column in columns)
    lines = [f"\\begin{{tabular}}{{{kinds}}}", "\\hline", header, "\\hline", *body, "\\hline"]
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"


def comma_separated(columns: Sequence[Column]) -> str:
    """Return CSV with all digits, deviations and intervals in columns of their own, time in s."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    machine = [
        column for column in columns if column.kind or any(v is not None for v in column.values)
    ]
    writer.writerow([column.name for column in machine])
    writer.writerows(zip(*(map(digits_all, column.values) for column in machine), strict=True))
    return text.getvalue()


def digits_all(value: Any) -> Any:
    """Return a value for CSV: lists and dicts as JSON."""
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


def as_json(columns: Sequence[Column], split: str) -> str:
    """Return a JSON object with one object for each row, all digits; NaN is null."""
    rows: list[dict[str, Any]] = []
    for i in range(len(columns[0].values)):
        row: dict[str, Any] = {"metrics": {}, "params": {}}
        for column in columns:
            value = column.values[i]
            if value is not None:
                finite = not isinstance(value, float) or math.isfinite(value)
                (row[column.kind] if column.kind else row)[column.name] = value if finite else None
        rows.append(row)
    return json.dumps({"split": split, "rows": rows}, indent=1, allow_nan=False) + "\n"
