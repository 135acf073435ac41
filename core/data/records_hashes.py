"""Hashes of records, which data/records.py keeps beside the shards that it packs."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.base.errors import DataError
from core.data.records import Records
from core.data.workers import on_all_cores

HASHES = ".sha256"  # beside NAME.tar: lines "HASH  KEY", one a record


def record_hash(parts: Mapping[str, bytes]) -> str:
    """Return a SHA-256 of a record's parts, by their names."""
    digest = hashlib.sha256()
    for name, content in sorted(parts.items()):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def kept_hashes(shard: Path) -> dict[str, str] | None:
    """Return the hashes of a shard's records by their keys; None if none were kept."""
    try:
        text = shard.with_suffix(HASHES).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    lines = (line.partition("  ") for line in text.split("\n") if line)
    return {key: digest for digest, _, key in lines}


def read_all(records: Records) -> Iterator[tuple[int, int, list[str]]]:
    """Read every record, on all cores; yields of each shard what it found.

    Yields:
        Its number of records; how many of them have a hash that was kept; and names of those that
        cannot be read or have another one.
    """

    def read(number: int) -> tuple[int, int, list[str]]:
        shard = records.index.shards[number]
        hashes, faults = kept_hashes(records.folder / shard["name"]), list[str]()
        first = records.ends[number] - shard["count"]
        for i in range(first, records.ends[number]):
            try:
                record: dict[str, Any] = records.record(i)
                parts = {n: v for n, v in record.items() if isinstance(v, bytes)}
                wrong = hashes is not None and hashes.get(record["key"]) != record_hash(parts)
            except DataError:
                wrong = True
            if wrong:
                faults.append(records.filenames[i])
        missing = 0 if hashes is None else len(hashes) - shard["count"]
        faults += [f"{shard['name']}: {missing} records are missing"] if missing > 0 else []
        return shard["count"], 0 if hashes is None else shard["count"], faults

    yield from on_all_cores(read, len(records.index.shards), len(records.index.shards) > 1)
