import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from utils import Params, Records, RowDraws

SIDE = 8  # pixels of a picture


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write(folder: Path, sizes: Mapping[str, int], shards: int = 3) -> Path:
    """Write noisy pictures whose brightness tells their class: {split}/00.tar ..."""
    rng = np.random.default_rng(0)
    for split, count in sizes.items():
        (folder / split).mkdir(parents=True)
        for number, part in enumerate(np.array_split(np.arange(count), shards)):
            with tarfile.open(folder / split / f"{number:02d}.tar", "w") as archive:
                for i in part:
                    pixels = rng.normal(60 + 60 * (i % 3), 20, SIDE * SIDE).clip(0, 255)
                    add(archive, f"{split}/{i:04d}.bin", pixels.astype(np.uint8).tobytes())
                    add(archive, f"{split}/{i:04d}.cls", b"%d" % (i % 3))
    return folder


def decode(record: dict[str, Any]) -> tuple[Tensor, int]:
    """Return a picture (1, SIDE, SIDE) and its class."""
    pixels = np.frombuffer(bytearray(record["bin"]), np.uint8)
    return torch.from_numpy(pixels).view(1, SIDE, SIDE), record["label"]


def decode_with_noise(record: dict[str, Any]) -> tuple[Tensor, int]:
    pixels, label = decode(record)
    return pixels + torch.randint(0, 9, pixels.shape, dtype=torch.uint8), label


def transform(pictures: Tensor, row_draws: RowDraws | None) -> Tensor:
    """Map uint8 (B, 1, SIDE, SIDE) to floats, mirrored at random in training."""
    x = pictures.float() / 127.5 - 1
    if row_draws is None:
        return x
    mirror = row_draws.uniform().to(x.device) < 0.5
    return torch.where(mirror.view(-1, 1, 1, 1), x.flip(3), x)


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    return {
        split: DataLoader(
            Records(
                Path(data_dir) / split,
                decode_with_noise if split == "train" else decode,
                transform=transform,
                window=params.shuffle_window,
            ),
            params.batch_size,
            shuffle=split == "train",
            num_workers=params.num_workers,
        )
        for split in splits
    }
