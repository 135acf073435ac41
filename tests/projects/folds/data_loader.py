from collections.abc import Sequence
from typing import Any

import torch

from tests.projects.data import examples
from tests.projects.distillation.data_loader import read_inputs
from utils import Batches, Params

__all__ = ["fetch_dataloader", "read_inputs"]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    """Hold every `folds`-th example out for validation, beginning with number `fold`."""
    inputs, labels = examples("train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out = torch.arange(len(labels)) % params.folds == params.fold
    parts = {"train": order[~held_out], "val": order[held_out]}
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    loaders = {}
    for split in splits:
        x, y = examples("test") if split == "test" else (inputs[parts[split]], labels[parts[split]])
        loaders[split] = Batches(x, y, train=split == "train", **sizes)
    return loaders
