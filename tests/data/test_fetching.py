"""A part of the training split that is held out for validation."""

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SubsetRandomSampler

from core.base.errors import DataError
from core.base.params import Params
from core.data.fetching import exact, split_off


class Named(Dataset[int]):
    filenames = tuple("abcdefghij")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        return index


def test_a_part_split_off_keeps_the_names_of_its_examples() -> None:
    params = Params.of({"val_split": 0.3, "seed": 1}, "test")
    _, part = split_off(DataLoader(Named(), batch_size=4, shuffle=True), params)
    loader = exact(part, seed=1)
    numbers = torch.cat(list(loader.epoch(0))).tolist()
    assert loader.ids == [Named.filenames[i] for i in numbers]


def test_val_split_of_another_loader_is_a_clear_error() -> None:
    params = Params.of({"val_split": 0.3, "seed": 1}, "test")
    with pytest.raises(DataError, match="val_split"):
        split_off(object(), params)


@pytest.mark.parametrize("batched", [False, True])
def test_evaluation_counts_every_example_of_a_sampler_that_drops_the_last_ones(
    batched: bool,
) -> None:
    sampler = SubsetRandomSampler(range(3, 10))
    loader: DataLoader[int] = DataLoader(Named(), 4, sampler=sampler, drop_last=True)
    if batched:
        loader = DataLoader(Named(), batch_sampler=BatchSampler(sampler, 4, drop_last=True))
    counted = exact(loader, seed=1)
    assert len(counted) == 2
    assert sorted(torch.cat(list(counted.epoch(0))).tolist()) == [*range(3, 10)]
    assert [len(batch) for batch in exact(loader, seed=1, train=True).epoch(0)] == [4]
