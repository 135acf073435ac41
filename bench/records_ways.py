"""One process of bench/records.py, which prints its figures as a line of JSON.

python bench/records_ways.py imagefolder|records|webdataset|index FOLDER
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from torch.utils.data import DataLoader

from core.data.fetching import exact
from utils import Records, read_image

WORKERS, BATCH = 2, 64


def decode(record: dict[str, Any]) -> tuple[Any, int]:
    """Return a picture and its label."""
    return read_image(record["png"]), record["label"]


def decode_sample(sample: dict[str, Any]) -> tuple[Any, int]:
    """Return the same of a sample of webdataset."""
    return read_image(sample["png"]), int(sample["cls"])


def batches(kind: str, folder: Path) -> Any:
    """Return the batches of an epoch, shuffled and decoded by two workers."""
    if kind == "records":
        records = Records(folder, decode)
        loader = DataLoader(records, BATCH, shuffle=True, num_workers=WORKERS)
        return exact(loader, 0, train=True).epoch(0)
    if kind == "webdataset":
        import webdataset

        paths = sorted(map(str, folder.glob("*.tar")))
        data = webdataset.WebDataset(paths, shardshuffle=len(paths), seed=0)
        return DataLoader(data.shuffle(1000).map(decode_sample), BATCH, num_workers=WORKERS)
    from torchvision import datasets

    own = datasets.ImageFolder(folder, loader=read_image)
    return DataLoader(own, BATCH, shuffle=True, num_workers=WORKERS)


def one_epoch(kind: str, folder: Path) -> dict[str, float]:
    """Read an epoch; returns its figures, imports not counted."""
    if kind == "imagefolder":
        import torchvision  # noqa: F401 # takes seconds
    elif kind == "webdataset":
        import webdataset  # noqa: F401
    began, count, first = time.perf_counter(), 0, 0.0
    for _, labels in batches(kind, folder):
        first = first or time.perf_counter() - began
        count += len(labels)
    took = time.perf_counter() - began
    ending = "*.png" if kind == "imagefolder" else "*.tar"
    files = sum(1 for _ in folder.rglob(ending))
    return {"pictures/s": count / took, "epoch, s": took, "first, s": first, "files": files}


def large_index(folder: Path) -> dict[str, float]:
    """Open an index, and read 100,000 records in a shuffled order."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before, began = resident(), time.perf_counter()
    records = Records(folder)
    took, opened = time.perf_counter() - began, resident()
    order = records.epoch_order(0, 0)
    ordered = resident()
    for i in order[:100_000].tolist():
        records.record(i)
    sizes = sum(part.nbytes for part in records.index[1:])
    megabytes = [opened - before, ordered - opened, resident() - ordered, sizes]
    names = ["opened, MB", "order, MB", "touched, MB", "index, MB"]
    figures = dict(zip(names, (each / 1e6 for each in megabytes), strict=True))
    return {"opened, ms": took * 1e3, **figures}


if __name__ == "__main__":
    way, path = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(large_index(path) if way == "index" else one_epoch(way, path)))
