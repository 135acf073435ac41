"""Compatibility with the CS230 project template: the names that its code imports from utils."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.run.folder import write_numbers
from core.run.log import open_log
from core.training.checkpoint import (
    CheckpointError,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from core.training.contents import plain


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


def set_logger(log_path: str | Path) -> None:
    """Send `logging.info(...)` and above to the terminal and to the end of the file `log_path`.

    A second call replaces what the first one set up.
    """
    open_log(log_path)


def save_dict_to_json(d: Mapping[str, Any], json_path: str | Path) -> None:
    """Write a dict of numbers (floats, 0-d arrays or tensors); what is not finite becomes null."""
    write_numbers(json_path, d)


def save_checkpoint(state: Mapping[str, Any], is_best: bool, checkpoint: str | Path) -> None:
    """Write `last.pth.tar`, and `best.pth.tar` too if `is_best`, in the folder `checkpoint`.

    This is the CS230 template's call, for code that makes its own checkpoints.

    Args:
        state: 'state_dict' of the model, and whatever else: 'epoch', 'optim_dict'.
        is_best: whether this is the best model so far.
        checkpoint: the folder, made if it is missing.
    """
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    content = plain(state)
    write_checkpoint(folder / "last.pth.tar", content)
    if is_best:
        write_checkpoint(folder / "best.pth.tar", content)


def load_checkpoint(
    checkpoint: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` and, if one is given, its state into `optimizer`.

    Returns:
        The whole checkpoint, a dict.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit.
    """
    content = read_checkpoint(checkpoint)
    load_weights(model, content["state_dict"], checkpoint)
    if optimizer is not None:
        if not content.get("optim_dict"):
            raise CheckpointError(f"{checkpoint}: holds no state of an optimizer ('optim_dict')")
        optimizer.load_state_dict(content["optim_dict"])
    return content
