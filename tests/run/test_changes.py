"""Params, data or code that changed since a run began: refused, or gone on with by --resume."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.reading.outputs import read_batch
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder, write_signs
from tests.helpers import ROOT
from tests.helpers.runs import equal, results, rows, run, stop_at, weights

NET = "tests/projects/pictures/net.py"


def test_changed_params_are_refused_resumed_or_overwritten(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(lr_scheduler="StepLR", lr_scheduler_args={"step_size": 1})
    run(folder, signs)
    (folder / "mine.txt").write_text("not an output")
    assert run(folder, signs, "--set", "dropout_rate=0.1") == 2
    assert "dropout_rate: 0.3 -> 0.1" in capsys.readouterr().err
    assert (
        run(folder, signs, "--set", "learning_rate=0.5", "--set", "num_epochs=3", "--resume") == 0
    )
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    assert rows(folder)[-1]["learning_rate"] == pytest.approx(0.5 * 0.1**2)
    assert run(folder, signs) == 0  # the overrides are kept
    assert run(folder, signs, "--set", "num_epochs=2") == 2
    assert "3 epochs are done" in capsys.readouterr().err
    assert run(folder, signs, "--overwrite") == 0
    assert [row["epoch"] for row in rows(folder)] == [1, 2]
    assert (folder / "mine.txt").exists()


def test_changed_data_are_refused(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_signs(tmp_path / "data", {"train": 12, "val": 6})
    folder = run_folder()
    run(folder, data)
    shutil.copy(data / "val_signs" / "0_IMG_0000.jpg", data / "val_signs" / "0_IMG_0001.jpg")
    assert run(folder, data) == 2
    assert "data" in capsys.readouterr().err
    assert run(folder, data, "--set", "num_epochs=3", "--resume") == 0


def test_changed_code_of_a_task_is_said_and_recorded(
    run_folder: Folder, tmp_path: Path, signs: Path
) -> None:
    clone = tmp_path / "clone"  # a copy of the project, whose task is then edited
    for name in ("core", "tests/projects"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "utils.py"):
        shutil.copy(ROOT / name, clone / name)
    folder = run_folder(num_epochs=1)
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--data_dir", str(signs)]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    with (clone / NET).open("a") as file:
        file.write("# edited\n")
    subprocess.run([*command, "--set", "num_epochs=2"], cwd=clone, check=True, capture_output=True)
    assert f"{NET} has changed" in (folder / "train.log").read_text()
    resolved = json.loads((folder / "params.resolved.json").read_text())
    assert resolved["code_changed"] == [NET]


@pytest.mark.parametrize(
    "kind",
    [
        "cache_writer",  # into the folder of its data
        "drawing",  # from three generators
        "numpy_params",  # set by its loader
    ],
)
def test_a_longer_run_goes_on_where_the_shorter_one_ended(
    run_folder: Folder, no_data: Path, kind: str
) -> None:
    common = {"task": "tests.projects.kinds", "kind": kind, "batch_size": 2}
    common |= {"monitor": "agreement", "monitor_mode": "max"}
    whole, folder = run_folder("whole", **common), run_folder("run", **common)
    assert run(whole, no_data) == 0
    assert run(folder, no_data, "--set", "num_epochs=1") == 0
    assert run(folder, no_data, "--set", "num_epochs=2", "--resume") == 0
    assert rows(folder) == rows(whole)
    assert equal(weights(folder), weights(whole))


def test_a_schedule_of_the_tasks_own_needs_a_word_to_be_prolonged(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.projects.kinds", kind="scheduler", num_epochs=2)
    assert run(folder, no_data) == 0
    assert run(folder, no_data, "--set", "num_epochs=4") == 2
    assert "num_epochs: 2 -> 4" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["seed=4", "val_split=0.2", "data"])
def test_one_cycle_is_resumed_in_mid_epoch_with_other_batches(
    run_folder: Folder, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder = run_folder(task="tests.projects.linear", lr_scheduler="OneCycleLR")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert run(folder, signs) == 128 + 15
    more, data = ["--set", change], signs
    if change == "data":
        more, data = [], write_signs(tmp_path / "more", {"train": 70, "val": 20})
    assert run(folder, data, "--resume", *more) == 0
    assert len(rows(folder)) == 2


def test_scores_of_other_validation_data_do_not_compete(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear", num_epochs=1)
    assert run(folder, signs) == 0
    more = ["--resume", "--set", "num_epochs=2", "--set", "val_split=0.25"]
    assert run(folder, signs, *more) == 0
    assert read_checkpoint(folder / "best.pt")["epoch"] == 2
    best = results(folder, "val_best_weights")
    assert best["loss"] == rows(folder)[1]["val_loss"]


def test_a_complete_run_says_that_new_params_are_not_used(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.projects.linear")
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "seed=9") == 0
    said = capsys.readouterr().err
    assert "Note: not trained with the new seed; --overwrite starts anew." in said
    assert "nothing to do" in said


@pytest.mark.parametrize(("more", "asked"), [([], 0), (["--resume", "--set", "seed=7"], 1)])
def test_what_outputs_mean_is_found_out_anew_after_a_change(
    more: list[str], asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"task": "tests.projects.weighted", "num_epochs": 1, "num_threads": 1}
    (tmp_path / "params.json").write_text(json.dumps(params))
    assert run(tmp_path, tmp_path) == 0
    seen: list[int] = []

    def counted(*args: Any) -> Any:
        seen.append(1)
        return read_batch(*args)

    monkeypatch.setattr("core.run.baseline.read_batch", counted)
    assert run(tmp_path, tmp_path, "--set", "num_epochs=2", *more) == 0
    assert len(seen) == asked
