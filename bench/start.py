"""How long each command takes to begin, beside `import torch` alone.

    python bench/start.py

Of train.py it is the time to the first step, of check.py that to its first line, of evaluate.py
that to its numbers and that of the whole, which draws a picture; predict.py and
synthesize_results.py end at once, on 36 small images.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import LONG, ROOT, Figures, effort, in_turn, parser, run, show, train

PARAMS = {"num_epochs": 1, "num_channels": 4, "dropout_rate": 0.0, "num_threads": 2}


def to_line(word: str, *command: str | Path) -> Figures:
    """Return how long a command takes to print a line that holds a word."""
    began = time.perf_counter()
    words = [sys.executable, *map(str, command)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while word not in process.stdout.readline():
            if process.poll() is not None:
                raise RuntimeError(f"{words[1]} has printed no {word!r}")
        found = time.perf_counter() - began
        process.kill()
    return {"seconds": found}


def whole(*command: str | Path) -> Figures:
    """Return how long a command takes."""
    return {"seconds": run(*command).seconds}


def to_first_step(folder: Path, data: Path, resumed: bool) -> Figures:
    """Return how long train.py takes to its first step, of a new run or of one that goes on."""
    if not resumed:
        return {"seconds": train(folder, PARAMS, data)["to the first step, s"]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(PARAMS | {"num_epochs": 2}))
    command = "train.py", "--model_dir", folder, "--data_dir", data
    with suppress(RuntimeError):  # its exit code tells that it has stopped
        run(*command, "--overwrite", "--stop_after", "1")
    began = run(*command).began
    log = (folder / "train.log").read_text().splitlines()
    stamp = next(line for line in reversed(log) if "Resuming after" in line)[:23]
    return {"seconds": datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp() - began}


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__, short=True).parse_args()
    repeats, limit = effort(args, (1, 60.0), (2, 60.0), (5, LONG))
    with tempfile.TemporaryDirectory() as name:
        parent, data = Path(name) / "runs", Path(name) / "signs"
        run("data/signs/prepare.py", "--output", data, "--count", "36")
        folder = parent / "run"
        picture = next(data.glob("test_signs/*.jpg"))
        train(folder, PARAMS, data)
        of_run = "--model_dir", folder
        ways: dict[str, Callable[[], Figures]] = {
            "import torch": lambda: whole("-c", "import torch"),
            "train.py": lambda: to_first_step(parent.parent / "new", data, resumed=False),
            "resumed": lambda: to_first_step(parent.parent / "resumed", data, resumed=True),
            "evaluate.py": lambda: to_line("accuracy", "evaluate.py", *of_run),
            "to its end": lambda: whole("evaluate.py", *of_run),
            "predict.py": lambda: whole("predict.py", *of_run, picture),
            "check.py": lambda: to_line("", "check.py", *of_run, "--data_dir", data),
            "synthesize": lambda: whole("synthesize_results.py", "--parent_dir", parent),
        }
        show("to begin", in_turn(ways, repeats, limit), "import torch")
    return 0


if __name__ == "__main__":
    sys.exit(main())
