"""Learning rates: their schedules, and where those stand when a run goes on."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.base.params import load_params
from core.task import load_task
from core.training.checkpoint import read_checkpoint
from core.training.schedule import make_schedule
from tests.conftest import Folder
from tests.helpers.runs import rows, run

LINEAR = "tests.projects.linear"


def test_one_cycle_fills_in_its_length_and_ends_with_the_run(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task=LINEAR, lr_scheduler="OneCycleLR", learning_rate=0.1)
    assert run(folder, signs) == 0
    assert read_checkpoint(folder / "last.pt")["scheduler_dicts"]["main"]["total_steps"] == 6
    assert run(folder, signs, "--set", "num_epochs=3") == 2  # another length is another schedule
    assert run(folder, signs, "--set", "num_epochs=3", "--resume") == 0


def test_plateau_and_cosine_step_once_an_epoch(run_folder: Folder, signs: Path) -> None:
    common = {"task": LINEAR, "num_epochs": 3, "learning_rate": 1.0}
    plateau = {"lr_scheduler": "ReduceLROnPlateau", "lr_scheduler_args": {"patience": 0}}
    assert run(run_folder("plateau", **common, **plateau), signs) == 0
    cosine = run_folder("cosine", **common, lr_scheduler="CosineAnnealingLR")
    assert run(cosine, signs) == 0
    expected = [(1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert [row["learning_rate"] for row in rows(cosine)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "setting", ["batch_size=12", "optimizer=Adam", "optimizer_args={weight_decay: 0.1}", "seed=1"]
)
def test_a_resumed_schedule_stands_where_it_would_have_stood(
    run_folder: Folder, signs: Path, setting: str
) -> None:
    steps = {"lr_scheduler": "StepLR", "lr_scheduler_args": {"step_size": 1}}
    folder = run_folder(task=LINEAR, optimizer="SGD", learning_rate=1.0, **steps)
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "num_epochs=4", "--set", setting) == 0
    rates = [row["learning_rate"] for row in rows(folder)]
    assert rates == pytest.approx([1, 0.1, 0.01, 0.001])


def test_a_longer_cosine_goes_on_where_the_longer_one_stands(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task=LINEAR, lr_scheduler="CosineAnnealingLR", learning_rate=1.0)
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "num_epochs=4") == 0
    rates = [row["learning_rate"] for row in rows(folder)]
    assert rates[2:] == pytest.approx([(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (2, 3)])


def test_one_cycle_is_resumed_with_another_batch_size(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task=LINEAR, lr_scheduler="OneCycleLR", batch_size=8)
    assert run(folder, signs) == 0
    more = ["--resume", "--set", "num_epochs=3", "--set", "batch_size=48"]
    assert run(folder, signs, *more) == 0


@pytest.mark.parametrize(
    ("metrics", "params", "mode"),
    [
        (["accuracy"], {}, "max"),
        (["error"], {}, "min"),  # the loss is monitored
        (["error"], {"monitor": "error", "monitor_mode": "min"}, "min"),
        (["accuracy"], {"monitor": "loss"}, "min"),
    ],
)
def test_plateau_waits_in_the_direction_of_the_monitored_metric(
    run_folder: Folder, metrics: list[str], params: dict[str, str], mode: str
) -> None:
    folder = run_folder(task=LINEAR, lr_scheduler="ReduceLROnPlateau", **params)
    task = replace(load_task(LINEAR), metrics=dict.fromkeys(metrics))
    loaded, _ = load_params(folder / "params.json", {})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    assert make_schedule(task, {"main": optimizer}, loaded, 1).schedulers["main"].mode == mode
