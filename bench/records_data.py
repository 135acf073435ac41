"""Data for bench/records.py, all made up: shards of photographs, small pictures, tiny records."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np

from core.data.workers import on_all_cores

PART = 500  # pictures that a process writes at a time


def write_shards(folder: Path, total: int, size: int, shards: int, copies: int = 1) -> Path:
    """Write shards of records of `size` random bytes, with a label and 64 bytes of pixels each.

    They are `total` bytes. Of each shard so many copies are written, which is quicker; each takes
    its own part of the page cache.
    """
    folder.mkdir(parents=True)
    rng, number = np.random.default_rng(0), 0
    for shard in range(shards // copies):
        path = folder / f"{shard:04d}.tar"
        with tarfile.open(path, "w") as archive:
            for _ in range(total // size // shards):
                label = number % 3
                pixels = (rng.integers(0, 80, 64) + 60 * label).astype(np.uint8)
                parts = {"bin": pixels.tobytes(), "cls": b"%d" % label, "jpg": rng.bytes(size)}
                for name, content in parts.items():
                    info = tarfile.TarInfo(f"{number:08d}.{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                number += 1
        for copy in range(1, copies):
            shutil.copy(path, folder / f"{shard:04d}-{copy}.tar")
    return folder


def write_pictures(folder: Path, count: int) -> None:
    """Write PNG files of 32 x 32 pixels into ten folders of classes, on all cores."""
    from PIL import Image

    for label in range(10):
        (folder / str(label)).mkdir(parents=True)

    def write(part: int) -> None:
        rng = np.random.default_rng(part)
        for i in range(part * PART, min(count, (part + 1) * PART)):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            path = folder / f"{i % 10}" / f"{i:06d}.png"
            Image.fromarray(pixels).resize((32, 32)).save(path, compress_level=1)

    for _ in on_all_cores(write, -(-count // PART), True):
        pass


def write_tiny(folder: Path, count: int, shards: int = 100) -> Path:
    """Write shards of 64 bytes and a label a record; they are links to one file."""
    folder.mkdir(parents=True)
    numbers = range(count // shards)
    one = _members([f"{i:07d}.bin" for i in numbers], [bytes(64)] * len(numbers))
    two = _members([f"{i:07d}.cls" for i in numbers], [b"%d" % (i % 3) for i in numbers])
    content = np.concatenate([one, two], axis=1).tobytes() + bytes(10_240)
    (folder / "000.tar").write_bytes(content)
    for number in range(1, shards):
        os.link(folder / "000.tar", folder / f"{number:03d}.tar")
    return folder


def _members(names: list[str], contents: list[bytes]) -> np.ndarray:
    """Return (N, 1024) bytes of members of a tar archive whose contents are short."""
    rows = np.zeros((len(names), 1024), np.uint8)
    for row, name, content in zip(rows, names, contents, strict=True):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        row[:512] = np.frombuffer(info.tobuf(), np.uint8)
        row[512 : 512 + len(content)] = np.frombuffer(content, np.uint8)
    return rows


def drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache; what the disk itself keeps stays warm."""
    os.sync()  # what is not yet written would stay
    for path in folder.rglob("*.*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
