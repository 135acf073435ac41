from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils import Batches, DataError, Params

PARTS = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}  # of the time, in this order


def write(folder: Path, sizes: dict[str, int]) -> None:
    """Write a series with a season of 12 and a trend, one number a line."""
    time = np.arange(sum(sizes.values()))
    noise = np.random.default_rng(0).normal(0, 0.1, len(time))
    np.savetxt(
        folder / "series.txt", 10 + 0.01 * time + np.sin(2 * np.pi * time / 12) + noise, "%.3f"
    )


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    series = torch.from_numpy(np.loadtxt(f"{data_dir}/series.txt", np.float32))
    loaders = {}
    for split in splits:
        first, end = (int(part * len(series)) for part in PARTS[split])
        windows = series[first:end].unfold(0, params.history + params.horizon, 1)
        sizes = {"batch_size": params.batch_size, "seed": params.seed, "train": split == "train"}
        past, future = windows[:, : params.history], windows[:, params.history :]
        loaders[split] = Batches(past, future, **sizes)  # (N, history) and (N, horizon)
    return loaders


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # a file with the latest numbers
        found = np.loadtxt(source, np.float32, ndmin=1)[-params.history :]
        if len(found) < params.history:
            raise DataError(f"{source}: {len(found)} numbers, want {params.history}")
        yield source, torch.from_numpy(found)
