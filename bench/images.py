"""Decoding: the cache of read_images beside the decoder alone; photographs read by workers.

    python bench/images.py

First images of 64x64 pixels are decoded by one process for each core, and by read_images, which
also writes its cache, and reads it the next time. Then photographs of 224x224 pixels go through
torchvision's ImageFolder and a DataLoader's workers, without and with our exact order.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import Figures, in_turn, parser, show
from core.data.fetching import exact
from core.data.images import read_images
from core.machine.environment import usable_cores

KINDS = 4  # classes, a folder each


def draw(folder: Path, count: int, size: int) -> list[Path]:
    """Write smooth, coloured JPEG files, which take as long to decode as photographs."""
    draws = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / str(number % KINDS) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = draws.integers(0, 256, (size // 8, size // 8, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        image.save(path, quality=90)
        paths.append(path)
    return paths


def decode(paths: list[Path]) -> int:
    """Decode files one after the other, and return how many bytes they hold."""
    return sum(np.asarray(Image.open(path).convert("RGB")).nbytes for path in paths)


def rate(count: int, work: Callable[[], Any]) -> Figures:
    """Return how many images a second some work on `count` of them takes."""
    began = time.perf_counter()
    work()
    return {"images/s": count / (time.perf_counter() - began)}


def building(paths: list[Path]) -> Figures:
    """Return the rate at which images are read for which there is no cache."""
    for cache in (paths[0].parents[1] / ".cache").glob("*.npy"):
        cache.unlink()
    return rate(len(paths), lambda: read_images(paths, (64, 64)))


def caching(folder: Path, count: int, repeats: int) -> None:
    """Compare building and reading the cache with the decoder's own rate."""
    paths = sorted(draw(folder, count, 64))
    parts = [paths[i :: usable_cores()] for i in range(usable_cores())]
    with ProcessPoolExecutor(usable_cores()) as pool:
        list(pool.map(decode, [part[:10] for part in parts]))  # starts the processes
        ways = {
            "decoder alone": lambda: rate(count, lambda: list(pool.map(decode, parts))),
            "building the cache": lambda: building(paths),
            "reading the cache": lambda: rate(count, lambda: read_images(paths, (64, 64))),
        }
        medians = in_turn(ways, repeats)
    show(f"{count} images of 64x64 pixels", medians, "decoder alone")


def drain(batches: Iterator[Any]) -> int:
    """Take all batches of an epoch."""
    return sum(len(labels) for _, labels in batches)


def from_folders(folder: Path, count: int, repeats: int) -> None:
    """Compare a plain DataLoader of photographs with the same one in exact order."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    draw(folder, count, 224)
    photographs = datasets.ImageFolder(str(folder), transforms.ToTensor())
    plain = DataLoader(photographs, 32, shuffle=True, num_workers=usable_cores())
    ours = exact(plain, seed=0, train=True)
    ways = {
        "ImageFolder": lambda: rate(count, partial(drain, iter(plain))),
        "in exact order": lambda: rate(count, partial(drain, ours.epoch(0))),
    }
    medians = in_turn(ways, repeats)
    title = f"{count} photographs of 224x224 pixels, {usable_cores()} workers"
    show(title, medians, "ImageFolder")


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    repeats = 1 if args.quick else 7
    with tempfile.TemporaryDirectory() as name:
        caching(Path(name) / "small", 200 if args.quick else 8000, repeats)
        from_folders(Path(name) / "large", 100 if args.quick else 2000, repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
