"""Runs on another device, which CPU tensors stand for (tests/helpers/elsewhere.py)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import check
import predict
import train
from core.check.subject import Short
from core.run.opening import open_run
from core.task import IndexBatch
from core.training.averages import WeightAverage
from core.training.checkpoint import read_checkpoint
from core.training.state import make_state
from tests.conftest import Folder
from tests.helpers.elsewhere import DEVICE, AnotherDevice, Elsewhere
from tests.helpers.runs import rows, run, score, stop_at
from tests.projects.pictures import data_loader as pictures
from tests.projects.registry import FEW, Trained


@pytest.fixture
def on_another_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return what lets runs take the other device inside a block."""

    @contextmanager
    def block() -> Iterator[None]:
        with monkeypatch.context() as patch, AnotherDevice():
            for module in ("run.opening", "machine.devices"):
                patch.setattr(f"core.{module}.pick_device", lambda name: DEVICE)
            yield

    return block


@pytest.fixture(autouse=True)
def no_fused_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the fused optimizers, whose kernels know their devices by name."""
    monkeypatch.setattr("core.training.optimizers.FUSED", ())


def compare(
    here: Path,
    there: Path,
    data: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Train and evaluate there what was trained here, stopped in mid-epoch on the way."""
    with on_another_device():
        with monkeypatch.context() as patch:
            stop_at(patch, 2)
            assert run(there, data) == 128 + 15
        assert run(there, data) == 0
        assert score(there, split="val")
    for ours, other in zip(rows(there), rows(here), strict=True):
        assert ours == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True)
    last = [read_checkpoint(folder / "last.pt") for folder in (there, here)]
    for name, weights in last[0]["state_dict"].items():
        torch.testing.assert_close(weights, last[1]["state_dict"][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("trained", FEW, indirect=True)
def test_some_go_the_same_on_another_device(
    trained: Trained,
    tmp_path: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = trained.another(tmp_path / "there")
    compare(trained.folder, there, trained.data, on_another_device, monkeypatch)


@pytest.mark.slow
def test_a_project_goes_the_same_on_another_device(
    trained: Trained,
    tmp_path: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained.skip_if_waived("the same on another device")
    there = trained.another(tmp_path / "there")
    compare(trained.folder, there, trained.data, on_another_device, monkeypatch)


SETTINGS = {"lr_scheduler": "OneCycleLR", "dropout_rate": 0.0, "learning_rate": 0.01}


@pytest.mark.parametrize(
    "more", [{"ema_decay": 0.9, "grad_clip": 1.0}, {"grad_accumulation": 2, "batch_size": 8}]
)
def test_settings_go_the_same_on_another_device(
    run_folder: Folder,
    signs: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
) -> None:
    here, there = (run_folder(name, **SETTINGS | more) for name in ("here", "there"))
    assert run(here, signs) == 0
    compare(here, there, signs, on_another_device, monkeypatch)


@pytest.mark.parametrize("room", [0, 2**40])
def test_batches_are_transformed_where_the_net_is_wherever_examples_are_kept(
    run_folder: Folder,
    signs: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    places, own = set(), pictures.transform

    def transform(images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        places.add(images.device)
        return own(images, *args, **kwargs)

    monkeypatch.setattr(pictures, "transform", transform)
    monkeypatch.setattr("core.data.batches.free_memory", lambda device: room)
    here, there = (run_folder(name, **SETTINGS) for name in ("here", "there"))
    with on_another_device():
        loaders = open_run(
            run_folder("aside", **SETTINGS), {"data_dir": str(signs)}
        ).fetch_loaders()
        assert vars(loaders["train"])["inputs"].device == (DEVICE if room else torch.device("cpu"))
    places.clear()
    assert run(here, signs) == 0
    assert places == {torch.device("cpu")}
    places.clear()
    compare(here, there, signs, on_another_device, monkeypatch)
    assert places == {DEVICE}


def test_averages_are_those_of_torch() -> None:
    nets = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(4)]
    torchs = AveragedModel(nets[0], multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average = WeightAverage(nets[0], 0.9)
    for net in nets:
        net(torch.randn(5, 3))
        torchs.update_parameters(net)
        average.update(net)
    ours, theirs = average.state_dict(), torchs.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert ours["n_averaged"] == 4


class Watched(Short):
    """A loader that counts the waits for the device between its first and its last batch."""

    waits = -1

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Any]:
        for i, batch in enumerate(self.loader.load(epoch, part)):
            if i == 1:
                before = Elsewhere.waits
            yield batch
        self.waits = Elsewhere.waits - before


@pytest.mark.parametrize(
    "more",
    [
        {"lr_scheduler": "OneCycleLR"},
        {"ema_decay": 0.9, "grad_clip": 1.0},
        {"grad_accumulation": 2, "label_smoothing": 0.1},
    ],
)
def test_between_two_log_lines_nothing_waits_for_the_device(
    run_folder: Folder,
    signs: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
) -> None:
    folder = run_folder(batch_size=4, save_summary_steps=1000, checkpoint_minutes=None, **more)
    with on_another_device():
        run = open_run(folder, {"data_dir": str(signs)})
        loaders = run.fetch_loaders()
        state = make_state(run.task, run.params, run.device, loaders["train"])
        watched = Watched(loaders["train"], 1000)
        train.train(state, watched, run)
        assert state.step >= 6
        assert watched.waits == 0
        assert Elsewhere.waits > 0  # when the epoch's mean was taken
    run.writer.close()


def test_checks_predictions_and_export_work_on_another_device(
    run_folder: Folder,
    signs: Path,
    on_another_device: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("core.check.data_checks.SECONDS", 0.2)
    folder, image = run_folder(num_epochs=1), str(next((signs / "test_signs").iterdir()))
    arguments = ["--model_dir", str(folder), "--data_dir", str(signs)]
    with on_another_device():
        assert check.main(arguments) == 0
        assert "FAIL" not in capsys.readouterr().out
        assert check.main([*arguments, "--find_lr"]) == 0
        assert run(folder, signs) == 0
        assert predict.main([*arguments[:2], image]) == 0
        assert predict.main([*arguments[:2], "--export", str(folder / "net.pt2")]) == 0
    exported = torch.export.load(folder / "net.pt2").module()
    assert exported(torch.zeros(2, 3, 16, 16)).shape == (2, 6)


def test_only_a_run_that_asks_for_it_is_held_to_deterministic_kernels(
    run_folder: Folder, signs: Path
) -> None:
    try:
        for wanted in (False, True):
            assert run(run_folder(str(wanted), deterministic=wanted, num_epochs=1), signs) == 0
            assert torch.are_deterministic_algorithms_enabled() == wanted
    finally:
        torch.use_deterministic_algorithms(False)
