"""Datasets and batches of other libraries, as they are."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from core.base.params import Params
from core.data.batches import placement
from core.data.fetching import exact


def test_a_dataset_of_hugging_face_is_read_in_our_order() -> None:
    datasets = pytest.importorskip("datasets")
    table = {"text_length": list(range(10)), "label": [i % 3 for i in range(10)]}
    dataset: Any = datasets.Dataset.from_dict(table).with_format("torch")
    loader = exact(DataLoader(dataset, 4, shuffle=True), seed=1, train=True)
    whole = [batch["text_length"].tolist() for batch in loader.epoch(3)]
    assert sorted(i for batch in whole for i in batch) == list(range(10))
    assert [batch["text_length"].tolist() for batch in loader.epoch(3, 1)] == whole[1:]
    assert [*map(len, whole)] == [4, 4, 2]


def test_what_a_tokenizer_gives_keeps_its_kind() -> None:
    transformers = pytest.importorskip("transformers")
    batch = transformers.BatchEncoding({"input_ids": torch.tensor([[1, 2]])})
    params = Params.of({"precision": "float32", "channels_last": False}, "params")
    placed = placement(params, torch.device("cpu"))((batch, torch.zeros(1)))
    assert placed[0].input_ids.tolist() == [[1, 2]]
