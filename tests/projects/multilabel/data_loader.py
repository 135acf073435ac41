from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.projects.segmentation.data_loader import scale
from tests.projects.shapes import draw
from utils import Params, read_image


def examples(split: str) -> tuple[Tensor, Tensor]:
    """Return pictures (N, 3, H, W), and (N, 2): is there a square, is there a ring?"""
    scenes = draw(split, empty=True)
    there = torch.stack([(scenes.kinds == kind).any(dim=1) for kind in (1, 2)], dim=1)
    return scale(scenes.pictures), there.float()


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    made = {split: TensorDataset(*examples(split)) for split in splits}
    return {s: DataLoader(d, params.batch_size, shuffle=s == "train") for s, d in made.items()}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        yield source, scale(read_image(source, (32, 32)))
