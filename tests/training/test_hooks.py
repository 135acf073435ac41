"""The hooks of a task, each in the shape of a real project."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import results, rows, run, score
from tests.projects.data import examples
from tests.projects.registry import OWN


@pytest.fixture
def trained(run_folder: Folder, no_data: Path) -> Callable[..., Path]:
    """Return a function that trains a project; returns the folder of its run."""

    def train(name: str, run_name: str = "run", **params: Any) -> Path:
        folder = run_folder(run_name, **OWN[name].all_params(**params))
        assert run(folder, no_data) == 0
        return folder

    return train


Train = Callable[..., Path]


def test_every_part_of_a_loss_is_logged(trained: Train) -> None:
    folder = trained("distillation")
    for row in rows(folder):
        for split in ("train", "val"):
            mean = (row[f"{split}_soft"] + row[f"{split}_hard"]) / 2
            assert row[f"{split}_loss"] == pytest.approx(mean, abs=1e-6)


def test_a_frozen_teacher_stays_as_it_was(trained: Train) -> None:
    short = trained("distillation", "short", num_epochs=1)
    long = trained("distillation", "long", num_epochs=3)
    first, last = (read_checkpoint(folder / "last.pt")["state_dict"] for folder in (short, long))
    for name, weight in first.items():
        assert torch.equal(last[name], weight) == name.startswith("teacher"), name


def test_each_optimizer_changes_its_own_weights_and_extra_is_kept(trained: Train) -> None:
    folder = trained("gan")
    last = read_checkpoint(folder / "last.pt")
    assert last["optim_dict"] is None
    assert set(last["other_optim_dicts"]) == {"generator", "critic"}
    assert last["extra"]["seen"] == 2 * 30
    assert last["extra"]["of_cpu"] == last["step"]
    torch.testing.assert_close(last["extra"]["sums"], 2 * examples("train")[0].sum(dim=0))
    assert {"train_critic", "train_generator"} <= rows(folder)[0].keys()


def test_groups_of_weights_have_their_own_rates_and_schedule(trained: Train) -> None:
    last = read_checkpoint(trained("multitask") / "last.pt")
    rates = [group["lr"] for group in last["optim_dict"]["param_groups"]]
    steps = last["step"]
    assert rates == pytest.approx([0.002 * 0.99**steps, 0.02 * 0.99**steps])


def test_the_metric_to_minimise_picks_the_best_epoch(trained: Train) -> None:
    folder = trained("regression")
    errors = [row["val_error"] for row in rows(folder)]
    assert read_checkpoint(folder / "best.pt")["epoch"] == errors.index(min(errors)) + 1


def test_streamed_metrics_equal_those_of_the_whole(trained: Train) -> None:
    for row in rows(trained("masked")):
        for split in ("train", "val"):
            assert row[f"{split}_streamed"] == pytest.approx(row[f"{split}_whole"], abs=1e-6)


def test_names_of_classes_stand_in_the_report(
    trained: Train, caplog: pytest.LogCaptureFixture
) -> None:
    folder = trained("weighted")
    score(folder)
    assert "middle" in caplog.text
    assert "of 11 right" in caplog.text


def test_a_split_without_labels_is_predicted(trained: Train) -> None:
    folder = trained("unlabelled")
    assert score(folder, "--save_predictions") == {}
    saved = np.load(folder / "predictions_test.npz")
    assert saved["outputs"].shape == (11, 3)
    assert saved["ids"].tolist() == list(range(11))
    assert "labels" not in saved


@pytest.mark.parametrize("task", ["weighted", "unlabelled"])  # utils.Batches, and a DataLoader
def test_a_share_of_the_training_split_is_held_out(trained: Train, task: str) -> None:
    folder = trained(task, val_split=0.2)
    log = (folder / "train.log").read_text()
    assert "train: 24 examples" in log
    assert "val: 6 examples" in log
    assert score(folder, split="val") == results(folder, "val_best_weights")
    held_out = np.load(folder / "predictions_val.npz")
    score(folder, split="train")
    used = np.load(folder / "predictions_train.npz")
    if task == "weighted":
        assert sorted([*held_out["ids"], *used["ids"]]) == list(range(30))
    assert len(used["labels"]) == 24
