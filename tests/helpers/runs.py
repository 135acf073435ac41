"""Runs that tests start, stop, wait for and compare."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import evaluate
import predict
import train
from core.training.checkpoint import read_checkpoint
from tests.helpers.processes import wait_for
from tests.helpers.warm import Child, Warm

RESULTS = (
    "last.pt",
    "best.pt",
    "metrics.jsonl",
    "metrics_val_best_weights.json",
    "metrics_val_last_weights.json",
    "predictions_val.npz",
)
RECIPE = {  # everything that a checkpoint has to remember, and a save after every update
    "dropout_rate": 0.3,
    "ema_decay": 0.9,
    "optimizer": "AdamW",
    "learning_rate": 0.01,
    "lr_scheduler": "OneCycleLR",
    "batch_size": 8,
    "num_epochs": 3,
    "checkpoint_minutes": 0,
    "save_summary_steps": 2,
}


def run(folder: Path, data: Path, *more: str) -> int:
    """Train here; returns the exit code."""
    return train.main(["--model_dir", str(folder), "--data_dir", str(data), *more])


def score(folder: Path, *more: str, split: str = "test") -> dict[str, float]:
    """Evaluate a run's best checkpoint here; returns what it wrote."""
    assert evaluate.main(["--model_dir", str(folder), "--split", split, *more]) == 0
    return results(folder, f"{split}_best")


def answers(
    capsys: pytest.CaptureFixture[str], folder: Path, *argv: str | Path
) -> list[dict[str, Any]]:
    """Predict with a run's best checkpoint; returns the lines that are printed."""
    capsys.readouterr()
    assert predict.main(["--model_dir", str(folder), *map(str, argv), "--jsonl"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def results(folder: Path, which: str) -> dict[str, float]:
    """Return metrics that a run or its evaluation wrote: of `test_best`, `val_last_weights` ..."""
    found: dict[str, float] = json.loads((folder / f"metrics_{which}.json").read_text())
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    """Return the weights of a run's checkpoint."""
    found: dict[str, torch.Tensor] = read_checkpoint(folder / name)["state_dict"]
    return found


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Tell whether two nets have the same weights."""
    return all(torch.equal(first[name], second[name]) for name in first)


def begin(warm: Warm, folder: Path, data: Path, **job: object) -> Child:
    """Start a run in a process of its own; what it prints goes to printed.txt."""
    argv: Sequence[str | Path] = ["--model_dir", folder, "--data_dir", data]
    return warm.start(argv, folder / "printed.txt", **job)


def stopped(warm: Warm, folder: Path, data: Path, number: int = signal.SIGKILL) -> None:
    """Start a run, and kill it or stop it by another signal when it has saved twice."""
    child = begin(warm, folder, data, slow=0.005)
    wait_for(lambda: (folder / "previous.pt").exists())
    os.kill(child.pid, number)
    assert child.wait() == 128 + number


def stop_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Let the next run in this process stop after so many batches of training."""
    left = iter([0] * (batch - 1))

    def agree(requested: int, due: int, pace: int) -> list[int]:
        return [next(left, 15), due, 1]

    monkeypatch.setattr("core.machine.signals.Stop.agree", staticmethod(agree))


def assert_same(folder: Path, whole: Path) -> None:
    """Hold two runs to the same bytes, and the first one to no file left half written.

    Of checkpoints in parts last.pt differs: torch gives every save a random name, and it is hashed.
    """
    names = [name for name in RESULTS if name != "last.pt" or not (whole / "last.dcp").exists()]
    for name in names:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(folder.glob(".*.tmp"))
