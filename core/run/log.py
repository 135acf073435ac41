"""What a run writes down for people: the log, metrics.jsonl, JSON results; and running averages."""

import importlib.util
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.base.errors import UsageError, UserError
from core.base.files import named, write_json


class _OurHandler:
    """Marks the handlers that set_logger put in place, so that a second call replaces them."""


class _File(_OurHandler, logging.FileHandler):
    pass


class _Terminal(_OurHandler, logging.StreamHandler):
    pass


def set_logger(log_path: str | Path) -> None:
    """Send `logging.info(...)` and above to the terminal and to the end of the file `log_path`.

    A second call replaces what the first one set up.
    """
    close_logger()
    logger = logging.getLogger()
    logger.setLevel(logging.INFO)
    terminal = _Terminal()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(terminal)
    file = _File(log_path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s:%(levelname)s: %(message)s"))
    logger.addHandler(file)


def close_logger() -> None:
    """Take down what set_logger put in place."""
    logger = logging.getLogger()
    for handler in [handler for handler in logger.handlers if isinstance(handler, _OurHandler)]:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def logging_to(log_path: str | Path) -> Iterator[None]:
    """Log to the terminal and to `log_path` inside the block; an exception that ends it, too.

    The exception goes to the file alone: whoever catches it tells the person at the terminal.
    """
    set_logger(log_path)
    try:
        yield
    except Exception as error:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, _Terminal):
                handler.setLevel(logging.CRITICAL + 1)
        logging.error(error, exc_info=not isinstance(error, UserError | OSError))
        raise
    finally:
        close_logger()


class RunningAverage:
    """The mean of the values seen so far.

    >>> average = RunningAverage()
    >>> average.update(2)
    >>> average.update(4)
    >>> average()
    3.0
    """

    def __init__(self) -> None:
        self.steps = 0
        self.total = 0.0

    def update(self, val: float) -> None:
        """Take in one more value."""
        self.total += val
        self.steps += 1

    def __call__(self) -> float:
        """Return the mean."""
        return self.total / float(self.steps)


def finite_or_none(value: float) -> float | None:
    """Return the number, or None (null in JSON) if it is not finite."""
    return value if math.isfinite(value) else None


def save_dict_to_json(d: Mapping[str, Any], json_path: str | Path) -> None:
    """Write a dict of numbers (floats, 0-d arrays or tensors); what is not finite becomes null."""
    write_json(json_path, {name: finite_or_none(float(value)) for name, value in d.items()})


def prefixed(split: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return metrics named "split_metric", for a row of metrics.jsonl."""
    return {f"{split}_{name}": finite_or_none(value) for name, value in metrics.items()}


def append_row(path: Path, row: Mapping[str, Any]) -> int:
    """Add one JSON object as a line at the end of a file; returns the file's new length."""
    with named(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def cut_back(path: Path, length: int) -> None:
    """Drop the rows behind a length in bytes, which no checkpoint knows of."""
    if path.exists() and path.stat().st_size > length:
        with path.open("r+b") as file:
            file.truncate(length)


def open_board(folder: Path, step: int) -> Any:
    """Return a TensorBoard writer for a run's folder; what it has of later steps is forgotten."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def check_tensorboard() -> None:
    """Raise UsageError if the package is missing that `tensorboard: true` needs."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "'tensorboard' is true, but the package is missing: pip install tensorboard"
        )


def add_to_board(board: Any, row: Mapping[str, Any]) -> None:
    """Write the numbers of a row of metrics.jsonl for TensorBoard, at the row's step."""
    for name, value in row.items():
        if value is not None and name != "step":
            board.add_scalar(name.replace("_", "/", 1), value, row["step"])
    board.flush()


class LossAverage:
    """Weighted means of named losses over many batches, kept on the device until they are read.

    Each batch's mean loss counts with its weight, the number of terms in the mean, so the result
    is the mean over all terms, whatever the sizes of the batches.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.weight: Tensor | float = 0.0

    def add(self, losses: Mapping[str, Tensor], weight: Tensor) -> None:
        """Take in the losses () of one batch and the number of terms () that they average."""
        device = losses["loss"].device if "loss" in losses else weight.device
        exact = torch.float32 if device.type == "mps" else torch.float64
        weight = weight.to(device, exact)
        for name, loss in losses.items():
            # A batch of ignored labels only has a loss of 0/0 and no terms: it adds nothing.
            term = torch.where(weight > 0, loss.detach().to(exact) * weight, 0.0)
            self.totals[name] = self.totals.get(name, 0.0) + term
        self.weight = self.weight + weight

    def state_dict(self) -> dict[str, Any]:
        """Return what load_state_dict takes, for a checkpoint in mid-epoch."""
        return {"totals": self.totals, "weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from the sums of a checkpoint."""
        self.totals = {name: total.to(device) for name, total in state["totals"].items()}
        self.weight = torch.as_tensor(state["weight"]).to(device)

    @classmethod
    def merged(cls, states: Iterable[Mapping[str, Any]]) -> "LossAverage":
        """Return the sum of averages, of each what `state_dict` returned."""
        total = cls()
        for state in states:
            for name, value in state["totals"].items():
                total.totals[name] = total.totals.get(name, 0.0) + value
            total.weight = total.weight + state["weight"]
        return total

    def means(self) -> dict[str, float]:
        """Return the mean of every loss so far; this waits for the device."""
        weight = float(self.weight)
        return {
            name: float(total) / weight if weight else math.nan
            for name, total in self.totals.items()
        }


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return "accuracy: 0.935, loss: 0.212"."""
    return ", ".join(f"{name}: {value:.4g}" for name, value in metrics.items())
