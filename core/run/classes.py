"""How a classifier does, class by class: a table, the confusion matrix, and its picture."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.base.classification import confusion_matrix, precision_recall_f1
from core.base.entities import entity_scores
from core.base.errors import DataError
from core.base.params import Params
from core.base.pictures import save
from core.reading.outputs import Reading
from core.run.log import report
from core.task import Task

MOST = 30  # classes whose matrix a person can read


def report_classes(
    outputs: Any,
    labels: Any,
    reading: Reading,
    task: Task,
    params: Params,
    title: str,
    path: Path,
    row_counts: np.ndarray | None = None,
) -> bool:
    """Report a table per class and the confusion matrix, where outputs score classes.

    Of tags such as B-person it reports whole entities, too. The matrix is drawn; returns whether it
    could be. Outputs are (N, K), or (N, K, ...) with labels (N, ...), as of pixels; `row_counts`
    tells how many of N rows each example has.
    """
    axis = reading.class_axis
    if axis is None or reading.outputs == "other" or not isinstance(outputs, np.ndarray):
        return False
    axis = 1 if axis == 1 or outputs.ndim == 2 else outputs.ndim - 1  # rows of the split are first
    predicted, num_classes = outputs.argmax(axis=axis), outputs.shape[axis]
    if not isinstance(labels, np.ndarray) or predicted.shape != labels.shape:
        return False
    counted = ~np.isin(labels, reading.ignored)
    if not counted.any():
        return False
    try:
        if num_classes > 5000:  # of 50,000 the matrix takes 20 GB
            raise DataError(f"{num_classes} are too many")
        confusion = confusion_matrix(predicted[counted], labels[counted], num_classes)
    except DataError as error:
        logging.warning("No table of the classes: %s", error)
        return False
    names = _names(task, params, num_classes)
    hits, total = int(np.trace(confusion)), int(confusion.sum())
    report(f"{hits} of {total} right ({100 * hits / max(total, 1):.2f}%)")
    report(class_table(confusion, names))
    if row_counts is not None and predicted.ndim == 1:
        tags, starts = np.where(counted, labels, -1), np.append(0, row_counts.cumsum())
        if found := entity_scores(predicted, tags, starts, names):
            report(entity_table(found))
    try:
        plot_confusion(confusion, names, title, path)
        return True
    except ImportError:
        logging.warning("No picture of the confusion matrix: pip install matplotlib")
        return False


def _names(task: Task, params: Params, num_classes: int) -> list[str]:
    """Return the classes' names, or their numbers if the task has none that fit."""
    numbers = [str(k) for k in range(num_classes)]
    try:
        names = [*map(str, task.class_names(params))] if task.class_names else numbers
    except Exception as error:  # the task's own code may raise anything
        logging.warning("Note: class_names fails (%r); the table has numbers instead", error)
        return numbers
    if len(names) != num_classes:
        told = "Note: class_names gives %d names for %d classes; the table has numbers instead"
        logging.warning(told, len(names), num_classes)
        return numbers
    return names


def class_table(confusion: np.ndarray, names: Sequence[str]) -> str:
    """Return text: scores and number of examples of each class that occurs, and the matrix.

    Of more than 30 classes it shows those with the lowest F1, and no matrix.
    """
    width = max(6, *(len(name) for name in names))
    lines = [f"{'class':<{width}}  precision  recall      F1  examples"]
    scores, counts = precision_recall_f1(confusion), confusion.sum(axis=1)
    occurs = (counts > 0) | confusion.any(axis=0)
    shown: Any = range(len(names))
    if len(names) > MOST:
        lowest = np.argsort(np.where(occurs, scores[2], np.inf), kind="stable")
        shown = [k for k in lowest[:MOST] if occurs[k]]
        lines.insert(0, f"{len(shown)} of {len(names)} classes, those with the lowest F1:")
    for k in shown:
        p, r, f1 = (f"{score:.3f}" if occurs[k] else "-" for score in scores[:, k])
        lines.append(f"{names[k]:<{width}}  {p:>9}  {r:>6}  {f1:>6}  {counts[k]:8d}")
    if len(names) > MOST:
        return "\n".join(lines)
    cell = max(len(str(confusion.max())), *(len(name) for name in names)) + 1
    lines += ["", f"{'label':<{width}}  predicted as"]
    lines.append(" " * width + " " + "".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, confusion, strict=True):
        lines.append(f"{name:<{width}} " + "".join(f"{count:>{cell}}" for count in row))
    return "\n".join(lines)


def entity_table(scores: dict[str, list[Any]]) -> str:
    """Return text: the scores of whole entities by type, as `entity_scores` gives them."""
    width = max(6, *(len(name) for name in scores))
    lines = ["", f"{'entity':<{width}}  precision  recall      F1  entities"]
    for name, (p, r, f1, count) in scores.items():
        lines.append(f"{name:<{width}}  {p:9.3f}  {r:6.3f}  {f1:6.3f}  {count:8d}")
    return "\n".join(lines)


def plot_confusion(confusion: np.ndarray, names: Sequence[str], title: str, path: Path) -> None:
    """Draw the matrix (PNG, SVG, PDF); each row is shaded by the percentage of its examples.

    Of more than 30 classes there are no names and counts.
    """
    from matplotlib.figure import Figure  # heavy, and needed here only

    size = 2.5 + 0.55 * min(len(names), MOST)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shades = axes.imshow(100 * fractions, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shades, ax=axes, label="% of the label's examples", shrink=0.8)
    if len(names) <= MOST:
        for row, column in np.argwhere(confusion):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            text = f"{confusion[row, column]}\n{100 * fractions[row, column]:.0f}%"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        rotation = 90 if len(max(names, key=len)) > 3 else 0
        axes.set_xticks(range(len(names)), names, rotation=rotation)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    save(figure, path)
