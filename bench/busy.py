"""Training beside a process that keeps a core busy, with torch's way of waiting and with ours.

    python bench/busy.py

Threads of libgomp wait for each other at the end of every operation. How long they do so without
sleeping is GOMP_SPINCOUNT: 300,000 turns by default, 3,000 in this project (core/__init__.py).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import LONG, ROOT, Figures, effort, in_turn, parser, run, show, train

USUAL, OWN = "300000", os.environ["GOMP_SPINCOUNT"]


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keep one core busy inside the block, if that is wanted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__, short=True).parse_args()
    epochs, repeats, limit = effort(args, (2, 1, 60.0), (3, 2, 95.0), (5, 3, LONG))
    params = json.loads((ROOT / "experiments/base_model/params.json").read_text())
    params |= {"num_epochs": epochs, "precision": "float32"}
    with tempfile.TemporaryDirectory() as name:
        data_dir, folder = Path(name) / "signs", Path(name) / "run"
        run("data/signs/prepare.py", "--output", data_dir)

        def way(turns: str, busy: bool) -> Figures:
            os.environ["GOMP_SPINCOUNT"] = turns
            with busy_core(busy):
                return train(folder, params, data_dir)

        ways = {
            "usual, quiet": lambda: way(USUAL, False),
            "own, quiet": lambda: way(OWN, False),
            "usual, busy": lambda: way(USUAL, True),
            "own, busy": lambda: way(OWN, True),
        }
        medians = in_turn(ways, repeats, limit)
    show(f"hand signs, float32, {epochs} epochs", medians, "usual, quiet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
