"""Hand signs: batches of 64x64 photographs, held in memory and augmented a whole batch at a time.

The data lie in folders `train_signs`, `val_signs` and `test_signs`; the label of a file
`{label}_IMG_{id}.jpg` is the number before the first underscore.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import (
    PICTURES,
    Batches,
    DataError,
    Params,
    RowDraws,
    listed,
    plural,
    read_image,
    read_images,
)

data_dir = "data/64x64_SIGNS"

IMAGE_SIZE = (64, 64)
# The largest change of a training image in either direction; a params file may set its own.
AUGMENTATION = {
    "rotate": 10,  # degrees
    "scale": 0.1,  # share of the size
    "shift": 0.06,  # share of the width or height
    "brighten": 0.1,  # share of the brightness
}


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (images (B, 3, 64, 64) float, labels (B,)) for each split.

    Args:
        splits: some of "train", "val", "test".
        data_dir: the folder that holds `train_signs` and so on.
        params: `batch_size`, `seed`, and how far training images are changed: see `augment`.
    """
    loaders = {}
    for split in splits:
        paths, labels = list_examples(Path(data_dir) / f"{split}_signs")
        loaders[split] = Batches(
            read_images(paths, IMAGE_SIZE),
            labels,
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=partial(transform, params=params),
            ids=[path.name for path in paths],
        )
    return loaders


def show(index: str, split: str, data_dir: str, params: Params) -> bytes:
    """Return the image file of an example, for reports."""
    return (Path(data_dir) / f"{split}_signs" / index).read_bytes()


def list_examples(folder: Path) -> tuple[list[Path], Tensor]:
    """Return the image files of a folder, sorted by name, and their labels (N,).

    Other files are left out, which is said in the log, but for hidden ones.

    Raises:
        DataError: the folder is missing or empty, or names of files do not begin with a label.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (data/signs/prepare.py makes the data)")
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    paths = [path for path in found if path.suffix.lower() in PICTURES]
    if others := [path.name for path in found if path.suffix.lower() not in PICTURES]:
        left_out = plural(len(others), "file", "files")
        logging.warning("%s: %s left out:\n%s", folder, left_out, listed(others, 3))
    labels = [path.name.partition("_")[0] for path in paths]
    if not paths:
        raise DataError(f"{folder}: no {', '.join(PICTURES)} files")
    faults = [
        f"{path}: found label {label!r}, want 0 to 5, then '_'"
        for path, label in zip(paths, labels, strict=True)
        if label not in ("0", "1", "2", "3", "4", "5")
    ]
    if faults:
        files = plural(len(faults), "file has", "files have")
        raise DataError(f"{files} no valid label:\n{listed(faults)}")
    return paths, torch.tensor([int(label) for label in labels])


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the image (3, 64, 64) of every file, for predict.py."""
    for source in sources:
        image = read_image(source, IMAGE_SIZE)
        yield source, transform(image.unsqueeze(0), None, params)[0]


def transform(images: Tensor, row_draws: RowDraws | None, params: Params) -> Tensor:
    """Map uint8 images (B, 3, H, W) to floats about -1 to 1; training images are changed at random.

    Args:
        images: the images of a batch, on any device.
        row_draws: where training draws from; None outside of training.
        params: see `augment`.
    """
    x = images.float() / 127.5 - 1  # (B, 3, H, W)
    return x if row_draws is None else augment(x, row_draws, params)


def augment(images: Tensor, row_draws: RowDraws, params: Params) -> Tensor:
    """Flip, rotate, scale, shift and brighten images (B, 3, H, W), each image by its own choice.

    Args:
        images: floats about -1 to 1.
        row_draws: the random numbers, of each image its own.
        params: the keys of `AUGMENTATION`, where they are set.

    Returns:
        (B, 3, H, W); pixels from outside of an image repeat its border.
    """
    most = AUGMENTATION | params.dict
    draw = row_draws.uniform(6).T * 2 - 1  # (6, B)
    draw = draw.to(images.device, non_blocking=True)
    flip = draw[0].sign()
    angle = draw[1] * math.radians(most["rotate"])
    scale = 1 + draw[2] * most["scale"]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = draw[3:5] * 2 * most["shift"]  # (2, B), in units of half the size
    rows = [flip * cos, -sin, shift[0], flip * sin, cos, shift[1]]
    affine = torch.stack(rows, dim=1).view(-1, 2, 3)  # (B, 2, 3), from output to input places
    places = F.affine_grid(affine, list(images.shape), align_corners=False)  # (B, H, W, 2)
    x = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    return (x + 1) * (1 + draw[5] * most["brighten"]).view(-1, 1, 1, 1) - 1
