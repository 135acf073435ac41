"""Training metrics are of every example of an epoch, whatever interrupts it."""

import json
from pathlib import Path
from typing import Any

import pytest

import evaluate
import train
from core.training.tally import Tally

STILL = {"optimizer": "SGD", "learning_rate": 1e-12, "num_epochs": 1, "batch_size": 4}


def trained(folder: Path, **params: Any) -> dict[str, Any]:
    """Train a project that makes up its data; returns the last row."""
    folder.mkdir(exist_ok=True)
    values = {"task": "tests.projects.multitask", "num_threads": 1} | STILL | params
    (folder / "params.json").write_text(json.dumps(values))
    assert train.main(["--model_dir", str(folder), "--data_dir", str(folder)]) == 0
    last: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return last


@pytest.mark.parametrize("accumulation", [1, 3])
def test_training_metrics_are_those_of_the_whole_split(tmp_path: Path, accumulation: int) -> None:
    row = trained(tmp_path, grad_accumulation=accumulation)  # weights that hardly move
    assert evaluate.main(["--model_dir", str(tmp_path), "--split", "train"]) == 0
    whole = json.loads((tmp_path / "metrics_train_best.json").read_text())
    assert {name: row[f"train_{name}"] for name in whole} == pytest.approx(whole, abs=1e-6)


def test_large_outputs_are_kept_of_evenly_spaced_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("core.training.tally.LARGEST", 400)
    seen: list[int] = []
    take_in = Tally._take_in

    def counted(self: Tally, outputs: Any, labels: Any) -> None:
        if self.batches is not None:
            seen.append(self.seen)
        take_in(self, outputs, labels)

    monkeypatch.setattr(Tally, "_take_in", counted)
    trained(tmp_path)
    step = seen[1] - seen[0]
    assert step > 1 and seen[:3] == [1, 1 + step, 1 + 2 * step]
    assert f"use one batch in {step}" in caplog.text
