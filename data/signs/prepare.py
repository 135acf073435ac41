"""Makes the hand-signs data set: pictures of 64x64 pixels in {train,val,test}_signs/.

    python data/signs/prepare.py --source SIGNS   # from the class's photographs
    python data/signs/prepare.py                  # draws hands instead

The photographs lie in SIGNS/train_signs/ and SIGNS/test_signs/ and are named {label}_IMG_{id}.jpg.
One in five of the training photographs of each label is set aside for validation.
"""

import argparse
import hashlib
import itertools
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root

from core.base.errors import DataError, listed
from core.data.folder import OF_SYSTEMS
from core.data.images import PICTURES, open_resized
from core.machine.script import reports_errors
from data.prepared import field, repeated_pairs, staging, write_croissant, write_manifest
from data.signs.draw import SIZE, draw_sign

SCRIPT = "data/signs/prepare.py"
OUTPUT = Path("data/64x64_SIGNS")
SPLITS = ("train", "val", "test")
SEED = 230
NUM_LABELS, NUM_DRAWINGS = 6, 1200


class Picture(NamedTuple):
    """A picture to be made."""

    name: str  # below the output folder, such as "val_signs/3_IMG_5860.jpg"
    label: int
    origin: Path | int  # the photograph, or the drawing's number


def plan_photographs(source: Path, seed: int) -> list[Picture]:
    """Choose split and name of every photograph; DataError names those that do not fit."""
    if (source / "val_signs").exists():
        print(f"warning: {source}/val_signs is not read; a new val is split from train_signs")
    train, test = read_folder(source / "train_signs"), read_folder(source / "test_signs")
    by_label: dict[int, dict[bytes, list[Path]]] = defaultdict(dict)  # copies of a file together
    for label, path in train:
        content = hashlib.sha256(path.read_bytes()).digest()
        by_label[label].setdefault(content, []).append(path)
    faults = [
        f"label {label}: a single picture in train_signs, which cannot be split in two"
        for label, pictures in sorted(by_label.items())
        if len(pictures) == 1
    ]
    unseen = sorted({label for label, _ in test} - set(by_label))
    faults += [f"label {label}: in test_signs, but not in train_signs" for label in unseen]
    if faults:
        raise DataError(f"{source}: labels that do not fit:\n{listed(faults)}")
    chosen = [("test", label, path) for label, path in test]
    for label, pictures in by_label.items():
        groups = list(pictures.values())
        num_val = max(1, round(0.2 * len(groups)))
        order = np.random.default_rng([seed, label]).permutation(len(groups))
        for rank, position in enumerate(order):
            split = "val" if rank < num_val else "train"
            chosen += [(split, label, path) for path in groups[position]]
    return [Picture(f"{split}_signs/{path.stem}.jpg", label, path) for split, label, path in chosen]


def read_folder(folder: Path) -> list[tuple[int, Path]]:
    """Labels and paths of a folder's photographs, sorted by name; hidden files are skipped."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want train_signs and test_signs in the source")
    paths = sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in OF_SYSTEMS
    )
    if not paths:
        raise DataError(f"{folder}: no pictures; want files such as 3_IMG_5860.jpg")
    pictures, faults = [], []
    first: dict[str, str] = {}  # on some disks names that differ in case only are the same
    for path in paths:
        label, underscore, rest = path.stem.partition("_")
        if not path.is_file() or path.suffix.lower() not in PICTURES:
            faults.append(f"{path.name}: not a picture; want {', '.join(PICTURES)}")
        elif not (label.isascii() and label.isdecimal() and underscore and rest):
            faults.append(f"{path.name}: no label; want digits before the first underscore")
        elif path.name != first.setdefault(path.stem.lower(), path.name):
            faults.append(f"{path.name}: would get the same name as {first[path.stem.lower()]}")
        else:
            pictures.append((int(label), path))
    if faults:
        raise DataError(f"{folder}: files that do not fit:\n{listed(faults)}")
    return pictures


def plan_drawings(count: int) -> list[Picture]:
    """As many of every label: a tenth for testing, a fifth of the others for validation."""
    each = count // NUM_LABELS
    num_test = max(1, round(0.1 * each))
    num_val = max(1, round(0.2 * (each - num_test)))
    splits = ["test"] * num_test + ["val"] * num_val + ["train"] * (each - num_test - num_val)
    return [
        Picture(f"{split}_signs/{label}_IMG_{number:04d}.jpg", label, number)
        for number, (split, label) in enumerate(itertools.product(splits, range(NUM_LABELS)))
    ]


def make_picture(picture: Picture, folder: Path, seed: int) -> str:
    """Write one picture below `folder`; the SHA-256 of its pixels. DataError: unreadable."""
    if isinstance(picture.origin, int):
        image = draw_sign(picture.label, seed, picture.origin)
    else:
        image = open_resized(picture.origin, (SIZE, SIZE))
        image.info.clear()  # Pillow would copy the camera's comments
    image.save(folder / picture.name, quality=95, subsampling=0)
    return hashlib.sha256(image.tobytes()).hexdigest()


def make_pictures(pictures: list[Picture], folder: Path, seed: int) -> dict[str, str]:
    """Make all pictures, several at a time: name -> SHA-256 of the pixels."""
    for split in SPLITS:
        (folder / f"{split}_signs").mkdir()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # a large photograph takes 60 MB
    hashes, faults = {}, []
    try:
        jobs = {each.name: pool.submit(make_picture, each, folder, seed) for each in pictures}
        for name, job in tqdm(jobs.items(), unit="picture", disable=not sys.stderr.isatty()):
            try:
                hashes[name] = job.result()
            except DataError as error:
                faults.append(str(error))
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        raise DataError(f"pictures that cannot be used:\n{listed(sorted(faults))}")
    return hashes


def fields(place: str) -> list[dict[str, object]]:
    """Return what croissant.json says of the pictures in a folder."""
    label = "the number that the hand shows"
    return [
        field("image", "ImageObject", f"{SIZE}x{SIZE} pixels, RGB", place, "content"),
        field("label", "Integer", label, place, "filename", r"^(\d+)_"),
    ]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a usage error ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Make the hand-signs data set.")
    parser.add_argument("--source", type=Path, help="folder of photographs; without it, draw hands")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--count", type=int, help=f"hands to draw, default: {NUM_DRAWINGS}")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed: found {args.seed}, want 0 or more")
    if args.source and not args.source.is_dir():
        parser.error(f"--source: {args.source} is not a folder")
    if args.source and args.count is not None:
        parser.error("--count is for drawn hands and does not go with --source")
    args.count = NUM_DRAWINGS if args.count is None else args.count
    if args.count < 3 * NUM_LABELS or args.count % NUM_LABELS:
        parser.error(f"--count: found {args.count}, want a multiple of {NUM_LABELS} from 18 on")
    return args


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set. Exit code 1: the data or the disk prevent it; 2: the command line."""
    args, start = parse_arguments(argv), time.perf_counter()
    if args.source:
        kind, description = "photographs", f"photographs of hands, split by seed {args.seed}"
        pictures = plan_photographs(args.source, args.seed)
    else:
        kind, maker = "drawings", f"{SCRIPT}, seed {args.seed}"
        description = f"hand signs drawn by {maker}: not photographs"
        pictures = plan_drawings(args.count)
    with staging(args.output, args.source) as folder:
        hashes = make_pictures(pictures, folder, args.seed)
        write_manifest(folder, SCRIPT, description, generated=not args.source, seed=args.seed)
        write_croissant(folder, "Hand signs", {name: fields(f"{name}_signs") for name in SPLITS})
    if pairs := repeated_pairs(hashes):
        print(f"warning: pairs of the same picture in two splits: {len(pairs)}\n{listed(pairs)}")
    sizes = Counter(picture.name.split("_")[0] for picture in pictures)
    print(
        f"wrote {len(pictures)} {kind} ({sizes['train']} train, {sizes['val']} val, "
        f"{sizes['test']} test) to {args.output} in {time.perf_counter() - start:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
