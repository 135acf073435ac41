"""What all plots share: their colours, and writing them as PNG, SVG and PDF."""

from pathlib import Path
from typing import Any

from core.base.files import replacing

# Of rows, the same in page and plots, on white and on black; they differ in lightness too.
LIGHT = ("#2a6fdb", "#d2570f", "#12866f", "#b0309a", "#8a6d00", "#6a4bd0", "#c22f4a", "#4a7d12")
DARK = ("#6ea8ff", "#ff9d5c", "#4fd1b5", "#f08be0", "#e3c34d", "#b19cff", "#ff8da1", "#a3d45f")
KINDS = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # without the time
WIDE = 50  # positive values that far apart are drawn on a logarithmic axis


def save(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib as PATH.png, and beside it as .svg and .pdf."""
    for kind, metadata in KINDS.items():
        with replacing(path.with_suffix(f".{kind}")) as file:
            figure.savefig(file, format=kind, dpi=120, metadata=metadata)


def spans_decades(values: Any) -> bool:
    """Tell whether numbers are best drawn on a logarithmic axis."""
    numbers = [x for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) >= WIDE * min(numbers)
