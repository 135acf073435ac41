"""Image files as uint8 tensors: decoded once on all cores, checked, and cached beside the data."""

import glob
import hashlib
import io
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.base.errors import DataError, listed
from core.data.caches import file_state, read_cache, write_cache
from core.data.workers import on_all_cores

if TYPE_CHECKING:
    from PIL import Image

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # how the names of image files end
CHUNK = 100  # images that a process decodes at a time
MANY = 2000  # images that are worth starting processes for
KEPT = 4  # caches of a folder: of several lists of its files, or of files that have changed since


def read_images(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Read images as uint8 (N, 3, H, W): RGB, EXIF rotation applied, transparency on white.

    The first call for a list of files decodes them and writes a cache into the folder `.cache`
    beside their folder, or into the user's cache folder where that cannot be written. The cache
    holds as long as names, inodes, sizes and times of the files do.

    Args:
        paths: N files of one folder, in the order wanted.
        size: (H, W) that every image must have.

    Raises:
        DataError: files are not images or have another size; the first ten are named.
    """
    facts = [(path.name, file_state(path)) for path in paths], size, "RGB on white"
    prefix, key = paths[0].parent.name, hashlib.sha256(repr(facts).encode()).hexdigest()[:20]
    home, name = paths[0].parent.parent, f"{prefix}-{key}.npy"
    images = read_cache(home, name, np.load)
    if images is None or images.shape != (len(paths), 3, *size) or images.dtype != np.uint8:
        images = _decode_all(paths, size)
        if written := write_cache(home, name, lambda file: np.save(file, images)):
            caches = written.parent.glob(f"{glob.escape(prefix)}-{'?' * 20}.npy")
            for stale in sorted(caches, key=os.path.getmtime)[:-KEPT]:
                stale.unlink(missing_ok=True)
    return torch.from_numpy(images)


def open_rgb(source: Path | bytes) -> "Image.Image":
    """Open an image, or its bytes, as 8-bit RGB, upright as its EXIF says, transparency on white.

    Raises:
        DataError: the file is no image, is damaged, or has colours of more than 16 bits.
    """
    from PIL import Image, ImageOps  # not needed when the cache holds

    path = source if isinstance(source, Path) else "a picture"
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise DataError(f"{path}: not a file")  # a pipe would be waited for
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            if image.mode in ("I", "F"):
                raise DataError(f"{path}: colours of more than 16 bits, want 8 or 16")
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I;16"):  # Pillow's own conversion would cut it off at 255
                grey = (np.asarray(image) / 257).round().astype(np.uint8)
                grey[np.asarray(image) == image.info.get("transparency")] = 255
                return Image.fromarray(grey).convert("RGB")
            if not image.has_transparency_data:
                return image.convert("RGB")
            paper = Image.new("RGBA", image.size, "white")  # else hidden colours would show
            return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        plain = {"FileNotFoundError": "no such file", "UnidentifiedImageError": "not an image"}
        fault = plain.get(type(error).__name__, f"damaged ({error})")
        raise DataError(f"{path}: {fault}") from None


def png(pixels: Tensor | np.ndarray) -> bytes:
    """Return a picture as the bytes of a PNG file; ValueError if it is none.

    Args:
        pixels: uint8, a tensor (3, H, W) or (H, W), or a NumPy array (H, W, 3) or (H, W).
    """
    from PIL import Image

    if isinstance(pixels, Tensor):
        pixels = (pixels.movedim(0, -1) if pixels.ndim == 3 else pixels).cpu().numpy()
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"png: pixels are {pixels.dtype} {pixels.shape}, want uint8 (H, W[, 3])")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def open_resized(path: Path | bytes, size: tuple[int, int]) -> "Image.Image":
    """Open an image as `open_rgb` does, and bring it to a size (H, W)."""
    from PIL import Image

    pixels = size[1], size[0]  # Pillow's order
    return open_rgb(path).resize(pixels, Image.Resampling.LANCZOS, reducing_gap=3.0)


def read_image(path: str | Path | bytes, size: tuple[int, int] | None = None) -> Tensor:
    """Read one image, or its bytes, as uint8 (3, H, W), resized to `size` (H, W) if given.

    Raises:
        DataError: it cannot be used.
    """
    path = path if isinstance(path, bytes) else Path(path)
    pixels = np.array(open_rgb(path) if size is None else open_resized(path, size))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_all(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Decode on all cores; few images are decoded sooner than processes start."""
    shape = len(paths), 3, *size
    images = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)

    def decode_chunk(number: int) -> list[str]:
        """Decode some images into their places; returns what is wrong with others."""
        faults = []
        for i in range(len(paths))[number * CHUNK : (number + 1) * CHUNK]:
            try:
                pixels = np.asarray(open_rgb(paths[i]))  # (H, W, 3)
            except DataError as error:
                faults.append(str(error))
                continue
            if pixels.shape[:2] == size:
                images[i] = pixels.transpose(2, 0, 1)
            else:
                found = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
                faults.append(f"{paths[i]}: {found}, want {size[1]}x{size[0]}")
        return faults

    chunks = on_all_cores(decode_chunk, math.ceil(len(paths) / CHUNK), len(paths) >= MANY)
    if faults := [fault for chunk in chunks for fault in chunk]:
        raise DataError(f"{len(faults)} of {len(paths)} images cannot be used:\n{listed(faults)}")
    return images
