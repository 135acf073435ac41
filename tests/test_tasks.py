"""The contract of a task, held against every task of the project.

To put a task of your own through it, write a function that makes tiny data and returns the params,
and add it to TASKS.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import evaluate
import train
from core.check.checks import CHECKS
from core.check.data_checks import measure
from core.check.subject import NotApplicableError, Subject
from tests.conftest import Folder, write_signs
from tests.test_survival import assert_same, begin
from tests.warm import Warm


def hand_signs(folder: Path) -> dict[str, Any]:
    """Write 24, 12 and 8 pictures."""
    write_signs(folder, {"train": 24, "val": 12, "test": 8})
    return {"task": "model", "num_channels": 4, "dropout_rate": 0.2, "learning_rate": 0.01}


def named_entities(folder: Path) -> dict[str, Any]:
    """Make up 42, 9 and 9 sentences."""
    from data.ner.prepare import main as make_entities

    assert make_entities(["--output", str(folder), "--count", "60"]) == 0
    sizes = {"embedding_dim": 16, "feature_dim": 8, "lstm_hidden_dim": 16, "num_layers": 2}
    spelling = {"min_count": 1, "affix_length": 2, "bidirectional": True}
    return {"task": "model.ner", "learning_rate": 0.02, "monitor": "f1", **sizes, **spelling}


def cifar10(folder: Path, net: str, level: str) -> dict[str, Any]:
    """Write 98, 2 and 20 drawn images."""
    from data.cifar10.prepare import main as make_images

    assert make_images(["--output", str(folder), "--count", "120"]) == 0
    sizes = {"channel_1": 6, "channel_2": 4, "width": 8, "flip": True, "shift": 2}
    params = {"task": "model.cifar10", "net": net, "level": level, "optimizer": "SGD"}
    return params | sizes | {"learning_rate": 0.01}


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "signs": hand_signs,
    "entities": named_entities,
    "cifar10_bare": partial(cifar10, net="three_layer_convnet", level="bare"),
    "cifar10_module": partial(cifar10, net="three_layer_convnet", level="module"),
    "cifar10_sequential": partial(cifar10, net="three_layer_convnet", level="sequential"),
    "cifar10_resnet": partial(cifar10, net="resnet", level="module"),
}


@pytest.fixture(params=TASKS)
def case(
    request: pytest.FixtureRequest, run_folder: Folder, tmp_path: Path
) -> Callable[..., tuple[Path, Path]]:
    """Return a function that makes a run's folder for the task, beside the folder of its data."""
    data = tmp_path / "data"
    data.mkdir()
    try:
        params = {"batch_size": 8, "checkpoint_minutes": 0} | TASKS[request.param](data)
    except ModuleNotFoundError as error:
        pytest.skip(f"the example task has been removed: {error}")

    def make(name: str = "run", **more: Any) -> tuple[Path, Path]:
        return run_folder(name, **params | more), data

    return make


Case = Callable[..., tuple[Path, Path]]


def test_no_check_finds_a_fault(case: Case) -> None:
    subject = Subject(*case(), overrides={}, train=train)
    for check in CHECKS.values():
        if check is not measure:
            with suppress(NotApplicableError):
                check(subject)


def test_evaluation_repeats_training(warm: Warm, case: Case) -> None:
    folder, data = case()
    assert begin(warm, folder, data).wait() == 0, (folder / "printed.txt").read_text()
    argv = ["--model_dir", str(folder), "--split", "val"]
    assert evaluate.main(argv) == 0
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert json.loads((folder / "metrics_val_best.json").read_text()) == best


def test_a_killed_and_resumed_run_ends_bit_equal(warm: Warm, case: Case) -> None:
    (whole, data), (killed, _) = case("whole"), case("killed")
    assert begin(warm, whole, data).wait() == 0, (whole / "printed.txt").read_text()
    child = begin(warm, killed, data, slow=0.005)
    while not (killed / "previous.pt").exists():
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert begin(warm, killed, data).wait() == 0
    assert_same(killed, whole)


def test_a_net_is_made_of_params_and_kept_in_eval_mode(case: Case) -> None:
    subject = Subject(*case(), overrides={}, train=train)
    state, loader = subject.fresh(), subject.loaders["val"]
    assert isinstance(state.model, nn.Module)
    values, collected = evaluate.evaluate(state.model, loader, state.task, state.params)
    assert not state.model.training
    assert {*state.task.metrics, "loss"} <= values.keys()
    assert all(np.isfinite(value) for value in values.values())
    assert collected.arrays()[1] is not None
