"""Records in shards: data larger than memory, read by position in any order."""

import io
import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from core.base.errors import DataError, plural
from core.data.known import Names
from core.data.order import blocks_of_a_batch, epoch_order, windowed_order
from core.data.records_index import CHANGED, LABELS, open_index, parquet_library
from core.data.records_tar import members

OPEN = 128  # shards that a process keeps open
BLOCK = 4 * 2**20  # bytes of a block: a disk reads so many in a row about as fast as more
LOOK = 1.0  # seconds after which an open shard is looked at again: has it changed?
AHEAD = 128 * 2**10  # bytes that the kernel is asked to read at a time; of more it reads a part

Record = dict[str, Any]  # "key", the parts, and "label" if labels are whole numbers


class _File(io.FileIO):
    """An open shard that is read by position, closed when nobody uses it any more."""

    def __init__(self, path: Path, state: Sequence[int]) -> None:
        super().__init__(path)
        self.state = state  # size and time: inodes may differ from mount to mount of a network disk
        self.hold_against_index()

    def __del__(self) -> None:
        self.close()

    def hold_against_index(self) -> None:
        """Raise DataError if the file is not what the index is of."""
        found, self.looked = os.fstat(self.fileno()), time.monotonic()
        if [found.st_size, found.st_mtime_ns] != self.state:
            raise DataError(f"{self.name!s}: {CHANGED}")

    def part(self, size: int, place: int) -> bytes:
        """Return bytes from a place on; the position in the file is nobody's, so processes may."""
        if time.monotonic() > self.looked + LOOK:
            self.hold_against_index()
        content = os.pread(self.fileno(), size, place)
        if size and not content:
            raise DataError(f"{self.name!s}: {CHANGED}")
        rest = size - len(content)  # of more than 2 GiB a part comes at once
        return content + self.part(rest, place + len(content)) if rest else content


class Records(Dataset[Any]):
    """Records in the shards of a folder, or in one shard, for a DataLoader with any workers.

    Shards are uncompressed .tar files as WebDataset writes them (a record is the files that share
    a name up to its first dot), pairs NAME.npy and NAME.labels.npy, or .parquet files. An index
    beside them is built once. `decode`, called by the workers, maps a record to an example:

        {"key": "cats/17", "jpg": b"...", "cls": b"3", "label": 3}     of a tar
        {"key": "17", "inputs": array, "label": array}                 of a pair of .npy
        {"key": "17", **columns}                                       of a Parquet file

    Args:
        path: of the folder, or the shard.
        decode: maps a record to an example, such as (inputs, label); the record itself if absent.
        transform: maps the inputs (B, ...) of a batch to what the model reads, on the device that
            trains; it draws by `row_draws` or a generator, as that of Batches does.
        window: 0 for a full shuffle. Else blocks of about 4 MiB (of a Parquet file: row groups)
            come in random order, and records are shuffled within windows of so many blocks, which
            a slow disk reads nearly as fast as in order.
        parts: names of parts that every record must have, others need not; default: all that the
            first one has.
    """

    def __init__(
        self,
        path: str | Path,
        decode: Callable[[Record], Any] | None = None,
        *,
        transform: Callable[[Any, Any], Any] | None = None,
        window: int = 0,
        parts: Sequence[str] = (),
    ) -> None:
        if window < 0:
            raise DataError(f"Records: window is {window}, want 0 or a number of blocks")
        self.path, self.decode, self.batch_transform = Path(path), decode, transform
        self.window, self.parts = window, tuple(parts)
        self._open()

    def _open(self) -> None:
        self.index = index = open_index(self.path)
        folder = self.path if self.path.is_dir() else self.path.parent
        self.paths = [folder / shard["name"] for shard in index.shards]
        self.ends = [*accumulate(shard["count"] for shard in index.shards)]
        self.kind = Path(index.shards[0]["name"]).suffix
        self._check_parts()
        self.epoch_order = lru_cache(1)(self._order)  # of (seed, epoch): the order (N,) of an epoch
        self.files = lru_cache(OPEN)(self._file)
        self.groups = lru_cache(self.window + 2)(self._row_group)
        self.asked = lru_cache(4 * self.window + 4)(self._ask_for)
        if self.window and self.kind == ".parquet":
            self.starts = torch.from_numpy(np.flatnonzero(index.sizes == 0))
        elif self.window:
            self.block = max(1, int(BLOCK // max(1, index.sizes.mean())))  # records
            self.starts = torch.arange(0, len(self), self.block)

    def _check_parts(self) -> None:
        """Raise DataError of the first record that lacks a part, or if there is none."""
        if not len(self):
            raise DataError(f"{self.path}: no records in the shards")
        pairs = zip(self.paths, self.index.shards, strict=True)
        found = [(path, *kind) for path, shard in pairs for kind in shard["parts"].items()]
        wanted = set(self.parts or found[0][1].split(","))
        for path, parts, (count, key) in found:
            if missing := sorted(wanted - {*parts.split(",")}):
                many = plural(count, "record is", "records are")
                raise DataError(
                    f"{path}: {key} has no part .{missing[0]}, only {parts} ({many} so)"
                )

    def __getstate__(self) -> dict[str, Any]:
        gone = ("index", "paths", "epoch_order", "files", "groups", "asked", "starts")
        kept = {name: value for name, value in vars(self).items() if name not in gone}
        return kept | {"states": [shard["state"] for shard in self.index.shards]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()  # a worker would else number other records
        if [shard["state"] for shard in self.index.shards] != vars(self).pop("states"):
            raise DataError(f"{self.path}: {CHANGED}")

    def __len__(self) -> int:
        """Return N, the number of records."""
        return self.ends[-1]

    def __getitem__(self, i: int) -> Any:
        record = self.record(i)
        return record if self.decode is None else self.decode(record)

    @property
    def filenames(self) -> Sequence[str]:
        """The names "SHARD/KEY" of all records."""
        return Names(self._name, range(len(self)))

    def _name(self, i: int) -> str:
        shard, key = self.place(i)
        return f"{self.paths[shard].stem}/{key}"

    @property
    def labels(self) -> Tensor | None:
        """The labels (N,), where they are whole numbers: from .cls files, or a column `label`."""
        return torch.from_numpy(self.index.labels) if len(self.index.labels) else None

    def place(self, i: int) -> tuple[int, str]:
        """Return the number of a record's shard, and its key."""
        shard, ends = bisect_right(self.ends, i), self.index.key_ends
        if not len(ends):
            return shard, str(i - (self.ends[shard - 1] if shard else 0))
        key = self.index.keys[ends[i - 1] if i else 0 : ends[i]]
        return shard, key.tobytes().decode("utf-8", "surrogateescape")

    def record(self, i: int) -> Record:
        """Return a record as it is stored; DataError if its shard has changed since."""
        i = range(len(self))[i]
        (number, key), index = self.place(i), self.index
        offset, size = int(index.offsets[i]), int(index.sizes[i])
        record: Record = {"key": key}
        if self.kind == ".parquet":
            return record | {name: c[size].as_py() for name, c in self.groups(number, offset)}
        if self.window:
            self.asked(i // self.block)
        if self.kind == ".tar":
            file = self.files(number)
            span = file.part(size, offset)
            stretch = members(lambda a, n: span[a : a + n], file.name, size, False)
            for own, part, _, at, length in stretch:
                if own != key:
                    raise DataError(f"{file.name!s}: {CHANGED}")
                record[part] = span[at : at + length]
        else:
            for part, (ending, start, dtype, shape) in index.shards[number]["arrays"].items():
                if part == "inputs" or not len(index.labels):
                    row = np.dtype(dtype).itemsize * math.prod(shape)
                    content = self.files(number, ending).part(row, start + row * int(key))
                    rows = np.frombuffer(content, dtype).reshape(shape)
                    record[part] = rows.astype(rows.dtype.newbyteorder("="))  # as torch wants it
        if len(index.labels):
            record["label"] = int(index.labels[i])
        return record

    def _file(self, number: int, ending: str = "") -> _File:
        """Open a shard, or what belongs to it; DataError if it is not what the index is of."""
        path, states = self.paths[number], self.index.shards[number]["state"]
        name = path.with_name(path.stem + (ending or path.suffix))
        return _File(name, states[ending == LABELS][1:3])

    def _row_group(self, number: int, group: int) -> list[tuple[str, Any]]:
        """Return the columns of a row group by name."""
        pyarrow, parquet = parquet_library()
        with self._file(number) as shard:
            try:
                table = parquet.ParquetFile(shard).read_row_group(group)
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(f"{shard.name!s}, row group {group}: {error}") from None
        return list(zip(table.column_names, table.columns, strict=True))

    def _ask_for(self, block: int) -> None:
        """Let the kernel read a block of a tar as a whole, while its first record is decoded."""
        last = int(self.starts[block + 1]) if block + 1 < len(self.starts) else len(self)
        first, offsets, sizes = int(self.starts[block]), self.index.offsets, self.index.sizes
        while first < last and hasattr(os, "posix_fadvise"):
            shard = bisect_right(self.ends, first)  # a block may end in the next one
            end = min(last, self.ends[shard])
            file = self.files(shard).fileno()
            for at in range(int(offsets[first]), int(offsets[end - 1] + sizes[end - 1]), AHEAD):
                os.posix_fadvise(file, at, AHEAD, os.POSIX_FADV_WILLNEED)
            first = end

    def _order(self, seed: int, epoch: int) -> Tensor:
        if not self.window:
            return epoch_order(len(self), seed, epoch)
        return windowed_order(self.starts, len(self), self.window, seed, epoch)

    def order_told(self, batch_size: int) -> str:
        """Say how records are shuffled, and how far that is from a full shuffle."""
        if not self.window:
            slow = ", which reads a row group for each record: set a window"
            return "shuffled every epoch" + (slow if self.kind == ".parquet" else "")
        orders = self.epoch_order(0, 0), epoch_order(len(self), 0, 0)
        ours, full = (round(blocks_of_a_batch(x, self.starts, batch_size)) for x in orders)
        told = f"shuffled every epoch in windows of {self.window} of {len(self.starts)} blocks"
        return f"{told}: a batch comes from {ours} blocks, of a full shuffle from {full}"
