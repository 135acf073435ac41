"""CIFAR-10: three levels of abstraction that are one net, the binary format, augmentation."""

import copy
import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import evaluate
import train
from core.base.errors import DataError, UsageError
from core.base.keys import KEYS
from core.base.params import ROOT
from core.data.folder import synthetic_note
from core.data.order import epoch_order
from core.task import load_task
from core.training.optimizers import make_optimizers
from core.training.schedule import Schedule
from data.cifar10.prepare import main as prepare
from model.cifar10 import data_loader, net
from model.cifar10.data_loader import RECORD, TRAIN_FILES, augment, fetch_dataloader
from tests.conftest import Folder, rows
from utils import Params

REAL = Path(os.environ.get("CIFAR10", ROOT / "data/cifar-10-batches-bin"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir() or synthetic_note(REAL) is not None, reason=f"no real CIFAR-10 in {REAL}"
)
SMALL = {"hidden_size": 30, "channel_1": 6, "channel_2": 4, "width": 4, "num_threads": 1}
TASK = "model.cifar10"
PLAIN = {"task": TASK, "optimizer": "SGD", "learning_rate": 1e-2}


def params(**values: Any) -> Params:
    defaults = {name: key.default for name, key in KEYS.items()}
    return Params.of(defaults | PLAIN | SMALL | values, "params.json")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets as small as these are faster with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 drawn images: 490 for training, 10 for validation, 100 for testing."""
    folder = tmp_path_factory.mktemp("cifar10") / "data"
    assert prepare(["--output", str(folder), "--count", "600"]) == 0
    return folder


# --- the notebook's own checks of shapes


def test_flatten_keeps_the_order_of_every_image() -> None:
    x = torch.arange(12).view(2, 1, 3, 2)
    assert net.flatten(x).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert torch.equal(net.Flatten()(x), net.flatten(x))


def test_two_layer_fc_scores_ten_classes() -> None:
    weights = [torch.zeros(50, 42), torch.zeros(42, 10)]
    assert net.two_layer_fc(torch.zeros(64, 50), weights).shape == (64, 10)
    assert net.TwoLayerFC(50, 42, 10)(torch.zeros(64, 50)).shape == (64, 10)


def test_three_layer_convnet_scores_ten_classes() -> None:
    shapes = [(6, 3, 5, 5), (6,), (9, 6, 3, 3), (9,), (9 * 32 * 32, 10), (10,)]
    x = torch.zeros(64, 3, 32, 32)
    assert net.three_layer_convnet(x, [torch.zeros(shape) for shape in shapes]).shape == (64, 10)
    module = net.ThreeLayerConvNet(in_channel=3, channel_1=12, channel_2=8, num_classes=10)
    assert module(x).shape == (64, 10)


def test_weights_begin_with_a_variance_of_two_over_the_fan_in() -> None:
    torch.manual_seed(0)
    assert net.random_weight((3000, 100)).std().item() == pytest.approx(
        math.sqrt(2 / 3000), rel=0.02
    )
    weight = net.random_weight((64, 32, 5, 5))
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 25)), rel=0.02)
    assert weight.requires_grad
    assert not net.zero_weight((5,)).any()
    module = net.TwoLayerFC(3000, 100, 10)
    assert module.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / 3000), rel=0.02)


@pytest.mark.parametrize("level", net.LEVELS)
@pytest.mark.parametrize("name", ["two_layer_fc", "three_layer_convnet"])
def test_the_first_loss_is_near_that_of_chance(name: str, level: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 4000, "channel_1": 32, "channel_2": 16}  # of the notebook
    model = net.Net(params(net=name, level=level, **sizes))
    with torch.no_grad():
        outputs = model(torch.randn(64, 3, 32, 32))
    # Kaiming's deviation of sqrt(2) in the scores costs about 1 nat above ln 10; a weight drawn
    # with the number of outputs for its fan-in costs 50.
    assert 2.2 < net.loss_fn(outputs, torch.arange(64) % 10).item() < 4


# --- the three levels are one net


def sgd_state(model: nn.Module, **values: Any) -> train.State:
    """The state of a training run on the CPU, as train.py makes it."""
    settings = params(net="", **values)
    task = load_task(TASK)
    return train.State(
        task=task,
        params=settings,
        device=torch.device("cpu"),
        model=model.to(torch.float64 if settings.precision == "float64" else torch.float32),
        optimizers=make_optimizers(task, model, settings),
        schedule=Schedule({}, False, 1),
    )


def same_nets(name: str) -> dict[str, nn.Module]:
    """The net of a name at each level, with the first weights of level bare."""
    torch.manual_seed(1)
    nets = {level: net.Net(params(net=name, level=level)) for level in net.LEVELS}
    bare = list(nets["bare"].parameters())
    with torch.no_grad():
        for level in ("module", "sequential"):
            weights = list(nets[level].parameters())
            if name == "two_layer_fc":  # the bare one has no biases
                for bias in (weights.pop(3), weights.pop(1)):
                    bias.zero_().requires_grad_(False)
            for weight, wanted in zip(weights, bare, strict=True):
                weight.copy_(in_layout_of(weight, wanted))
    return nets


def in_layout_of(weight: Tensor, other: Tensor) -> Tensor:
    return other if weight.shape == other.shape else other.T


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", ["two_layer_fc", "three_layer_convnet"])
def test_the_three_levels_train_alike_for_a_hundred_steps(
    name: str, precision: str, tolerance: float
) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(100, 4, 3, 32, 32, generator=draw).to(getattr(torch, precision))
    y = torch.randint(10, (100, 4), generator=draw)
    losses: dict[str, list[float]] = {}
    states = {
        level: sgd_state(model, level=level, precision=precision, learning_rate=1e-3)
        for level, model in same_nets(name).items()
    }
    for level, state in states.items():
        losses[level] = [
            net.train_step(state, batch)["loss"].item() for batch in zip(x, y, strict=True)
        ]
    assert losses["module"] == losses["sequential"]  # the same kernels: bit for bit
    assert losses["bare"] == pytest.approx(losses["module"], rel=0, abs=tolerance)
    assert losses["bare"][-1] != losses["bare"][0]
    module, sequential = (states[level].model for level in ("module", "sequential"))
    pairs = zip(module.parameters(), sequential.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    for weight, wanted in zip(trained, states["bare"].model.parameters(), strict=True):
        torch.testing.assert_close(weight, in_layout_of(weight, wanted), rtol=0, atol=tolerance)


def test_above_level_bare_a_step_is_that_of_train_py() -> None:
    model = net.Net(params(net="three_layer_convnet", level="module"))
    own = sgd_state(model, level="module", optimizer_args={"momentum": 0.9, "nesterov": True})
    default = sgd_state(
        copy.deepcopy(model), level="module", optimizer_args=own.params.optimizer_args
    )
    default.task = dataclasses.replace(default.task, train_step=None)
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(10, (8,))) for _ in range(5)]
    for batch in batches:
        losses = net.train_step(own, batch), train.train_step(default, batch)
        assert torch.equal(losses[0]["loss"], losses[1]["loss"])
        assert own.seen is not None and default.seen is not None
        assert torch.equal(own.seen[0], default.seen[0])
    pairs = zip(own.model.parameters(), default.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- params


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"net": "three_layer_convet", "level": "bare"}, "did you mean 'three_layer_convnet'"),
        ({"net": "two_layer_fc", "level": "modul"}, "did you mean 'module'"),
        ({"net": "resnet", "level": "bare"}, "'level' is 'bare', want module"),
        ({"net": "two_layer_fc", "level": "bare", "optimizer": "Adam"}, "'optimizer' is 'Adam'"),
        ({"net": "two_layer_fc", "level": "bare", "grad_clip": 1.0}, "needs None"),
    ],
)
def test_a_net_that_there_is_not_is_a_usage_error(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        net.Net(params(**values))


def test_a_wrong_net_stops_a_run_before_it_begins(
    run_folder: Folder, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**PLAIN, **SMALL, net="two_layer_fcc", level="bare")
    assert train.main(["--model_dir", str(folder), "--data_dir", str(images)]) == 2
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
    assert train.main(["--model_dir", str(folder), "--data_dir", str(images)]) == 0
    assert 0 <= rows(folder)[0]["val_accuracy"] <= 1


@pytest.mark.parametrize("level", net.LEVELS)
def test_a_run_of_every_level_goes_on_and_counts_its_hits(
    level: str, run_folder: Folder, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = {
        **PLAIN,
        **SMALL,
        "net": "three_layer_convnet",
        "level": level,
        "precision": "float64",
    }
    whole, folder = run_folder("whole", **common), run_folder("run", **common)
    data = ["--data_dir", str(images)]
    assert train.main(["--model_dir", str(whole), *data]) == 0
    assert train.main(["--model_dir", str(folder), *data, "--set", "num_epochs=1"]) == 0
    assert train.main(["--model_dir", str(folder), *data, "--set", "num_epochs=2"]) == 0
    assert rows(folder) == rows(whole)
    assert rows(folder)[1]["train_loss"] < rows(folder)[0]["train_loss"]
    with caplog.at_level("INFO"):
        assert evaluate.main(["--model_dir", str(folder)]) == 0
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


# --- data


def records(path: Path, labels: list[int]) -> Path:
    data = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), RECORD), np.uint8)
    data[:, 0] = labels
    data.tofile(path)
    return path


def test_the_last_fiftieth_of_the_training_files_validates(tmp_path: Path) -> None:
    for name in (*TRAIN_FILES, "test_batch.bin"):
        records(tmp_path / name, list(range(10)) * 3)
    loaders = fetch_dataloader(["train", "val", "test"], str(tmp_path), params())
    assert [loaders[split].num_examples for split in loaders] == [147, 3, 30]
    assert loaders["train"].ids[0] == "data_batch_1.bin:0"
    assert loaders["val"].ids == [f"data_batch_5.bin:{i}" for i in (27, 28, 29)]
    assert loaders["val"].labels.tolist() == [7, 8, 9]
    raw = np.frombuffer((tmp_path / "data_batch_5.bin").read_bytes(), np.uint8)
    pixels = raw.reshape(30, RECORD)[28, 1:].reshape(3, 32, 32)  # red, green, blue; row by row
    assert loaders["val"].inputs[1].tolist() == pixels.tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "no such file"),
        ("short", "6145 bytes, want a multiple of 3073"),
        ("empty", "0 b"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, name: str, said: str) -> None:
    for file in TRAIN_FILES:
        records(tmp_path / file, [0] * 20)
    broken = tmp_path / "data_batch_3.bin"
    if name == "absent":
        broken.unlink()
    else:
        broken.write_bytes(b"\0" * (2 * RECORD - 1 if name == "short" else 0))
    with pytest.raises(DataError, match=f"data_batch_3.bin: {said}"):
        fetch_dataloader(["train"], str(tmp_path), params())


def test_a_label_above_nine_is_named_with_its_record(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.bin: labels above 9:\n  record 2: label 255\n"):
        data_loader.read_records(records(tmp_path / "x.bin", [9, 0, 255, 10]))


def test_class_names_must_be_ten(tmp_path: Path) -> None:
    assert data_loader.read_names(tmp_path / "none")[3] == "cat"
    (tmp_path / "names").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="names: 2 class names, want 10"):
        data_loader.read_names(tmp_path / "names")


def test_only_training_images_are_changed_and_only_on_request(images: Path) -> None:
    still, moved = params(batch_size=490), params(batch_size=490, flip=True, shift=4)
    for split, same in (("val", True), ("train", False)):
        plain = next(fetch_dataloader([split], str(images), still)[split].epoch(3))[0]
        once = next(fetch_dataloader([split], str(images), moved)[split].epoch(3))[0]
        again = next(fetch_dataloader([split], str(images), moved)[split].epoch(3))[0]
        assert torch.equal(once, again)
        assert torch.equal(plain, once) == same
    loader = fetch_dataloader(["train"], str(images), still)["train"]
    order = epoch_order(490, seed=230, epoch=3)
    back = plain * torch.tensor(data_loader.DEVIATION).view(3, 1, 1) * 255
    back += torch.tensor(data_loader.MEAN).view(3, 1, 1) * 255
    torch.testing.assert_close(back, loader.inputs[order].float(), rtol=0, atol=1e-3)


def test_every_augmented_image_is_a_mirrored_and_shifted_crop_of_its_own(images: Path) -> None:
    source = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    changed = augment(source, torch.Generator().manual_seed(0), flip=True, shift=2)
    assert changed.dtype == torch.uint8
    found = []
    for before, after in zip(source, changed, strict=True):
        for flip in (False, True):
            whole = before.flip(2) if flip else before
            wide = nn.functional.pad(whole[None].float(), (2, 2, 2, 2), mode="reflect")[0]
            for dy in range(5):
                for dx in range(5):
                    if torch.equal(wide[:, dy : dy + 32, dx : dx + 32], after.float()):
                        found.append((flip, dy, dx))
    assert len(found) == 40
    assert len(set(found)) > 20  # of 2 * 5 * 5 choices
    assert {flip for flip, _, _ in found} == {False, True}
    assert {dy for _, dy, _ in found} == {dx for _, _, dx in found} == set(range(5))


# --- the real images


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
    assert train.main(["--model_dir", str(folder), "--data_dir", str(REAL)]) == 0
    assert rows(folder)[0]["val_accuracy"] > 0.55
