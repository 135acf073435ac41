"""Speed on hand signs: train.py, a plain loop over a DataLoader, Lightning and Accelerate.

    bash bench/peers.sh      # once: Lightning and Accelerate, in an environment of their own
    python bench/peers.py

All train the same net on the same images in memory, in float32, with the same batches,
augmentation, optimizer, schedule, epochs and threads; all validate and write a checkpoint after
each epoch. train.py also computes exact training metrics, keeps the best weights, and has the C
library keep the memory of freed tensors; the others run as they come.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench import common
from bench.common import ROOT, Figures, Process, effort, in_turn, parser, run, show
from bench.signs import decode

OTHERS = ROOT / ".bench-venv/bin/python"
LOOP = ROOT / "bench/by_hand/peers.py"
THREADS = 2


def version(package: str) -> str | None:
    """Return the version of a package of .bench-venv; None if it is not there."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        done = subprocess.run([OTHERS, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def named(figures: Figures, val_images: int, accuracy: float) -> Figures:
    """Return the figures of a run under the names of this bench."""
    return {
        "training, images/s": figures["examples/s"],
        "rest of an epoch, images/s": val_images / figures["evaluation, s"],
        "whole process, s": figures["whole process, s"],
        "processors, s": figures["processors, s"],
        "to the first step, s": figures["to the first step, s"],
        "peak memory, MB": figures["peak memory, MB"],
        "val accuracy": accuracy,
    }


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__, short=True).parse_args()
    epochs, repeats, limit = effort(args, (2, 1, 60.0), (3, 2, 100.0), (10, 3, 240.0))
    params = json.loads((ROOT / "experiments/base_model/params.json").read_text())
    params |= {"num_epochs": epochs, "precision": "float32", "num_threads": THREADS}
    with tempfile.TemporaryDirectory() as name:
        data, folder, arrays = Path(name) / "signs", Path(name) / "run", Path(name) / "signs.npz"
        run("data/signs/prepare.py", "--output", data)
        decode(data, arrays)
        count = len(list(data.glob("val_signs/*.jpg")))

        def ours() -> Figures:
            figures = common.train(folder, params, data)
            last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
            return named(figures, count, last["val_accuracy"])

        def by_hand(way: str, python: Path | str) -> Figures:
            words = way, arrays, epochs, params["batch_size"], THREADS
            process: Process = run(LOOP, *map(str, words), python=python)
            told = json.loads(process.printed.splitlines()[-1])
            keys = ("first_step", "rates", "evaluations")
            figures = common.figures(process, *(told[key] for key in keys))
            return named(figures, count, told["accuracy"])

        ways = {"plain": lambda: by_hand("plain", sys.executable), "train.py": ours}
        found = {package: version(package) for package in ("lightning", "accelerate")}
        if found["lightning"]:
            ways["Lightning"] = lambda: by_hand("lightning", OTHERS)
        if found["accelerate"]:
            ways["Accelerate"] = lambda: by_hand("accelerate", OTHERS)
        medians = in_turn(ways, repeats, limit)
    title = f"hand signs, {epochs} epochs, float32, batches of {params['batch_size']}"
    show(f"{title}, {THREADS} threads", medians, "plain")
    print("\nThe rest of an epoch is its validation and checkpoint.")
    for package, number in found.items():
        print(f"{package}: {number or 'skipped, not installed: bash bench/peers.sh installs it'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
