"""Random scores (N, K) and labels (N,): `num_steps` batches of them."""

from collections.abc import Sequence

import torch

from bench.noop.net import NUM_CLASSES
from utils import Batches, Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (scores (B, K), labels (B,)) for each split; only one batch validates."""
    loaders = {}
    for split in splits:
        count = params.batch_size * (params.num_steps if split == "train" else 1)
        draw = torch.Generator().manual_seed(len(split))
        loaders[split] = Batches(
            torch.randn(count, NUM_CLASSES, generator=draw),
            torch.randint(NUM_CLASSES, (count,), generator=draw),
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
        )
    return loaders
