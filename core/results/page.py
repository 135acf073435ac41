"""The page of results: its data, put into page.html, which has all that is drawn from them."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.base.classification import IGNORED, confusion_matrix
from core.base.errors import UserError
from core.base.predictions import Predictions, gather_rows, read_predictions
from core.results.gathering import Result
from core.results.rows import Row, less_is_better, main_metric
from core.results.tables import Column

MAX_NUMBERS = 300_000  # of learning curves in a page: about 2 MB
MAX_CLASSES = 40
WORST = 12  # examples shown


def make_page(rows: Sequence[Row], columns: Sequence[Column], split: str, title: str) -> str:
    """Return a page that holds all it needs."""
    columns = [column for column in columns if not column.fine]
    runs = [run for row in rows for run in row.members]
    main = main_metric(runs)
    curves, left_out = embedded_curves(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    data = {
        "title": title,
        "split": split,
        "main": main,
        "metrics": metrics,
        "less": [name for name in metrics if less_is_better(name, runs)],
        "columns": [{"name": column.name, "kind": column.kind} for column in columns],
        "rows": [
            {
                "cells": [column.shown[i] for column in columns],
                "keys": [compact(column.values[i]) for column in columns],
                "runs": [run.name for run in row.members],
                "points": {name: list(map(compact, row.values(name))) for name in metrics},
                "intervals": {n: list(map(compact, ends)) for n, ends in row.intervals.items()},
                "is_run": row.first.is_run,
            }
            for i, row in enumerate(rows)
        ],
        "curves": curves,
        "left_out": left_out,
        "best": best_run_details(best_run(rows, main), split) if main else None,
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return template.replace("{{data}}", text)


def compact(value: Any) -> Any:
    """Round a number to what a screen can show; what is not finite becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else json.dumps(value)


def embedded_curves(runs: Sequence[Result]) -> tuple[dict[str, Any], int]:
    """Return the learning curves of the first runs, and how many there was no room for."""
    curves: dict[str, Any] = {}
    room, with_curves = MAX_NUMBERS, [run for run in runs if run.curves]
    for run in with_curves:
        room -= sum(map(len, run.curves.values()))
        if room < 0:
            break
        curves[run.name] = {n: [compact(v) for v in column] for n, column in run.curves.items()}
    return curves, len(with_curves) - len(curves)


def best_run(rows: Sequence[Row], main: str) -> Result:
    """Return the best run by the main metric."""
    runs = [run for row in rows for run in row.members if main in run.metrics]
    sign = 1 if less_is_better(main, runs) else -1
    finite = [run for run in runs if math.isfinite(run.metrics[main])]
    return min(finite or runs, key=lambda run: sign * run.metrics[main])


def best_run_details(run: Result, split: str) -> dict[str, Any]:
    """Return confusion matrix and worst examples of a run; "why" says what cannot be shown."""
    found: dict[str, Any] = {"run": run.name, "why": [], "worst": []}
    try:
        predictions = read_predictions(run.folder / f"predictions_{split}.npz")
        outputs, labels = predictions.outputs, predictions.labels
        losses = losses_of_rows(outputs, labels)
    except (UserError, IndexError, ValueError) as error:
        return found | {"why": [str(error)]}
    if losses is None:
        return found | {"why": ["neither class numbers nor outputs and labels of the same shape"]}
    params, show, names = open_task(run, found["why"])
    if labels.dtype.kind in "iu":
        size = outputs.shape[1]
        names = names if names and len(names) == size else [str(k) for k in range(size)]
        if size <= MAX_CLASSES:
            confusion = confusion_matrix(outputs.argmax(axis=1), labels, size)
            found |= {"matrix": confusion.tolist(), "classes": names}
    if predictions.starts is not None:
        losses = np.add.reduceat(losses, predictions.starts[:-1])
    for i in np.argsort(-losses, kind="stable")[:WORST].tolist():
        example = label_pairs(predictions, i, names) | {"loss": compact(float(losses[i]))}
        if show is not None:
            place = "train" if params.val_split and split == "val" else split
            index = i if predictions.ids is None else predictions.ids[i].item()
            try:
                example |= as_seen(show(index, place, params.data_dir, params))
            except Exception as error:  # the user's code, or data that are gone
                found["why"].append(f"the examples themselves: {error!r}"[:200])
                show = None
        found["worst"].append(example)
    return found


def losses_of_rows(outputs: Any, labels: Any) -> np.ndarray | None:
    """Return how wrong every row is: cross-entropy of class scores (N, K), else squared error."""
    if not (isinstance(outputs, np.ndarray) and isinstance(labels, np.ndarray)):
        return None
    if labels.ndim == 1 and outputs.ndim == 2 and labels.dtype.kind in "iu":
        scores, counted = outputs.astype(np.float64), ~np.isin(labels, IGNORED)
        if (labels[counted] < 0).any():
            raise ValueError("labels below 0")
        with np.errstate(invalid="ignore"):  # outputs that are not finite
            top = scores.max(axis=1)
            whole = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        own = scores[np.arange(len(labels)), np.where(counted, labels, 0)]
        return np.where(counted, whole - own, 0.0)
    if outputs.shape == labels.shape and labels.dtype.kind == "f":
        return ((outputs - labels) ** 2).reshape(len(labels), -1).mean(axis=1)
    return None


def label_pairs(predictions: Predictions, i: int, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the id of an example, and what was predicted for it beside its label."""
    rows = predictions.rows(np.array([i]))
    outputs, labels = gather_rows(predictions.outputs, rows), gather_rows(predictions.labels, rows)
    if names is not None and labels.dtype.kind in "iu":
        counted = ~np.isin(labels, IGNORED)
        predicted = outputs[counted].argmax(axis=1)
        pairs = [(names[k], names[j]) for k, j in zip(labels[counted], predicted, strict=True)]
    else:
        pairs = [(str(k)[:80], str(j)[:80]) for k, j in zip(labels, outputs, strict=True)]
    return {"id": i if predictions.ids is None else str(predictions.ids[i]), "pairs": pairs}


def open_task(run: Result, why: list[str]) -> tuple[Any, Any, list[str] | None]:
    """Return the params of the best weights, the task's `show`, and its names of classes."""
    from core.run.restoring import restore  # imports torch

    try:
        folder = run.data.get("folder")
        restored = restore(run.folder, "best", folder)
        params, task = restored.params, restored.task
        params.dict.update(restored.loader_params)
        names = list(map(str, task.class_names(params))) if task.class_names else None
        return params, task.show, names
    except Exception as error:  # a checkpoint that is gone, or the user's code
        why.append(f"names of classes and the examples themselves: {error}"[:200])
        return None, None, None


def as_seen(value: bytes | str) -> dict[str, str]:
    """Return an image for a page to show, or a text."""
    if isinstance(value, str):
        return {"text": value}
    kind = "jpeg" if value[:2] == b"\xff\xd8" else "png"
    return {"image": f"data:image/{kind};base64,{base64.b64encode(value).decode()}"}
