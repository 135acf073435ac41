"""Pictures and labels from images.npz in the data folder, augmented as hand signs are."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model import data_loader as signs
from utils import Batches, Params

FILE = "images.npz"


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (images (B, 3, H, W), labels (B,)) for each split.

    An epoch of training holds every image `repeat` times.
    """
    loaders = {}
    with np.load(Path(data_dir) / FILE) as arrays:
        for split in splits:
            count = params.repeat if split == "train" else 1
            loaders[split] = Batches(
                torch.from_numpy(arrays[f"{split}_images"]).repeat(count, 1, 1, 1),
                torch.from_numpy(arrays[f"{split}_labels"]).repeat(count),
                batch_size=params.batch_size,
                seed=params.seed,
                train=split == "train",
                transform=partial(signs.transform, params=params),
            )
    return loaders
