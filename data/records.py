"""Packs files into shards, which are read faster than millions of files: utils.Records reads them.

    python data/records.py pack PHOTOS --output data/photos/train    # PHOTOS/CLASS/*.jpg
    python data/records.py pack photos.csv --output data/photos/train    # lines FILE,LABEL
    python data/records.py list data/photos/train
    python data/records.py verify data/photos/train
    python data/records.py unpack data/photos/train --output PHOTOS

A record is a file and its label, in uncompressed .tar archives as WebDataset reads them. Files are
mixed by a seed before they are divided into shards. Beside each shard stands a hash of every
record. The same command goes on with what a kill has cut off.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import random
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository's root

from core.base.errors import DataError, UsageError, listed, plural
from core.base.files import replacing, write_json, write_text
from core.data.images import PICTURES
from core.data.records import Records
from core.data.records_hashes import HASHES, read_all, record_hash
from core.data.workers import on_all_cores
from core.machine.locks import one_writer
from core.machine.script import reports_errors
from data.prepared import MANIFEST, file_sha256, read_manifest

SCRIPT, PLAN = "data/records.py", "records.json"


class File(NamedTuple):
    """A file to pack."""

    path: Path
    key: str
    label: int
    size: int


def find_files(source: Path) -> tuple[list[File], list[str]]:
    """Return the files of a folder of class folders, or of a CSV, and the names of the classes.

    Labels that are whole numbers stay what they are; of others the classes are numbered by name.
    """
    if source.suffix.lower() == ".csv":
        found = list(read_csv(source))
    elif source.is_dir():
        inside = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in PICTURES)
        names = [path.relative_to(source) for path in inside]
        found = [(name, name.parts[0]) for name in names if len(name.parts) > 1]
        if not found:
            kinds = ", ".join(PICTURES)
            raise DataError(f"{source}: no pictures ({kinds}) in folders of classes")
        if left := len(names) - len(found):
            print(f"warning: {plural(left, 'picture is', 'pictures are')} in no class's folder")
    else:
        raise UsageError(f"{source}: want a folder, or a table that ends with .csv")
    labels = {label for _, label in found}
    whole = all(label.isascii() and label.isdecimal() for label in labels)
    classes = [] if whole else sorted(labels)
    home, files = source if source.is_dir() else source.parent, dict[str, File]()
    for name, label in found:
        key, path = name.with_suffix("").as_posix().replace(".", "_"), home / name
        if key in files:
            raise DataError(f"{path} and {files[key].path}: both would get the key {key}")
        if name.is_absolute() or ".." in name.parts or not name.suffix or not path.is_file():
            raise DataError(f"{path}: want a file with an ending, in the folder {home}")
        number = int(label) if whole else classes.index(label)
        files[key] = File(path, key, number, path.stat().st_size)
    return list(files.values()), classes


def read_csv(source: Path) -> Iterator[tuple[Path, str]]:
    """Yield names and labels of a table, whose first line names its columns."""
    with source.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        next(rows, None)
        for row in rows:
            if len(row) != 2 or not all(row):
                raise DataError(f"{source}, line {rows.line_num}: found {row}, want FILE,LABEL")
            yield Path(row[0]), row[1]


def divide(files: list[File], limit: float, seed: int) -> list[list[File]]:
    """Mix files, and divide them into shards of about `limit` bytes."""
    random.Random(seed).shuffle(files)
    shards: list[list[File]] = [[]]
    size = 0.0
    for file in files:
        if shards[-1] and size + file.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(file)
        size += file.size
    return shards


def write_shard(files: list[File], target: Path) -> int:
    """Write a shard and its hashes, each record read again from the disk; returns their number.

    The hashes come last: a shard that has them is whole.
    """
    hashes = {}
    with replacing(target) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for each in files:
                content = each.path.read_bytes()
                part = each.path.suffix[1:].lower()
                parts = {part: content, "cls": str(each.label).encode()}
                hashes[each.key] = record_hash(parts)
                for name, value in parts.items():
                    info = tarfile.TarInfo(f"{each.key}.{name}")
                    info.size = len(value)
                    archive.addfile(info, io.BytesIO(value))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # else the memory would be read, not the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with tarfile.open(file.name, "r:") as archive:
            members = iter(archive)
            for each in files:
                pair = {i.name: archive.extractfile(i) for i in (next(members), next(members))}
                parts = {n.rpartition(".")[2]: part.read() for n, part in pair.items() if part}
                if record_hash(parts) != hashes[each.key]:
                    raise DataError(f"{target}: {each.key} was not written as it is: a bad disk?")
    write_text(target.with_suffix(HASHES), "".join(f"{h}  {k}\n" for k, h in hashes.items()))
    return len(files)


def pack(source: Path, output: Path, megabytes: float, seed: int) -> None:
    """Write what is missing of the shards of a source into a folder."""
    files, classes = find_files(source)
    shards = divide(files, megabytes * 1e6, seed)
    facts = [[(file.key, file.label, file.size) for file in shard] for shard in shards]
    plan = {"made_by": SCRIPT, "records": len(files), "classes": classes, "seed": seed}
    plan["plan"] = hashlib.sha256(repr(facts).encode()).hexdigest()
    output.mkdir(parents=True, exist_ok=True)
    with one_writer(output):
        there = [path for path in output.iterdir() if not path.name.startswith(".")]
        if there and read_plan(output) != plan:
            told = f"{output}: holds other files, or shards of other data or options"
            raise UsageError(f"{told}; choose another --output")
        write_json(output / PLAN, plan)
        for left in output.glob(".*.tmp"):  # of a run that was killed
            left.unlink()
        names = [output / f"{number:06d}.tar" for number in range(len(shards))]
        missing = [
            i for i, n in enumerate(names) if not (n.exists() and n.with_suffix(HASHES).exists())
        ]
        if len(missing) < len(shards):
            print(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
        done = on_all_cores(
            lambda i: write_shard(shards[missing[i]], names[missing[i]]), len(missing), True
        )
        with tqdm(total=sum(len(shards[i]) for i in missing), unit=" records") as bar:
            for count in done:
                bar.update(count)
        origin = read_manifest(source if source.is_dir() else source.parent)
        described = origin.get("description") or f"{len(files)} files of {source.name}"
        manifest = {"made_by": SCRIPT, "generated": origin.get("generated", False)}
        manifest |= {"description": described, "seed": seed, "files": {}}
        if missing or not read_manifest(output):
            listed_files = [PLAN, *(n.name for n in names), *(n.stem + HASHES for n in names)]
            manifest["files"] = {name: file_sha256(output / name) for name in listed_files}
            write_json(output / MANIFEST, manifest)
    print(f"{output}: {len(files)} records in {plural(len(shards), 'shard', 'shards')}, verified")


def read_plan(folder: Path) -> dict[str, Any]:
    """Return what `pack` noted of a folder; {} if it did not make it."""
    try:
        return dict(json.loads((folder / PLAN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def unpack(folder: Path, output: Path) -> None:
    """Write the files of all records below a folder, and their labels into labels.csv there."""
    records = Records(folder)
    if records.kind != ".tar":
        raise UsageError(f"{folder}: want .tar shards; NumPy and Arrow read {records.kind} files")
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output}: not empty; choose another --output")
    rows = []
    for record in tqdm(
        map(records.record, range(len(records))), total=len(records), unit=" records"
    ):
        label, key = record.pop("label", ""), Path(record.pop("key"))
        if key.is_absolute() or ".." in key.parts:
            raise DataError(f"{folder}: the key {key} leads out of {output}")
        (output / key).parent.mkdir(parents=True, exist_ok=True)
        for part, content in record.items():
            if part != "cls":
                (output / f"{key}.{part}").write_bytes(content)
                rows.append((f"{key}.{part}", label))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("file", "label"), *rows])
    write_text(output / "labels.csv", table.getvalue())
    print(f"{output}: {plural(len(records), 'record', 'records')}")


def show(folder: Path) -> None:
    """Print what lies in the shards of a folder."""
    records = Records(folder)
    for shard in records.index.shards:
        parts = "; ".join(f"{count} of {parts}" for parts, (count, _) in shard["parts"].items())
        size = f"{shard['state'][1]:,} bytes"
        print(f"{shard['name']:<20}{shard['count']:>10} records{size:>22}  {parts}")
    print(f"{len(records)} records, an index of {records.index.nbytes / 1e6:.1f} MB")
    if records.labels is not None:
        classes = read_plan(folder).get("classes")
        for label, count in sorted(Counter(records.labels.tolist()).items()):
            print(f"  label {label}{f' {classes[label]}' if classes else ''}: {count}")


def verify(folder: Path) -> None:
    """Read every record, and hold it against its hash; DataError names those that differ."""
    records, faults, hashed = Records(folder), list[str](), 0
    with tqdm(total=len(records), unit=" records") as bar:
        for count, known, wrong in read_all(records):
            bar.update(count)
            hashed += known
            faults += wrong
    if faults:
        raise DataError(f"{len(faults)} of {len(records)} records are damaged:\n{listed(faults)}")
    told = f"{hashed} have the hash of when they were packed"
    print(f"{folder}: {len(records)} records were read, {told}")


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pack", "unpack", "list", "verify"):
        command = commands.add_parser(name)
        command.add_argument("source", type=Path, help="folder of classes, or a CSV; of shards")
        if name in ("pack", "unpack"):
            command.add_argument("--output", type=Path, required=True, help="folder to write into")
        if name == "pack":
            command.add_argument("--shard_mb", type=float, default=128, help="size of a shard")
            command.add_argument("--seed", type=int, default=230, help="of the order of records")
    return parser.parse_args(argv)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit code 1: the data or the disk prevent it; 2: the command line."""
    args = get_args(argv)
    if args.command == "pack":
        pack(args.source, args.output, args.shard_mb, args.seed)
    elif args.command == "unpack":
        unpack(args.source, args.output)
    else:
        {"list": show, "verify": verify}[args.command](args.source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
