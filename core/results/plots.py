"""Pictures for a paper: learning curves, and seeds as points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.base.pictures import LIGHT, save, spans_decades
from core.results.rows import Row, main_metric

MOST = len(LIGHT)  # rows in a picture


def draw(rows: Sequence[Row], split: str, folder: Path) -> None:
    """Draw curves and seeds of the first rows (PNG, SVG, PDF); ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metric = main_metric(rows) or ""
    rows = [row for row in rows if row.values(metric)][:MOST]
    names = [plain(row.name) for row in rows]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel=f"val {plain(metric)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown: list[Any] = []
    for row, name, colour in zip(rows, names, LIGHT, strict=False):
        for run in row.members:
            if run.curves.keys() >= {"epoch", f"val_{metric}"}:
                points = run.curves["epoch"], run.curves[f"val_{metric}"]
                shown += points[1].tolist()
                label = name if run is row.first else None
                axes.plot(*points, color=colour, label=label, linewidth=1.5, alpha=0.8)
    if spans_decades(shown):
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower left", fontsize=8, frameon=False)
    save(figure, folder / "curves.png")

    figure = Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.add_subplot(xlabel=f"{split} {plain(metric)}")
    figure.suptitle("points: runs; lines: 95% intervals", fontsize=9)
    for i, (row, colour) in enumerate(zip(rows, LIGHT, strict=False)):
        values = row.values(metric)
        axes.plot(values, [i] * len(values), "o", color=colour, alpha=0.7, clip_on=False)
        if metric in row.intervals:
            axes.plot(row.intervals[metric], [i, i], color=colour, linewidth=1)
    if spans_decades([value for row in rows for value in row.values(metric)]):
        axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    save(figure, folder / "seeds.png")


def plain(text: str) -> str:
    """Keep matplotlib from reading mathematics in a name, or leaving it out for its underscore."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
