"""On a GPU, where there is one: nothing waits, and runs go on to the bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from bench.hurried import Hurried
from core.run.opening import open_run
from core.training.state import make_state
from tests.conftest import Folder
from tests.helpers.runs import assert_same, results, rows, run, score, stop_at

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECIPE: dict[str, Any] = {
    "device": "cuda",
    "deterministic": True,
    "precision": "auto",
    "channels_last": True,
    "optimizer": "AdamW",
    "lr_scheduler": "OneCycleLR",
    "batch_size": 4,
}


@pytest.fixture(autouse=True)
def deterministic_kernels_are_not_for_other_tests() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9, "grad_accumulation": 2}])
def test_a_run_that_was_stopped_ends_with_the_same_bits_and_is_evaluated(
    run_folder: Folder, signs: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    whole, stopped = run_folder("whole", **RECIPE | more), run_folder("stopped", **RECIPE | more)
    assert run(whole, signs) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert run(stopped, signs) == 128 + 15
    assert run(stopped, signs) == 0
    assert_same(stopped, whole)
    assert score(whole, split="val") == results(whole, "val_best_weights")


def test_numbers_do_not_depend_on_where_the_examples_are_kept(
    run_folder: Folder, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = run_folder("there", **RECIPE), run_folder("here", **RECIPE)
    assert run(there, signs) == 0
    monkeypatch.setattr("core.data.batches.free_memory", lambda device: 0)
    assert run(here, signs) == 0
    assert rows(here) == rows(there)


@pytest.mark.parametrize("room", [0, 2**40])
@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9, "grad_clip": 1.0}])
def test_between_two_log_lines_nothing_waits_for_the_gpu(
    run_folder: Folder,
    signs: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    room: int,
) -> None:
    monkeypatch.setattr("core.data.batches.free_memory", lambda device: room)
    more = {"save_summary_steps": 1000, "checkpoint_minutes": None} | more
    run = open_run(run_folder(**RECIPE | more), {"data_dir": str(signs)})
    loaders = run.fetch_loaders()
    state = make_state(run.task, run.params, run.device, loaders["train"])
    train.train(state, Hurried(loaders["train"], 1000), run)
    assert state.step == 12
    run.writer.close()
