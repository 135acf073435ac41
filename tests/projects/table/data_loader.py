from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils import Batches, Params


def write(folder: Path, sizes: dict[str, int]) -> None:
    """Write tables of made-up flats: area (m2), rooms, age (years), rent."""
    rng = np.random.default_rng(0)
    for split, count in sizes.items():
        area, age = rng.uniform(20, 120, count), rng.uniform(0, 80, count)
        rooms = np.round(area / 25 + rng.uniform(0, 1, count))
        rent = 200 + 11 * area + 30 * rooms - 3 * age + rng.normal(0, 20, count)
        rows = np.stack([area, rooms, age, rent], axis=1)
        np.savetxt(folder / f"{split}.csv", rows, "%.1f", ",", header="area,rooms,age,rent")


def read(path: str) -> Tensor:
    return torch.from_numpy(np.loadtxt(path, np.float32, delimiter=",", ndmin=2))


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    train = read(f"{data_dir}/train.csv")
    params.means, params.deviations = train.mean(0).tolist(), train.std(0).tolist()
    tables = {split: read(f"{data_dir}/{split}.csv") for split in splits}  # each (N, 4)
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    return {s: Batches(t[:, :3], t[:, 3], train=s == "train", **sizes) for s, t in tables.items()}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        for number, row in enumerate(read(source), start=1):
            yield f"{source}, line {number}", row[:3]
