"""What `keep_checkpoints` costs a run: the time of its saves beside that of the whole run.

python bench/kept_checkpoints.py
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import train
from bench.common import Figures, in_turn, parser, show

PARAMS: dict[str, Any] = {
    "task": "bench.noop",
    "optimizer": "SGD",
    "batch_size": 32,
    "num_epochs": 10,
    "num_threads": 1,
    "checkpoint_minutes": None,
}


def timed(steps: int, keep: int | None) -> Figures:
    """Train a run; returns its time and the space that its checkpoints take."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        params = PARAMS | {"num_steps": steps, "keep_checkpoints": keep}
        (folder / "params.json").write_text(json.dumps(params))
        began = time.perf_counter()
        train.main(["--model_dir", name, "--data_dir", str(folder / "data")])
        seconds = time.perf_counter() - began
        files = {path.stat().st_ino: path.stat().st_size for path in folder.glob("*.pt")}
    return {"seconds": seconds, "kilobytes": sum(files.values()) / 1000}


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    steps, repeats = (300, 1) if args.quick else (3000, 9)
    ways = {
        "without": lambda: timed(steps, None),
        "keep 5": lambda: timed(steps, 5),
        "keep all 10": lambda: timed(steps, 10),
    }
    show(f"ten epochs of {steps} steps", in_turn(ways, repeats), "without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
