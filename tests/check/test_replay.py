"""After a loss that is not finite, check.py --replay says where it began."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import check
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import run

Failed = Callable[..., tuple[Path, str]]


@pytest.fixture
def failed(run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]) -> Failed:
    """Return a function that trains until the loss is not finite, and replays the step."""

    def make(fault: str, **params: Any) -> tuple[Path, str]:
        recipe = {"task": "tests.projects.unsound", "batch_size": 8, "fault": fault} | params
        folder = run_folder(**recipe)
        assert run(folder, no_data) == 1
        assert "check.py --replay" in capsys.readouterr().err
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert check.main(["--model_dir", str(folder), "--replay"]) == 0
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        return folder, capsys.readouterr().out

    return make


def test_the_layer_is_named(failed: Failed) -> None:
    _, printed = failed("a layer that divides by 0")
    assert printed.startswith("Epoch 1, step 1: the output of power (Power) is the first tensor: ")
    assert "; its input is -" in printed


def test_the_loss_is_named(failed: Failed) -> None:
    _, printed = failed("outputs that are no scores")
    assert "Epoch 1, step 1: the loss is the first tensor: what the net gives is finite" in printed


def test_a_batch_that_is_not_finite_is_named(failed: Failed) -> None:
    _, printed = failed("inputs that are not finite")
    assert "the batch itself is not finite: 1 NaN and 0 infinite of 32" in printed


def test_a_gradient_is_named_with_its_line(failed: Failed) -> None:
    _, printed = failed("a gradient that is not finite")
    assert "Epoch 1, step 1: the gradient is the first tensor: Function 'SqrtBackward0'" in printed
    assert "tests/projects/unsound/net.py" in printed
    assert "torch.sqrt(torch.zeros_like(h) * h)" in printed


def test_a_step_after_the_last_checkpoint_comes_again(failed: Failed) -> None:
    folder, printed = failed("a drawn infinity", num_epochs=30)
    last = read_checkpoint(folder / "last.pt")
    assert last["step"] > 0
    assert printed.startswith(f"Epoch {last['epoch'] + 1}, step ")
    assert "the input of" in printed


def test_a_complete_run_has_no_such_step(failed: Failed, no_data: Path) -> None:
    folder, _ = failed("a layer that divides by 0")
    assert run(folder, no_data, "--set", "fault=none") == 0
    assert check.main(["--model_dir", str(folder), "--replay"]) == 2
