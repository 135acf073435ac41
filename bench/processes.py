"""What a second process gains: steps per second of 2 processes on 2 cores against 1 with 2 threads.

    python bench/processes.py

trains hand signs (made up here) with train.py itself, A B A B, and prints medians of the examples
per second of whole epochs after the first, their ratio, and the ratio to 1 process with 1 thread.
The ratio is the efficiency: 1.0 where two processes are as fast as two threads.

    python bench/processes.py --wide [--against REV]

trains a net of 25 million weights (bench/wide) with two processes, replicas and in parts, and with
the engine of an earlier commit. It prints milliseconds a step and memory of a process. The share of
the exchange is what a step takes longer than that of one process with half the rows.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import LONG, ROOT, run

KINDS = {
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
    "1 process, 1 thread": (1, 1),
}


WIDE: dict[str, Any] = {
    "task": "bench.wide",
    "width": 1024,
    "depth": 24,
    "examples": 320,
    "batch_size": 32,
}
WIDE |= {"num_epochs": 3, "num_threads": 1, "checkpoint_minutes": None, "device": "cpu"}
WIDE |= {"save_predictions": False}


def wide(
    root: Path,
    folder: Path,
    count: int,
    more: Mapping[str, object],
    script: Sequence[str] = ("train.py",),
    at_most: float = LONG,
) -> tuple[float, float]:
    """Train the net of many weights; returns milliseconds a step and the last process's peak in MB.

    (Process 0 gathers the whole net for checkpoints.) `more` are keys of the params; `script` is
    what takes train.py's arguments.
    """
    (data := folder / "data").mkdir(parents=True)
    params = {**WIDE, **more}
    (folder / "params.json").write_text(json.dumps(params))
    command: list[str] = []
    if count > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command += [*script, "--model_dir", str(folder), "--data_dir", str(data)]
    run(*command, root=root, at_most=at_most)
    rows = [json.loads(row) for row in (folder / "times.jsonl").read_text().splitlines()]
    peak = float((data / f"peak_mb.{count - 1}").read_text())
    seconds = statistics.median(row["train_seconds"] for row in rows[1:])
    return 1000 * seconds * params["batch_size"] / params["examples"], peak


def compare_wide(rounds: int, against: str | None) -> None:
    """Print what a step of the net of many weights takes, A B A B."""
    with tempfile.TemporaryDirectory() as temporary:
        kinds: dict[str, tuple[Path, int, dict[str, object]]] = {
            "1 process, half the rows": (ROOT, 1, {"examples": 160, "batch_size": 16}),
            "2 processes, replicas": (ROOT, 2, {}),
            "2 processes, in parts": (ROOT, 2, {"shard": True}),
        }
        if against is not None:
            old = Path(temporary) / "old"
            add = ["git", "worktree", "add", "--detach", str(old), against]
            subprocess.run(add, cwd=ROOT, check=True, capture_output=True)
            shutil.copytree(ROOT / "bench" / "wide", old / "bench" / "wide")
            kinds[f"2 processes, {against}"] = (old, 2, {})
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for i in range(rounds):
            for j, (name, (root, count, keys)) in enumerate(kinds.items()):
                folder = Path(temporary) / "runs" / f"{i}-{j}"
                found[name].append(wide(root, folder, count, keys))
        if against is not None:
            remove = ["git", "worktree", "remove", "--force", str(old)]
            subprocess.run(remove, cwd=ROOT, check=True)
    alone = statistics.median(step for step, _ in found["1 process, half the rows"])
    for name, pairs in found.items():
        step, memory = (statistics.median(each) for each in zip(*pairs, strict=True))
        share = f", exchange {1 - alone / step:.0%}" if name[0] == "2" else ""
        print(f"{name:28s} {step:7.0f} ms a step, {memory:6.0f} MB a process{share}")


def examples_per_second(
    folder: Path, data: Path, processes: int, threads: int, settings: list[str]
) -> list[float]:
    """Train a new run; returns the examples per second of every epoch but the first."""
    folder.mkdir(parents=True)
    params = ROOT / "experiments" / "base_model" / "params.json"
    (folder / "params.json").write_text(params.read_text())
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(ROOT / "train.py"), "--model_dir", str(folder), "--data_dir", str(data)]
    for setting in [f"num_threads={threads}", *settings]:
        command += ["--set", setting]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = (folder / "times.jsonl").read_text().splitlines()
    return [json.loads(row)["examples_per_second"] for row in rows[1:]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", dest="settings", help="default: num_epochs=4")
    parser.add_argument("--wide", action="store_true", help="the net of 25 million weights")
    parser.add_argument("--against", metavar="REV", help="with --wide: an earlier commit, too")
    args = parser.parse_args(argv)
    if args.wide:
        compare_wide(args.rounds, args.against)
        return 0
    rates: dict[str, list[float]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "signs"
        prepare = [sys.executable, "data/signs/prepare.py", "--output", str(data)]
        subprocess.run(prepare, cwd=ROOT, check=True, capture_output=True)
        for round_ in range(args.rounds):
            for name, (processes, threads) in KINDS.items():
                folder = Path(temporary) / f"{processes}-{threads}-{round_}"
                rates[name] += examples_per_second(
                    folder, data, processes, threads, args.settings or ["num_epochs=4"]
                )
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:28s} {rate:8.0f} examples/s")
    two_threads, two_processes, alone = medians.values()
    print(f"2 processes against 2 threads: {two_processes / two_threads:.2f}")
    print(f"2 processes against 1 thread:  {two_processes / alone:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
