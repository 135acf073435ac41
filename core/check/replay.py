"""A step whose loss was not finite: kept in `nonfinite.pt`, and run again to see where it began."""

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.base.errors import NumericError, UsageError
from core.base.params import Params, find_params_file
from core.check.finite import LOSS, examine
from core.data.batches import fetch_loaders, to_device
from core.data.folder import find_data_dir
from core.machine import devices as runtime
from core.machine.nested import apply
from core.machine.random_states import random_states, set_random_states
from core.run.folder import RESOLVED, machine_params, recorded
from core.run.run import Run, open_run
from core.task import load_task
from core.training import checkpoint
from core.training.optimizers import make_optimizers

FILE = "nonfinite.pt"


@contextmanager
def kept_if_not_finite(state: Any, run: Run, batch: Any) -> Iterator[None]:
    """Write `nonfinite.pt` if the step inside the block ends because its loss is not finite.

    It holds the batch, the weights (of several optimizers, those that had their turn have made
    theirs), and the random states of before the step; of NumPy and Python those of after it, for
    to copy them costs 50 microseconds a step, torch's half a one. On a GPU the fault is noticed
    later, so nothing is kept.
    """
    before = torch.get_rng_state()
    try:
        yield
    except NumericError:
        try:
            batch = None if hasattr(batch, "_fields") else checkpoint.plain(batch)
        except TypeError:
            batch = None  # a loader can give it again
        content = {
            "state_dict": state.model.state_dict(),
            "random_states": random_states() | {"torch": before},
            "batch": batch,
            "place": {name: getattr(state, name) for name in ("epoch", "batch", "step", "extra")},
            "params": run.asked | {"data_dir": run.params.data_dir},
            "loader_params": checkpoint.with_arrays(state.loader_params),
        }
        checkpoint.write_checkpoint(run.folder / FILE, checkpoint.plain(content))
        raise


def replay(folder: Path, train: ModuleType) -> str:
    """Run the kept step again, watched; returns where its first number that is not finite began.

    If the weights were bad before, or nothing was kept (on a GPU), the run is taken up at its last
    checkpoint, in a copy of its folder, and every step watched.
    """
    path = folder / FILE
    if not path.exists():
        return walk(folder, train)
    kept = checkpoint.read_checkpoint(path)
    params = Params.of(machine_params(folder, kept["params"]), path)
    place, set_by_loaders = kept["place"], kept["loader_params"]
    device, task = runtime.start(params), load_task(params.task)
    place["extra"] = apply(lambda x: x.to(device), place["extra"])
    batch = kept["batch"]
    if batch is None:
        data_dir = find_data_dir(params, task)
        loaders, _ = fetch_loaders(
            task, ["train"], data_dir, params, set_by_loaders, device, train=True
        )
        batch = next(loaders["train"].epoch(place["epoch"], place["batch"]))
    params.dict.update(checkpoint.without_marks(set_by_loaders))
    model = runtime.place(task.Net(params), params, device)
    checkpoint.load_weights(model, kept["state_dict"], path)
    optimizers = make_optimizers(task, model, params)
    state = train.State(task, params, device, model, optimizers, {}, **place)
    set_random_states(kept["random_states"])
    batch = to_device(batch, device, params)
    found = examine(state, task.train_step or train.train_step, batch)
    where = f"Epoch {place['epoch'] + 1}, step {place['step'] + 1}: "
    if found is None:
        return where + "repeated, this step is finite: it draws from NumPy's or Python's generator"
    return where + found + (f"\n{walk(folder, train)}" if "before the step" in found else "")


def walk(folder: Path, train: ModuleType) -> str:
    """Go on from the last checkpoint, in a copy of the folder, and watch the steps of an epoch."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in (find_params_file(folder).name, RESOLVED, "last.pt", "previous.pt"):
            if (folder / name).exists():
                shutil.copy(folder / name, copy)
        run = open_run(copy, recorded(folder).get("overrides", {}))
        own, epochs = run.task.train_step or train.train_step, set[int]()

        def step(state: Any, batch: Any) -> dict[str, Tensor]:
            epochs.add(state.epoch)
            if len(epochs) > 1:
                raise NumericError("In the epoch after the last checkpoint all is finite.")
            losses: list[dict[str, Tensor]] = []
            found = examine(state, lambda *args: losses.append(own(*args)), batch)
            if found is None and state.loss_check.first_bad() is not None:
                found = LOSS
            if found is not None:
                raise NumericError(f"Epoch {state.epoch + 1}, step {state.step + 1}: {found}")
            return losses[0]

        run.task = replace(run.task, train_step=step)
        if run.complete:
            raise UsageError(f"{folder}: the run is complete, no step was stopped for its loss")
        try:
            data_dir = find_data_dir(run.params, run.task)
            train.see_to_the_end(run, data_dir, Namespace(resume=False, overwrite=False))
        except NumericError as error:
            return str(error)
    return "From the last checkpoint to the end of the run all is finite."
