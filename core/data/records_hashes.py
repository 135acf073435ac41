"""Hashes of records, which data/records.py keeps beside the shards that it packs."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from core.base.errors import DataError
from core.data.records import Records
from core.data.workers import on_all_cores

HASHES = ".sha256"  # beside NAME.tar: lines "HASH  KEY", one a record


def record_hash(parts: Mapping[str, object]) -> str:
    """Return a SHA-256 of a record's parts that are bytes, by their names."""
    digest = hashlib.sha256()
    for name, content in sorted(parts.items()):
        if isinstance(content, bytes):
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def kept_hashes(shard: Path) -> dict[str, str]:
    """Return the hashes of a shard's records by their keys; {} if none were kept."""
    if not (path := shard.with_suffix(HASHES)).exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return {key: digest for digest, _, key in (line.partition("  ") for line in lines[:-1])}


def read_all(records: Records, done: Callable[[int], object] = id) -> tuple[int, list[str]]:
    """Read every record, on all cores; `done` is called with the number of each shard's.

    Returns:
        How many records have a hash that was kept; and names of those that cannot be read or have
        another one.
    """
    shards, faults, hashed = records.index.shards, list[str](), 0

    def read(number: int) -> tuple[int, int, list[str]]:
        count, hashes = shards[number]["count"], kept_hashes(path := records.paths[number])
        wrong, end = list[str](), records.ends[number]
        for i in range(end - count, end):
            try:
                found = hashes and record_hash(records.record(i)) != hashes.get(records.place(i)[1])
            except (DataError, OSError):
                found = True
            wrong += [records.filenames[i]] if found else []
        if len(hashes) > count:
            wrong.append(f"{path.name}: {len(hashes) - count} records are missing")
        return count, min(len(hashes), count), wrong

    for count, known, wrong in on_all_cores(read, len(shards), len(shards) > 1):
        hashed, faults = hashed + known, faults + wrong
        done(count)
    return hashed, faults
