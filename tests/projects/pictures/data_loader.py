from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import Batches, DataError, Params, read_image, read_images

IMAGE_SIZE = (64, 64)  # of the files; a quarter of that is enough for the net


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    loaders = {}
    for split in splits:
        folder = Path(data_dir) / f"{split}_signs"
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        paths = sorted(folder.glob("*.jpg"))
        loaders[split] = Batches(
            read_images(paths, IMAGE_SIZE),
            torch.tensor([int(path.name.partition("_")[0]) for path in paths]),
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=transform,
            ids=[path.name for path in paths],
        )
    return loaders


def transform(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Map uint8 images (B, 3, 64, 64) to floats (B, 3, 16, 16); only training has a generator."""
    x = F.avg_pool2d(images.float(), 4) / 127.5 - 1
    return x if generator is None else augment(x, generator)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror and brighten images (B, 3, H, W), each by its own choice."""
    draw = torch.rand(2, len(images), generator=generator)
    mirror, light = draw.to(images.device, non_blocking=True).view(2, -1, 1, 1, 1)
    x = torch.where(mirror < 0.5, images.flip(3), images)
    return (x + 1) * (0.7 + 0.6 * light) - 1


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        yield source, transform(read_image(source, IMAGE_SIZE).unsqueeze(0), None)[0]


def show(index: str, split: str, data_dir: str, params: Params) -> bytes:
    return (Path(data_dir) / f"{split}_signs" / index).read_bytes()
