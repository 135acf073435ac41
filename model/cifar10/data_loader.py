"""CIFAR-10: batches of 32x32 images, held in memory and augmented a whole batch at a time.

The data are the official binary version (https://www.cs.toronto.edu/~kriz/cifar.html): a record is
a label byte and 3072 pixel bytes, the red, green and blue plane, each row by row.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils import Batches, DataError, Params, RowDraws, listed, png, read_image

data_dir = "data/cifar-10-batches-bin"

TRAIN_FILES = [f"data_batch_{number}.bin" for number in range(1, 6)]
TEST_FILES = ["test_batch.bin"]
NAMES_FILE = "batches.meta.txt"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes
NUM_CLASSES = 10
VAL_SHARE = 50  # the last of every 50 training images validate: 1,000 of the official 50,000
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASS_NAMES += ["dog", "frog", "horse", "ship", "truck"]
# Of the channels of the 50,000 official training images in 0..1, over all their pixels (constants,
# so that every split and every copy of the data is scaled alike). The (0.2023, 0.1994, 0.2010) that
# the notebook and many others divide by are the means of the images' own deviations.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (images (B, 3, 32, 32) float, labels (B,)) for each split.

    Args:
        splits: some of "train", "val", "test".
        data_dir: the folder of the binary version.
        params: `batch_size`, `seed`; `flip` and `shift` change training images, see `augment`.
            `class_names` is set on it.
    """
    params.class_names = read_names(Path(data_dir) / NAMES_FILE)
    loaders = {}
    for split in splits:
        images, labels, ids = read_split(Path(data_dir), split)
        loaders[split] = Batches(
            images,
            labels,
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=partial(transform, params=params),
            ids=ids,
        )
    return loaders


def show(index: str, split: str, data_dir: str, params: Params) -> bytes:
    """Return an image, of which `index` names file and place, as a PNG for reports."""
    name, _, number = index.partition(":")
    pixels = read_records(Path(data_dir) / name)[int(number), 1:].reshape(SHAPE)
    return png(torch.from_numpy(pixels.copy()))


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor, list[str]]:
    """Return the images (N, 3, 32, 32) uint8 of a split, their labels (N,) and their names.

    Validation is the last fiftieth of the training files, as in the notebook: of the official data
    49,000 images train, 1,000 validate and 10,000 test.
    """
    names = TEST_FILES if split == "test" else TRAIN_FILES
    files = [read_records(folder / name) for name in names]
    total = sum(map(len, files))
    end = total - total // VAL_SHARE
    chosen = {"train": slice(0, end), "val": slice(end, total), "test": slice(total)}[split]
    records = np.concatenate(files)[chosen]  # (N, 3073)
    ids = [f"{name}:{i}" for name, file in zip(names, files, strict=True) for i in range(len(file))]
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    images = torch.from_numpy(np.ascontiguousarray(records[:, 1:])).view(-1, *SHAPE)
    return images, labels, ids[chosen]


def read_records(path: Path) -> np.ndarray:
    """Map a file of records into memory, (N, 3073) bytes.

    Raises:
        DataError: the file is missing, not of whole records, or holds a label above 9.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file (data/cifar10/prepare.py makes the data)")
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise DataError(f"{path}: {size} bytes, want a multiple of {RECORD}: is the file whole?")
    records = np.memmap(path, np.uint8, mode="r").reshape(-1, RECORD)
    if len(wrong := np.flatnonzero(records[:, 0] >= NUM_CLASSES)):
        faults = [f"record {i}: label {records[i, 0]}" for i in wrong.tolist()]
        raise DataError(f"{path}: labels above {NUM_CLASSES - 1}:\n{listed(faults, 3)}")
    return records


def read_names(path: Path) -> list[str]:
    """Return the ten class names, one a line; those of CIFAR-10 if there is no such file."""
    if not path.is_file():
        return CLASS_NAMES
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != NUM_CLASSES:
        raise DataError(f"{path}: {len(names)} class names, want {NUM_CLASSES}")
    return names


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the image (3, 32, 32) of every file, for predict.py."""
    for source in sources:
        image = read_image(source, SHAPE[1:])
        yield source, transform(image.unsqueeze(0), None, params)[0]


def transform(images: Tensor, row_draws: RowDraws | None, params: Params) -> Tensor:
    """Map uint8 images (B, 3, H, W) to floats of mean 0 and deviation 1 a channel.

    Args:
        images: the images of a batch, on any device.
        row_draws: where training draws from; None outside of training.
        params: see `augment`.
    """
    if row_draws is not None:
        flip, shift = params.dict.get("flip", False), params.dict.get("shift", 0)
        images = augment(images, row_draws, flip, shift) if flip or shift else images
    mean, deviation = (
        (255 * torch.tensor(values)).view(-1, 1, 1).to(images.device, non_blocking=True)
        for values in (MEAN, DEVIATION)
    )
    return (images.float() - mean) / deviation


def augment(images: Tensor, row_draws: RowDraws, flip: bool, shift: int) -> Tensor:
    """Mirror and shift images (B, C, H, W), each image by its own choice.

    Args:
        images: of any type, on any device.
        row_draws: the random numbers, of each image its own.
        flip: whether every other image, on average, is mirrored.
        shift: the most pixels by which an image moves in each direction.

    Returns:
        (B, C, H, W); what moves in from outside is the image's mirror image.
    """
    (count, channels, height, width), device = images.shape, images.device
    coins = row_draws.integers(0, 2, 1).bool()  # (B, 1)
    moves = row_draws.integers(-shift, shift + 1, 2, 1).transpose(0, 1)  # (2, B, 1)
    coins, moves = (draws.to(device, non_blocking=True) for draws in (coins, moves))
    rows = moves[0] + torch.arange(height, device=device)  # (B, H)
    columns = moves[1] + torch.arange(width, device=device)  # (B, W)
    if flip:
        columns = torch.where(coins, columns.flip(1), columns)
    rows, columns = (
        size - 1 - (size - 1 - places.abs()).abs()  # -1 is 1, and so on
        for places, size in ((rows, height), (columns, width))
    )
    image = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
