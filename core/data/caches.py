"""Caches beside a folder of data, or in the user's cache folder where that cannot be written."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from core.base.files import replacing


def file_state(path: Path | str) -> tuple[int, ...]:
    """Return (inode, size, mtime_ns, ctime_ns) of a file, which change with its contents.

    Size and mtime alone do not: two files of equal size and time may have changed places.
    """
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _homes(folder: Path) -> list[Path]:
    user = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))  # ~: no home
    return [folder / ".cache", *([user / "project-template"] if user.is_absolute() else [])]


def read_cache(folder: Path, name: str, load: Callable[[IO[bytes]], Any]) -> Any:
    """Return what `load` reads from a folder's cache; None if it is absent or damaged."""
    for home in _homes(folder):
        with suppress(Exception), (home / name).open("rb") as file:  # damage has many kinds
            return load(file)
    return None


def write_cache(folder: Path, name: str, save: Callable[[IO[bytes]], Any]) -> Path | None:
    """Let `save` write a cache of a folder; returns its path, None if it can be written nowhere."""
    for home in _homes(folder):
        try:
            home.mkdir(parents=True, exist_ok=True)
            with replacing(home / name) as file:
                save(file)
            return home / name
        except OSError as error:
            logging.info("no cache %s in %s: %s", name, home, error.strerror or error)
    return None
