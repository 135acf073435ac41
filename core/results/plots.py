"""Pictures for a paper: learning curves, and seeds as points."""

from collections.abc import Sequence
from pathlib import Path

from core.results.rows import Row, main_metric

MOST = 10  # rows in a picture


def draw(rows: Sequence[Row], split: str, folder: Path) -> None:
    """Write curves.png and seeds.png of the first rows; ImportError if matplotlib is missing."""
    from matplotlib.figure import Figure

    metric = main_metric(rows) or ""
    rows = [row for row in rows if row.values(metric)][:MOST]
    names = [plain(row.name) for row in rows]
    curves = Figure(figsize=(7, 4), layout="constrained")
    axes = curves.add_subplot(xlabel="epoch", ylabel=f"val {plain(metric)}")
    for i, row in enumerate(rows):
        for run in row.members:
            if run.curves.keys() >= {"epoch", f"val_{metric}"}:
                points = run.curves["epoch"], run.curves[f"val_{metric}"]
                label = names[i] if run is row.first else None
                axes.plot(*points, color=f"C{i}", label=label, linewidth=1.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    curves.savefig(folder / "curves.png", dpi=150)

    seeds = Figure(figsize=(7, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = seeds.add_subplot(xlabel=f"{split} {plain(metric)}")
    axes.set_title("points: runs; lines: 95% intervals")
    for i, row in enumerate(rows):
        values = row.values(metric)
        axes.plot(values, [i] * len(values), "o", color=f"C{i}", alpha=0.7)
        if metric in row.intervals:
            axes.plot(row.intervals[metric], [i, i], color=f"C{i}", linewidth=1)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    seeds.savefig(folder / "seeds.png", dpi=150)


def plain(text: str) -> str:
    """Keep matplotlib from reading mathematics in a name, or leaving it out for its underscore."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
