"""Code and params files written for the CS230 template run unchanged."""

import json
from pathlib import Path

import pytest

import evaluate
import train
from tests.conftest import Folder, rows

ORIGINAL = {  # the template's own params.json
    "learning_rate": 1e-3,
    "batch_size": 32,
    "num_epochs": 10,
    "dropout_rate": 0.8,
    "num_channels": 32,
    "save_summary_steps": 100,
    "num_workers": 4,
}


def test_the_params_file_of_the_template_runs_unchanged(tmp_path: Path, signs: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(ORIGINAL))
    assert train.main(["--model_dir", str(tmp_path), "--data_dir", str(signs)]) == 0
    assert len(rows(tmp_path)) == 10
    assert evaluate.main(["--model_dir", str(tmp_path), "--data_dir", str(signs)]) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_net_and_a_loader_of_the_template_run_unchanged(
    run_folder: Folder, signs: Path, workers: int
) -> None:
    folder = run_folder(task="tests.original", num_workers=workers)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    assert "a DataLoader; order by (seed, epoch)" in (folder / "train.log").read_text()
    assert evaluate.main(["--model_dir", str(folder), "--split", "val"]) == 0
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert json.loads((folder / "metrics_val_best.json").read_text()) == best
    assert best.keys() == {"accuracy", "loss"}


def test_workers_do_not_change_the_result_of_a_run(run_folder: Folder, signs: Path) -> None:
    folders = [run_folder(f"{n}", task="tests.original", num_workers=n) for n in (0, 2)]
    for folder in folders:
        train.main(["--model_dir", str(folder), "--data_dir", str(signs)])
    for name in ("last.pt", "metrics.jsonl"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
