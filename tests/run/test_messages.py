"""What a person is told about a run."""

from pathlib import Path

import pytest

from tests.conftest import Folder, write_signs
from tests.helpers.runs import run


def test_a_net_that_learns_nothing_is_called_out(
    run_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_signs(tmp_path / "data", {"train": 48, "val": 12})
    for path in sorted((data / "val_signs").iterdir()):  # labels that do not fit the pictures
        wrong = (int(path.name[0]) + 3) % 6
        path.rename(path.with_name(f"{wrong}_IMG_{path.stem[-4:]}x.jpg"))
    run(run_folder(task="tests.projects.linear", num_epochs=5, learning_rate=0.1), data)
    assert "LEARNED NOTHING USEFUL" in caplog.text


def test_a_class_without_training_examples_is_named(
    run_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_signs(tmp_path / "data", {"train": 12, "val": 12})
    for path in (data / "train_signs").glob("4_*"):
        path.unlink()
    assert run(run_folder(), data) == 0
    assert "class 4 is in the validation split, but not in training" in caplog.text
