"""Records in shards: shuffled reading, plain files, webdataset, little memory, kills, 10 million.

    python bench/records.py [--quick] [--only 1 2 3 4 5]

It ends with one table. All data are made up here. The page cache is dropped file by file
(posix_fadvise): what the disk itself keeps stays warm. The comparison with webdataset needs
`pip install webdataset`, the cap of memory the right to make a cgroup.
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, Figures, parser, run, seconds
from bench.records_data import drop, write_pictures, write_shards, write_tiny
from utils import Records

SIZE = 110_000  # bytes of a photograph
WINDOW, BATCH = 16, 64

Row = tuple[str, str, str]  # what, as measured, as wanted


def medians(found: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def reading(folder: Path, quick: bool) -> Iterator[Row]:
    """Compare orders of reading by one process, in turn, from the page cache and from the disk."""
    total = 50_000_000 if quick else 1_000_000_000
    write_shards(folder, total, SIZE, 16)
    plain, windowed = Records(folder), Records(folder, window=WINDOW)

    def read(records: Records, order: torch.Tensor) -> Callable[[], None]:
        def work() -> None:
            for i in order.tolist():
                records.record(i)

        return work

    in_order, full = torch.arange(len(plain)), plain.epoch_order(0, 0)
    ways = {
        "in order": read(plain, in_order),
        "full shuffle": read(plain, full),
        "two levels": read(windowed, windowed.epoch_order(0, 0)),
    }
    for cache, repeats in (("warm", 2 if quick else 8), ("cold", 1 if quick else 3)):
        clock: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        for i in range(repeats):
            for name in sorted(ways, reverse=bool(i % 2)):
                if cache == "cold":
                    drop(folder)
                began = time.process_time()
                clock[name].append(seconds(ways[name]))
                busy[name].append(time.process_time() - began)
        middle = {name: statistics.median(found) for name, found in clock.items()}
        used = {name: statistics.median(found) for name, found in busy.items()}
        yield f"{cache}, in order", f"{total / middle['in order'] / 1e6:.0f} MB/s", ""
        for name in ("full shuffle", "two levels"):
            told = f"{middle['in order'] / middle[name]:.2f} of in order by the clock"
            if cache == "warm":
                told += f", {used['in order'] / used[name]:.2f} by the processor"
            wanted = {"warm, full shuffle": "0.9", "cold, two levels": "0.8"}
            yield f"{cache}, {name}", told, wanted.get(f"{cache}, {name}", "")


def small_pictures(folder: Path, quick: bool) -> Iterator[Row]:
    """Compare epochs of small pictures in files and in shards, with two workers each."""
    files, shards, count = folder / "files", folder / "shards", 5_000 if quick else 100_000
    write_pictures(files, count)
    pack = [str(ROOT / "data/records.py"), "pack", str(files), "--output", str(shards)]
    packing = run(*pack, "--shard_mb", "0.5" if quick else "8").seconds
    yield "100,000 pictures" if not quick else f"{count} pictures", f"packed in {packing:.0f} s", ""
    yield "index", f"built in {seconds(lambda: Records(shards)):.1f} s", ""
    ways = {"ImageFolder": ("imagefolder", files), "Records": ("records", shards)}
    if find_spec("webdataset"):
        ways["webdataset"] = "webdataset", shards

    def epoch(name: str) -> Figures:
        kind, data = ways[name]
        return dict(json.loads(run("bench/records_ways.py", kind, data).printed.splitlines()[-1]))

    warm: dict[str, list[Figures]] = {name: [] for name in ways}
    cold: dict[str, Figures] = {}
    for name, (_, data) in ways.items():
        drop(data)
        cold[name] = epoch(name)
    for _ in range(1 if quick else 2):
        for name in ways:
            warm[name].append(epoch(name))
    middle = {name: medians(found) for name, found in warm.items()}
    for name, found in middle.items():
        told = f"epoch {found['epoch, s']:.1f} s (cold {cold[name]['epoch, s']:.1f}), first batch "
        told += f"after {found['first, s']:.2f} s (cold {cold[name]['first, s']:.2f})"
        yield name, f"{told}, {found['files']:.0f} files", ""
    for name, wanted in (("ImageFolder", ""), ("webdataset", "0.95")):
        if name in middle:
            rate = middle["Records"]["pictures/s"] / middle[name]["pictures/s"]
            yield f"throughput, of {name}'s", f"{rate:.2f}", wanted
        else:
            yield f"throughput, of {name}'s", "not installed", wanted


def capped(folder: Path, quick: bool) -> Iterator[Row]:
    """Train on data ten times as large as the memory of the run's cgroup, page cache included."""
    total = 4_000_000_000 if quick else 6_000_000_000
    data, place = folder / "data", folder / "run"
    write_shards(data / "train", total, SIZE, 8, copies=8)
    write_shards(data / "val", total // 100, SIZE, 1)
    place.mkdir()
    params = {"task": "tests.projects.shards", "width": 8, "dropout_rate": 0.0, "num_epochs": 1}
    params |= {"shuffle_window": 0, "num_workers": 0, "num_threads": 1, "learning_rate": 0.01}
    (place / "params.json").write_text(json.dumps(params | {"batch_size": BATCH}))
    drop(data)
    group = Path("/sys/fs/cgroup/memory")
    limit = "memory.limit_in_bytes" if group.is_dir() else "memory.max"
    group = (group if group.is_dir() else group.parent) / f"bench_{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(total // 10))
    except OSError as error:
        yield "data ten times the memory", f"no cgroup can be made here: {error}", "trains"
        return
    words = [str(ROOT / "train.py"), "--model_dir", str(place), "--data_dir", str(data)]
    script = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    try:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", sys.executable, *words], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        group.rmdir()
    if process.returncode:
        raise RuntimeError(f"train.py ended with {process.returncode}")
    row = json.loads((place / "times.jsonl").read_text().splitlines()[-1])
    told = f"trains, peak RSS {usage.ru_maxrss / 1024:.0f} MiB"
    yield f"{total / 1e9:.0f} GB, memory {total / 1e10:.1f} GB", told, "trains"
    told = f"{row['data_seconds']:.1f} of {row['train_seconds']:.1f} s"
    yield f"{row['examples_per_second']:.0f} examples/s, waiting for data", told, ""


def kills(_: Path, quick: bool) -> Iterator[Row]:
    """Run the test that kills runs at random moments."""
    if quick:
        yield "20 kills", "left out by --quick", "no bit differs"
        return
    test = "tests/data/test_records_runs.py::test_twenty_kills_at_random_moments_change_no_bit"
    process = run("-m", "pytest", "-q", "-s", "-p", "no:xdist", test)
    found = re.search(r"20 kills, (.*)", process.printed)
    assert found is not None
    what = "20 kills, workers 0, 2, 3, processes 1, 2, 3"
    yield what, f"no bit differs; {found[1]}; {process.seconds:.0f} s", "no bit differs"


def large_index(folder: Path, quick: bool) -> Iterator[Row]:
    """Build, open and use the index of many records."""
    count = 500_000 if quick else 10_000_000
    write_tiny(folder, count)
    built = seconds(lambda: Records(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield (
        f"index of {count:,} records",
        f"built in {built:.0f} s, at most {peak:.0f} MiB",
        "minutes",
    )
    command = "bench/records_ways.py", "index", folder
    found = json.loads(run(*command).printed.splitlines()[-1])
    yield "opened", f"in {found['opened, ms']:.0f} ms, {found['opened, MB']:.0f} MB", "1 s"
    told = f"{found['touched, MB']:.0f} of {found['index, MB']:.0f} MB"
    yield "memory, 100,000 records read", f"{told}, order {found['order, MB']:.0f} MB", "named"


FIGURES = {"1": reading, "2": small_pictures, "3": capped, "4": kills, "5": large_index}


def main() -> int:
    """Run the bench; returns the exit code."""
    made = parser(__doc__)
    made.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    args = made.parse_args()
    rows, began = list[tuple[str, ...]](), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        for number in args.only:
            start = time.perf_counter()
            rows += [(number, *row) for row in FIGURES[number](Path(name) / number, args.quick)]
            print(f"figure {number} took {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(f"\n{time.perf_counter() - began:.0f} s in all, load {os.getloadavg()[0]:.1f}\n")
    for number, what, measured, wanted in rows:
        print(f"{number}  {what:<46}{measured}" + (f"  (wanted: {wanted})" if wanted else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
