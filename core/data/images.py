"""Image files as uint8 tensors: decoded once on all cores, checked, and cached beside the data."""

import glob
import hashlib
import io
import logging
import math
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from core.base.errors import DataError, listed
from core.base.files import replacing
from core.machine.environment import usable_cores
from core.machine.signals import ignore_signals, signals_held_back

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 100  # images that a process decodes at a time
MANY = 2000  # images that are worth starting processes for
KEPT = 4  # caches of a folder: of several lists of its files, or of files that have changed since


def read_images(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Read images as uint8 (N, 3, H, W), RGB, EXIF rotation applied.

    The first call for a list of files decodes them and writes a cache into the folder `.cache`
    beside their folder, or into the user's cache folder where that cannot be written. The cache
    holds as long as the names, sizes and times of the files do.

    Args:
        paths: N files of one folder, in the order wanted.
        size: (H, W) that every image must have.

    Raises:
        DataError: files are not images or have another size; the first ten are named.
    """
    states = [path.stat() for path in paths]
    facts = [(p.name, s.st_size, s.st_mtime_ns) for p, s in zip(paths, states, strict=True)]
    key = hashlib.sha256(repr((facts, size, "RGB")).encode()).hexdigest()[:20]
    folder = paths[0].parent
    name = f"{folder.name}-{key}.npy"
    homes = [folder.parent / ".cache", _user_cache()]
    for home in homes:
        with suppress(OSError, ValueError):  # absent, or damaged: it is made again
            images = np.load(home / name)
            if images.shape == (len(paths), 3, *size) and images.dtype == np.uint8:
                return torch.from_numpy(images)
    images = _decode_all(paths, size)
    for home in homes:
        try:
            _write_cache(home, name, folder.name, images)
            break
        except OSError as error:
            why = error.strerror or error
            logging.info("no cache of decoded images in %s: %s", home, why)
    return torch.from_numpy(images)


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "project-template-images"


def _write_cache(home: Path, name: str, prefix: str, images: np.ndarray) -> None:
    """Write a cache, and remove the oldest ones of its folder."""
    home.mkdir(parents=True, exist_ok=True)
    with replacing(home / name) as file:
        np.save(file, images)
    caches = home.glob(f"{glob.escape(prefix)}-{'?' * 20}.npy")
    for stale in sorted(caches, key=os.path.getmtime)[:-KEPT]:
        stale.unlink(missing_ok=True)


def open_rgb(path: Path) -> "Image.Image":
    """Open an image as 8-bit RGB, turned upright as its EXIF says.

    Raises:
        DataError: the file is no image, is damaged, or has colours of more than 16 bits.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # not needed when the cache holds

    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise DataError(f"{path}: colours of more than 16 bits, want 8 or 16")
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "RGB":
                image.load()
                return image
            if image.mode.startswith("I;16"):  # Pillow's own conversion would cut it off at 255
                grey = (np.asarray(image) / 257).round().astype(np.uint8)
                return Image.fromarray(grey).convert("RGB")
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image") from None
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DataError(f"{path}: damaged ({error})") from None


def png(pixels: Tensor) -> bytes:
    """Return uint8 (3, H, W) as the bytes of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


def open_resized(path: Path, size: tuple[int, int]) -> "Image.Image":
    """Open an image as `open_rgb` does, and bring it to a size (H, W)."""
    from PIL import Image

    height, width = size
    return open_rgb(path).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def read_image(path: str | Path, size: tuple[int, int]) -> Tensor:
    """Read one image of any size as uint8 (3, H, W); DataError if it cannot be used."""
    pixels = np.array(open_resized(Path(path), size))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode(path: Path, size: tuple[int, int]) -> np.ndarray | str:
    """Return an image as uint8 (3, H, W), or say what is wrong with it."""
    try:
        pixels = np.asarray(open_rgb(path))
    except DataError as error:
        return str(error)
    if pixels.shape[:2] != size:
        return f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, want {size[1]}x{size[0]}"
    return pixels.transpose(2, 0, 1)


def _decode_all(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Decode on all cores, which takes processes: threads wait for Python most of the time.

    Few images are decoded sooner than processes start. Forked ones write into memory that they
    share with this one.
    """
    shape = len(paths), 3, *size
    images = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)

    def decode_chunk(start: int) -> list[str]:
        """Decode some images into their places; returns what is wrong with others."""
        faults = []
        for i in range(start, min(start + CHUNK, len(paths))):
            image = _decode(paths[i], size)
            if isinstance(image, str):
                faults.append(image)
            else:
                images[i] = image
        return faults

    starts = range(0, len(paths), CHUNK)
    if sys.platform == "linux" and len(paths) >= MANY:
        faults = _in_forks(decode_chunk, starts)
    else:
        faults = [fault for start in starts for fault in decode_chunk(start)]
    if faults:
        raise DataError(f"{len(faults)} of {len(paths)} images cannot be used:\n{listed(faults)}")
    return images


def _in_forks(function: Callable[[int], list[str]], numbers: Sequence[int]) -> list[str]:
    """Call a function for each number in forked processes, and join what it returns."""
    calls: DataLoader[Any] = DataLoader(
        numbers,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=function,  # type: ignore[arg-type]
        num_workers=usable_cores(),
        worker_init_fn=lambda number: ignore_signals(),
        multiprocessing_context="fork",
        generator=torch.Generator(),  # else it draws from the global generator
    )
    with signals_held_back():
        returned = iter(calls)
    return [item for part in returned for item in part]
