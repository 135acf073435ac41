"""Makes the CIFAR-10 data set: the official binary version, or images drawn in its format.

    python data/cifar10/prepare.py --download              # 162 MB from its author's page
    python data/cifar10/prepare.py --source ARCHIVE        # or a folder: what you have already
    python data/cifar10/prepare.py                         # draws shapes instead

A file is records of 3073 bytes: the label, then the red, green and blue plane of 32x32 pixels.
"""

import argparse
import gzip
import hashlib
import http.client
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root

from core.base.errors import DataError
from core.machine.script import reports_errors
from data.cifar10.draw import SHAPES, draw
from data.prepared import field, staging, write_croissant, write_manifest
from model.cifar10.data_loader import (
    NAMES_FILE,
    RECORD,
    TEST_FILES,
    TRAIN_FILES,
    read_names,
    read_records,
)

SCRIPT = "data/cifar10/prepare.py"
OUTPUT = Path("data/cifar-10-batches-bin")
SEED, COUNT = 230, 12_000
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as on https://www.cs.toronto.edu/~kriz/cifar.html
FOLDER = "cifar-10-batches-bin"  # in the archive
FILES = [*TRAIN_FILES, *TEST_FILES]
SECONDS = 60  # without a byte before a download is given up
FAILURES = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(url: str, md5: str, path: Path) -> None:
    """Fetch the archive; DataError if it cannot be had, or is not the one of that MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as reply, path.open("wb") as file:
            total = int(reply.headers.get("Content-Length", 0)) or None
            bar = tqdm(
                total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
            )
            with bar:
                while part := reply.read(2**16):
                    file.write(part)
                    digest.update(part)
                    bar.update(len(part))
    except (*FAILURES, ValueError) as error:
        raise DataError(
            f"{url}: {error}\nFetch it in another way, and give the file as --source."
        ) from error
    if digest.hexdigest() != md5:
        raise DataError(
            f"{url}: {path.stat().st_size} bytes of MD5 {digest.hexdigest()}, want {md5}"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Copy the data files of an archive into a folder; no name in the archive is used as a path.

    Raises:
        DataError: it is no whole archive, or a file is missing from it.
    """
    try:
        with tarfile.open(archive) as tar:
            members = {member.name.removeprefix("./"): member for member in tar}
            for name in [*FILES, NAMES_FILE]:
                member = members.get(f"{FOLDER}/{name}")
                if member is None or not member.isfile():
                    raise DataError(f"{archive}: holds no file {FOLDER}/{name}")
                source = tar.extractfile(member)
                assert source is not None
                with source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: not a whole tar archive ({error})") from error


def copy(source: Path, folder: Path) -> None:
    """Copy the data files of a folder, or of `cifar-10-batches-bin` in it, into another."""
    inner = source / FOLDER
    source = inner if inner.is_dir() else source
    for name in [*FILES, NAMES_FILE]:
        if not (source / name).is_file():
            raise DataError(f"{source / name}: no such file")
        shutil.copyfile(source / name, folder / name)


def draw_all(folder: Path, count: int, seed: int) -> None:
    """Write six files of as many drawn images each, of every shape as many, in mixed order."""
    each = count // len(FILES)
    bar = tqdm(total=count, unit="image", disable=not sys.stderr.isatty(), leave=False)
    with bar:
        for number, name in enumerate(FILES):
            labels = np.arange(each, dtype=np.uint8) % len(SHAPES)
            np.random.default_rng([seed, number]).shuffle(labels)
            records = np.empty((each, RECORD), np.uint8)
            records[:, 0] = labels
            for i in range(each):
                records[i, 1:] = draw(int(labels[i]), seed, number * each + i).ravel()
                bar.update()
            records.tofile(folder / name)
    (folder / NAMES_FILE).write_text("\n".join(SHAPES) + "\n", encoding="utf-8", newline="\n")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a usage error ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Make the CIFAR-10 data set.")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--source", type=Path, help="archive or folder of the binary version")
    origin.add_argument("--download", action="store_true", help="fetch the official archive")
    parser.add_argument("--url", default=URL, help="of a mirror, for --download")
    parser.add_argument("--md5", default=MD5, help="of the archive at --url")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--count", type=int, help=f"images to draw, default: {COUNT}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed: found {args.seed}, want 0 or more")
    if args.source and not args.source.exists():
        parser.error(f"--source: {args.source}: no such archive or folder")
    if (args.url, args.md5) != (URL, MD5) and not args.download:
        parser.error("--url and --md5 go with --download")
    if args.count is not None and (args.source or args.download):
        parser.error("--count is for drawn images and goes with neither --source nor --download")
    args.count = COUNT if args.count is None else args.count
    if args.count < 60 or args.count % 60:
        parser.error(f"--count: found {args.count}, want a multiple of 60: six files, ten shapes")
    return args


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set. Exit code 1: the data or the disk prevent it; 2: the command line."""
    args, start = parse_arguments(argv), time.perf_counter()
    generated = not (args.source or args.download)
    with staging(args.output, args.source) as folder:
        if args.download:
            description = f"CIFAR-10 (Krizhevsky 2009), binary version, from {args.url}"
            with tempfile.TemporaryDirectory() as temporary:
                archive = Path(temporary) / "cifar-10-binary.tar.gz"
                download(args.url, args.md5, archive)
                unpack(archive, folder)
        elif args.source:
            description = "images in the format of CIFAR-10's binary version, from a copy at hand"
            (copy if args.source.is_dir() else unpack)(args.source, folder)
        else:
            description = f"shapes drawn by {SCRIPT}, seed {args.seed}: not CIFAR-10"
            draw_all(folder, args.count, args.seed)
        sizes = [len(read_records(folder / name)) for name in FILES]
        read_names(folder / NAMES_FILE)
        seed = args.seed if generated else None
        write_manifest(folder, SCRIPT, description, generated=generated, seed=seed)
        about = f"records of {RECORD} bytes: the label, then the planes of 32x32 pixels"
        records = {
            Path(name).stem: [field("records", "Text", about, name, "content")] for name in FILES
        }
        records["classes"] = [field("class", "Text", "by number", NAMES_FILE, "lines")]
        write_croissant(folder, "CIFAR-10" if not generated else "Drawn shapes", records)
    kind = "drawn images" if generated else "images"
    print(
        f"wrote {sum(sizes)} {kind} ({sum(sizes[:-1])} for training and validation, {sizes[-1]} "
        f"for testing) to {args.output} in {time.perf_counter() - start:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
