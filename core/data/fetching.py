"""Asking a task for its loaders, and giving each what the loop needs of it."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from core.base.errors import DataError, UsageError
from core.base.params import Params
from core.data.batches import Batches
from core.data.dataloaders import ExactLoader, remade
from core.data.samplers import is_shuffled
from core.data.streams import StreamLoader
from core.machine.random_states import generator
from core.task import Loader, Task


def fetch_loaders(
    task: Task,
    splits: Sequence[str],
    data_dir: Path,
    params: Params,
    kept: Mapping[str, Any],
    device: torch.device,
    *,
    train: bool,
) -> tuple[dict[str, Loader], dict[str, Any]]:
    """Ask a task for the loaders of some splits; returns them, and what they set on `params`.

    What they set when the checkpoint was made, `kept`, stays in force. With `train` the split
    "train" is to be trained on, so shuffled. DataError: the task gives no such split.
    """
    params.data_dir, val = str(data_dir), params.val_split
    before = dict(params.dict)
    params.dict.update(kept)
    of_task = {"val": val if isinstance(val, str) else "train"} if val else {}
    asked = [of_task.get(split, split) for split in splits]
    found = task.fetch_dataloader(list(dict.fromkeys(asked)), str(data_dir), params)
    if not isinstance(found, Mapping):
        raise UsageError(
            f"{task.name}.data_loader: fetch_dataloader gives a {type(found).__name__}, "
            "want a dict: split -> loader"
        )
    found = dict(found)
    params.dict.update(kept)
    if isinstance(val, str) and val in found:
        found["val"] = found[val]
    elif val and "train" in found:
        found["train"], found["val"] = split_off(found["train"], params)
    if missing := [of_task.get(split, split) for split in splits if split not in found]:
        others = [name for name in found if name not in ("train", "val", "test")]
        hint = f", but {others[0]!r}: set val_split: {others[0]}" if others else ""
        raise DataError(f"{data_dir}: the task's loader gives no split {missing[0]!r}{hint}")
    new = {n: v for n, v in params.dict.items() if n not in before or v is not before[n]}
    loaders = {
        split: exact(found[split], params.seed, train and split == "train") for split in splits
    }
    for loader in loaders.values():
        loader.put_on(device, params)
    return loaders, new


def exact(loader: Any, seed: int, train: bool = False) -> Loader:
    """Return a loader that has a plan; DataError if it is neither a DataLoader nor a `Batches`."""
    if hasattr(loader, "plan"):
        loader = copy.copy(loader)  # one object may serve two splits
        loader.train = train
        return loader
    if not isinstance(loader, DataLoader):
        raise DataError(f"a loader is {type(loader).__name__}, want a DataLoader or Batches")
    made = StreamLoader if isinstance(loader.dataset, IterableDataset) else ExactLoader
    return made(loader, seed, train)


def split_off(loader: Any, params: Params) -> tuple[Any, Any]:
    """Divide a training loader into two, of the fractions 1 - `val_split` and `val_split` of it.

    Which examples go where depends on `seed` alone. Examples of a DataLoader's dataset are read
    for validation as they are for training.
    """
    plain = isinstance(loader, DataLoader) and is_shuffled(loader) is not None
    if not (plain or isinstance(loader, Batches)):
        raise DataError(
            "'val_split' needs utils.Batches, or a DataLoader of a map-style dataset, in order or\n"
            "shuffled by shuffle=True"
        )
    count = loader.num_examples if isinstance(loader, Batches) else len(loader.dataset)
    held_out = round(count * params.val_split)
    if not 0 < held_out < count:
        raise DataError(f"'val_split' is {params.val_split}: of {count} examples one part is empty")
    order = torch.randperm(count, generator=generator(params.seed))
    parts = order[held_out:].sort().values, order[:held_out].sort().values
    return _subset(loader, parts[0]), _subset(loader, parts[1])


def _subset(loader: Any, index: Tensor) -> Any:
    """Return a loader like another, of the examples (M,) only."""
    if isinstance(loader, Batches):
        return loader.subset(index)
    return remade(
        loader,
        Subset(loader.dataset, index.tolist()),
        batch_size=loader.batch_size,
        shuffle=is_shuffled(loader),
        drop_last=loader.drop_last,
    )
