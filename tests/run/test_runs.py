"""train.py as it is called: what a run writes, and how the same command goes on with it."""

import json
import os
from pathlib import Path

import pytest
import torch

import evaluate
import train
from core.machine.environment import usable_cores
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import results, rows, run, score, weights


def test_a_run_writes_what_it_promises_and_evaluation_repeats_it(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(learning_rate=0.01)
    assert run(folder, signs) == 0
    log = (folder / "train.log").read_text()
    for part in ("48 examples", "20 examples", "weights to train", "chance 1.792", "Best:"):
        assert part in log
    first, second = rows(folder)
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (1, 3, 2, 6)
    assert {"train_loss", "train_accuracy", "val_loss", "val_f1", "learning_rate"} <= first.keys()

    best = results(folder, "val_best_weights")
    last = results(folder, "val_last_weights")
    assert last == {name[4:]: value for name, value in second.items() if name.startswith("val_")}
    assert best["accuracy"] == max(first["val_accuracy"], second["val_accuracy"])
    assert score(folder, split="val") == best

    resolved = json.loads((folder / "params.resolved.json").read_text())
    assert resolved["params"]["optimizer"] == "Adam"
    assert resolved["versions"]["torch"] == torch.__version__
    assert len(resolved["data"]["sha256"]) == 64


def test_the_same_command_says_that_a_complete_run_is_complete(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder()
    run(folder, signs)
    before = (folder / "last.pt").read_bytes(), (folder / "metrics.jsonl").read_bytes()
    assert run(folder, signs) == 0
    assert "complete" in caplog.text
    assert before == ((folder / "last.pt").read_bytes(), (folder / "metrics.jsonl").read_bytes())


def test_results_that_a_kill_left_unwritten_are_written_by_the_next_start(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.projects.linear", optimizer="SGD", num_epochs=1)
    run(folder, signs)
    paths = [folder / f"metrics_val_{which}_weights.json" for which in ("last", "best")]
    before = [path.read_bytes() for path in paths]
    too_fast = ["--resume", "--set", "num_epochs=2", "--set", "learning_rate=1e38"]
    for more, code in ([], 0), (too_fast, 1):  # complete; goes on, but fails before the next save
        for path in paths:
            path.unlink()
        assert run(folder, signs, *more) == code
        assert [path.read_bytes() for path in paths] == before


def test_rows_that_no_checkpoint_knows_of_are_cut_off(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear", num_epochs=1)
    run(folder, signs)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 6}\n{"epo')
    assert run(folder, signs, "--set", "num_epochs=3") == 0
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    assert all("val_loss" in row for row in rows(folder))


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_a_run_goes_on_with_the_number_of_threads_it_began_with(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.projects.linear", num_threads=None, num_epochs=1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert run(folder, signs) == 0
    finally:
        os.sched_setaffinity(0, cores)
    assert run(folder, signs, "--set", "num_epochs=2") == 0
    assert len(rows(folder)) == 2
    assert read_checkpoint(folder / "last.pt")["params"]["num_threads"] == 1


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(
    run_folder: Folder, signs: Path
) -> None:
    first, second = run_folder("first"), run_folder("second", learning_rate=1e-30)
    run(first, signs)
    assert run(second, signs, "--restore_file", str(first / "best.pt")) == 0
    assert torch.allclose(
        weights(first, "best.pt")["conv1.weight"], weights(second)["conv1.weight"]
    )
    assert run(second, signs) == 0  # complete: nothing is restored again


@pytest.mark.parametrize(
    "setting", ["precision=bfloat16", "precision=float64", "channels_last=true", "seed=0"]
)
def test_settings_of_the_machine_room_train_and_evaluate(
    run_folder: Folder, signs: Path, setting: str
) -> None:
    folder = run_folder(num_epochs=1)
    assert run(folder, signs, "--set", setting) == 0
    assert score(folder, split="val") == results(folder, "val_best_weights")


def test_seeds_decide_the_run(run_folder: Folder, signs: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(run_folder(name, seed=seed, num_epochs=1), signs)
    a, b, c = (run_folder(f"{name}2").parent / name for name in "abc")
    assert (a / "last.pt").read_bytes() == (b / "last.pt").read_bytes()
    assert (a / "metrics.jsonl").read_bytes() != (c / "metrics.jsonl").read_bytes()


def test_missing_data_and_checkpoints_are_clear_errors(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder()
    assert run(folder, Path("nowhere")) == 1
    assert "nowhere" in capsys.readouterr().err
    assert evaluate.main(["--model_dir", str(folder)]) == 1
    assert "best" in capsys.readouterr().err
    run(folder, signs)
    assert evaluate.main(["--model_dir", str(folder), "--split", "tset"]) == 1
    assert "tset" in capsys.readouterr().err


def test_help_is_printed_without_an_error() -> None:
    for script in (train, evaluate):
        with pytest.raises(SystemExit) as stop:
            script.main(["--help"])
        assert stop.value.code == 0
