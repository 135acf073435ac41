"""Runs of the shipped experiments, and on the real images where those are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.data.folder import synthetic_note
from model.cifar10 import data_loader, net
from model.cifar10.data_loader import TRAIN_FILES, fetch_dataloader
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import rows, run, score
from tests.tasks.cifar10.helpers import PLAIN, SMALL, params

REAL = Path(os.environ.get("CIFAR10", ROOT / "data/cifar-10-batches-bin"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir() or synthetic_note(REAL) is not None, reason=f"no real CIFAR-10 in {REAL}"
)


def test_a_wrong_net_stops_a_run_before_it_begins(
    run_folder: Folder, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**PLAIN, **SMALL, net="two_layer_fcc", level="bare")
    assert run(folder, images) == 2
    assert "did you mean 'two_layer_fc'" in capsys.readouterr().err
    assert not (folder / "params.resolved.json").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/cifar10").glob("*/params.json")))
def test_every_experiment_trains_an_epoch_in_small(
    path: Path, run_folder: Folder, images: Path
) -> None:
    written = json.loads(path.read_text())
    small = {name: SMALL[name] for name in set(SMALL) & {*written, "num_threads"}}
    small |= {"num_epochs": 1, "batch_size": 64, "compile": False}
    folder = run_folder(**written | small)
    assert run(folder, images) == 0
    assert 0 <= rows(folder)[0]["val_accuracy"] <= 1


@pytest.mark.parametrize("level", net.LEVELS)
def test_a_run_of_every_level_learns_and_counts_its_hits(
    level: str, run_folder: Folder, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(**PLAIN, **SMALL, net="three_layer_convnet", level=level)
    assert run(folder, images) == 0
    assert rows(folder)[1]["train_loss"] < rows(folder)[0]["train_loss"]
    with caplog.at_level("INFO"):
        score(folder)
    assert " of 100 right" in caplog.text
    assert "crescent" in caplog.text  # the classes have the names that the data tell


def test_check_accuracy_prints_hits_out_of_total(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = fetch_dataloader(["test"], str(images), params(batch_size=64))["test"]
    model = net.Net(params(net="two_layer_fc", level="sequential")).double()
    hits, total = net.check_accuracy(loader, model)
    assert total == 100
    assert capsys.readouterr().out == f"Got {hits} / 100 correct ({hits:.2f}%)\n"
    weight, bias = list(model.parameters())[2:]
    nn.init.zeros_(weight)
    with torch.no_grad():
        bias.copy_(torch.eye(10)[4])
    assert net.check_accuracy(loader, model)[0] == int((loader.labels == 4).sum())


@needs_real
def test_the_real_images_have_the_channel_means_and_deviations_of_the_loader() -> None:
    inputs = [data_loader.read_records(REAL / name)[:, 1:] for name in TRAIN_FILES]
    pixels = np.concatenate(inputs).reshape(-1, 3, 1024)
    assert pixels.mean(axis=(0, 2)) / 255 == pytest.approx(data_loader.MEAN, abs=5e-4)
    # The copy at hand went through JPEG, which smooths a little.
    assert pixels.std(axis=(0, 2)) / 255 == pytest.approx(data_loader.DEVIATION, abs=3e-3)


@needs_real
@pytest.mark.slow
def test_the_sequential_convnet_passes_the_notebooks_bar_after_one_epoch(
    run_folder: Folder,
) -> None:
    written = json.loads((ROOT / "experiments/cifar10/convnet_sequential/params.json").read_text())
    folder = run_folder(**written)
    assert run(folder, REAL) == 0
    assert rows(folder)[0]["val_accuracy"] > 0.55
