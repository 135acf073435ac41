"""The test set as a ledger: a score is told only if it beats the best so far by more than chance.

The Ladder of Blum & Hardt 2015 (arXiv 1502.04585, figure 2, without a parameter): what a look must
gain is measured in standard errors of the paired difference to the best so far.
"""

import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from core.base.errors import DataError, UsageError
from core.base.examples import BAR, in_order, subset, values_of_examples
from core.base.files import append_row, parse_rows, replacing
from core.base.monitor import monitored
from core.base.predictions import Predictions, read_predictions
from core.machine.locks import lock
from core.run.kept_outputs import save_predictions
from core.run.restoring import Restored
from core.task import Loader, Task
from core.training.tally import Tally

UNCHANGED, BEST = "no significant change", "the best so far"
RATE = 0.025  # of looks that gain nothing in truth and are told all the same


@dataclass(frozen=True)
class Look:
    """A look at a split: who looks, by which number, and (N,) values of examples, more is better.

    Examples are in the order of their ids, where the loader gives some.
    """

    run: str
    checkpoint: str
    data: str
    metric: str
    code: str  # hash of the metric's
    more: bool  # whether more of the metric is better, or its sign was turned
    values: np.ndarray
    ids: np.ndarray


def beats(new: np.ndarray, best: np.ndarray, rate: float = RATE) -> bool:
    """Tell whether the mean of new values (N,) is above that of the best ones by more than chance.

    It is Student's paired one-sided test. Its degrees of freedom are those of the examples that
    differ: few of them say little, however many are the same. Values that are not finite beat none.
    """
    gain = new - best
    if (differ := np.count_nonzero(gain)) < 2:
        return False
    from scipy.special import stdtrit  # needed here only

    error = gain.std(ddof=1) / math.sqrt(len(gain))
    return bool(gain.mean() > stdtrit(differ - 1, 1 - rate) * error)


def look_at(
    run: Path,
    restored: Restored,
    facts: Mapping[str, Any],
    loader: Loader,
    tally: Tally,
    means: Mapping[str, float],
) -> Look:
    """Return what a look is judged by: the values of examples of the monitored metric.

    If that is no mean over examples, the loss of each example takes its place.

    Args:
        run: its folder.
        restored: the checkpoint and its task.
        facts: of its row in evaluations.jsonl: the fingerprint of the data, hashes of code.
        loader: of the split.
        tally: outputs and labels of the whole split.
        means: metrics and losses of the whole split.

    Raises:
        DataError: neither is a mean over examples, or no example has a label.
    """
    task = restored.task
    name, more = monitored(restored.params.dict, task.metrics)
    metric, values = task.metrics.get(name), None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "predictions.npz"
        save_predictions(path, tally, loader, restored.reading, {})
        found = in_order(read_predictions(path))
    if callable(metric):
        values = values_of_examples(found, metric)
    if values is None:
        part = name if name in means and metric is None else "loss"
        values, more = losses_of_examples(found, task, part, means.get(part, math.nan)), False
        if values is None:
            told = f"--holdout: neither {name} nor {part} is a mean over examples"
            raise DataError(f"{told}, so chance cannot be judged;\nset 'monitor' to one that is")
        name = part
    data, code = facts["data"]["sha256"], facts["code"].get(name, facts["code"]["loss"])
    return Look(
        run=run.resolve().name,
        checkpoint=str(restored.sha256),
        data=data,
        metric=name,
        code=code,
        more=more,
        values=values if more else -values,
        ids=np.asarray(found.ids),
    )


def losses_of_examples(
    found: Predictions, task: Task, part: str, whole: float
) -> np.ndarray | None:
    """Return (N,) losses of single examples, each times its share of the terms of the mean.

    None: their mean is not the loss of the whole split, or the loss takes no single examples.
    """
    losses, weights = np.zeros((2, len(found)))
    try:
        for i in tqdm(range(len(found)), **BAR):
            one = subset(found, np.array([i]))
            outputs, labels = _tensors(one.outputs), _tensors(one.labels)
            weights[i] = float(task.loss_weight(outputs, labels))
            losses[i] = float(task.losses(outputs, labels)[part]) if weights[i] else 0.0
    except Exception:  # the task's own code, which may want what `collect` does not keep
        return None
    values: np.ndarray = losses * weights / weights.mean()
    return values if math.isclose(values.mean(), whole, rel_tol=1e-3, abs_tol=1e-4) else None


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tensors(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_tensors, value))
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def enter(folder: Path, split: str, look: Look) -> str:
    """Add a look to the ledger of the runs in a folder; returns BEST if its score is to be told.

    The ledger is holdout_<split>.jsonl; the best so far of each data set lies beside it. The first
    look at data is told, and a look at the best checkpoint again.

    Raises:
        UsageError: the best so far was judged by another metric, or by other code of it.
        DataError: it has other examples, or its file is damaged or gone.
    """
    ledger = folder / f"holdout_{split}.jsonl"
    path = folder / f"holdout_{split}_{look.data[:12]}.npz"
    with (folder / f".holdout_{split}.lock").open("a") as file:
        lock(file, wait=True)
        content = ledger.read_bytes() if ledger.exists() else b""
        rows = [row for row in parse_rows(content)[0] if row.get("told")]
        is_known = any(row.get("data") == look.data for row in rows)
        best = read_best(path, look) if path.exists() or is_known else None
        if best is None and rows:
            logging.warning("Note: %s begins anew, for other data than before", ledger)
        told = is_told(look, best)
        facts = asdict(look)
        if told:
            with replacing(path) as target:  # before the row: a kill in between loses no best
                arrays: dict[str, Any] = {name: np.array(value) for name, value in facts.items()}
                np.savez_compressed(target, **arrays)
        del facts["values"], facts["ids"]
        mean = float(look.values.mean())
        score = {"score": mean if look.more else -mean} if told else {}
        append_row(ledger, {**facts, "told": told, **score})
    return BEST if told else UNCHANGED


def is_told(look: Look, best: Mapping[str, Any] | None) -> bool:
    """Tell whether a look is the first one, that of the best checkpoint again, or a better one."""
    if best is None or not np.isfinite(look.values).all():
        return best is None and bool(np.isfinite(look.values).all())
    again = look.checkpoint == str(best["checkpoint"])
    same = again and np.allclose(look.values, best["values"], rtol=1e-3, atol=1e-5)
    return same or beats(look.values, best["values"])


def read_best(path: Path, look: Look) -> dict[str, Any]:
    """Return what the file of the best so far holds; see `enter` for the errors."""
    try:
        with np.load(path, allow_pickle=False) as file:
            best = {name: file[name] for name in asdict(look)}
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        told = f"{path}: the best so far cannot be read ({type(error).__name__})"
        raise DataError(
            f"{told};\nrestore the file, or move the ledger away to begin anew"
        ) from None
    if (judged := str(best["metric"])) != look.metric:
        told = f"{path}: {best['run']} was judged by {judged}, {look.run} would be by {look.metric}"
        raise UsageError(f"{told};\ngive --set monitor={judged}, or move the ledger away")
    if str(best["code"]) != look.code:
        told = f"{path}: the metric's code has changed since {best['run']} was judged"
        raise UsageError(f"{told}: {judged}.\nUndo the change, or move the ledger away")
    if not np.array_equal(best["ids"], look.ids):
        raise DataError(f"{path}: {best['run']} was judged on other examples than {look.run}")
    return best
