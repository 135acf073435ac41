"""Restoring a net from a checkpoint, for whatever uses it: evaluate, predict, check, results."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.base.files import checkpoint_hash
from core.base.keys import DEFAULTS, decides
from core.base.params import (
    Params,
    check_names,
    check_values,
    expanded,
    find_params_file,
    load_params,
    parse_overrides,
    task_folder,
)
from core.data.fetching import fetch_loaders
from core.data.folder import find_data_dir, leaving_out_new_files
from core.machine.devices import place_net, start
from core.machine.environment import usable_cores
from core.reading.outputs import Reading, first_outputs, read_batch
from core.run.code import edited_since, import_task
from core.run.folder import read_resolved, refuse_pipes
from core.task import Loader, Task
from core.training import checkpoint, contents


@dataclass
class Restored:
    """A checkpoint, with the task and the params that it was made with."""

    path: Path
    content: dict[str, Any]
    params: Params
    task: Task
    reading: Reading  # what outputs and labels mean
    sha256: str | None  # of the checkpoint
    overrides: dict[str, Any]  # of the command line
    data_dir_then: str | None  # when it was made

    @property
    def loader_params(self) -> dict[str, Any]:
        """What the loaders set on params when the checkpoint was made.

        Paths below the folder of the data that was used then lead to where the data are now.
        """
        kept = contents.without_marks(self.content.get("loader_params", {}))
        return {n: moved(v, self.data_dir_then, self.params.data_dir) for n, v in kept.items()}

    @property
    def data_dir(self) -> Path:
        """The folder of the data; DataError if there is none."""
        return find_data_dir(self.params, self.task)

    def net(self, device: torch.device) -> nn.Module:
        """Return the net with the weights that were validated, on the device."""
        self.params.dict.update(self.loader_params)
        model = place_net(self.task.Net(self.params), self.params, device)
        checkpoint.load_weights(model, checkpoint.kept_weights(self.content), self.path)
        return model

    def with_loader(self, split: str) -> tuple[nn.Module, Loader]:
        """Return the net, and the loader of a split."""
        task, params, kept, device = self.task, self.params, self.loader_params, start(self.params)
        folder = self.data_dir
        with leaving_out_new_files(folder):
            loaders, _ = fetch_loaders(task, [split], folder, params, kept, device, train=False)
        model, loader = self.net(device), loaders[split]
        if "reading" not in self.content:  # a checkpoint of the CS230 template
            self.reading = read_batch(task, *first_outputs(task, model, loader, params))
            self.task = self.reading.apply(task)
        return model, loader


def moved(value: Any, before: str | None, now: str | None) -> Any:
    """Return a value in which paths below the folder `before` lie below `now`."""
    if isinstance(value, dict):
        return {name: moved(item, before, now) for name, item in value.items()}
    if isinstance(value, list):
        return [moved(item, before, now) for item in value]
    if isinstance(value, str) and before and now and before != now:
        for folder in (os.path.normpath(before), os.path.abspath(before)):
            if value == folder or value.startswith(folder + os.sep):
                return os.path.join(now, value[len(folder) + 1 :]) if value != folder else now
    return value


def restore(
    folder: Path, name: str, data_dir: str | None = None, settings: Sequence[str] = ()
) -> Restored:
    """Read a checkpoint of a run ("best", "last" or a path) with the params that it was made with.

    Machine and data folder are as the run last used them, if no `data_dir` is given; `settings` are
    the command line's key=value strings. A checkpoint without params, such as one of the CS230
    template, takes those of the file.
    """
    path = checkpoint.find_checkpoint(folder, name)
    refuse_pipes(folder)
    sha256, content = checkpoint_hash(path), checkpoint.read_checkpoint(path)
    while sha256 != (sha256 := checkpoint_hash(path)):  # training has replaced it meanwhile
        content = checkpoint.read_checkpoint(path)
    if stored := content.get("params"):
        last_used = read_resolved(folder).get("params", {})
        machine = {n: last_used[n] for n in DEFAULTS if n in last_used and not decides(n)}
        values = DEFAULTS | machine | check_values(stored, str(path))
    else:
        values = load_params(find_params_file(folder), {})[0].dict
    overrides = expanded(parse_overrides(settings), values)
    overrides = check_values(overrides, "--set", beside=values)
    params = Params.of(values | overrides, path)
    task_folder(params.task, "--set" if "task" in overrides else str(path))
    for warning in check_names(overrides, params.task, "--set", beside=values):
        logging.warning("Note: %s", warning)
    if isinstance(params.num_threads, int):
        params.num_threads = min(params.num_threads, usable_cores())
    then = values["data_dir"]
    if data_dir is not None:
        params.data_dir = check_values({"data_dir": data_dir}, "--data_dir")["data_dir"]
    reading = Reading.of(content["reading"]) if "reading" in content else Reading(outputs="logits")
    task = reading.apply(import_task(params))
    for name in edited_since(read_resolved(path.parent).get("code", {}), params.task):
        logging.warning("Note: %s has changed since the last start of training", name)
    params.data_dir = params.data_dir or task.data_dir
    return Restored(path, content, params, task, reading, sha256, overrides, then or task.data_dir)
