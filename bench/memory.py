"""Peak memory of a run that is resumed, beside one that is not: 50 million parameters, Adam.

python bench/memory.py
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import Figures, Medians, in_turn, parser, run, show

PARAMS = {"task": "bench.noop", "num_steps": 3, "batch_size": 32, "num_epochs": 3, "num_threads": 1}


def peak(folder: Path, *more: str) -> Figures:
    """Train in a folder; returns the peak memory of the process, in MB."""
    data = folder / "data"
    process = run("train.py", "--model_dir", folder, "--data_dir", data, *more)
    return {"peak memory, MB": process.peak_mb}


def measure(num_weights: int, repeats: int) -> Medians:
    """Return the medians of a new run of three epochs, and of two epochs that follow on one."""
    with tempfile.TemporaryDirectory() as name:
        new, resumed = Path(name, "new"), Path(name, "resumed")
        for folder in (new, resumed):
            (folder / "data").mkdir(parents=True)
            params = json.dumps(PARAMS | {"num_weights": num_weights})
            (folder / "params.json").write_text(params)

        def resume() -> Figures:
            peak(resumed, "--overwrite", "--set", "num_epochs=1")
            return peak(resumed, "--set", "num_epochs=3")

        return in_turn({"new": lambda: peak(new, "--overwrite"), "resumed": resume}, repeats)


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    num_weights, repeats = (2**20, 1) if args.quick else (48 * 2**20, 3)
    title = f"Adam, {num_weights / 1e6:.0f} million parameters"
    show(title, measure(num_weights, repeats), "new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
