"""The contract of a task, held against every project of the registry."""

import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import evaluate
import train
from core.check.checks import CHECKS
from core.check.data_checks import measure
from core.check.subject import DoubtError, NotApplicableError, Subject
from tests.helpers.runs import assert_same, begin, results, rows, score, stopped
from tests.helpers.warm import Warm
from tests.projects.registry import FEW, Trained


def test_a_project_trains(trained: Trained) -> None:
    metrics = rows(trained.folder)
    assert [row["epoch"] for row in metrics] == [1, 2]
    assert all(np.isfinite(row[f"{split}_loss"]) for row in metrics for split in ("train", "val"))


def test_a_killed_and_resumed_run_ends_bit_equal(
    trained: Trained, warm: Warm, tmp_path: Path
) -> None:
    folder = trained.another(tmp_path / "killed")
    stopped(warm, folder, trained.data, signal.SIGKILL)
    assert begin(warm, folder, trained.data).wait() == 0
    assert_same(folder, trained.folder)


def test_evaluation_repeats_training(trained: Trained) -> None:
    assert score(trained.folder, split="val") == results(trained.folder, "val_best_weights")


def test_no_number_depends_on_the_batch_size(trained: Trained) -> None:
    sizes = ("batch_size=1", "batch_size=3", "batch_size=1000")
    one, *others = (score(trained.folder, "--set", size, split="val") for size in sizes)
    for other in others:
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("trained", FEW, indirect=True)
def test_no_check_finds_a_fault_in_some(trained: Trained, tmp_path: Path) -> None:
    hold_to_checks(trained, tmp_path, "another process reads the same")  # it takes seconds


@pytest.mark.slow
def test_no_check_finds_a_fault(trained: Trained, tmp_path: Path) -> None:
    hold_to_checks(trained, tmp_path)


def hold_to_checks(trained: Trained, tmp_path: Path, *left_out: str) -> None:
    """Run all checks but speed, those left out, and what a test does for real."""
    subject = Subject(trained.another(tmp_path / "checked"), trained.data, {}, train)
    waived = subject.fresh().task.waived_checks
    resumed = "a stopped and resumed run ends bit-equal"  # what the test above does for real
    left = {resumed, *left_out, *trained.project.waived, *waived}
    for what, check in CHECKS.items():
        if check is not measure and what not in left:
            with suppress(NotApplicableError, DoubtError):
                check(subject)


def test_a_net_is_made_of_params_and_kept_in_eval_mode(trained: Trained, tmp_path: Path) -> None:
    subject = Subject(trained.another(tmp_path / "evaluated"), trained.data, {}, train)
    state, loader = subject.fresh(), subject.loaders["val"]
    assert isinstance(state.model, nn.Module)
    values, collected = evaluate.evaluate(state.model, loader, state.task, state.params)
    assert not state.model.training
    assert {*state.task.metrics, "loss"} <= values.keys()
    assert all(np.isfinite(value) for value in values.values())
    whole = [metric for metric in state.task.metrics.values() if not hasattr(metric, "compute")]
    assert (collected.arrays()[1] is not None) == bool(whole and subject.labelled)
