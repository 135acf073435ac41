"""Updates of the weights: accumulated, clipped, averaged, and never by what is not finite."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from core.base.errors import NumericError
from core.base.params import Params, load_params
from core.machine.random_states import seed_everything
from core.task import load_task
from core.training.checkpoint import read_checkpoint
from core.training.schedule import Schedule
from core.training.state import State
from tests.conftest import Folder, write_signs
from tests.helpers.runs import equal, results, rows, run, score, weights
from tests.projects.linear.net import Net

LINEAR: dict[str, Any] = {"task": "tests.projects.linear"}


def test_one_image_more_than_full_batches_does_not_crash_batch_norm(
    run_folder: Folder, tmp_path: Path
) -> None:
    data = write_signs(tmp_path / "data", {"train": 33, "val": 6})
    assert run(run_folder(batch_size=16), data) == 0


@pytest.mark.parametrize("accumulation", [2, 3])
def test_accumulated_batches_step_as_one_batch(
    run_folder: Folder, signs: Path, accumulation: int
) -> None:
    # Batch norm sees its batches, so it is kept out by a net without.
    common = LINEAR | {"precision": "float64", "num_epochs": 1, "optimizer": "SGD"}
    large = run_folder("large", batch_size=20 * accumulation, **common)
    small = run_folder("small", batch_size=20, grad_accumulation=accumulation, **common)
    run(large, signs)
    run(small, signs)
    for name, weight in weights(large).items():
        assert torch.allclose(weights(small)[name], weight, rtol=1e-12, atol=0), name
    assert rows(large)[0]["step"] == rows(small)[0]["step"]


def test_ignored_labels_weigh_nothing_in_accumulated_updates(
    run_folder: Folder, no_data: Path
) -> None:
    common: dict[str, Any] = {"task": "tests.projects.kinds", "kind": "ignored", "num_epochs": 1}
    common |= {"optimizer": "SGD", "seed": 1, "precision": "float64"}
    large = run_folder("large", batch_size=12, **common)
    small = run_folder("small", batch_size=2, grad_accumulation=6, **common)
    assert run(large, no_data) == run(small, no_data) == 0
    for name in ("train_loss", "val_loss"):
        assert rows(small)[0][name] == pytest.approx(rows(large)[0][name], rel=1e-12)


def test_clipping_bounds_the_change_of_the_weights(run_folder: Folder, signs: Path) -> None:
    params = LINEAR | {"optimizer": "SGD", "learning_rate": 1.0, "grad_clip": 1e-3}
    folder = run_folder(num_epochs=1, **params)
    run(folder, signs)
    start = torch.cat([weight.flatten() for weight in initial_weights(folder).values()])
    end = torch.cat([weight.flatten() for weight in weights(folder).values()])
    steps = rows(folder)[0]["step"]
    assert 0 < (end - start).norm() <= steps * 1e-3 * 1.0001


def initial_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights a run in `folder` began with."""
    params, _ = load_params(folder / "params.json", {})
    seed_everything(params.seed)
    return Net(params).state_dict()


def test_averaged_weights_are_what_is_validated_and_kept(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear", ema_decay=0.5, num_epochs=1, batch_size=24)
    run(folder, signs)
    last = read_checkpoint(folder / "last.pt")
    assert equal(
        weights(folder, "best.pt"),
        {name[7:]: value for name, value in last["ema_dict"].items() if name.startswith("module.")},
    )
    assert not equal(weights(folder), weights(folder, "best.pt"))
    assert int(last["ema_dict"]["n_averaged"]) == 2
    assert score(folder, split="val") == results(folder, "val_best_weights")


def test_averaged_weights_are_kept_with_the_newest_statistics_of_batch_norm(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(ema_decay=0.5, num_epochs=1)
    run(folder, signs)
    best, last = weights(folder, "best.pt"), weights(folder)
    statistics = [name for name in last if "running_" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(best[name], last[name]) for name in statistics)
    assert not equal(best, last)


def test_early_stopping_ends_a_run_that_no_longer_improves(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(learning_rate=1e-30, num_epochs=9, early_stopping_patience=2)
    run(folder, signs)
    assert len(rows(folder)) < 9
    best = max(range(len(rows(folder))), key=lambda i: rows(folder)[i]["val_accuracy"])
    assert len(rows(folder)) == best + 1 + 2
    assert run(folder, signs) == 0
    assert len(rows(folder)) == best + 1 + 2


def test_ties_keep_the_earlier_best(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.projects.linear", learning_rate=1e-30, num_epochs=3)
    run(folder, signs)
    assert read_checkpoint(folder / "best.pt")["epoch"] == 1


def test_a_loss_that_is_not_finite_stops_before_the_update(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = LINEAR | {"optimizer": "SGD", "learning_rate": 1e38}
    folder = run_folder(num_epochs=5, batch_size=48, **params)
    assert run(folder, signs) == 1
    said = capsys.readouterr().err
    assert "not finite in epoch" in said
    assert "learning rate 1e+38" in said
    for path in folder.glob("*.pt"):
        assert all(value.isfinite().all() for value in weights(folder, path.name).values())


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were() -> None:
    params = Params.of({"grad_clip": None, "precision": "float32"}, "params.json")
    model = torch.nn.Linear(3, 1)
    optimizers: dict[str, torch.optim.Optimizer]
    optimizers = {"main": torch.optim.SGD(model.parameters(), 0.1)}
    device, before = torch.device("cpu"), [weight.clone() for weight in model.parameters()]
    schedule = Schedule({}, False, 1)
    task = load_task("tests.projects.linear")
    state = State(task, params, device, model, optimizers, schedule)
    with pytest.raises(NumericError):
        state.update(model(torch.tensor([[1.0, 2.0, math.inf]])).sum())
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
