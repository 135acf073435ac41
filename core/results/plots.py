"""Pictures for a paper: learning curves, and seeds as points."""

from collections.abc import Sequence
from pathlib import Path

from core.results.rows import Row, main_metric

MOST = 10  # rows in a picture


def draw(rows: Sequence[Row], split: str, folder: Path) -> None:
    """Write curves.png and seeds.png of the first rows; ImportError if matplotlib is missing."""
    from matplotlib.figure import Figure

    metric = main_metric([run for row in rows for run in row.members])
    rows = [row for row in rows if metric and row.values(metric)][:MOST]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for i, row in enumerate(rows):
        for run in row.members:
            curve = run.curves.get(f"val_{metric}")
            if curve and len(curve) == len(run.curves.get("epoch", [])):
                label = _plain(row.name) if run is row.first else None
                axes.plot(run.curves["epoch"], curve, color=f"C{i}", label=label, linewidth=1.5)
    axes.set(xlabel="epoch", ylabel=f"val {_plain(metric or '')}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    figure.savefig(folder / "curves.png", dpi=150)

    figure = Figure(figsize=(7, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for i, row in enumerate(rows):
        values = row.values(metric or "")
        axes.plot(values, [i] * len(values), "o", color=f"C{i}", alpha=0.7)
        if metric in row.intervals:
            axes.plot(row.intervals[metric], [i, i], color=f"C{i}", linewidth=1)
    axes.set_yticks(range(len(rows)), [_plain(row.name) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"{split} {_plain(metric or '')}", title="points: runs; lines: 95% intervals")
    figure.savefig(folder / "seeds.png", dpi=150)


def _plain(text: str) -> str:
    """Keep matplotlib from reading mathematics in a name, or leaving it out for its underscore."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
