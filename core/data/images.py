"""Image files as uint8 tensors: decoded once on all cores, checked, and cached beside the data."""

import glob
import hashlib
import io
import logging
import math
import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.base.errors import DataError, listed
from core.base.files import replacing
from core.data.dataloaders import start_worker
from core.machine import processes as distributed
from core.machine.devices import usable_cores
from core.machine.signals import leave_signals_to_main_thread, signals_held_back

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 100  # images that a process decodes at a time
MANY = 2000  # images that are worth starting processes for
KEPT = 4  # caches of a folder: of several lists of its files, or of files that have changed since

_syncing: dict[str, Thread] = {}  # what puts a cache of this name into place


def read_images(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Read images as uint8 (N, 3, H, W), RGB, EXIF rotation applied.

    The first call for a list of files decodes them and writes a cache into the folder `.cache`
    beside their folder, or into the user's cache folder where that cannot be written. The cache
    holds as long as the names, sizes and times of the files do. A large one comes into place a
    little later, when it is on the disk; the images may be changed meanwhile.

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
    _wait_for(name)
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
            _log_no_cache(home, error)
    # Other processes of the run read what this one leaves; few images are synced in no time.
    if distributed.world() > 1 or len(images) < MANY:
        _wait_for(name)
    return torch.from_numpy(images)


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "project-template-images"


def _write_cache(home: Path, name: str, prefix: str, images: np.ndarray) -> None:
    """Write the cache, and let it be synced in the background: that takes as long as decoding."""
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        np.save(stack.enter_context(replacing(home / name)), images)
        _syncing[name] = Thread(target=_sync, args=(stack.pop_all(), home, prefix))
        _syncing[name].start()


def _sync(written: ExitStack, home: Path, prefix: str) -> None:
    """Put a cache into place, and remove the oldest ones of the folder."""
    leave_signals_to_main_thread()
    try:
        written.close()
        caches = home.glob(f"{glob.escape(prefix)}-{'?' * 20}.npy")
        for stale in sorted(caches, key=os.path.getmtime)[:-KEPT]:
            stale.unlink(missing_ok=True)
    except OSError as error:
        _log_no_cache(home, error)


def _wait_for(name: str) -> None:
    """Wait for a cache that this process is putting into place."""
    if thread := _syncing.pop(name, None):
        thread.join()


def _log_no_cache(home: Path, error: OSError) -> None:
    logging.info("no cache of decoded images in %s: %s", home, error.strerror or error)


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


class _Chunks(Dataset[list[str]]):
    """Decodes a chunk of the images when it is asked for; what it yields is what is wrong there."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size
        shape = len(paths), 3, *size
        memory = mmap.mmap(-1, math.prod(shape))  # forked processes write into it, too
        self.images = np.frombuffer(memory, np.uint8).reshape(shape)

    def __len__(self) -> int:
        return math.ceil(len(self.paths) / CHUNK)

    def __getitem__(self, chunk: int) -> list[str]:
        faults = []
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self.paths))):
            image = _decode(self.paths[i], self.size)
            if isinstance(image, str):
                faults.append(image)
            else:
                self.images[i] = image
        return faults


def _decode_all(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Decode on all cores, which takes processes: threads wait for Python most of the time.

    Few images are decoded sooner than processes start, and only forked ones can share memory.
    """
    forks = sys.platform == "linux" and len(paths) >= MANY
    chunks = _Chunks(paths, size)
    loader = DataLoader(
        chunks,
        batch_size=None,
        num_workers=usable_cores() if forks else 0,
        worker_init_fn=partial(start_worker, None),
        multiprocessing_context="fork" if forks else None,
        generator=torch.Generator(),  # else it draws from the global generator
    )
    with signals_held_back():
        told = iter(loader)
    if faults := [fault for part in told for fault in part]:
        raise DataError(f"{len(faults)} of {len(paths)} images cannot be used:\n{listed(faults)}")
    return chunks.images
