"""Predictions of sequences and of labels that are ignored: which rows are whose, and count."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.base.examples import subset
from core.base.params import Params
from core.base.predictions import read_predictions, write_predictions
from core.data.batches import Batches
from core.reading.outputs import read_batch
from core.results.page.looks import losses_of_rows
from core.task import Task
from evaluate import evaluate

PARAMS = Params.of({"precision": "float32", "seed": 1}, Path("params.json"))


def loss(outputs: Any, labels: Any) -> Any:
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=255)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_sequence_has_its_rows_without_padding_too(batch_size: int, tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(10, 6, 3, generator=draws), torch.arange(60).view(10, 6) % 3
    labels[::2, 4:] = 255  # every other sequence is shorter
    task = Task("tagger", lambda params: nn.Linear(3, 3), loss, {}, dict)
    model, loader = nn.Linear(3, 3), Batches(inputs, labels, batch_size=batch_size)
    reading = read_batch(task, *task.forward(model, loader.first_batch(), PARAMS))
    _, tally = evaluate(model, loader, reading.apply(task), PARAMS, 1e9)
    path = tmp_path / "predictions.npz"
    rows = tally.row_counts()
    write_predictions(path, *tally.arrays(), loader.ids, rows, reading.ignored)
    found = read_predictions(path)
    assert (len(found) == 10 and found.ignored == (-100, 255)) or found.ignored == (255,)
    for i in range(10):
        assert (subset(found, np.array([i])).labels == labels[i].numpy()).all()
    losses = losses_of_rows(found.outputs, found.labels, found.ignored)
    assert (losses[found.labels == 255] == 0).all()
    mean = losses.sum() / (found.labels != 255).sum()
    assert mean == pytest.approx(float(loss(model(inputs), labels).detach()), rel=1e-5)
