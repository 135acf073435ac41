"""The page of results: its data, put into page.html, which has all that is drawn from them."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.base.classification import confusion_matrix
from core.base.errors import UserError
from core.base.predictions import Predictions
from core.results.gathering import Result, fitting_predictions
from core.results.rows import Row, best_setting, less_is_better, main_metric, members, metric_names
from core.results.statistics import subset
from core.results.tables import FOOTNOTE, Column

MAX_NUMBERS = 300_000  # of learning curves in a page: about 2 MB
MAX_CLASSES = 40
WORST = 12  # examples shown


def make_page(rows: Sequence[Row], columns: Sequence[Column], split: str, title: str) -> str:
    """Return a page that holds all it needs."""
    main, metrics, best = main_metric(rows), metric_names(rows), best_setting(rows)
    with_curves = [run for run in members(rows) if run.curves]
    sizes = np.cumsum([sum(map(len, run.curves.values())) for run in with_curves])
    shown = with_curves[: np.searchsorted(sizes, MAX_NUMBERS, side="right")]
    data = {
        "title": title,
        "split": split,
        "main": main,
        "metrics": metrics,
        "less": [name for name in metrics if less_is_better(name, rows)],
        "columns": [{"name": column.name, "kind": column.kind} for column in columns],
        "rows": [
            {
                "cells": [column.shown[i] for column in columns],
                "keys": [compact(column.values[i]) for column in columns],
                "runs": [run.name for run in row.members],
                "points": {name: [*map(compact, row.values(name))] for name in metrics},
                "intervals": {n: [*map(compact, ends)] for n, ends in row.intervals.items()},
                "is_run": row.first.is_run,
            }
            for i, row in enumerate(rows)
        ],
        "curves": {
            run.name: {n: [*map(compact, c)] for n, c in run.curves.items()} for run in shown
        },
        "left_out": len(with_curves) - len(shown),
        "best": best and best_run(best[1], split) | {"chosen": best[2]},
        "footnote": FOOTNOTE if any(row.stale for row in rows) else "",
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return template.replace("{{data}}", text)


def compact(value: Any) -> Any:
    """Round a number to what a screen can show; what is not finite becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else json.dumps(value)


def best_run(run: Result, split: str) -> dict[str, Any]:
    """Return confusion matrix and worst examples of the best run; "why" says what is missing."""
    found: dict[str, Any] = {"run": run.name, "why": [], "worst": []}
    try:
        predictions = fitting_predictions(run, split)
        outputs, labels = predictions.outputs, predictions.labels
        losses = losses_of_rows(outputs, labels, predictions.ignored)
    except (UserError, IndexError, ValueError) as error:
        return found | {"why": [str(error)]}
    params, show, names = open_task(run, found["why"])
    if labels.dtype.kind in "iu":
        size = outputs.shape[1]
        names = names if names and len(names) == size else [str(k) for k in range(size)]
        if size <= MAX_CLASSES:  # the losses have shown that the labels are classes
            counted = ~np.isin(labels, predictions.ignored)
            predicted = outputs[counted].argmax(axis=1)
            confusion = confusion_matrix(predicted, labels[counted], size)
            found |= {"matrix": confusion.tolist(), "classes": names}
    if predictions.starts is not None:
        losses = np.add.reduceat(losses, predictions.starts[:-1])
    held_out = params.val_split if split == "val" and params else 0.0
    place = held_out if isinstance(held_out, str) else "train" if held_out else split
    for i in np.argsort(-losses, kind="stable")[:WORST].tolist():
        one = subset(predictions, np.array([i]))
        index = i if one.ids is None else one.ids[0].item()
        shown: dict[str, Any] = {"id": i if one.ids is None else str(index)}
        shown |= {"pairs": label_pairs(one, names), "loss": compact(float(losses[i]))}
        try:
            content = show(index, place, params.data_dir, params) if show else None
        except Exception as error:  # the user's code, or data that are gone
            found["why"].append(f"the examples themselves: {error!r}"[:200])
            show = content = None
        if isinstance(content, bytes):
            kind = "jpeg" if content[:2] == b"\xff\xd8" else "png"
            shown["image"] = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        elif content is not None:
            shown["text"] = content
        found["worst"].append(shown)
    return found


def losses_of_rows(outputs: Any, labels: Any, ignored: Sequence[int]) -> np.ndarray:
    """Return how wrong every row is: cross-entropy of class scores (N, K), else squared error."""
    arrays = isinstance(outputs, np.ndarray) and isinstance(labels, np.ndarray)
    if arrays and labels.ndim == 1 and outputs.ndim == 2 and labels.dtype.kind in "iu":
        scores, counted = outputs.astype(np.float64), ~np.isin(labels, ignored)
        if (labels[counted] < 0).any():
            raise ValueError("labels below 0")
        with np.errstate(invalid="ignore"):  # outputs that are not finite
            top = scores.max(axis=1)
            whole = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        own = scores[np.arange(len(labels)), np.where(counted, labels, 0)]
        return np.where(counted, whole - own, 0.0)
    if arrays and outputs.shape == labels.shape and labels.dtype.kind == "f":
        return ((outputs - labels) ** 2).reshape(len(labels), -1).mean(axis=1)
    raise ValueError("neither class numbers nor outputs and labels of the same shape")


def label_pairs(one: Predictions, names: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the labels of an example, each with what was predicted in its place."""
    if names is None or one.labels.dtype.kind not in "iu":
        pairs = zip(one.labels, one.outputs, strict=True)
        return [(str(label)[:80], str(output)[:80]) for label, output in pairs]
    counted = ~np.isin(one.labels, one.ignored)
    pairs = zip(one.labels[counted], one.outputs[counted].argmax(axis=1), strict=True)
    return [(names[label], names[predicted]) for label, predicted in pairs]


def open_task(run: Result, why: list[str]) -> tuple[Any, Any, list[str] | None]:
    """Return the params of the best weights, the task's `show`, and its names of classes."""
    from core.run.restoring import restore  # imports torch

    try:
        restored = restore(run.folder, "best", run.data.get("folder"))
        params, task = restored.params, restored.task
        params.dict.update(restored.loader_params)
        names = list(map(str, task.class_names(params))) if task.class_names else None
        return params, task.show, names
    except Exception as error:  # a checkpoint that is gone, or the user's code
        why.append(f"names of classes and the examples themselves: {error}"[:200])
        return None, None, None
