"""First weights of a task's own, params by name, several optimizers of one loss, runtime facts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import evaluate
import train
from core.run.opening import open_run
from core.run.restoring import restore
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import results, rows, run, score, stop_at, weights
from tests.projects.registry import OWN


@pytest.fixture
def make(run_folder: Folder) -> Callable[..., Path]:
    """Return a function that makes the folder of a run of the project `tuned`."""
    return lambda name="run", **params: run_folder(name, **OWN["tuned"].all_params(**params))


def pretrained(folder: Path) -> dict[str, Any]:
    """Write weights of the body into a folder, and return them."""
    torch.save(body := nn.Linear(4, 6).state_dict(), folder / "body.pt")
    return body


def test_first_weights_are_given_to_a_new_run_only(
    make: Callable[..., Path], no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = pretrained(no_data)
    folder = make(pretrained="body.pt", learning_rate=1e-9, ema_decay=0.5, num_epochs=2)
    stop_at(monkeypatch, 3)
    assert run(folder, no_data) == 143
    monkeypatch.undo()
    for name, weight in given.items():
        torch.testing.assert_close(weights(folder)[f"body.{name}"], weight)
        averaged = read_checkpoint(folder / "last.pt")["ema_dict"][f"module.body.{name}"]
        torch.testing.assert_close(averaged, weight)
    (no_data / "body.pt").unlink()  # nothing asks for it again
    assert run(folder, no_data, "--resume") == 0
    assert score(folder, split="val") == results(folder, "val_best_weights")


def test_first_weights_that_replace_others_are_refused(
    make: Callable[..., Path], no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make(replaces=True), no_data) == 2
    assert "initialize of net.py replaces body.weight" in capsys.readouterr().err


def test_every_optimizer_steps_for_one_loss(make: Callable[..., Path], no_data: Path) -> None:
    folder = make("short", num_epochs=1), make("long", num_epochs=3)
    for each in folder:
        assert run(each, no_data) == 0
    before, after = map(weights, folder)
    assert not any(torch.equal(before[name], after[name]) for name in before)
    last = read_checkpoint(folder[0] / "last.pt")["other_optim_dicts"]
    rates = {name: state["param_groups"][0]["lr"] for name, state in last.items()}
    assert rates == pytest.approx({"body": 0.002, "head": 0.02})


def test_loss_metrics_and_the_like_get_params(make: Callable[..., Path], no_data: Path) -> None:
    smooth, plain = make("smooth", smoothing=0.9, num_epochs=1), make("plain", num_epochs=1)
    for folder in (smooth, plain):
        assert run(folder, no_data) == 0
    assert rows(smooth)[0]["val_loss"] != rows(plain)[0]["val_loss"]
    assert rows(plain)[0]["val_largest"] > 0
    assert score(plain, split="val") == results(plain, "val_best_weights")


def test_a_loaders_paths_follow_the_data(make: Callable[..., Path], no_data: Path) -> None:
    folder, other = make(num_epochs=1), no_data.parent / "elsewhere"
    assert run(folder, no_data) == 0
    shutil.move(no_data, other)
    argv = ["--model_dir", str(folder), "--data_dir", str(other), "--split", "val"]
    assert evaluate.main(argv) == 0
    restored = restore(folder, "best", str(other))
    assert restored.loader_params == {"scale": 2.0, "words": [f"{other}/words.txt"]}
    assert restored.params.data_dir == str(other)


def test_device_and_folder_in_force_stand_in_the_params(
    make: Callable[..., Path], no_data: Path
) -> None:
    started = open_run(make(), {"data_dir": str(no_data)})
    started.fetch_loaders()
    assert (started.params.device, started.params.data_dir) == ("cpu", str(no_data))


def test_a_split_of_another_name_is_named_and_can_be_mapped(
    make: Callable[..., Path], no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(dev=True, num_epochs=1)
    assert run(folder, no_data) == 1
    assert "gives no split 'val', but 'dev': set val_split: dev" in capsys.readouterr().err
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"val_split": "dev"}))
    assert train.main(["--model_dir", str(folder), "--data_dir", str(no_data)]) == 0
    assert score(folder, split="val") == results(folder, "val_best_weights")
