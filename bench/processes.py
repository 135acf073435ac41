"""What a second process gains: steps per second of 2 processes on 2 cores against 1 with 2 threads.

    python bench/processes.py

trains hand signs (made up here) with train.py itself, A B A B, and prints medians of the examples
per second of whole epochs after the first, their ratio, and the ratio to 1 process with 1 thread.
The ratio is the efficiency: 1.0 where two processes are as fast as two threads.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
    "1 process, 1 thread": (1, 1),
}


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
    args = parser.parse_args(argv)
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
