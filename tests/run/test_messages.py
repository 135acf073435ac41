"""What a person is told about a run."""

from pathlib import Path

import pytest

from tests.conftest import Folder, write_signs
from tests.helpers.messages import all_texts, sentences
from tests.helpers.runs import run
from tests.projects.registry import all_projects


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


def test_numbers_are_held_against_their_mean(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = all_projects()["table"]
    assert project.make_data is not None
    project.make_data(no_data)
    folder = run_folder(**project.all_params(num_epochs=1, learning_rate=1e-9, monitor="error"))
    assert run(folder, no_data) == 0
    said = capsys.readouterr().err
    assert "Always the mean of the labels: val r2: " in said
    assert ", that of the mean " in said
    assert "THIS NET HAS LEARNED NOTHING USEFUL" in said


def test_no_sentence_of_a_message_is_longer_than_25_words() -> None:
    found = list(all_texts())
    assert len(found) > 500
    long = [(place, s) for place, text in found for s in sentences(text) if len(s.split()) > 25]
    assert long == []
