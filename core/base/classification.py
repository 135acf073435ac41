"""Counting right and wrong class numbers: confusion matrix, precision, recall, F1, and their table.

Shapes: N examples, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

IGNORED = (-1, -100)  # labels that mark padding: the CS230 template's and torch's own


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each label was predicted as each class.

    Args:
        predicted: (N,) class numbers.
        labels: (N,) class numbers; -1 and -100 are left out.
        num_classes: K.

    Returns:
        (K, K) counts; the row is the label, the column the prediction.
    """
    counted = ~np.isin(labels, IGNORED)
    pairs = labels[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Return (3, K): precision, recall and F1 of each class; 0 where a quotient would be 0/0.

    Precision is the share of a class's predictions that are right, recall the share of its
    examples that are found, F1 = 2 TP / (2 TP + FP + FN) their harmonic mean (van Rijsbergen 1979,
    chapter 7).
    """
    right = np.diag(confusion).astype(np.float64)
    predicted, present = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        scores = np.stack([right / predicted, right / present, 2 * right / (predicted + present)])
    return np.nan_to_num(scores)


def class_table(confusion: np.ndarray, names: Sequence[str]) -> str:
    """Return text: precision, recall, F1 and number of examples per class, and the matrix."""
    width = max(6, *(len(name) for name in names))
    lines = [f"{'class':<{width}}  precision  recall      F1  examples"]
    for name, (precision, recall, f1), row in zip(
        names, precision_recall_f1(confusion).T, confusion, strict=True
    ):
        lines.append(f"{name:<{width}}  {precision:9.3f}  {recall:6.3f}  {f1:6.3f}  {row.sum():8d}")
    cell = max(len(str(confusion.max())), *(len(name) for name in names)) + 1
    lines += ["", f"{'label':<{width}}  predicted as"]
    lines.append(" " * width + " " + "".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, confusion, strict=True):
        lines.append(f"{name:<{width}} " + "".join(f"{count:>{cell}}" for count in row))
    return "\n".join(lines)


def plot_confusion(confusion: np.ndarray, names: Sequence[str], title: str, path: Path) -> None:
    """Draw the matrix as a PNG; each row is shaded by its share of the label's examples."""
    from matplotlib.figure import Figure  # heavy, and needed here only

    size = 2.5 + 0.45 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        count = str(confusion[row, column])
        axes.text(column, row, count, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(max(names, key=len)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    figure.savefig(path, dpi=120)
