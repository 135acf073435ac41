"""Outputs and labels of a split: saved to a file, and reported class by class."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.base.classification import class_table, confusion_matrix, plot_confusion
from core.base.files import replacing
from core.base.params import Params
from core.task import Collected

AUTO_BYTES = 64 * 2**20  # up to which `save_predictions: auto` keeps them


def wants_predictions(params: Params, collected: Collected) -> bool:
    """Tell whether `save_predictions` asks for predictions of this size."""
    wanted = params.save_predictions
    return collected.nbytes <= AUTO_BYTES if wanted == "auto" else bool(wanted)


def save_predictions(path: Path, collected: Collected, ids: Sequence[Any] | None) -> None:
    """Write `ids`, `labels` and `outputs` of a split to a .npz file."""
    arrays: dict[str, Any] = {}
    for name, value in zip(("outputs", "labels"), collected.arrays(), strict=True):
        if isinstance(value, dict):
            arrays |= {f"{name}_{part}": item for part, item in value.items()}
        elif isinstance(value, tuple):
            arrays |= {f"{name}_{i}": item for i, item in enumerate(value)}
        elif value is not None:
            arrays[name] = value
    if ids is not None:
        rows = {len(array) for array in arrays.values()}
        arrays["ids" if rows == {len(ids)} else "example_ids"] = np.asarray(ids)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def report_classes(collected: Collected, params: Params, title: str, path: Path) -> None:
    """Log a table per class and the confusion matrix, and draw it, where outputs are (N, K)."""
    outputs, labels = collected.arrays()
    kinds = isinstance(outputs, np.ndarray) and isinstance(labels, np.ndarray)
    if not (kinds and outputs.ndim == 2 and labels.ndim == 1 and labels.dtype.kind in "iu"):
        return
    num_classes = outputs.shape[1]
    if len(labels) == 0 or labels.max() >= num_classes:
        return
    confusion = confusion_matrix(outputs.argmax(axis=1), labels, num_classes)
    named = collected.task.class_names
    names = [str(k) for k in range(num_classes)] if named is None else named(params)
    hits, total = int(np.trace(confusion)), int(confusion.sum())
    logging.info("%d of %d right (%.2f%%)", hits, total, 100 * hits / max(total, 1))
    logging.info("%s", class_table(confusion, names))
    try:
        plot_confusion(confusion, names, title, path)
        logging.info("Confusion matrix drawn in %s", path)
    except ImportError:
        logging.warning("No picture of the confusion matrix: pip install matplotlib")
