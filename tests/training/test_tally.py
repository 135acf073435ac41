"""What is summed up and kept of the batches of an epoch, as tasks of many kinds give it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.base.errors import DataError
from core.task import Task, default_collect
from core.training.tally import MeanLosses, Tally

OUTPUTS, LABELS = torch.linspace(0, 1, 10), torch.arange(10) % 2


def tally(metrics: dict[str, Any], collect: Any = default_collect) -> Tally:
    """Return what was collected of ten examples in batches of four."""
    task = Task("a_task", nn.Identity, nn.MSELoss(), metrics, dict, collect=collect)
    found = Tally(task)
    for outputs, labels in zip(OUTPUTS.split(4), LABELS.split(4), strict=True):
        found.collect(outputs, labels)
    return found


def test_a_metric_that_changes_its_arrays_changes_no_other_number() -> None:
    def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
        outputs[outputs >= 0.5] = 1
        outputs[outputs < 0.5] = 0
        return float((outputs == labels).mean())

    def distance(outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.abs(outputs - labels).mean())

    found = tally({"accuracy": accuracy, "distance": distance})
    assert found.metrics()["distance"] == pytest.approx((OUTPUTS - LABELS).abs().mean().item())
    assert np.array_equal(found.arrays()[0], OUTPUTS.numpy())


def test_a_collect_may_return_arrays() -> None:
    def collect(outputs: Tensor, labels: Tensor) -> Any:
        return {"y": outputs.numpy(), "name": np.array(["a"] * len(labels))}, labels.numpy()

    metrics = {"count": lambda x, y: len(y), "sum": lambda x, y: x["y"].sum()}
    found = tally(metrics | {"names": lambda x, y: len(x["name"])}, collect)
    assert found.metrics() == {"count": 10, "sum": pytest.approx(5), "names": 10}


def test_numbers_that_differ_between_batches_do_not_join() -> None:
    found = tally({"count": lambda x, y: x / y}, lambda x, y: (int((x > 0.5).sum()), len(y)))
    with pytest.raises(DataError, match=r"do not join: .*\n.*collect"):
        found.metrics()


def test_a_part_of_the_loss_is_the_mean_of_the_batches_that_have_it() -> None:
    losses = MeanLosses()
    losses.add({"loss": torch.tensor(1.0), "part": torch.tensor(3.0)}, torch.tensor(4))
    losses.add({"loss": torch.tensor(2.0)}, torch.tensor(4))
    losses.add({"loss": torch.tensor(3.0), "part": torch.tensor(6.0)}, torch.tensor(2))
    both = MeanLosses([losses.sums(), MeanLosses().sums()])
    assert both.means() == {"loss": pytest.approx(1.8), "part": pytest.approx(4.0)}


def test_outputs_of_several_shapes_that_no_metric_needs_are_not_kept() -> None:
    found = Tally(Task("a_task", nn.Identity, nn.MSELoss(), {}, dict), keep_bytes=2**20)
    for width in (4, 4, 5):
        found.collect(torch.zeros(2, width), torch.zeros(2))
    assert not found.complete
    assert found.metrics() == {}
    assert found.arrays() == (None, None)
