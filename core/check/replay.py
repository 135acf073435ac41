"""Going on from the last checkpoint, watching each step for the first number that is not finite."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from core.base.errors import NumericError, UsageError
from core.base.params import find_params_file
from core.check.finite import LOSS, examine
from core.run.folder import RESOLVED, read_resolved
from core.run.opening import ending, open_run
from core.task import Batch
from core.training.state import State


class FoundError(NumericError):
    """The replay has found what it looked for; the message says it."""


def replay(folder: Path, train: ModuleType, overrides: dict[str, Any]) -> str:
    """Run the steps after the last checkpoint again, in a copy of the folder, for an epoch.

    Runs go on exactly on a CPU, so the step that was stopped comes again.

    Returns:
        Where the first number began that is not finite, or that there was none.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in (find_params_file(folder).name, RESOLVED, "last.pt", "previous.pt"):
            if (folder / name).exists():
                shutil.copy(folder / name, copy)
        run = open_run(copy, read_resolved(folder).get("overrides", {}) | overrides)
        if run.complete:
            raise UsageError(f"{folder}: the run is complete, no step was stopped for its loss")
        run.task = replace(run.task, train_step=_watched(run.task.train_step or train.train_step))
        try:
            with ending(run):
                train.train_to_the_end(run)
        except FoundError as found:
            return str(found)
    return "From the last checkpoint to the end of the run all is finite."


def _watched(own: Any) -> Any:
    """Return a train_step that raises FoundError at what is not finite, or after an epoch."""
    epochs = set[int]()

    def step(state: State, batch: Batch) -> dict[str, Tensor]:
        epochs.add(state.epoch)
        if len(epochs) > 1:
            raise FoundError("In the epoch after the last checkpoint all is finite.")
        losses: list[dict[str, Tensor]] = []
        found = examine(state, lambda *args: losses.append(own(*args)), batch)
        if found is None and state.bad_step is not None and int(state.bad_step) >= 0:
            found = LOSS
        if found is not None:
            raise FoundError(f"Epoch {state.epoch + 1}, step {state.step + 1}: {found}")
        return losses[0]

    return step
