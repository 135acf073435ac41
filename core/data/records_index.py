"""The index of a folder of shards: where each record lies, its key and its label."""

import hashlib
import json
import logging
import os
from array import array
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from core.base.errors import DataError
from core.data.caches import file_state, read_cache, write_cache
from core.data.records_tar import COMPRESSED, members
from core.data.workers import on_all_cores

MANY = 64 * 2**20  # bytes of shards that are worth starting processes for
LABELS = ".labels.npy"  # how the name of the file ends that belongs to a shard NAME.npy
BESIDE = {f".tar.{name}": ".tar" for name in COMPRESSED} | {".tgz": ".tar", LABELS: ".npy"}
LARGEST = 2**63 - 1  # of labels
CHANGED = "it has been cut off or changed since its index was made"
PACKER, PLAN = "data/records.py", "records.json"  # who packs, and what it notes in the folder


class Index(NamedTuple):
    """Where N records lie in S shards; the arrays are mapped from the file, not read.

    `shards` are the facts of each: name, count, state, and for each set of parts how many records
    have it and the first one. A record lies at byte `offset` of a .tar or .npy, `size` bytes of it;
    that of a Parquet file in the row group `offset`, as its row `size`.
    """

    shards: list[dict[str, Any]]
    offsets: np.ndarray  # (N,) int64
    sizes: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64, or (0,) where records have none
    key_ends: np.ndarray  # (N,) int64 into keys, or (0,) where keys are numbers of rows
    keys: np.ndarray  # uint8: all keys, one after the other

    def digest(self) -> str:
        """Return a SHA-256 of all that the index tells, but for the states of the files."""
        facts = [[shard["name"], shard["count"]] for shard in self.shards]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for part in self[1:]:
            digest.update(part.data)
        return digest.hexdigest()


def open_index(path: Path) -> Index:
    """Return the index of a folder of shards, or of one shard; it is built where there is none.

    It lies in the folder's `.cache`, and holds as long as names, inodes, sizes and times of the
    shards do. Processes that build it at once each put a whole one in place.

    Raises:
        DataError: there are no shards, of several kinds, one is damaged, or some are missing.
    """
    files = _shards(path)
    home = path if path.is_dir() else path.parent
    name = f"records-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:20]}.index"
    states = [shard_state(file) for file in files]

    def load(file: IO[bytes]) -> Index:
        shards, *parts = torch.load(file.name, mmap=True, weights_only=True)
        if [shard["state"] for shard in shards] != states:
            raise ValueError("the shards have changed")
        return Index(shards, *(part.numpy() for part in parts))

    index: Index | None = read_cache(home, name, load)
    if index is None:
        logging.info("%s: building the index of %d shards", path, len(files))
        built = _build(files, states)
        content = [built.shards, *map(torch.from_numpy, built[1:])]
        write_cache(home, name, lambda file: torch.save(content, file))
        index = read_cache(home, name, load) or built  # in memory where it can be written nowhere
    count = sum(shard["count"] for shard in index.shards)
    if (promised := read_plan(path).get("records", count)) != count:
        told = f"{count} records in the shards, {PLAN} promises {promised}: pack again"
        raise DataError(f"{path}: {told}")
    return index


def shard_state(path: Path) -> list[list[int]]:
    """Return inode, size and times of a shard, and of the labels beside a .npy."""
    paths = [path, *([path.with_name(path.stem + LABELS)] if path.suffix == ".npy" else [])]
    return [[*file_state(each)] for each in paths if each.exists()]


def read_plan(folder: Path) -> dict[str, Any]:
    """Return what data/records.py noted of a folder; {} if it did not pack it."""
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return dict(plan) if plan["made_by"] == PACKER else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _shards(path: Path) -> list[Path]:
    """Return the shards of a folder; DataError if another file shows that some are missing."""
    if not path.exists():
        raise DataError(f"{path}: no such folder of shards")
    files = {file.name: file for file in (sorted(path.iterdir()) if path.is_dir() else [path])}
    names = [name for name in files if not name.startswith(".")]
    shards = [files[n] for n in names if files[n].suffix in READERS and not n.endswith(LABELS)]
    kinds = sorted({file.suffix for file in shards})
    for name, (ending, kind) in product(names, BESIDE.items()):
        shard = name.removesuffix(ending) + kind
        if name.endswith(ending) and shard not in names and kinds in ([], [kind]):
            advice = "want both" if kind == ".npy" else "decompress it"
            raise DataError(f"{path}: {name} without {shard}: {advice}, or move it away")
    if len(kinds) != 1:
        found = f"shards of several kinds, {', '.join(kinds)}" if kinds else "no shards"
        raise DataError(f"{path}: {found}, want .tar, .npy or .parquet files")
    for file in shards:
        if not file.is_file():
            raise DataError(f"{file}: a folder, a broken link or no regular file, want a shard")
    return shards


def _build(files: list[Path], states: list[list[list[int]]]) -> Index:
    """Read all shards on all cores."""
    many = len(files) > 1 and sum(each[0][1] for each in states) > MANY
    read = READERS[files[0].suffix]
    parts = list(on_all_cores(lambda number: read(files[number]), len(files), many))
    shards, ends = [], 0
    for file, state, part in zip(files, states, parts, strict=True):
        about = {"name": file.name, "count": len(part.offsets), "state": state}
        shards.append(about | part.shards[0])
        part.key_ends[:] += ends
        ends += len(part.keys)
    if any(len(part.labels) < len(part.offsets) for part in parts):
        parts = [part._replace(labels=part.labels[:0]) for part in parts]
    return Index(shards, *map(np.concatenate, list(zip(*parts, strict=True))[1:]))


def _of_shard(
    path: Path, facts: Any, offsets: Any, sizes: Any, labels: Any, ends: Any = (), keys: bytes = b""
) -> Index:
    if getattr(labels, "dtype", None) == np.uint64 and labels.max(initial=0) > LARGEST:
        raise DataError(f"{path}: the label {labels.max()} is too large, want at most {LARGEST}")
    numbers = [np.array(values, np.int64) for values in (offsets, sizes, labels, ends)]
    return Index([facts], *numbers, np.frombuffer(keys, np.uint8))  # type: ignore[call-arg]


def _read_tar(path: Path) -> Index:
    """Read the headers of an archive: files that share a name up to its first dot are a record."""
    offsets, sizes, labels, ends = (array("q") for _ in range(4))
    keys, seen, kinds = bytearray(), set[str](), dict[str, list[Any]]()
    with path.open("rb", buffering=2**17) as file:

        def read(place: int, size: int) -> bytes:
            file.seek(place)
            return file.read(size)

        found = members(read, path, path.stat().st_size, True)
        for key, group in groupby(found, itemgetter(0)):
            if key in seen:
                raise DataError(f"{path}: the key {key} comes twice")
            seen.add(key)
            files, taken = list(group), {"key"}
            for _, part, _, start, length in files:
                names = {part, "label"} if part == "cls" else {part}
                if names & taken:
                    told = f"two files .{part}, or one whose name is taken, .key or .label"
                    raise DataError(f"{path}: the key {key} has {told}")
                taken |= names
                if part == "cls":
                    try:
                        labels.append(int(content := read(start, length)))
                    except (ValueError, OverflowError):
                        told = f"{path}: {key}.cls is {content[:20]!r}, want a whole number"
                        raise DataError(told) from None
            kinds.setdefault(",".join(sorted(file[1] for file in files)), [0, key])[0] += 1
            offsets.append(begin := files[0][2])
            sizes.append(start + length - begin)
            keys += key.encode("utf-8", "surrogateescape")
            ends.append(len(keys))
    return _of_shard(path, {"parts": kinds}, offsets, sizes, labels, ends, bytes(keys))


def _read_npy(path: Path) -> Index:
    """Read the headers of NAME.npy (n, ...) and NAME.labels.npy (n, ...)."""
    facts, found = {}, []
    for part, ending in (("inputs", ".npy"), ("label", LABELS)):
        file = path.with_name(path.stem + ending)
        try:
            found.append(rows := np.load(file, mmap_mode="r"))
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{file}: missing, cut off, or no .npy of numbers: {error}") from None
        if not rows.ndim or not rows.flags.c_contiguous or rows.dtype.kind not in "biufc":
            shown = f"{rows.dtype} {rows.shape}"
            raise DataError(f"{file}: the array is {shown}, want rows of numbers, in C order")
        facts[part] = [ending, rows.offset, rows.dtype.str, list(rows.shape[1:])]
    inputs, labels = found
    if (count := len(inputs)) != len(labels):
        raise DataError(f"{path}: {count} rows, and {len(labels)} labels; want as many")
    integer = labels.ndim == 1 and labels.dtype.kind in "iu"
    told = {"parts": {"inputs,label": [count, "0"]}, "arrays": facts}
    size = inputs.nbytes // max(count, 1)
    offsets, sizes = inputs.offset + size * np.arange(count), np.full(count, size)
    return _of_shard(path, told, offsets, sizes, labels if integer else ())


def _read_parquet(path: Path) -> Index:
    """Read where the row groups of a Parquet file begin, and its column `label` if it has one."""
    pyarrow, parquet = parquet_library()
    labels: Any = ()
    try:
        with parquet.ParquetFile(path) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            columns = file.schema_arrow
            if "label" in columns.names and pyarrow.types.is_integer(columns.field("label").type):
                column = file.read(["label"])["label"]
                labels = () if column.null_count else column.to_numpy()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: no Parquet file, or damaged: {error}") from None
    told = {"parts": {",".join(columns.names): [sum(counts), "0"]}}
    rows = np.concatenate([np.arange(count) for count in [0, *counts]])
    return _of_shard(path, told, np.repeat(np.arange(len(counts)), counts), rows, labels)


def parquet_library() -> Any:
    """Return pyarrow and its module of Parquet files; DataError if it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise DataError("Parquet files need a package: pip install pyarrow") from None
    return pyarrow, parquet


READERS = {".tar": _read_tar, ".npy": _read_npy, ".parquet": _read_parquet}
