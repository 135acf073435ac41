"""Tasks that are no plain classification of images, and starts that fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate
import train
from tests.conftest import ROOT, Folder, rows


def run(folder: Path, *more: str) -> int:
    return train.main(["--model_dir", str(folder), "--data_dir", str(folder.parent), *more])


@pytest.mark.parametrize(
    "kind",
    [
        "autoencoder",
        "cache_writer",
        "drawing",
        "ignored",
        "multilabel",
        "namedtuple",
        "numpy_params",
        "segmentation",
    ],
)
def test_a_task_of_its_own_kind_trains_goes_on_and_evaluates(run_folder: Folder, kind: str) -> None:
    common = {"task": "tests.kinds", "kind": kind, "batch_size": 2, "monitor": "agreement"}
    whole, folder = run_folder("whole", **common), run_folder("run", **common)
    assert run(whole) == 0
    assert run(folder, "--set", "num_epochs=1") == 0
    assert run(folder, "--set", "num_epochs=2") in (0, 2)  # a schedule of its own needs --resume
    assert run(folder, "--set", "num_epochs=2", "--resume") == 0
    assert rows(folder) == rows(whole)
    assert "val_loss" in rows(folder)[0]
    assert evaluate.main(["--model_dir", str(folder), "--split", "val"]) == 0
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert json.loads((folder / "metrics_val_best.json").read_text()) == best


def test_ignored_labels_weigh_nothing_in_accumulated_updates(run_folder: Folder) -> None:
    common = {"task": "tests.kinds", "kind": "ignored", "precision": "float64", "num_epochs": 1}
    common |= {"optimizer": "SGD", "seed": 1}
    large = run_folder("large", batch_size=12, **common)
    small = run_folder("small", batch_size=2, grad_accumulation=6, **common)
    assert run(large) == run(small) == 0
    for name in ("train_loss", "val_loss"):
        assert rows(small)[0][name] == pytest.approx(rows(large)[0][name], rel=1e-12)


def test_changed_code_of_a_task_is_said_and_recorded(
    run_folder: Folder, tmp_path: Path, signs: Path
) -> None:
    clone = tmp_path / "clone"  # a copy of the project, whose task is then edited
    for name in ("core", "model"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "utils.py"):
        shutil.copy(ROOT / name, clone / name)
    folder = run_folder(num_epochs=1)
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--data_dir", str(signs)]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    with (clone / "model" / "net.py").open("a") as file:
        file.write("# edited\n")
    subprocess.run([*command, "--set", "num_epochs=2"], cwd=clone, check=True, capture_output=True)
    assert "model/net.py has changed" in (folder / "train.log").read_text()
    resolved = json.loads((folder / "params.resolved.json").read_text())
    assert resolved["code_changed"] == ["model/net.py"]


def test_a_schedule_of_the_tasks_own_needs_a_word_to_be_prolonged(
    run_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.kinds", kind="scheduler", num_epochs=2)
    assert run(folder) == 0
    assert run(folder, "--set", "num_epochs=4") == 2
    assert "num_epochs: 2 -> 4" in capsys.readouterr().err


def test_a_stream_without_a_length_is_a_clear_error(
    run_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_folder(task="tests.kinds", kind="stream")) == 1
    assert "__len__" in capsys.readouterr().err


def test_a_start_that_fails_leaves_nothing_behind(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1)
    argv = ["--model_dir", str(folder), "--data_dir", str(signs)]
    for setting, message in [
        ("lr_scheduler=StepLR", "step_size"),
        ("optimizer_args={betas: 0.9}", "optimizer_args"),
        ("optimizer=LBFGS", "closure"),
        ("lr_scheduler=LambdaLR", "make_scheduler"),
    ]:
        assert train.main([*argv, "--set", setting]) == 2
        assert message in capsys.readouterr().err
    assert train.main([*argv, "--restore_file", "nonsense"]) == 1
    assert not (folder / "params.resolved.json").exists()
    assert train.main(argv) == 0
    before = (folder / "last.pt").read_bytes()
    for setting in ("optimizer=Adm", "monitor=acuracy", "data_dir=nowhere"):
        assert train.main([*argv[:2], "--overwrite", "--set", setting]) in (1, 2)
    assert train.main([*argv, "--overwrite", "--restore_file", "best"]) == 2
    assert (folder / "last.pt").read_bytes() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_loader_complains_of_is_told_without_a_traceback(
    run_folder: Folder, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    folder = run_folder(task="tests.kinds", kind="damaged", batch_size=2, num_workers=workers)
    assert run(folder) == 1
    assert capsys.readouterr().err.endswith("error: 5.png: damaged\n  as two lines tell\n")
