"""The hooks of a task, each in the shape of a real project: they train, stop, resume, evaluate."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evaluate
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder, rows
from tests.projects.data import examples
from tests.test_survival import assert_same, begin
from tests.warm import Warm

PROJECTS: dict[str, dict[str, Any]] = {
    "distillation": {},
    "gan": {"monitor": "share_called_real"},
    "multitask": {"monitor": "size_error", "monitor_mode": "min"},
    "masked": {"monitor": "streamed", "monitor_mode": "min"},
    "regression": {"monitor": "error", "monitor_mode": "min", "depth": 2},
    "weighted": {"class_weights": True},
    "unlabelled": {},
}


def recipe(name: str, **more: Any) -> dict[str, Any]:
    params = {"task": f"tests.projects.{name}", "batch_size": 8, "num_epochs": 4}
    return params | {"learning_rate": 0.02, "checkpoint_minutes": 0} | PROJECTS[name] | more


def no_data(folder: Path) -> Path:
    """Return an empty folder for tasks that make up their data."""
    (folder.parent / "data").mkdir(exist_ok=True)
    return folder.parent / "data"


def trained(warm: Warm, folder: Path) -> Path:
    child = begin(warm, folder, no_data(folder))
    assert child.wait() == 0, (folder / "printed.txt").read_text()
    return folder


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_trains_survives_a_kill_and_is_evaluated(
    warm: Warm, run_folder: Folder, name: str
) -> None:
    whole, killed = run_folder("whole", **recipe(name)), run_folder("killed", **recipe(name))
    trained(warm, whole)
    child = begin(warm, killed, no_data(killed), slow=0.005)
    while not (killed / "previous.pt").exists():
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == 137
    trained(warm, killed)
    assert_same(killed, whole)

    assert evaluate.main(["--model_dir", str(whole), "--split", "val"]) == 0
    best = json.loads((whole / "metrics_val_best_weights.json").read_text())
    assert json.loads((whole / "metrics_val_best.json").read_text()) == best


@pytest.mark.parametrize("name", [name for name in PROJECTS if name != "gan"])
def test_no_number_of_a_project_depends_on_the_batch_size(
    warm: Warm, run_folder: Folder, name: str
) -> None:
    folder = trained(warm, run_folder(**recipe(name, num_epochs=1)))
    found = []
    for size in (1, 3, 14):
        argv = ["--model_dir", str(folder), "--split", "val", "--set", f"batch_size={size}"]
        assert evaluate.main(argv) == 0
        found.append(json.loads((folder / "metrics_val_best.json").read_text()))
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-6)


def test_every_part_of_a_loss_is_logged(warm: Warm, run_folder: Folder) -> None:
    folder = trained(warm, run_folder(**recipe("distillation")))
    for row in rows(folder):
        for split in ("train", "val"):
            mean = (row[f"{split}_soft"] + row[f"{split}_hard"]) / 2
            assert row[f"{split}_loss"] == pytest.approx(mean, abs=1e-6)


def test_a_frozen_teacher_stays_as_it_was(warm: Warm, run_folder: Folder) -> None:
    short = trained(warm, run_folder("short", **recipe("distillation", num_epochs=1)))
    long = trained(warm, run_folder("long", **recipe("distillation", num_epochs=3)))
    first, last = (read_checkpoint(folder / "last.pt")["state_dict"] for folder in (short, long))
    for name, weight in first.items():
        assert torch.equal(last[name], weight) == name.startswith("teacher"), name


def test_each_optimizer_changes_its_own_weights_and_extra_is_kept(
    warm: Warm, run_folder: Folder
) -> None:
    folder = trained(warm, run_folder(**recipe("gan")))
    last = read_checkpoint(folder / "last.pt")
    assert last["optim_dict"] is None
    assert set(last["other_optim_dicts"]) == {"generator", "critic"}
    assert last["extra"]["seen"] == 4 * 30
    assert last["extra"]["of_cpu"] == last["step"]
    torch.testing.assert_close(last["extra"]["sums"], 4 * examples("train")[0].sum(dim=0))
    assert {"train_critic", "train_generator"} <= rows(folder)[0].keys()


def test_groups_of_weights_have_their_own_rates_and_schedule(
    warm: Warm, run_folder: Folder
) -> None:
    last = read_checkpoint(trained(warm, run_folder(**recipe("multitask"))) / "last.pt")
    rates = [group["lr"] for group in last["optim_dict"]["param_groups"]]
    steps = last["step"]
    assert rates == pytest.approx([0.002 * 0.99**steps, 0.02 * 0.99**steps])


def test_the_metric_to_minimise_picks_the_best_epoch(warm: Warm, run_folder: Folder) -> None:
    folder = trained(warm, run_folder(**recipe("regression")))
    errors = [row["val_error"] for row in rows(folder)]
    assert read_checkpoint(folder / "best.pt")["epoch"] == errors.index(min(errors)) + 1


def test_streamed_metrics_equal_those_of_the_whole(warm: Warm, run_folder: Folder) -> None:
    for row in rows(trained(warm, run_folder(**recipe("masked")))):
        for split in ("train", "val"):
            assert row[f"{split}_streamed"] == pytest.approx(row[f"{split}_whole"], abs=1e-6)


def test_names_of_classes_stand_in_the_report(
    warm: Warm, run_folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = trained(warm, run_folder(**recipe("weighted")))
    assert evaluate.main(["--model_dir", str(folder)]) == 0
    assert "middle" in caplog.text
    assert "of 11 right" in caplog.text


def test_a_split_without_labels_is_predicted(warm: Warm, run_folder: Folder) -> None:
    folder = trained(warm, run_folder(**recipe("unlabelled")))
    assert evaluate.main(["--model_dir", str(folder), "--save_predictions"]) == 0
    saved = np.load(folder / "predictions_test.npz")
    assert saved["outputs"].shape == (11, 3)
    assert saved["ids"].tolist() == list(range(11))
    assert "labels" not in saved
    assert json.loads((folder / "metrics_test_best.json").read_text()) == {}


@pytest.mark.parametrize("task", ["weighted", "unlabelled"])  # utils.Batches, and a DataLoader
def test_a_share_of_the_training_split_is_held_out(
    warm: Warm, run_folder: Folder, task: str
) -> None:
    folder = trained(warm, run_folder(**recipe(task, val_split=0.2)))
    log = (folder / "train.log").read_text()
    assert "train: 24 examples" in log
    assert "val: 6 examples" in log
    assert evaluate.main(["--model_dir", str(folder), "--split", "val"]) == 0
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert json.loads((folder / "metrics_val_best.json").read_text()) == best
    held_out = np.load(folder / "predictions_val.npz")
    assert evaluate.main(["--model_dir", str(folder), "--split", "train"]) == 0
    used = np.load(folder / "predictions_train.npz")
    if task == "weighted":
        assert sorted([*held_out["ids"], *used["ids"]]) == list(range(30))
    assert len(used["labels"]) == 24
