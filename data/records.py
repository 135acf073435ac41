"""Packs files into shards, which are read faster than millions of files: utils.Records reads them.

    python data/records.py pack PHOTOS --output data/photos/train    # PHOTOS/CLASS/*.jpg
    python data/records.py pack photos.csv --output data/photos/train    # lines FILE,LABEL
    python data/records.py list data/photos/train
    python data/records.py verify data/photos/train
    python data/records.py unpack data/photos/train --output PHOTOS

A record is a file and its label, in uncompressed .tar archives as WebDataset reads them, mixed by a
seed. Beside each shard stands a hash of every record. After a kill the same command goes on.
"""

import argparse
import csv
import hashlib
import io
import os
import random
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository's root

from core.base.errors import DataError, UsageError, listed, plural, printable
from core.base.files import replacing, write_json
from core.data.images import PICTURES
from core.data.records import Records
from core.data.records_hashes import HASHES, read_all, record_hash
from core.data.records_index import PACKER, PLAN, read_plan
from core.data.workers import on_all_cores
from core.machine.locks import one_writer
from core.machine.script import reports_errors
from data.prepared import read_manifest, write_manifest

File = tuple[Path, str, int, int]  # its key, label and size behind it


def find_names(source: Path) -> list[tuple[Path, str]]:
    """Return names and labels of the files in a folder of class folders, or of a CSV."""
    if source.suffix.lower() == ".csv":
        with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            table = csv.reader(lines)
            rows = [(row, table.line_num) for row in table][1:]
        for row, number in rows:
            if len(row) != 2 or not all(row):
                raise DataError(f"{source}, line {number}: found {row}, want FILE,LABEL")
        return [(Path(name), label) for (name, label), _ in rows]
    if not source.is_dir():
        raise UsageError(f"{source}: want a folder, or a table that ends with .csv")
    paths = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in PICTURES)
    names = [path.relative_to(source) for path in paths]
    found = [(name, name.parts[0]) for name in names if len(name.parts) > 1]
    if left := len(names) - len(found):
        print(f"warning: {plural(left, 'picture is', 'pictures are')} in no class's folder")
    return found


def find_files(source: Path, classes: list[str] | None) -> tuple[list[File], list[str]]:
    """Return the files of a source, and the names of the classes, numbered as in `classes`."""
    found = find_names(source)
    if not found:
        kinds = ", ".join(PICTURES)
        raise DataError(f"{source}: no files; want a table's lines, or {kinds} in class folders")
    labels = sorted({label for _, label in found})
    if classes is None:  # whole numbers stay what they are
        classes = [] if all(re.fullmatch(r"-?\d{1,18}", label) for label in labels) else labels
    elif new := sorted({*labels} - {*classes}):
        raise DataError(f"{source}: the class {new[0]} is not among {', '.join(classes)}")
    home, files = source if source.is_dir() else source.parent, dict[str, File]()
    for name, label in found:
        key, path = name.with_suffix("").as_posix().replace(".", "_"), home / name
        if key in files:
            raise DataError(f"{path} and {files[key][0]}: both would get the key {key}")
        if name.is_absolute() or ".." in name.parts or "\n" in key or not path.is_file():
            raise DataError(f"{path}: want a file in the folder {home}, named in one line")
        if name.suffix.lower() in ("", ".cls", ".key", ".label"):
            raise DataError(f"{path}: want an ending, other than .cls, .key and .label")
        number = classes.index(label) if classes else int(label)
        files[key] = path, key, number, path.stat().st_size
    return list(files.values()), classes


def write_shard(files: list[File], target: Path) -> int:
    """Write a shard and its hashes, each record read again from the disk; returns their number.

    The hashes come last: a shard that has them is whole.
    """
    hashes = {}
    with replacing(target) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for path, key, label, _ in files:
                parts = {path.suffix[1:].lower(): path.read_bytes(), "cls": b"%d" % label}
                hashes[key] = record_hash(parts)
                for name, content in parts.items():
                    info = tarfile.TarInfo(f"{key}.{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # else the memory would be read, not the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with tarfile.open(file.name, "r:") as archive:
            pairs = zip(*[iter(archive)] * 2, strict=True)
            for (key, kept), pair in zip(hashes.items(), pairs, strict=True):
                read = {i.name.rpartition(".")[2]: archive.extractfile(i) for i in pair}
                if record_hash({name: part and part.read() for name, part in read.items()}) != kept:
                    raise DataError(f"{target}: {key} was not written as it is: a bad disk?")
    with replacing(target.with_suffix(HASHES)) as file:
        file.write(os.fsencode("".join(f"{kept}  {key}\n" for key, kept in hashes.items())))
    return len(files)


def pack(source: Path, output: Path, megabytes: float, seed: int, like: Path | None) -> None:
    """Write what is missing of the shards of a source into a folder."""
    if like and not read_plan(like).get("classes"):
        raise UsageError(f"--classes_of {like}: want shards that were packed by class names")
    files, classes = find_files(source, read_plan(like)["classes"] if like else None)
    random.Random(seed).shuffle(files)
    before = accumulate((size for *_, size in files), initial=0)
    cut = groupby(zip(files, before, strict=False), lambda each: each[1] // (megabytes * 1e6))
    shards = [[file for file, _ in group] for _, group in cut]
    facts = [[file[1:] for file in shard] for shard in shards]
    plan = {"made_by": PACKER, "records": len(files), "classes": classes, "seed": seed}
    plan["plan"] = hashlib.sha256(repr(facts).encode()).hexdigest()
    output.mkdir(parents=True, exist_ok=True)
    with one_writer(output):
        there = [path for path in output.iterdir() if not path.name.startswith(".")]
        if there and read_plan(output) != plan:
            told = f"{output}: holds other files, or shards of other data or options"
            raise UsageError(f"{told}; choose another --output")
        write_json(output / PLAN, plan)
        for path in output.glob(".*.tmp"):  # of a run that was killed
            path.unlink()
        paths = [output / f"{number:06d}.tar" for number in range(len(shards))]
        left = [i for i, p in enumerate(paths) if not {p, p.with_suffix(HASHES)} <= {*there}]
        if len(left) < len(shards):
            print(f"{len(shards) - len(left)} of {len(shards)} shards are there already")
        with tqdm(total=sum(len(shards[i]) for i in left), unit=" records") as bar:
            work = [(shards[i], paths[i]) for i in left]
            for count in on_all_cores(lambda i: write_shard(*work[i]), len(left), True):
                bar.update(count)
        if left or not read_manifest(output):
            origin = read_manifest(source if source.is_dir() else source.parent)
            told = origin.get("description") or f"{len(files)} files of {source.name}"
            drawn = origin.get("generated", False)
            write_manifest(output, PACKER, told, generated=drawn, seed=seed)
    print(f"{output}: {len(files)} records in {plural(len(shards), 'shard', 'shards')}, verified")
    if classes:
        print("classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(classes)))


def unpack(folder: Path, output: Path) -> None:
    """Write the files of all records below a folder, and their labels into labels.csv there."""
    records = Records(folder)
    if records.kind != ".tar":
        raise UsageError(f"{folder}: want .tar shards; NumPy and Arrow read {records.kind} files")
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output}: not empty; choose another --output")
    rows = [("file", "label")]
    for i in tqdm(range(len(records)), unit=" records"):
        record, key = records.record(i), Path(records.place(i)[1])
        if key.is_absolute() or ".." in key.parts:
            raise DataError(f"{folder}: the key {key} leads out of {output}")
        (output / key).parent.mkdir(parents=True, exist_ok=True)
        for part, content in record.items():
            if isinstance(content, bytes) and part != "cls":
                rows.append((f"{key}.{part}", record.get("label", "")))
                with (output / rows[-1][0]).open("xb") as file:  # not over that of another shard
                    file.write(content)
    with (output / "labels.csv").open(
        "x", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(f"{output}: {plural(len(records), 'record', 'records')}")


def show(folder: Path) -> None:
    """Print what lies in the shards of a folder."""
    records = Records(folder)
    for shard in records.index.shards:
        parts = "; ".join(f"{count} of {kind}" for kind, (count, _) in shard["parts"].items())
        size = f"{shard['state'][0][1]:,} bytes"
        print(f"{shard['name']:<20}{shard['count']:>10} records{size:>22}  {printable(parts)}")
    index = sum(part.nbytes for part in records.index[1:])
    print(f"{len(records)} records, an index of {index:,} bytes")
    if records.labels is not None:
        names = dict(enumerate(read_plan(folder).get("classes", ())))
        for label, count in sorted(Counter(records.labels.tolist()).items()):
            print(f"  label {label} {names.get(label, '')}".rstrip() + f": {count}")


def verify(folder: Path) -> None:
    """Read every record, and hold it against its hash; DataError names those that differ."""
    records = Records(folder)
    with tqdm(total=len(records), unit=" records") as bar:
        hashed, faults = read_all(records, bar.update)
    if faults:
        raise DataError(f"{len(faults)} of {len(records)} records are damaged:\n{listed(faults)}")
    told = f"{hashed} have the hash of when they were packed"
    print(f"{folder}: {len(records)} records were read, {told}")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit code 1: the data or the disk prevent it; 2: the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=["pack", "unpack", "list", "verify"])
    parser.add_argument("source", type=Path, help="folder of classes, or a CSV; of shards")
    parser.add_argument("--output", type=Path, help="folder that pack or unpack writes into")
    parser.add_argument("--shard_mb", type=float, default=128, help="pack: megabytes of a shard")
    parser.add_argument("--seed", type=int, default=230, help="pack: of the order of records")
    told = "pack: number classes as in these shards, such as those of train"
    parser.add_argument("--classes_of", type=Path, metavar="FOLDER", help=told)
    args = parser.parse_args(argv)
    if args.command in ("list", "verify"):
        {"list": show, "verify": verify}[args.command](args.source)
    elif args.output is None or not args.shard_mb > 0:
        parser.error(f"{args.command} needs --output FOLDER, and --shard_mb above 0")
    elif args.command == "unpack":
        unpack(args.source, args.output)
    else:
        pack(args.source, args.output, args.shard_mb, args.seed, args.classes_of)
    return 0


if __name__ == "__main__":
    sys.exit(main())
