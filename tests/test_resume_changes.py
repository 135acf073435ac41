"""Changes on --resume in mid-epoch, evaluation of the last checkpoint, and val_split."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import evaluate
import train
from core.base.errors import DataError
from core.base.params import Params
from core.data.fetching import exact, split_off
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder, rows, write_signs


def run(folder: Path, data: Path, *more: str) -> int:
    return train.main(["--model_dir", str(folder), "--data_dir", str(data), *more])


def stop_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Let the next start stop after so many batches of training."""
    left = iter([0] * (batch - 1))

    def agree(requested: int, due: int) -> list[int]:
        return [next(left, 15), due]

    monkeypatch.setattr("core.machine.signals.Stop.agree", staticmethod(agree))


@pytest.mark.parametrize("change", ["seed=4", "val_split=0.2", "data"])
def test_one_cycle_is_resumed_in_mid_epoch_with_other_batches(
    run_folder: Folder, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder = run_folder(task="tests.linear", lr_scheduler="OneCycleLR")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert run(folder, signs) == 128 + 15
    more, data = ["--set", change], signs
    if change == "data":
        more, data = [], write_signs(tmp_path / "more", {"train": 70, "val": 20})
    assert run(folder, data, "--resume", *more) == 0
    assert len(rows(folder)) == 2


def test_the_last_checkpoint_is_evaluated_on_the_runs_data_with_averaged_weights(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.linear", ema_decay=0.9, learning_rate=0.1)
    assert run(folder, signs) == 0
    argv = ["--model_dir", str(folder), "--restore_file", "last", "--split", "val"]
    assert evaluate.main(argv) == 0
    wanted = json.loads((folder / "metrics_val_last_weights.json").read_text())
    assert json.loads((folder / "metrics_val_last.json").read_text()) == wanted


class Named(Dataset[int]):
    filenames = tuple("abcdefghij")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        return index


def test_a_part_split_off_keeps_the_names_of_its_examples() -> None:
    params = Params.of({"val_split": 0.3, "seed": 1}, "test")
    _, part = split_off(DataLoader(Named(), batch_size=4, shuffle=True), params)
    loader = exact(part, seed=1)
    numbers = torch.cat(list(loader.epoch(0))).tolist()
    assert loader.ids == [Named.filenames[i] for i in numbers]


def test_val_split_of_another_loader_is_a_clear_error() -> None:
    params = Params.of({"val_split": 0.3, "seed": 1}, "test")
    with pytest.raises(DataError, match="val_split"):
        split_off(object(), params)


def test_a_schedule_that_torch_cannot_make_is_a_usage_error(
    run_folder: Folder, signs: Path
) -> None:
    args = {"pct_start": 0.25}
    folder = run_folder(
        task="tests.linear",
        lr_scheduler="OneCycleLR",
        lr_scheduler_args=args,
        batch_size=24,
        num_epochs=2,
    )
    assert run(folder, signs) == 2


def test_scores_of_other_validation_data_do_not_compete(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.linear", num_epochs=1)
    assert run(folder, signs) == 0
    more = ["--resume", "--set", "num_epochs=2", "--set", "val_split=0.25"]
    assert run(folder, signs, *more) == 0
    assert read_checkpoint(folder / "best.pt")["epoch"] == 2
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert best["loss"] == rows(folder)[1]["val_loss"]


def test_options_of_a_start_that_left_no_checkpoint_are_not_kept(
    run_folder: Folder,
    signs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise DataError("a picture is damaged")

    folder = run_folder(task="tests.linear")
    with monkeypatch.context() as patch:
        patch.setattr("train.train", fail)
        assert run(folder, signs, "--set", "learning_rate=0.5", "--set", "seed=7") == 1
    assert not (folder / "last.pt").exists()
    assert run(folder, signs, "--set", "seed=8") == 0
    note = "Note: --set learning_rate=0.5 of a start that left no checkpoint is not in force any"
    assert note in capsys.readouterr().err
    params = read_checkpoint(folder / "last.pt")["params"]
    assert (params["learning_rate"], params["seed"]) == (1e-3, 8)
    assert run(folder, signs, "--set", "num_epochs=3") == 0
    capsys.readouterr()
    assert run(folder, signs) == 0
    assert "Overrides of the params file: seed=8, " in capsys.readouterr().err


def test_a_complete_run_says_that_new_params_are_not_used(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.linear")
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "seed=9") == 0
    said = capsys.readouterr().err
    assert "Note: not trained with the new seed; --overwrite starts anew." in said
    assert "complete, nothing to do" in said
