"""Pictures of squares and rings, drawn for the projects that need images.

`python -m tests.projects.shapes FILE.png` draws one for predict.py.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils import png

NAMES = ["background", "square", "ring"]
SIZES = {"train": 96, "val": 32, "test": 16}  # examples of each split


@dataclass
class Scenes:
    """N pictures of S x S pixels, each with M places for shapes."""

    pictures: Tensor  # uint8 (N, 3, S, S)
    masks: Tensor  # (N, S, S): 0 background, 1 square, 2 ring
    boxes: Tensor  # float (N, M, 4): left, top, right, bottom
    kinds: Tensor  # (N, M): 1 square, 2 ring, 0 nothing


def draw(
    split: str, size: int = 32, shapes: int = 2, empty: bool = False, count: int | None = None
) -> Scenes:
    """Draw the pictures of a split, always the same ones; with `empty` places may be left empty."""
    rng, count = np.random.default_rng(len(split)), count or SIZES[split]
    rows, columns = np.mgrid[:size, :size]
    pictures = rng.uniform(0, 80, (count, 3, size, size))
    masks = np.zeros((count, size, size), np.int64)
    kinds = rng.integers(0 if empty else 1, 3, (count, shapes))
    boxes = np.zeros((count, shapes, 4), np.float32)
    for i in range(count):
        for k, kind in enumerate(kinds[i]):
            radius = rng.integers(size // 8, size // 5)
            # Each shape has a strip of the picture for itself, so that none hides another.
            left = size * k // shapes + radius
            x = rng.integers(left, max(left + 1, size * (k + 1) // shapes - radius))
            y = rng.integers(radius, size - radius)
            away = np.abs(columns - x), np.abs(rows - y)
            far = np.maximum(*away) if kind == 1 else np.hypot(*away)
            inside = (far <= radius) & (far >= (0, 0, radius / 2)[kind]) & (kind > 0)
            pictures[i][:, inside] = rng.uniform(120, 250, (3, 1))
            masks[i][inside] = kind
            boxes[i, k] = x - radius, y - radius, x + radius + 1, y + radius + 1
    drawn = torch.from_numpy(pictures.astype(np.uint8))
    return Scenes(drawn, *map(torch.from_numpy, (masks, boxes, kinds)))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(png(draw("test").pictures[0]))
