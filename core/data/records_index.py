"""The index of a folder of shards: where each record lies, its key and its label."""

import hashlib
import json
import logging
import os
from array import array
from pathlib import Path
from threading import Timer
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from core.base.errors import DataError
from core.data.caches import file_state, read_cache, write_cache
from core.data.records_tar import key_and_part, members
from core.data.workers import on_all_cores

MANY = 64 * 2**20  # bytes of shards that are worth starting processes for
SLOW = 1.0  # seconds after which building an index is said
LABELS = ".labels.npy"  # how the name of the file ends that belongs to a shard NAME.npy


class Index(NamedTuple):
    """Where N records lie in S shards; the arrays are mapped from the file, not read.

    `shards` are the facts of each: name, count, state, and for each set of parts how many records
    have it and the first one. A tar's record lies at offset, size of it; that of a .npy in the row
    `offset`, of size bytes; that of a Parquet file in the row group `offset`, as its row `size`.
    """

    path: Path  # the folder, or the one shard
    shards: list[dict[str, Any]]
    offsets: np.ndarray  # (N,) int64
    sizes: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64, or (0,) where records have none
    key_ends: np.ndarray  # (N,) int64 into keys, or (0,) where keys are numbers of rows
    keys: np.ndarray  # uint8: all keys, one after the other

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, which the system maps from the file as they are used."""
        return sum(part.nbytes for part in self[2:])

    def digest(self) -> str:
        """Return a SHA-256 of all that the index tells, but for the states of the files."""
        facts = [[shard["name"], shard["count"]] for shard in self.shards]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for part in self[2:]:
            digest.update(part.data)
        return digest.hexdigest()


def open_index(path: Path) -> Index:
    """Return the index of a folder of shards, or of one shard; it is built where there is none.

    It lies in the folder's `.cache`, and holds as long as names, inodes, sizes and times of the
    shards do. Processes that build it at once each put a whole one in place.

    Raises:
        DataError: there are no shards, of several kinds, or one is damaged.
    """
    files = _shards(path)
    home = path if path.is_dir() else path.parent
    name = f"records-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:20]}.npz"
    states = [list(file_state(file)) for file in files]

    def load(file: IO[bytes]) -> Index:
        found = _mapped(path, Path(file.name))
        if [shard["state"] for shard in found.shards] != states:
            raise ValueError("the shards have changed")
        return found

    index = read_cache(home, name, load)
    if index is None:
        timer = Timer(SLOW, logging.info, [f"{path}: building the index of {len(files)} shards"])
        timer.start()
        try:
            arrays = _build(files, states)
        finally:
            timer.cancel()
        write_cache(home, name, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        # From memory where it can be written nowhere.
        index = read_cache(home, name, load) or _index(path, arrays)
    assert isinstance(index, Index)
    return index


def _shards(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of shards")
    names = sorted(n for n in os.listdir(path) if not n.startswith(".") and not n.endswith(LABELS))
    files = [path / name for name in names if Path(name).suffix in READERS]
    kinds = sorted({file.suffix for file in files})
    if len(kinds) != 1:
        found = f"shards of several kinds, {', '.join(kinds)}" if kinds else "no shards"
        near = [name for name in names if ".tar." in name or name.endswith(".tgz")]
        hint = f"; {near[0]} is compressed: decompress it" if near else ""
        raise DataError(f"{path}: {found}, want .tar, .npy or .parquet files{hint}")
    return files


def _mapped(path: Path, file: Path) -> Index:
    """Map the arrays of an .npz file, which are stored in it as they are."""
    arrays = {}
    with ZipFile(file) as archive, file.open("rb") as content:
        for info in archive.infolist():
            content.seek(info.header_offset + 26)
            lengths = np.frombuffer(content.read(4), "<u2")  # of the name, and of what follows it
            content.seek(int(lengths.sum()), os.SEEK_CUR)
            np.lib.format.read_magic(content)
            shape, _, dtype = np.lib.format.read_array_header_1_0(content)
            place = content.tell()
            # Copy on write: torch warns of arrays that cannot be written.
            mapped = np.memmap(file, dtype, "c", place, shape) if shape[0] else np.zeros(0, dtype)
            arrays[info.filename.removesuffix(".npy")] = mapped.view(np.ndarray)
    return _index(path, arrays)


def _index(path: Path, arrays: dict[str, np.ndarray]) -> Index:
    shards = json.loads(arrays["shards"].tobytes())
    return Index(path, shards, *(arrays[name] for name in Index._fields[2:]))


def _build(files: list[Path], states: list[list[int]]) -> dict[str, np.ndarray]:
    """Read all shards on all cores; returns the arrays of the index."""
    read = READERS[files[0].suffix]
    many = len(files) > 1 and sum(state[1] for state in states) > MANY
    parts = list(on_all_cores(lambda number: read(files[number]), len(files), many))
    shards, ends = [], 0
    for file, state, (facts, arrays) in zip(files, states, parts, strict=True):
        shards.append({"name": file.name, "count": len(arrays["offsets"]), "state": state} | facts)
        arrays["key_ends"] += ends
        ends += len(arrays["keys"])
    labelled = all(len(arrays["labels"]) == len(arrays["offsets"]) for _, arrays in parts)
    joined = {n: np.concatenate([arrays[n] for _, arrays in parts]) for n in Index._fields[2:]}
    joined["labels"] = joined["labels"] if labelled else np.zeros(0, np.int64)
    return joined | {"shards": np.frombuffer(json.dumps(shards).encode(), np.uint8)}


Shard = tuple[dict[str, Any], dict[str, np.ndarray]]  # facts, and arrays of the index


def _shard(
    facts: Any, offsets: Any, sizes: Any, labels: Any, ends: Any = (), keys: Any = b""
) -> Shard:
    values = zip(Index._fields[2:], (offsets, sizes, labels, ends), strict=False)
    numbers = {name: np.array(value, np.int64) for name, value in values}
    return facts, numbers | {"keys": np.frombuffer(keys, np.uint8)}


def _read_tar(path: Path) -> Shard:
    """Read the headers of an archive: files that share a name up to its first dot are a record."""
    offsets, sizes, labels, ends = (array("q") for _ in range(4))
    keys, seen, kinds = bytearray(), set[str](), dict[str, list[Any]]()
    last, parts = "", list[str]()

    def close() -> None:
        kinds.setdefault(",".join(sorted(parts)), [0, last])[0] += 1

    with path.open("rb", buffering=2**17) as file:

        def read(place: int, size: int) -> bytes:
            file.seek(place)
            return file.read(size)

        for name, begin, start, length in members(read, path, path.stat().st_size, True):
            key, part = key_and_part(name)
            if not part:
                continue  # as WebDataset does
            if not parts or key != last:
                if parts:
                    close()
                if key in seen:
                    raise DataError(f"{path}: the key {key} comes twice")
                seen.add(key)
                last, parts = key, []
                keys += key.encode("utf-8", "surrogateescape")
                for column, value in ((offsets, begin), (sizes, 0), (ends, len(keys))):
                    column.append(value)
            if part in parts:
                raise DataError(f"{path}: the key {key} has two files .{part}")
            parts.append(part)
            sizes[-1] = start + length - offsets[-1]
            if part == "cls":
                try:
                    labels.append(int(content := read(start, length)))
                except ValueError:
                    told = f"{path}: {key}.cls is {content[:20]!r}, want a whole number"
                    raise DataError(told) from None
        if parts:
            close()
    return _shard({"parts": kinds}, offsets, sizes, labels, ends, bytes(keys))


def _read_npy(path: Path) -> Shard:
    """Read the headers of NAME.npy (n, ...) and NAME.labels.npy (n, ...)."""
    facts, found = {}, []
    for part, file in {"inputs": path, "label": path.with_name(path.stem + LABELS)}.items():
        try:
            found.append(rows := np.load(file, mmap_mode="r"))
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{file}: missing, cut off, or no .npy of numbers: {error}") from None
        if not rows.ndim or not rows.flags.c_contiguous:
            raise DataError(f"{file}: the array is {rows.shape}, want rows, in C order")
        facts[part] = [file.name, rows.offset, rows.dtype.str, list(rows.shape[1:])]
    inputs, labels = found
    if (count := len(inputs)) != len(labels):
        raise DataError(f"{path}: {count} rows, and {len(labels)} labels; want as many")
    integer = labels.ndim == 1 and labels.dtype.kind in "iu"
    told = {"parts": {"inputs,label": [count, "0"]}, "arrays": facts}
    sizes = np.full(count, inputs.nbytes // max(count, 1))
    return _shard(told, np.arange(count), sizes, labels if integer else ())


def _read_parquet(path: Path) -> Shard:
    """Read where the row groups of a Parquet file begin, and its column `label` if it has one."""
    pyarrow, parquet = parquet_library()
    try:
        with parquet.ParquetFile(path) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            columns, labels = file.schema_arrow, ()
            if "label" in columns.names and pyarrow.types.is_integer(columns.field("label").type):
                column = file.read(["label"])["label"]
                labels = () if column.null_count else column.to_numpy()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: no Parquet file, or damaged: {error}") from None
    told = {"parts": {",".join(columns.names): [sum(counts), "0"]}}
    rows = np.concatenate([np.arange(count) for count in [0, *counts]])
    return _shard(told, np.repeat(np.arange(len(counts)), counts), rows, labels)


def parquet_library() -> Any:
    """Return pyarrow and its module of Parquet files; DataError if it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise DataError("Parquet files need a package: pip install pyarrow") from None
    return pyarrow, parquet


READERS = {".tar": _read_tar, ".npy": _read_npy, ".parquet": _read_parquet}
