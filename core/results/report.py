"""What synthesize_results.py leaves in a folder, and what it prints."""

import json
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.base.files import write_text
from core.results import writing
from core.results.page.data import make_page, page_data
from core.results.plots import draw
from core.results.rows import Row
from core.results.statistics import level
from core.results.tables import FOOTNOTE, Column


def write_files(
    folder: Path,
    rows: Sequence[Row],
    columns: Sequence[Column],
    latex: writing.Latex,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the table in all formats, the page and the plots; returns what `--json` prints.

    Args:
        folder: where to.
        rows: in their order.
        columns: of them; people see those that are not fine.
        latex: how the LaTeX table is made.
        facts: what results.json holds beside the rows, such as the split.
    """
    visible = [column for column in columns if not column.fine]
    footnote = "".join(f"\n{note}\n" for note in footnotes(rows, facts))
    of_latex = footnote.replace("†", "$\\dagger$").replace("%", "\\%")
    text = writing.as_json(columns, **facts)
    shown = page_data(rows, visible, facts["split"], str(folder))
    for name, content in [
        ("results.md", writing.markdown(visible) + footnote),
        ("results.csv", writing.comma_separated(columns)),
        ("results.tex", latex.table(visible) + of_latex),
        ("results.json", text),
        ("report.html", make_page(shown)),
    ]:
        write_text(folder / name, content)
    try:
        with warnings.catch_warnings(action="ignore"):  # of letters that its font does not have
            draw(rows, facts["split"], folder)
    except ImportError:
        print("No plots: pip install matplotlib", file=sys.stderr)
    return {**json.loads(text), "page": shown}


def show(rows: Sequence[Row], columns: Sequence[Column], facts: Mapping[str, Any]) -> None:
    """Print the table for a person, and below it what it leaves out."""
    numbers = [str(i + 1) if row.first.is_run else "" for i, row in enumerate(rows)]
    visible = [Column("#", numbers), *(column for column in columns if not column.fine)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(writing.terminal(visible, width))
    for note in footnotes(rows, facts):
        print(f"\n{note}")
    if width and facts["best"]:  # a narrow terminal has no room for the notes
        print("The best run: {run}, chosen {chosen}".format(**facts["best"]))
    if facts["luck"]:
        told = "Of {metric}, the best of {rows} is overrated by about {by:.2g} (bootstrap)"
        print(told.format(**facts["luck"]))
    for why, names in facts["missing"].items():
        print(f"No interval of {few(names)}: {why}")
    if facts["not_started"]:
        print(f"Not started, and not shown: {few(facts['not_started'])}")


def footnotes(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the table has to know: stale numbers, what test looks cost."""
    notes, looks = [FOOTNOTE] if any(row.stale for row in rows) else [], facts["looks"]
    if looks > 1 and any(row.intervals for row in rows):
        at = f"{100 * level(looks):.5g}%"
        notes.append(f"Intervals are at {at}: {looks} test looks have 95% together (Bonferroni)")
    return notes


def few(names: Sequence[str]) -> str:
    """Return up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
