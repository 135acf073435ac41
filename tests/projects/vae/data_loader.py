from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from utils import Batches, DataError, Params, read_image


def pictures(split: str, params: Params) -> Tensor:
    """Draw one bright disc on a dark ground in each picture, (N, 1, 8, 8) from 0 to 1."""
    count = params.pictures if split == "train" else params.pictures // 4
    draws = torch.rand(2, count, 1, 1, generator=torch.Generator().manual_seed(len(split)))
    x, y = 1.5 + 4 * draws
    away = torch.hypot(torch.arange(8) - x, torch.arange(8)[:, None] - y)  # (N, 8, 8)
    return (2.5 - away).clamp(0, 1)[:, None]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    return {s: Batches(x := pictures(s, params), x, train=s == "train", **sizes) for s in splits}


def samples(source: str) -> Iterator[tuple[str, Tensor]]:
    """Yield as many inputs as the source says, empty ones: the net takes nothing but noise."""
    if not (source.isdecimal() and int(source)):
        raise DataError(f"{source!r}: want a number of samples")
    yield from ((f"sample {i + 1}", torch.zeros(0)) for i in range(int(source)))


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # a number of samples, or a picture to reconstruct
        if source.isdecimal():
            yield from samples(source)
        else:
            colours = read_image(source, (8, 8)).float() / 255  # (3, 8, 8)
            yield source, colours.mean(dim=0, keepdim=True)
