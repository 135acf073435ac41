"""check.py finds what is wrong with a net or a loader, and only that."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import check
import train
from core.check.checks import CHECKS
from core.check.subject import FaultError, NotApplicableError, Subject
from tests.conftest import Folder

UNSOUND = {"task": "tests.projects.unsound", "batch_size": 8, "learning_rate": 0.05}

FAULTS = {
    "an order that changes": ("the loader yields the same batches twice", "train, batch"),
    "a transform that counts": ("the loader yields the same batches twice", "randomness"),
    "a dataset that counts": ("worker processes change no batch", "a state of its own"),
    "an unreadable file": ("every example can be read", "017.pt"),
    "inputs that are not finite": ("every example can be read", "train, example 7"),
    "an example in two splits": ("splits share no example", "1 input is in train and in val"),
    "labels that begin at 1": ("labels are of one kind in all splits", "val: label 3"),
    "a class that is not in training": ("labels are of one kind in all splits", "class 2"),
    "splits not drawn at random": ("labels are of one kind in all splits", "93% of val"),
    "large outputs": ("the first loss is near chance", "chance is 1.1"),
    "a layer left out": ("a gradient reaches every weight", "left_out.bias, left_out.weight"),
    "a detached layer": ("a gradient reaches every weight", "body.bias, body.weight"),
    "an optimizer of a part": ("a gradient reaches every weight", "body.bias.* never changes"),
    "outputs that are no scores": ("a gradient reaches every weight", "not finite"),
    "inputs not used": ("the net learns one batch by heart", "labels not fit"),
    "a norm over the batch": ("no output depends on other examples", "normalised"),
    "rows mixed by a view": ("no output depends on other examples", "differ by"),
    "rows merged by a view": ("no output depends on other examples", "view or reshape"),
    "a squeeze": ("a last batch of one is evaluated", "squeeze"),
    "a plain attribute": ("saved weights are the whole net", "register_buffer"),
    "dropout in eval mode": ("evaluation repeats itself", "random numbers"),
    "a loss that is a sum": ("the batch size changes no number", "loss is"),
    "randomness of its own": ("the same seed gives the same steps", "differs"),
}


@pytest.fixture
def subject(run_folder: Folder, no_data: Path) -> Callable[..., Subject]:
    """Return a function that makes what is checked."""

    def make(seed: int = 0, **params: Any) -> Subject:
        return Subject(run_folder(**UNSOUND | params), no_data, {}, train, seed)

    return make


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(subject: Callable[..., Subject], fault: str) -> None:
    what, told = FAULTS[fault]
    with pytest.raises(Exception, match=told):
        CHECKS[what](subject(fault=fault))


@pytest.mark.parametrize("fault", ["a plain attribute", "randomness of its own"])
def test_a_resumed_run_that_differs_is_found(subject: Callable[..., Subject], fault: str) -> None:
    with pytest.raises(FaultError, match=r"state_dict, .* differs, stopped after step"):
        CHECKS["a stopped and resumed run ends bit-equal"](subject(fault=fault, seed=3))


def test_a_fused_optimizer_of_channels_last_weights_goes_on_bit_equal(
    run_folder: Folder, signs: Path
) -> None:
    fused = {"momentum": 0.9, "fused": True}
    folder = run_folder(optimizer="SGD", optimizer_args=fused, channels_last=True, batch_size=8)
    each = Subject(folder, signs, {}, train, seed=3)
    assert "stopped after step" in str(CHECKS["a stopped and resumed run ends bit-equal"](each))


def test_a_run_without_labels_that_is_stopped_in_mid_epoch_keeps_its_metrics(
    subject: Callable[..., Subject],
) -> None:
    params = {"task": "tests.projects.kinds", "kind": "autoencoder", "batch_size": 2}
    each = subject(seed=584, monitor="loss", **params)
    assert CHECKS["a stopped and resumed run ends bit-equal"](each) is not None


def test_a_sound_project_passes_and_its_folder_is_left_alone(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert check.main(["--model_dir", str(folder), "--data_dir", str(no_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CHECKS)
    assert "FAIL" not in {line[:4] for line in lines}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("fault", ["files", "one example to validate on"])
def test_what_is_no_fault_passes(subject: Callable[..., Subject], fault: str) -> None:
    each = subject(fault=fault)
    for what, made in CHECKS.items():
        if what != "speed":  # which takes seconds, and finds no faults
            with suppress(NotApplicableError):
                made(each)


def test_the_loaders_of_the_template_are_checked_too(run_folder: Folder, signs: Path) -> None:
    one = Subject(run_folder(task="tests.projects.original"), signs, {}, train)
    for what in ("the batch size changes no number", "splits share no example"):
        assert CHECKS[what](one) is not None


def test_a_crash_of_the_net_is_a_failure_told_in_one_line(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="a crash")
    assert check.main(["--model_dir", str(folder), "--data_dir", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "FAIL  loaders and net are built: RuntimeError: a fault of the task\n"
    assert printed.err == ""


def test_a_failed_check_ends_with_exit_code_1_and_the_others_are_made(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="an unreadable file")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path), "--set", "num_epochs=1"]
    assert check.main(argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CHECKS)
    assert any(line.startswith("FAIL  every example can be read: ") for line in lines)


def test_an_unreadable_picture_is_named(
    run_folder: Folder, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "signs"
    shutil.copytree(signs, data)
    (data / "val_signs" / "1_IMG_0001.jpg").write_bytes(b"no picture")
    assert check.main(["--model_dir", str(run_folder()), "--data_dir", str(data)]) == 1
    assert "1_IMG_0001.jpg: not an image" in capsys.readouterr().out


def test_find_lr_draws_the_loss_and_suggests_a_rate(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path), "--find_lr"]
    assert check.main(argv) == 0
    assert (folder / "find_lr.png").read_bytes().startswith(b"\x89PNG")
    rate = float(capsys.readouterr().out.partition("Suggestion: learning_rate ")[2].split(",")[0])
    assert 1e-4 < rate < 1


def test_a_fault_of_the_params_names_the_users_own_file(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder()
    (folder / "params.json").write_text('{"task": "tests.projects.pictures"}')
    assert check.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 1
    line = f"FAIL  loaders and net are built: {folder}/params.json: no key 'num_channels'\n"
    assert capsys.readouterr().out.endswith(line)
