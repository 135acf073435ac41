"""A folder of data: where it is, its fingerprint, whether its data are synthetic."""

import gzip
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, pairwise
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Timer
from typing import Any

from core.base.errors import DataError, plural
from core.base.params import ROOT, Params
from core.data.caches import file_state, read_cache, write_cache
from core.data.records_index import READERS, open_index
from core.task import Task

MANIFEST, CROISSANT = "manifest.json", "croissant.json"  # of a prepare script; about the data
LEFT_OUT = "left-out.json"  # in a folder's cache: files that are no data
OF_SYSTEMS = ("thumbs.db", "desktop.ini")  # come and go as people look into a folder
WHOLE = 16 * 2**30  # bytes of a folder up to which every byte is read for the fingerprint
SAMPLE, STRETCH, MOST = 16_384, 4 * 2**20, 256  # of files in larger folders, see `_digest`
SLOW = 1.0  # seconds after which reading is said, and its results are kept


def find_data_dir(params: Params, task: Task) -> Path:
    """Return the folder of the data: of the params, else the task's own; DataError if missing.

    The task's own, if it is not in the working directory, is looked for in the project.
    """
    name = params.data_dir or task.data_dir
    if name is None:
        raise DataError(f"which data? Give --data_dir, or set data_dir in {task.name}.data_loader")
    if params.data_dir is None and not Path(name).exists() and (ROOT / name).exists():
        return ROOT / name
    if not Path(name).exists():
        raise DataError(f"{name}: no such folder of data (data/README.md says how to get them)")
    return Path(name)


def _files(folder: Path, left_out: set[Path], prefix: str = "") -> Iterator[str]:
    """List the files below a folder by name; hidden ones, such as caches, do not count."""
    if folder.resolve() in left_out:
        return
    left_out = {*left_out, folder.resolve()}  # a link may lead back to a folder that it is in
    about = CROISSANT if not prefix and (folder / MANIFEST).exists() else ""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name[0] == "." or entry.name.lower() in OF_SYSTEMS or entry.name == about:
            continue
        if entry.is_dir():
            yield from _files(folder / entry.name, left_out, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name


@contextmanager
def leaving_out_new_files(data_dir: Path) -> Iterator[None]:
    """Let files that appear in the folder during the block count as no data from then on.

    They are caches that a loader writes for an evaluation, of a split that training never reads.
    """
    before = set(_files(data_dir, set())) if data_dir.is_dir() else set()
    yield
    new = sorted(set(_files(data_dir, set())) - before) if data_dir.is_dir() else []
    if new:
        told = "Note: the loader made %s in %s, which count as no data"
        logging.warning(told, plural(len(new), "file", "files"), data_dir)
        content = json.dumps(sorted({*_left_out(data_dir), *new})).encode()
        write_cache(data_dir, LEFT_OUT, lambda file: file.write(content))


def _left_out(data_dir: Path) -> list[str]:
    return read_cache(data_dir, LEFT_OUT, json.load) or []


def fingerprint(data_dir: Path, run_folder: Path) -> dict[str, Any]:
    """Return the number of files, their bytes, and a SHA-256 of their names, sizes and contents.

    Times do not count, nor do the run's own folder and what loaders wrote for evaluations.
    Up to 16 GiB every byte is read; of a larger folder the files above 64 KiB are sampled, see
    `_digest`, and of its shards the index of all records counts. What takes more than a
    second is said in the log, and kept in a cache for as long as inode, size and times of a file
    are the same.
    """
    timer = Timer(SLOW, logging.info, [f"{data_dir}: reading the files, for their fingerprint"])
    timer.start()
    try:
        names = list(_files(data_dir, {run_folder.resolve()})) if data_dir.is_dir() else [""]
        if left_out := set(_left_out(data_dir)):
            names = [name for name in names if name not in left_out]
        states = {name: file_state(os.path.join(data_dir, name)) for name in names}
        total = sum(state[1] for state in states.values())
        digests = _digests(data_dir, states, total <= WHOLE)
    finally:
        timer.cancel()
    lines = (f"{name}\0{states[name][1]}\0{digests[name]}\n" for name in names)
    told = _indices(data_dir, names) if total > WHOLE else []
    whole = hashlib.sha256(b"".join(map(os.fsencode, chain(lines, told))))
    return {"files": len(names), "bytes": total, "sha256": whole.hexdigest()}


def _indices(folder: Path, names: list[str]) -> Iterator[str]:
    """Yield a line of each folder of shards: keys, sizes, places and labels of all records."""
    for place in sorted({str(Path(name).parent) for name in names if Path(name).suffix in READERS}):
        with suppress(DataError):  # files that are no shards
            yield f"{place}\0{open_index(folder / place).digest()}\n"


def _digests(folder: Path, states: Mapping[str, tuple[int, ...]], whole: bool) -> dict[str, str]:
    """Return the digest of every file, of those that have not changed from a cache."""
    began, home = time.time(), folder if folder.is_dir() else folder.parent
    cache = f"digests-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:20]}.json.gz"
    known = read_cache(home, cache, lambda file: json.loads(gzip.decompress(file.read())))
    marks = {name: repr((name, whole, *state)) for name, state in states.items()}
    found: dict[str, str] = {n: known[mark] for n, mark in marks.items() if mark in (known or {})}
    missing = [name for name in states if name not in found]
    with ThreadPool(8) as pool:  # each waits for a disk, or for another machine
        read = pool.imap(lambda name: _digest(folder / name, states[name][1], whole), missing, 64)
        found |= zip(missing, read, strict=True)
    if missing and time.time() - began > SLOW:
        settled = (began - 0.1) * 1e9  # what has just changed may change again in the same tick
        kept = {marks[n]: found[n] for n, state in states.items() if state[3] < settled}
        content = gzip.compress(json.dumps(kept).encode(), 1)  # its checksum tells damage
        write_cache(home, cache, lambda file: file.write(content))
    return found


def _digest(path: Path, size: int, whole: bool) -> str:
    """Return the SHA-256 of a file: of every byte, or of 16 KiB at each of some places.

    Places: head, tail, and one in every 4 MiB (at least 2, at most 256), seeded by the size.
    """
    with path.open("rb", buffering=0) as file:
        if whole or size <= 4 * SAMPLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        count = min(max(size // STRETCH, 2), MOST)
        draws, ends = random.Random(size), [size * i // count for i in range(count + 1)]
        inner = [draws.randrange(a, b - SAMPLE) for a, b in pairwise(ends)]
        digest = hashlib.sha256()
        for place in (0, *inner, size - SAMPLE):
            file.seek(place)
            digest.update(file.read(SAMPLE))
        return digest.hexdigest()


def synthetic_note(data_dir: Path) -> str | None:
    """Describe synthetic data, as their manifest does; None for data that were collected."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((data_dir / MANIFEST).read_text(encoding="utf-8-sig"))
        return str(manifest["description"]) if manifest["generated"] is True else None
    return None
