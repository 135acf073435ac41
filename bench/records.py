"""Records in shards beside plain files, sequential reading and webdataset; an index of 10 million.

    python bench/records.py [--webdataset PYTHON]

All data are made up here. PYTHON is an interpreter that has the package webdataset. The page cache
is dropped by posix_fadvise, file by file: what the disk itself keeps stays warm.
"""

import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, parser, seconds
from utils import Records, read_image

SIZE = 110_000  # bytes of a photograph
WINDOW, WORKERS, BATCH = 16, 2, 64


def write_shards(folder: Path, total: int, size: int, part: str, shards: int) -> Path:
    """Write shards of random bytes, `total` of them, with a label and 64 bytes of pixels each."""
    folder.mkdir(parents=True)
    rng, number = np.random.default_rng(0), 0
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as archive:
            for _ in range(total // size // shards):
                label = number % 3
                pixels = rng.integers(0, 80, 64).astype(np.uint8) + 60 * label
                parts = {"bin": pixels.astype(np.uint8).tobytes(), "cls": b"%d" % label}
                for name, content in (parts | {part: rng.bytes(size)}).items():
                    info = tarfile.TarInfo(f"{number:08d}.{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                number += 1
    return folder


def drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in folder.glob("*.tar"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_raw(folder: Path) -> None:
    """Read all files from their beginning, a mebibyte at a time."""
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb", buffering=0) as file:
            while file.read(2**20):
                pass


def reading(folder: Path, total: int, repeats: int) -> None:
    """Compare orders of reading, by one process, from the page cache and from the disk."""
    write_shards(folder, total, SIZE, "jpg", 16)
    plain, windowed = Records(folder), Records(folder, window=WINDOW)

    def read(records: Records, order: Iterable[int]) -> Callable[[], None]:
        def work() -> None:
            for i in order:
                records.record(i)

        return work

    ways = {
        "files, 1 MiB at a time": lambda: read_raw(folder),
        "records in order": read(plain, range(len(plain))),
        "full shuffle": read(plain, plain.epoch_order(0, 0).tolist()),
        f"windows of {WINDOW} blocks": read(windowed, windowed.epoch_order(0, 0).tolist()),
    }
    print(f"\n{len(plain)} records of {SIZE} bytes in 16 shards; {windowed.order_told(BATCH)}")
    for cache in ("warm", "cold"):
        took: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        read_raw(folder)
        for _ in range(repeats):
            for name, work in ways.items():
                if cache == "cold":
                    drop(folder)
                began = time.process_time()
                took[name].append(seconds(work))
                busy[name].append(time.process_time() - began)
        base = statistics.median(took["records in order"])
        for name, found in took.items():
            middle = statistics.median(found)
            rate, processor = total / middle / 1e6, total / statistics.median(busy[name]) / 1e6
            told = f"{rate:8.0f} MB/s, {processor:6.0f} MB a second of the processor"
            print(f"{cache}  {name:<26}{told}, {base / middle:.2f} of records in order", flush=True)


def decode(record: dict[str, Any]) -> tuple[Any, int]:
    """Return a picture and its label."""
    return read_image(record["png"]), record["label"]


def small_images(folder: Path, count: int, python: str | None, repeats: int) -> None:
    """Compare epochs of small pictures, in files and in shards, with two workers each."""
    from PIL import Image

    files, shards = folder / "files", folder / "shards"
    rng = np.random.default_rng(0)
    for i in range(count):
        path = files / f"{i % 10}" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(path, compress_level=1)
    command = [sys.executable, str(ROOT / "data/records.py"), "pack", str(files)]
    command += ["--shard_mb", "1"]  # webdataset needs a shard for each worker
    took = seconds(lambda: subprocess.run([*command, "--output", str(shards)], check=True))
    print(f"\n{count} pictures of 32x32 pixels; packing them took {took:.0f} s")
    ways = {"ImageFolder": [sys.executable, "imagefolder", str(files)]}
    ways["Records"] = [sys.executable, "records", str(shards)]
    if python is not None:
        ways["webdataset"] = [python, "webdataset", str(shards)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (interpreter, *words) in ways.items():
            printed = subprocess.run(
                [interpreter, __file__, "--epoch", *words],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found[name].append(json.loads(printed.splitlines()[-1]))
    for name, figures in found.items():
        middle = {key: statistics.median(each[key] for each in figures) for key in figures[0]}
        told = ", ".join(f"{key} {value:.4g}" for key, value in middle.items())
        print(f"{name:<12} {told}")


def one_epoch(kind: str, folder: str) -> dict[str, float]:
    """Read one epoch of pictures with two workers; returns what it took."""
    import torch
    from torch.utils.data import DataLoader

    began = time.perf_counter()
    if kind == "webdataset":
        import webdataset

        pattern = sorted(map(str, Path(folder).glob("*.tar")))
        data = webdataset.WebDataset(pattern, shardshuffle=len(pattern), seed=0)
        data = data.shuffle(1000).map(
            lambda sample: (read_image(sample["png"]), int(sample["cls"]))
        )
        loader: Any = DataLoader(data, BATCH, num_workers=WORKERS)
    elif kind == "imagefolder":
        from torchvision import datasets

        own = datasets.ImageFolder(folder, loader=read_image)
        loader = DataLoader(own, BATCH, shuffle=True, num_workers=WORKERS)
    else:
        from core.data.fetching import exact

        records = Records(folder, decode)
        loader = exact(DataLoader(records, BATCH, shuffle=True, num_workers=WORKERS), 0, train=True)
        loader = loader.epoch(0)
    count, first = 0, 0.0
    for _, labels in loader:
        first = first or time.perf_counter() - began
        count += len(labels)
    took = time.perf_counter() - began
    files = sum(len(names) for _, _, names in os.walk(folder)) if kind == "imagefolder" else 0
    files = files or len([*Path(folder).glob("*.tar")])
    torch.set_num_threads(1)
    rate = count / took
    return {"pictures/s": rate, "epoch, s": took, "first batch after, s": first, "files": files}


def capped(folder: Path, total: int) -> None:
    """Train on data ten times as large as the memory of the run's cgroup, page cache included."""
    data, run, shards = folder / "data", folder / "run", 8
    for split, size in (("train", total // shards), ("val", total // 100)):
        write_shards(data / split, size, SIZE, "jpg", 1)
    for number in range(1, shards):  # each takes its own part of the page cache
        shutil.copy(data / "train/0000.tar", data / f"train/{number:04d}.tar")
    run.mkdir()
    params = {"task": "tests.projects.shards", "width": 8, "dropout_rate": 0.0, "num_epochs": 1}
    params |= {"shuffle_window": 0, "num_workers": 0, "num_threads": 1, "learning_rate": 0.01}
    (run / "params.json").write_text(json.dumps(params | {"batch_size": BATCH}))
    group = Path("/sys/fs/cgroup/memory")
    limit = "memory.limit_in_bytes" if group.is_dir() else "memory.max"
    group = (group if group.is_dir() else group.parent) / f"bench_{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(total // 10))
    except OSError as error:
        print(f"\nno cgroup with a cap can be made here: {error}")
        return
    script = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    words = [sys.executable, str(ROOT / "train.py"), "--model_dir", str(run)]
    command = ["bash", "-c", script, "bash", *words, "--data_dir", str(data)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        group.rmdir()
    if process.returncode:
        raise RuntimeError(f"train.py ended with {process.returncode}")
    row = json.loads((run / "times.jsonl").read_text().splitlines()[-1])
    print(
        f"\n{total / 1e9:.1f} GB under a cap of {total / 1e10:.2f} GB with its page cache: "
        f"{row['examples_per_second']:.0f} examples/s, {row['data_seconds']:.1f} of "
        f"{row['train_seconds']:.1f} s waited for data, peak RSS {usage.ru_maxrss / 1024:.0f} MiB"
    )


def headers(names: list[str], contents: list[bytes]) -> np.ndarray:
    """Return (N, 1024) bytes of tar members whose contents are short."""
    rows = np.zeros((len(names), 1024), np.uint8)
    for row, name, content in zip(rows, names, contents, strict=True):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        row[:512] = np.frombuffer(info.tobuf(), np.uint8)
        row[512 : 512 + len(content)] = np.frombuffer(content, np.uint8)
    return rows


def large_index(folder: Path, count: int) -> None:
    """Build, open and use the index of many records; the shards are links to one file."""
    shards, folder = 100, folder / "many"
    folder.mkdir()
    numbers = range(count // shards)
    one = headers([f"{i:07d}.bin" for i in numbers], [bytes(64)] * len(numbers))
    two = headers([f"{i:07d}.cls" for i in numbers], [b"%d" % (i % 3) for i in numbers])
    content = np.concatenate([one, two], axis=1).tobytes() + bytes(10_240)
    (folder / "000.tar").write_bytes(content)
    for number in range(1, shards):
        os.link(folder / "000.tar", folder / f"{number:03d}.tar")
    print(f"\n{count} records in {shards} shards, links to one file in the page cache")
    build = seconds(lambda: Records(folder))
    code = (
        "import sys, time, resource, random; sys.path.insert(0, sys.argv[2]); from utils import "
        "Records\n"
        "rss = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6\n"
        "a, t = rss(), time.perf_counter(); r = Records(sys.argv[1])\n"
        "t = time.perf_counter() - t; b = rss(); o = r.epoch_order(0, 0); c = rss()\n"
        "[r.record(i) for i in o[:100_000].tolist()]\n"
        "print(f'opened in {t * 1e3:.0f} ms, taking {b - a:.0f} MB; the order of an epoch takes '\n"
        "      f'{c - b:.0f} MB, the parts of the index that 100,000 records touch '\n"
        "      f'{rss() - c:.0f} of {sum(x.nbytes for x in r.index[1:]) / 1e6:.0f} MB')"
    )
    used, below = (
        resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    told = f"index built in {build:.0f} s, {below.ru_utime + below.ru_stime:.0f} s of processors"
    print(
        f"{told}; the process that built it had at most {used.ru_maxrss / 1024:.0f} MiB", flush=True
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(ROOT)], check=True)


def main() -> int:
    """Run the bench; returns the exit code."""
    made = parser(__doc__)
    made.add_argument("--webdataset", help="a Python that has the package webdataset")
    made.add_argument("--epoch", nargs=2, help="one epoch alone: kind and folder")
    made.add_argument("--pictures", type=int, default=100_000)
    made.add_argument("--only", choices=["reading", "pictures", "index", "capped"])
    args = made.parse_args()
    if args.epoch:
        print(json.dumps(one_epoch(*args.epoch)))
        return 0
    part = 20 if args.quick else 1
    with tempfile.TemporaryDirectory() as name:
        if args.only in (None, "reading"):
            reading(Path(name) / "large", 1_000_000_000 // part, 1 if args.quick else 3)
        if args.only in (None, "pictures"):
            small, repeats = Path(name) / "small", 1 if args.quick else 2
            small_images(small, args.pictures // part, args.webdataset, repeats)
        if args.only in (None, "index"):
            large_index(Path(name), 10_000_000 // part)
        if args.only in (None, "capped"):
            capped(Path(name) / "capped", 8_000_000_000 // (2 if args.quick else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
