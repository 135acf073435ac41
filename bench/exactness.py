"""What exactness costs: checkpoints, metrics over the whole split, exact order, locks.

    python bench/exactness.py

First the share that they have in an epoch of 10 s of hand signs; then how long a checkpoint of 100
million weights with Adam's state keeps training waiting, against copying its tensors once.
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import train
from bench.common import ROOT, Figures, in_turn, parser, run, show
from core.data.batches import Batches
from core.machine.nested import tensors
from core.run import messages
from core.run import run as running
from core.run.opening import open_run
from core.run.run import Run
from core.training.state import State, make_state
from core.training.tally import Tally

EPOCH = 10.0  # seconds
# Where the time goes that a loop without these guarantees would not spend: what is called once in
# an epoch, and what is called in every step.
PER_EPOCH = (
    (Run, "save"),
    (running, "append_row"),
    (messages, "epoch"),
    (Batches, "plan"),
    (Tally, "metrics"),
)
PER_STEP = (
    (State, "end_batch"),
    (State, "_check"),
    (Run, "after_update"),
)


def timed(function: Callable[..., Any], total: dict[str, float], name: str) -> Callable[..., Any]:
    """Return the function, with the seconds it takes added up under a name."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            total[name] += time.perf_counter() - began

    return measured


def shares(data_dir: Path, epochs: int) -> None:
    """Train on the hand signs as experiments/base_model does, and print each part's share."""
    total: dict[str, float] = defaultdict(float)
    for owner, name in (*PER_EPOCH, *PER_STEP):
        setattr(owner, name, timed(getattr(owner, name), total, name))
    params = json.loads((ROOT / "experiments/base_model/params.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.json").write_text(json.dumps(params | {"num_epochs": epochs}))
        train.main(["--model_dir", name, "--data_dir", str(data_dir)])
        rows = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
    seconds = sum(row["train_seconds"] for row in rows)
    print(f"\nshare of an epoch of {EPOCH:g} s, from {epochs} epochs of hand signs")
    found = {name: total[name] / epochs / EPOCH for _, name in PER_EPOCH}
    found |= {name: total[name] / seconds for _, name in PER_STEP}
    for name, share in found.items():
        print(f"  {name:<12}{share:8.3%}")
    print(f"  {'together':<12}{sum(found.values()):8.3%}")


def blocking(weights: int, repeats: int) -> None:
    """Print how long a save keeps training waiting, and how long a copy of its tensors takes."""
    params = {
        "task": "bench.noop",
        "num_weights": weights,
        "num_steps": 2,
        "num_epochs": 1,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.json").write_text(json.dumps(params))
        started = open_run(folder, {"data_dir": str(folder)})
        loaders = started.fetch_loaders()
        state = make_state(started.task, started.params, started.device, loaders["train"])
        train.train(state, loaders["train"], started)
        optimizer = state.optimizers["main"].state_dict()
        held = tensors([state.model.state_dict(), *optimizer["state"].values()])

        def copied() -> Figures:
            began = time.perf_counter()
            copies = [tensor.clone() for tensor in held]
            seconds = time.perf_counter() - began
            del copies
            return {"seconds": seconds}

        def saved() -> Figures:
            began = time.perf_counter()
            started.save(state)
            seconds = time.perf_counter() - began
            started.writer.wait()
            return {"seconds": seconds}

        def saved_directly() -> Figures:
            began = time.perf_counter()
            torch.save({"state_dict": state.model.state_dict(), "optim": optimizer}, folder / "x")
            return {"seconds": time.perf_counter() - began}

        ways = {"copy": copied, "checkpoint": saved, "torch.save": saved_directly}
        medians = in_turn(ways, repeats)
        started.writer.close()
    size = sum(tensor.nbytes for tensor in held) / 1e9
    show(f"training waits for a checkpoint of {size:.1f} GB", medians, "copy")


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    blocking(*(10_000_000, 1) if args.quick else (100_000_000, 5))
    with tempfile.TemporaryDirectory() as name:
        data_dir = ROOT / "data/64x64_SIGNS"
        if not data_dir.exists():
            data_dir = Path(name) / "signs"
            run("data/signs/prepare.py", "--output", data_dir)
        shares(data_dir, 2 if args.quick else 8)
    return 0


if __name__ == "__main__":
    sys.exit(main())
