"""A step whose loss is not finite is kept, and check.py --replay says where it began."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import check
import train
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder

Failed = Callable[..., tuple[Path, str]]


@pytest.fixture
def failed(run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Failed:
    """Return a function that trains until the loss is not finite, and replays the step."""

    def make(fault: str, **params: Any) -> tuple[Path, str]:
        recipe = {"task": "tests.unsound", "batch_size": 8, "fault": fault} | params
        folder = run_folder(**recipe)
        (tmp_path / "data").mkdir()
        argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path / "data")]
        assert train.main(argv) == 1
        assert "check.py --replay" in capsys.readouterr().err
        assert check.main(["--model_dir", str(folder), "--replay"]) == 0
        return folder, capsys.readouterr().out

    return make


def test_the_layer_is_named(failed: Failed) -> None:
    folder, printed = failed("a layer that divides by 0")
    assert printed.startswith("Epoch 1, step 1: the output of power (Power) is the first tensor: ")
    assert "; its input is -" in printed
    kept = read_checkpoint(folder / "nonfinite.pt")
    assert kept["place"] == {"epoch": 0, "batch": 0, "step": 0, "extra": {}}
    assert kept["batch"][0].shape == (8, 4)


def test_the_loss_is_named(failed: Failed) -> None:
    _, printed = failed("outputs that are no scores")
    assert "Epoch 1, step 1: the loss is the first tensor: what the net gives is finite" in printed


def test_a_batch_that_is_not_finite_is_named(failed: Failed) -> None:
    _, printed = failed("inputs that are not finite")
    assert "the batch itself is not finite: 1 NaN and 0 infinite of 32" in printed


def test_a_gradient_of_an_earlier_step_is_named_with_its_line(failed: Failed) -> None:
    _, printed = failed("a gradient that is not finite")
    assert "step 2: the weights body.weight are not finite before the step" in printed
    assert "Epoch 1, step 1: the gradient is the first tensor: Function 'SqrtBackward0'" in printed
    assert "tests/unsound/net.py" in printed
    assert "torch.sqrt(torch.zeros_like(h) * h)" in printed


def test_the_kept_weights_and_random_states_are_those_before_the_step(failed: Failed) -> None:
    folder, printed = failed("a drawn infinity", num_epochs=30)
    place = read_checkpoint(folder / "nonfinite.pt")["place"]
    assert place["step"] > 0
    assert printed.startswith(f"Epoch {place['epoch'] + 1}, step {place['step'] + 1}: the input of")
    shown = torch.load(folder / "nonfinite.pt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in shown.values())


def test_a_later_run_that_ends_well_takes_the_step_away(failed: Failed, tmp_path: Path) -> None:
    folder, _ = failed("a layer that divides by 0")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path / "data"), "--set", "fault=none"]
    assert train.main(argv) == 0
    assert not (folder / "nonfinite.pt").exists()
    assert check.main(["--model_dir", str(folder), "--replay"]) == 2


def test_overwrite_takes_the_step_away(failed: Failed, tmp_path: Path) -> None:
    folder, _ = failed("a layer that divides by 0")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path / "data"), "--set", "fault=none"]
    assert train.main([*argv, "--overwrite"]) == 0
    assert not (folder / "nonfinite.pt").exists()


def test_without_a_kept_step_the_run_is_taken_up_at_its_last_checkpoint(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, printed = failed("a drawn infinity", num_epochs=30)
    (folder / "nonfinite.pt").unlink()  # as on a GPU
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert check.main(["--model_dir", str(folder), "--replay"]) == 0
    assert capsys.readouterr().out == printed
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
