"""The answer without looking at the inputs, where it is a number."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.data.batches import Batches
from core.reading.outputs import read_batch
from core.run.baseline import baseline
from core.task import Task

RARE = (torch.arange(50) % 10 == 0).float()  # one label in ten is 1


def trivial(loss: Any, labels: Tensor, threshold: float) -> dict[str, float]:
    def accuracy(outputs: np.ndarray, known: np.ndarray) -> float:
        return float(((outputs > threshold) == (known > 0.5)).mean())

    task = Task("a_task", nn.Identity, loss, {"accuracy": accuracy}, dict)
    loaders = {s: Batches(torch.zeros(50, 1), labels, batch_size=10) for s in ("train", "val")}
    reading = read_batch(task, outputs := torch.zeros(10), labels[:10])
    return baseline(reading.apply(task), reading, loaders, outputs, labels[:10])


@pytest.mark.parametrize(
    ("loss", "threshold"),
    [(F.binary_cross_entropy_with_logits, 0.0), (F.binary_cross_entropy, 0.5)],
)
def test_of_labels_0_and_1_it_is_their_frequency(loss: Any, threshold: float) -> None:
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert trivial(loss, RARE, threshold) == pytest.approx({"accuracy": 0.9, "loss": entropy})


def test_of_other_numbers_it_is_their_mean() -> None:
    labels = torch.linspace(0.2, 0.8, 50)
    assert trivial(F.mse_loss, labels, 0.5)["loss"] == pytest.approx(labels.var(correction=0))
