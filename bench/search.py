"""Trials per minute: a search with two jobs against one cold train.py after the other.

    python bench/search.py            # --quick: fewer trials
    python bench/search.py --data_dir data/64x64_SIGNS

The cold processes are started as the CS230 template does. Each trial's results are compared byte
for byte with those of a cold train.py in a folder of its own, with the same number of threads. The
overhead is what one more trial adds to a search with one job, beyond the time of its epochs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script sees only its own folder

from core.base.files import parse_rows  # noqa: E402
from core.machine.environment import usable_cores  # noqa: E402
from data.signs.prepare import main as draw_signs  # noqa: E402

NETS: dict[str, dict[str, object]] = {
    "hand signs, 8 channels": {"num_channels": 8, "dropout_rate": 0.0, "learning_rate": 1e-3},
    "small MLP": {"task": "bench.mlp", "learning_rate": 1e-3},
}


def seconds_of(command: list[str]) -> float:
    """Return how long a command takes."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=quiet, stderr=quiet)
    return time.perf_counter() - began


def write_search(folder: Path, params: dict[str, object], rates: list[float]) -> list[str]:
    """Make the folder of a search; returns the command's arguments."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "search.yaml").write_text(json.dumps({"space": {"learning_rate": rates}}))
    return ["search_hyperparams.py", "--parent_dir", str(folder)]


def compare(name: str, params: dict[str, object], data: str, trials: int, repeats: int) -> None:
    """Time the search and the cold processes in turns, and compare what came out."""
    rates = [float(f"{1e-4 * 1.3**i:.3g}") for i in range(trials)]
    once = {"num_threads": 1, "num_epochs": 1}
    warm, cold, alone = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            folder = Path(scratch) / f"search{repeat}"
            command = write_search(folder, params | once, rates)
            warm.append(seconds_of([*command, "--data_dir", data, "--jobs", "2"]))
            began = time.perf_counter()
            for trial in sorted(path.parent for path in folder.glob("*/params.json")):
                other = Path(scratch) / f"cold{repeat}" / trial.name
                other.mkdir(parents=True)
                (other / "params.json").write_bytes((trial / "params.json").read_bytes())
                seconds_of(["train.py", "--model_dir", str(other), "--data_dir", data])
                for file in ("metrics.jsonl", "last.pt", "best.pt", "predictions_val.npz"):
                    if (trial / file).read_bytes() != (other / file).read_bytes():
                        raise SystemExit(f"{trial.name}: {file} is not that of a cold start")
            cold.append(time.perf_counter() - began)
            times = []
            for count in (2, trials):  # their difference holds no start of a search
                single = Path(scratch) / f"single{repeat}-{count}"
                command = write_search(single, params | once, rates[:count])
                whole = seconds_of([*command, "--data_dir", data, "--jobs", "1"])
                rows = [parse_rows(path.read_bytes())[0] for path in single.glob("*/times.jsonl")]
                epochs = [found[0]["seconds"] for found in rows]
                times.append(whole - sum(epochs))
            alone.append((times[1] - times[0]) / (trials - 2))
    ratio = statistics.median(c / w for c, w in zip(cold, warm, strict=True))
    print(
        f"{name}: {trials} trials in {statistics.median(warm):.1f} s with two jobs; one cold "
        f"process after the other {statistics.median(cold):.1f} s: {ratio:.1f} times the trials "
        f"per minute.\n  Overhead per trial with one job: {statistics.median(alone):.2f} s. "
        "Results equal to the byte."
    )


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="hand signs; default: 864 drawn ones")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--short", action="store_true", help="the same, of the small MLP alone")
    args = parser.parse_args()
    cores, load = usable_cores(), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as scratch:
        if args.data_dir is None:
            draw_signs(["--output", f"{scratch}/signs"])
        data = args.data_dir or f"{scratch}/signs"
        for name, params in list(NETS.items())[-1 if args.short else 0 :]:
            few = args.quick or args.short
            compare(name, params, data, 6 if few else 16, 1 if few else 3)


if __name__ == "__main__":
    main()
