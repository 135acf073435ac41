"""Batches of examples: rows of train.csv, val.csv and test.csv in the data folder.

A row holds the inputs, then the number of the class: 0.5,-1.2,2. While there is no such file at
all, points are drawn at random around the corners of a triangle.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from utils import Batches, DataError, Params

data_dir = "data/minimal"  # unless the command line says otherwise


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (inputs (B, 2), labels (B,)) for each split, such as "train" or "val"."""
    loaders, drawn = {}, not list(Path(data_dir).glob("*.csv"))
    if drawn:
        logging.warning("Note: %s holds no CSV files: these are points drawn at random", data_dir)
    for split in splits:
        path = Path(data_dir) / f"{split}.csv"
        if not (drawn or path.exists()):
            raise DataError(f"{path}: no such file")
        rows = draw_rows(split) if drawn else np.loadtxt(path, delimiter=",", ndmin=2)
        loaders[split] = Batches(
            torch.tensor(rows[:, :-1], dtype=torch.float32),  # (N, 2)
            torch.tensor(rows[:, -1], dtype=torch.long),  # (N,)
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",  # shuffled, in another order in every epoch
        )
    return loaders


def draw_rows(split: str) -> np.ndarray:
    """Return 60 rows (inputs, class); delete this when you have data."""
    rng = np.random.default_rng(len(split))  # every split has points of its own
    labels = np.arange(60) % 3
    corners = np.array([[0.0, 2.0], [-2.0, -1.0], [2.0, -1.0]])
    return np.column_stack([corners[labels] + rng.normal(size=(60, 2)), labels])
