"""Loss and metrics are those of the whole split, by the params of the checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from tests.conftest import Folder
from tests.helpers.runs import results, run, score
from tests.projects.linear.net import Net
from tests.projects.pictures.net import LABEL_SMOOTHING


def test_accuracy_is_hits_over_examples_and_no_number_depends_on_the_batch_size(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(learning_rate=0.01)
    run(folder, signs)
    whole = score(folder, "--set", "batch_size=32", "--save_predictions")
    saved = np.load(folder / "predictions_test.npz")
    hits = int((saved["outputs"].argmax(axis=1) == saved["labels"]).sum())
    assert whole["accuracy"] == hits / 40
    assert sorted(saved["ids"]) == sorted(p.name for p in (signs / "test_signs").iterdir())
    for size in (1, 7, 40, 100):
        part = score(folder, "--set", f"batch_size={size}")
        assert part == pytest.approx(whole, abs=1e-6)


def test_the_loss_of_a_split_is_the_mean_over_its_examples(run_folder: Folder, signs: Path) -> None:
    folder = run_folder()
    run(folder, signs)
    value = score(folder, "--save_predictions", "--set", "batch_size=7")["loss"]
    saved = np.load(folder / "predictions_test.npz")
    logits = torch.from_numpy(saved["outputs"]).double()
    labels = torch.from_numpy(saved["labels"])
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    assert value == pytest.approx(expected.item(), abs=1e-6)


def test_the_params_of_the_checkpoint_rule_in_evaluation(run_folder: Folder, signs: Path) -> None:
    folder = run_folder()
    run(folder, signs)
    before = score(folder)
    (folder / "params.json").write_text('{"num_channels": 5, "dropout_rate": 0.9}')
    assert score(folder) == before


def test_the_last_checkpoint_is_evaluated_on_the_runs_data_with_averaged_weights(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.projects.linear", ema_decay=0.9, learning_rate=0.1)
    assert run(folder, signs) == 0
    argv = ["--model_dir", str(folder), "--restore_file", "last", "--split", "val"]
    assert evaluate.main(argv) == 0
    assert results(folder, "val_last") == results(folder, "val_last_weights")


def test_a_checkpoint_of_the_original_needs_no_num_threads(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear")
    (folder / "params.json").write_text('{"task": "tests.projects.linear"}')
    weights = Net(None).state_dict()  # type: ignore[arg-type]
    torch.save({"epoch": 3, "state_dict": weights, "optim_dict": {}}, folder / "best.pth.tar")
    score(folder, "--data_dir", str(signs))
