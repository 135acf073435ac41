"""What utils.Batches takes as examples, and what the default forward takes as a batch."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.base.errors import DataError, UsageError
from core.base.params import Params
from core.data.batches import Batches
from core.task import default_forward


class Pair(NamedTuple):
    x: Any
    mask: Any


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (np.zeros((10, 3), np.float32), np.arange(10)),
        (torch.zeros(10, 3), list(range(10))),
        ({"x": np.zeros((10, 3))}, [[0.5, 1.0]] * 10),
        (Pair(np.zeros(10), torch.ones(10)), np.arange(10)),
    ],
)
def test_arrays_and_lists_become_tensors(inputs: Any, labels: Any) -> None:
    batches = Batches(inputs, labels, batch_size=4)
    assert [len(labels) for _, labels in batches.epoch(0)] == [4, 4, 2]
    assert isinstance(next(batches.epoch(0))[1], Tensor)


@pytest.mark.parametrize("labels", [list(range(7)), np.arange(7), torch.arange(7)])
def test_other_numbers_of_inputs_and_labels_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match=r"\[7, 10\] examples"):
        Batches(torch.zeros(10, 3), labels, batch_size=4)


@pytest.mark.parametrize("inputs", [["a"] * 10, [[1], [2, 3]], [object()]])
def test_what_is_no_tensor_is_refused(inputs: Any) -> None:
    with pytest.raises(DataError, match=r"inputs of utils\.Batches"):
        Batches(inputs, torch.zeros(len(inputs)), batch_size=4)


def test_as_many_ids_as_examples_are_wanted() -> None:
    with pytest.raises(DataError, match="2 ids for 3 examples"):
        Batches(torch.zeros(3), torch.zeros(3), batch_size=4, ids=["a", "b"])


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64)]
)
def test_floats_of_numpy_have_the_precision_of_the_params(precision: str, dtype: Any) -> None:
    batches = Batches(np.zeros((6, 2)), np.zeros(6), batch_size=4)
    params = Params.of({"precision": precision, "channels_last": False}, "params.json")
    batches.put_on(torch.device("cpu"), params)
    assert [part.dtype for part in batches.first_batch()] == [dtype, dtype]


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ({"image": torch.zeros(2), "label": torch.zeros(2)}, "dict with the keys image, label"),
        ((torch.zeros(2), torch.zeros(2), torch.zeros(2)), "tuple of 3"),
        (torch.zeros(2, 3), "Tensor"),
    ],
)
def test_a_batch_that_is_no_pair_needs_a_forward(batch: Any, told: str) -> None:
    params = Params.of({}, "params.json")
    with pytest.raises(UsageError, match=told):
        default_forward(nn.Identity(), batch, params)
