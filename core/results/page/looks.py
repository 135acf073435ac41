"""What single runs predicted: confusion matrices, scores of classes and entities, worst examples.

Runs that predicted the same examples share them: the page can then hold two runs against each
other, and has every picture once.
"""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from core.base.classification import confusion_matrix, precision_recall_f1
from core.base.entities import entity_scores
from core.base.errors import UserError
from core.base.examples import in_order, subset
from core.base.predictions import Predictions
from core.results.gathering import Result, fitting_predictions

MAX_CLASSES = 40  # of a confusion matrix
MAX_ROWS = 10_000  # labels of a set of examples
MAX_OUTPUTS = 8  # numbers an example, that are drawn
MAX_TAGS = 200  # labels an example: pixels are more
WORST, WORST_OF_CLASS = 12, 6  # examples whose content the page has
MAX_BYTES = 6_000_000  # of all contents
SECONDS = 15.0  # for reading predictions, and again for reading contents


@dataclass
class Examples:
    """Examples that one or more runs have predicted."""

    run: Result  # the first of them
    all: Predictions  # outputs of that run
    kind: str  # "classes", "tags", "numbers", or "other": no labels to list
    shown: np.ndarray  # numbers of the examples in the page, largest loss of `run` first
    params: Any = None  # of the run's best weights
    show: Any = None  # the task's function
    names: list[str] = field(default_factory=list)  # of classes
    why: list[str] = field(default_factory=list)  # what is missing
    contents: dict[int, dict[str, str]] = field(default_factory=dict)  # by place in `shown`
    looks: list[dict[str, Any]] = field(default_factory=list)

    def fit(self, run: Result, other: Predictions) -> bool:
        """Tell whether another run has predicted the same examples."""
        pairs = [(p.ids, p.starts, p.labels) for p in (self.all, other)]
        same = all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))
        return same and run.params.get("task") == self.run.params.get("task")

    def listed(self, values: np.ndarray) -> list[Any]:
        """Return labels, or what was predicted, of the examples shown: as numbers, or lists."""
        part = subset(replace(self.all, outputs=values), self.shown)
        if self.kind == "tags":
            parts = zip(part.starts[:-1], part.starts[1:], strict=True)  # type: ignore[index]
            counted = ~np.isin(part.labels, part.ignored)
            return [part.outputs[a:b][counted[a:b]].tolist() for a, b in parts]
        if self.kind == "numbers":
            rows = part.outputs.reshape(len(self.shown), -1).tolist()
            return [[short(x) for x in row] for row in rows]
        return part.outputs.tolist() if self.kind == "classes" else []

    def as_json(self) -> dict[str, Any]:
        """Return what all runs have in common."""
        ids = self.shown if self.all.ids is None else self.all.ids[self.shown]
        found = {"kind": self.kind, "total": len(self.all), "names": self.names, "why": self.why}
        labels = self.listed(self.all.labels)
        return found | {"ids": [*map(str, ids)], "labels": labels, "contents": self.contents}


def look_closer(runs: Sequence[Result], split: str) -> dict[str, Any]:
    """Return what runs predicted: {"examples": [set], "looks": {run: look}, "why": {run: text}}."""
    sets: list[Examples] = []
    looks, why = {}, {}
    end = time.monotonic() + SECONDS
    for run in runs:
        try:
            if time.monotonic() > end:
                raise ValueError("the predictions of the runs before it took too long to read")
            predictions = in_rows(fitting_predictions(run, split))
            losses = losses_of_rows(predictions.outputs, predictions.labels, predictions.ignored)
            if predictions.starts is not None:
                losses = np.add.reduceat(losses, predictions.starts[:-1])
            mine = next((found for found in sets if found.fit(run, predictions)), None)
            if mine is None:
                sets.append(mine := new_examples(run, predictions, losses))
            look = look_at(mine, predictions, losses)
        except (UserError, IndexError, ValueError) as error:
            why[run.name] = str(error)
            continue
        mine.looks.append(look)
        looks[run.name] = look | {"examples": sets.index(mine)}
    end = time.monotonic() + SECONDS
    for mine in sets:
        add_contents(mine, split, end)
    return {"examples": [mine.as_json() for mine in sets], "looks": looks, "why": why}


def in_rows(found: Predictions) -> Predictions:
    """Return predictions in the order of their ids: scores (N, K) and labels (N,), or both alike.

    Scores (B, K, ...) of pixels become rows of an example; whole numbers, where outputs are of the
    labels' shape, numbers to predict.
    """
    outputs, labels = found.outputs, found.labels
    if isinstance(outputs, np.ndarray) and isinstance(labels, np.ndarray) and len(labels):
        if outputs.shape == (*labels.shape, 1):
            outputs = outputs[..., 0]
        if outputs.shape == labels.shape:
            labels = labels.astype(np.float64)
        elif outputs.ndim > 2 and outputs.shape[:1] + outputs.shape[2:] == labels.shape:
            starts = np.arange(len(labels) + 1) * labels[0].size
            outputs = np.moveaxis(outputs, 1, -1).reshape(-1, outputs.shape[1])
            found, labels = replace(found, starts=starts), labels.ravel()
        found = replace(found, outputs=outputs, labels=labels)
    return in_order(found)


def new_examples(run: Result, predictions: Predictions, losses: np.ndarray) -> Examples:
    """Return examples as the first run sees them; of many, those with the largest losses."""
    labels, starts = predictions.labels, predictions.starts
    each = labels.size / max(1, len(predictions))  # labels an example
    if labels.dtype.kind in "iu":
        kind = "classes" if starts is None else "tags" if each <= MAX_TAGS else "other"
    else:
        drawn = starts is None and each <= MAX_OUTPUTS and not np.isin(labels, (0, 1)).all()
        kind = "numbers" if drawn else "other"
    order = np.argsort(-losses, kind="stable")
    shown = order[: max(WORST, int(MAX_ROWS / max(1, each)))]
    mine = Examples(run, predictions, kind, shown)
    task = open_task(mine)
    if labels.dtype.kind in "iu" and task and task.outputs == "other":
        raise ValueError("the task says that its outputs are not scores of classes")
    if labels.dtype.kind in "iu" and len(mine.names) != predictions.outputs.shape[1]:
        mine.names = [str(k) for k in range(predictions.outputs.shape[1])]
    return mine


def look_at(mine: Examples, predictions: Predictions, losses: np.ndarray) -> dict[str, Any]:
    """Return what one run predicted, the loss of each example shown, and scores of classes."""
    outputs, labels = predictions.outputs, predictions.labels
    look: dict[str, Any] = {"loss": [*map(short, losses[mine.shown].tolist())]}
    if labels.dtype.kind not in "iu":
        return look | {"outputs": mine.listed(outputs)}
    counted, predicted = ~np.isin(labels, predictions.ignored), outputs.argmax(axis=1)
    confusion = confusion_matrix(predicted[counted], labels[counted], len(mine.names))
    scores = precision_recall_f1(confusion).T.tolist()
    look["scores"] = [
        [*map(short, row), n] for row, n in zip(scores, confusion.sum(1).tolist(), strict=True)
    ]
    if len(mine.names) <= MAX_CLASSES:
        look["matrix"] = confusion.tolist()
    if mine.kind == "tags" and predictions.starts is not None:
        tags = np.where(np.isin(labels, predictions.ignored), -1, labels)
        look["entities"] = entity_scores(predicted, tags, predictions.starts, mine.names)
    return look | {"outputs": mine.listed(predicted)}


def short(value: float) -> float | None:
    """Round to what a picture shows; what is not finite becomes null."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def losses_of_rows(outputs: Any, labels: Any, ignored: Sequence[int]) -> np.ndarray:
    """Return how wrong every row is: cross-entropy of class scores (N, K), else squared error."""
    from scipy.special import log_softmax  # needed here only

    arrays = isinstance(outputs, np.ndarray) and isinstance(labels, np.ndarray)
    if arrays and labels.ndim == 1 and outputs.ndim == 2 and labels.dtype.kind in "iu":
        scores, counted = outputs.astype(np.float64), ~np.isin(labels, ignored)
        if (labels[counted] < 0).any():
            raise ValueError("labels below 0")
        with np.errstate(invalid="ignore"):  # outputs that are not finite
            chances = log_softmax(scores, axis=1)
        own = chances[np.arange(len(labels)), np.where(counted, labels, 0)]
        return np.where(counted, -own, 0.0)
    if arrays and outputs.shape == labels.shape and labels.dtype.kind == "f":
        return ((outputs - labels) ** 2).reshape(len(labels), -1).mean(axis=1)
    raise ValueError("neither class numbers nor outputs and labels of the same shape")


def open_task(mine: Examples) -> Any:
    """Add names of classes, `show` and the params of the best weights; returns the task or None."""
    from core.run.restoring import restore  # imports torch

    try:
        restored = restore(mine.run.folder, "best", mine.run.data.get("folder"))
        mine.params, task = restored.params, restored.task
        mine.params.dict.update(restored.loader_params)
        mine.names = [*map(str, task.class_names(mine.params))] if task.class_names else []
        mine.show = task.show
        return task
    except Exception as error:  # a checkpoint that is gone, or the user's code
        mine.why.append(f"names of classes and the examples themselves: {error}"[:200])
        return None


def add_contents(mine: Examples, split: str, end: float) -> None:
    """Add text or picture of the worst examples of every run, then of every class."""
    wanted: dict[int, None] = {}
    for part in ("all", "class"):
        for look in mine.looks:
            order = np.argsort([-(x or 0.0) for x in look["loss"]], kind="stable")
            groups, most = [order], WORST
            if part == "class" and mine.kind == "classes":
                labels, most = mine.all.labels[mine.shown][order], WORST_OF_CLASS
                groups = [order[labels == k] for k in np.unique(labels)]
            wanted |= dict.fromkeys(i for group in groups for i in group[:most].tolist())
        for look in mine.looks[1:]:  # where the first run has another answer
            pairs = enumerate(zip(look["outputs"], mine.looks[0]["outputs"], strict=True))
            wanted |= dict.fromkeys([i for i, (a, b) in pairs if a != b][:WORST])
    held_out = mine.params.val_split if split == "val" and mine.params else 0.0
    place = held_out if isinstance(held_out, str) else "train" if held_out else split
    size = 0
    for count, i in enumerate(wanted if mine.show else ()):
        if size > MAX_BYTES or time.monotonic() > end:
            mine.why.append(f"{len(wanted) - count} of {len(wanted)} examples, which are too many")
            break
        number = int(mine.shown[i])
        index = number if mine.all.ids is None else mine.all.ids[number].item()
        try:
            content = mine.show(index, place, mine.params.data_dir, mine.params)
        except Exception as error:  # the user's code, or data that are gone
            mine.why.append(f"the examples themselves: {error!r}"[:200])
            break
        if isinstance(content, bytes):
            kind = "jpeg" if content[:2] == b"\xff\xd8" else "png"
            text = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            mine.contents[i] = {"image": text}
        elif content is not None:
            mine.contents[i] = {"text": content}
        size += len(content or "")
