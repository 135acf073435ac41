"""A folder of data: where it is, its fingerprint, and whether its data are synthetic."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.base.errors import DataError
from core.base.params import Params
from core.task import Task

MANIFEST = "manifest.json"  # of a prepare script
WHOLE = 2 * 2**30  # bytes up to which every file is read for the fingerprint
SAMPLE = 65_536  # bytes read of each file in larger folders


def find_data_dir(params: Params, task: Task) -> Path:
    """Return the folder of the data: of the params, else the task's own; DataError if missing."""
    name = params.data_dir or task.data_dir
    if name is None:
        raise DataError(
            f"where are the data? Give --data_dir, or set data_dir in {task.name}.data_loader"
        )
    if not Path(name).exists():
        raise DataError(f"{name}: no such folder of data (data/README.md says how to get them)")
    return Path(name)


def _files(folder: Path, left_out: Path) -> Iterator[Path]:
    """List the files below a folder by name; hidden ones, such as caches, do not count."""
    if folder.resolve() == left_out:
        return
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(folder / entry.name, left_out)
        else:
            yield folder / entry.name


def fingerprint(data_dir: Path, run_folder: Path) -> dict[str, Any]:
    """Return the number of files, their bytes, and a SHA-256 of their names, sizes and contents.

    Times do not count, nor does the run's own folder. Of a folder above 2 GiB only the first 64 KiB
    of each file are read.
    """
    files = list(_files(data_dir, run_folder.resolve())) if data_dir.is_dir() else [data_dir]
    sizes = [path.stat().st_size for path in files]
    whole = sum(sizes) <= WHOLE
    digest = hashlib.sha256()
    for path, size in zip(files, sizes, strict=True):
        digest.update(f"{path.relative_to(data_dir).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            while part := file.read(SAMPLE):
                digest.update(part)
                if not whole:
                    break
    return {"files": len(files), "bytes": sum(sizes), "sha256": digest.hexdigest()}


def synthetic_note(data_dir: Path) -> str | None:
    """Describe synthetic data, as their manifest does; None for data that were collected."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((data_dir / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["description"]) if manifest["generated"] is True else None
    return None
