"""The table of runs as text, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.results.tables import Column

LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": "\\textbackslash{}", "±": "$\\pm$"}
LATEX |= {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "|": "\\textbar{}"}
LATEX |= {"[": "{[}", "†": "$\\dagger$", "<": "\\textless{}", ">": "\\textgreater{}", '"': "''"}
MARKDOWN = {sign: f"\\{sign}" for sign in "\\`*_[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def lines_of(columns: Sequence[Column], signs: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the header and the rows as cells; `signs` says what to write for some characters."""

    def escaped(text: str) -> str:
        words = " ".join(text.split())
        return "".join(signs.get(sign, sign) if sign.isprintable() else "?" for sign in words)

    cells = ([escaped(cell) for cell in [column.title, *column.shown]] for column in columns)
    return list(zip(*cells, strict=True))


def terminal(columns: Sequence[Column], width: int | None = None) -> str:
    """Return aligned text. What does not fit into `width` characters is left out, and named.

    The first two columns and the first metric stay; a long name loses its middle.
    """
    lines = lines_of(columns, {})
    sizes = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    metric = next((i for i, column in enumerate(columns) if column.kind == "metrics"), 0)
    shown = list(range(len(columns)))
    while width and sum(sizes[i] + 2 for i in shown) > width:
        others = [i for i in shown if i not in (0, 1, metric)]
        if not others:
            sizes[1] = max(12, width - sizes[0] - sizes[metric] - 6)
            break
        shown.remove(others[-1])
    text = []
    for line in lines:
        cells = [middle_out(line[i], sizes[i]).ljust(sizes[i]) for i in shown]
        text.append("  ".join(cells).rstrip())
    if missing := [column.title for i, column in enumerate(columns) if i not in shown]:
        text.append(f"(not shown, too wide: {', '.join(missing)})")
    return "\n".join(text)


def middle_out(text: str, most: int) -> str:
    """Return a text of at most so many letters, without its middle if it is longer."""
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"


def with_bold(columns: Sequence[Column], signs: dict[str, str], bold: str) -> list[list[str]]:
    """Return header and rows as cells; `bold` says how the bold ones look, with {} for the text."""
    lines = [[*line] for line in lines_of(columns, signs)]
    for j, column in enumerate(columns):
        for i in column.bold:
            lines[i + 1][j] = bold.format(lines[i + 1][j])
    return lines


def markdown(columns: Sequence[Column]) -> str:
    """Return the pipe table of the CS230 template."""
    header, *body = with_bold(columns, MARKDOWN, "**{}**")
    lines = [header, ["---"] * len(columns), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True)
class Latex:
    """What a LaTeX table is made with: the packages booktabs and siunitx, and a caption."""

    booktabs: bool = False
    siunitx: bool = False
    caption: str = ""

    def table(self, columns: Sequence[Column]) -> str:
        """Return a tabular, in a table if there is a caption."""
        top, middle, end = ("top", "mid", "bottom") if self.booktabs else [""] * 3
        rules = [f"\\{each}rule" if each else "\\hline" for each in (top, middle, end)]
        lines = with_bold(columns, LATEX, "\\textbf{{{}}}")
        kinds = ["r" if column.kind == "metrics" else "l" for column in columns]
        for j, kind in enumerate(kinds):
            if kind == "r" and self.siunitx:
                cells = [line[j] for line in lines]
                kinds[j] = number_column(cells)
                for line in lines:
                    line[j] = line[j] if NUMBER.fullmatch(line[j]) else f"{{{line[j]}}}"
        header, *body = [" & ".join(line) + " \\\\" for line in lines]
        begin = f"\\begin{{tabular}}{{{''.join(kinds)}}}"
        text = [begin, rules[0], header, rules[1], *body, rules[2], "\\end{tabular}"]
        if self.caption:
            plain = not {"\\", "$"} & {*self.caption}  # else it is LaTeX
            words = "".join(LATEX.get(c, c) for c in self.caption) if plain else self.caption
            caption = f"\\caption{{{words}}}"
            text = ["\\begin{table}", "\\centering", caption, *text, "\\end{table}"]
        return "\n".join(text) + "\n"


NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?(?: \$\\pm\$ (\d+)(?:\.(\d+))?)?")


def number_column(cells: Sequence[str]) -> str:
    """Return siunitx's column for numbers, aligned at the decimal point and at the ±."""
    found = [match for each in cells if (match := NUMBER.fullmatch(each))]
    digits = [max((len(m[k] or "") for m in found), default=1) for k in (1, 2)]
    spread = max((len(f"{m[3]}{m[4] or ''}".lstrip("0")) for m in found if m[3]), default=0)
    sign = "-" if any(match[0].startswith("-") for match in found) else ""
    size = f"{sign}{digits[0]}.{digits[1]}" + (f"({spread})" if spread else "")
    return f"S[separate-uncertainty, table-format={size}]"


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
