"""Starts that fail change nothing, and say what is wrong."""

import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

import evaluate
from core.base.errors import DataError
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import run


def test_a_start_that_fails_leaves_nothing_behind(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1)
    for setting, message in [
        ("lr_scheduler=StepLR", "step_size"),
        ("optimizer_args={betas: 0.9}", "optimizer_args"),
        ("optimizer=LBFGS", "closure"),
        ("lr_scheduler=LambdaLR", "make_scheduler"),
    ]:
        assert run(folder, signs, "--set", setting) == 2
        assert message in capsys.readouterr().err
    assert run(folder, signs, "--restore_file", "nonsense") == 1
    assert not (folder / "params.resolved.json").exists()
    assert run(folder, signs) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["--set", "optimizer=Adm"],
        ["--set", "monitor=accuracyy"],
        ["--data_dir", "nowhere"],
        ["--restore_file", "nonsense"],
        ["--restore_file", "best"],
    ],
)
def test_overwrite_removes_nothing_if_the_run_cannot_start(
    run_folder: Folder, signs: Path, wrong: list[str]
) -> None:
    folder = run_folder(task="tests.projects.linear", num_epochs=1)
    assert run(folder, signs) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(folder, signs, "--overwrite", *wrong) != 0
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_options_of_a_start_that_left_no_checkpoint_are_not_kept(
    run_folder: Folder,
    signs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise DataError("a picture is damaged")

    folder = run_folder(task="tests.projects.linear")
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


@pytest.mark.parametrize("name", ["last.pt", "metrics.jsonl", "train.log", "evaluations.jsonl"])
def test_a_pipe_in_place_of_a_file_of_the_run_is_refused(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = run_folder(num_epochs=1)
    os.mkfifo(folder / name)
    assert run(folder, signs) == 2
    assert f"{folder / name}: is a named pipe" in capsys.readouterr().err
    os.unlink(folder / name)
    assert run(folder, signs) == 0
    os.mkfifo(folder / "predictions_test.npz")
    assert evaluate.main(["--model_dir", str(folder)]) == 2


def test_overrides_outlast_a_damaged_record(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear", num_epochs=1)
    assert run(folder, signs, "--set", "seed=8", "--set", "num_epochs=2") == 0
    (folder / "params.resolved.json").write_text("{damaged")
    assert run(folder, signs, "--set", "num_epochs=3") == 0
    assert read_checkpoint(folder / "last.pt")["params"]["seed"] == 8


def test_bars_of_training_and_validation_are_shown_on_a_terminal(
    run_folder: Folder, signs: Path
) -> None:
    folder, (here, there) = run_folder(task="tests.projects.linear", num_epochs=1), pty.openpty()
    termios.tcsetwinsize(here, (24, 80))
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--data_dir", str(signs)]
    with subprocess.Popen(command, cwd=ROOT, stderr=there) as process:
        os.close(there)
        shown = b""
        with suppress(OSError):  # what Linux raises at the end of a terminal
            while part := os.read(here, 4096):
                shown += part
    os.close(here)
    assert process.returncode == 0
    for bar in (b"Epoch 1/1    0%", b"Validation    0%"):
        assert bar in shown


def test_a_schedule_that_torch_cannot_make_is_a_usage_error(
    run_folder: Folder, signs: Path
) -> None:
    args = {"pct_start": 0.25}
    folder = run_folder(
        task="tests.projects.linear",
        lr_scheduler="OneCycleLR",
        lr_scheduler_args=args,
        batch_size=24,
        num_epochs=2,
    )
    assert run(folder, signs) == 2


def test_a_stream_without_a_length_is_a_clear_error(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_folder(task="tests.projects.kinds", kind="stream"), no_data) == 1
    assert "__len__" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_loader_complains_of_is_told_without_a_traceback(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    params = {"kind": "damaged", "batch_size": 2, "num_workers": workers}
    assert run(run_folder(task="tests.projects.kinds", **params), no_data) == 1
    assert capsys.readouterr().err.endswith("error: 5.png: damaged\n  as two lines tell\n")
