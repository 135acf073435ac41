"""What metrics of every training example cost: epochs of hand signs with and without them.

python bench/epoch_metrics.py
"""

import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import train
from bench.common import ROOT, Figures, Medians, in_turn, parser, run, show
from core.run.opening import started
from core.training.state import make_state
from core.training.tally import Tally


def left_out(tally: Tally, outputs: Any, labels: Any) -> None:
    """Collect nothing, and so score nothing."""


def main() -> int:
    """Run the bench; returns the exit code."""
    quick = parser(__doc__).parse_args().quick
    repeats, epochs = (1, 1) if quick else (5, 3)
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name, "run"), Path(name, "data")
        run("data/signs/prepare.py", "--output", data, *(["--count", "60"] if quick else []))
        folder.mkdir()
        recipe = json.loads((ROOT / "experiments/base_model/params.json").read_text())
        recipe |= {"num_epochs": 1000, "precision": "float32", "checkpoint_minutes": None}
        (folder / "params.json").write_text(json.dumps(recipe))
        medians = compare(folder, data, repeats, epochs)
    show(f"hand signs, float32, {epochs} epochs a turn", medians, "without")
    return 0


def compare(folder: Path, data: Path, repeats: int, epochs: int) -> Medians:
    """Train the same state by turns with metrics and without; returns medians."""
    argv = ["--model_dir", str(folder), "--data_dir", str(data)]

    def get_args(_: object) -> Namespace:
        return train.get_args(argv)

    with started(get_args, argv) as begun:
        loaders = begun.fetch_loaders()
        state = make_state(begun.task, begun.params, begun.device, loaders["train"])
        begun.resume(state, loaders)

        def turn(collect: Any) -> Figures:
            seconds, usual = [], Tally.collect
            Tally.collect = collect  # type: ignore[method-assign]
            try:
                for _ in range(epochs):
                    state.batch, began = 0, time.perf_counter()
                    train.train(state, loaders["train"], begun)
                    seconds.append(time.perf_counter() - began)
            finally:
                Tally.collect = usual  # type: ignore[method-assign]
            return {"an epoch, s": statistics.median(seconds)}

        turn(Tally.collect)  # torch warms up
        ways = {"without": lambda: turn(left_out), "with": lambda: turn(Tally.collect)}
        return in_turn(ways, repeats)


if __name__ == "__main__":
    sys.exit(main())
