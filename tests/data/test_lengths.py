"""What a loader yields, held against its length; the order of several processes."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from core.base.errors import DataError
from core.data.batches import Batches
from core.data.fetching import exact


class Stream(IterableDataset[Tensor]):
    """Numbers; `promised` of them by its length, `count` in truth."""

    def __init__(self, count: int, promised: int, divided: bool = True) -> None:
        self.count, self.promised, self.divided = count, promised, divided

    def __len__(self) -> int:
        return self.promised

    def __iter__(self) -> Iterator[Tensor]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info and self.divided else (0, 1)
        return map(torch.tensor, range(first, self.count, step))


def numbers(loader: Any) -> list[int]:
    batches = exact(loader, 1, train=True).epoch(0)
    return sorted(x for batch in batches for part in batch for x in part.flatten().tolist())


@pytest.mark.parametrize("count", [16, 22, 23, 25, 30])
def test_a_stream_that_is_not_as_long_as_it_says_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=r"its length says"):
        numbers(DataLoader(Stream(count, promised=24), batch_size=8))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stream_that_is_divided_among_workers_comes_whole(workers: int) -> None:
    loader = DataLoader(Stream(23, promised=23), batch_size=4, num_workers=workers)
    assert numbers(loader) == list(range(23))


def test_a_stream_that_every_worker_yields_is_noticed() -> None:
    loader = DataLoader(Stream(24, promised=24, divided=False), batch_size=4, num_workers=2)
    with pytest.raises(DataError, match="get_worker_info"):
        numbers(loader)


class OwnSampler(Sampler[int]):
    def __init__(self, yields: int, promised: int) -> None:
        self.yields, self.promised = yields, promised

    def __len__(self) -> int:
        return self.promised

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.yields))


@pytest.mark.parametrize("yields", [4, 12])
def test_a_sampler_that_is_not_as_long_as_it_says_is_refused(yields: int) -> None:
    dataset = TensorDataset(torch.arange(12))
    with pytest.raises(DataError, match="batches of its sampler"):
        numbers(DataLoader(dataset, batch_size=2, sampler=OwnSampler(yields, promised=8)))


def leave_out_odd(batch: list[tuple[Tensor]]) -> Any:
    return default_collate([x for (x,) in batch if x % 2 == 0])


def test_examples_that_a_collate_function_leaves_out_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loader = DataLoader(TensorDataset(torch.arange(12)), batch_size=6, collate_fn=leave_out_odd)
    assert numbers(loader) == [0, 2, 4, 6, 8, 10]
    assert caplog.text.count("a batch of 6 examples has 3 rows") == 1


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_distributed_sampler_gives_way_to_the_whole_order(shuffle: bool) -> None:
    dataset = TensorDataset(torch.arange(20))
    sampler = DistributedSampler(dataset, num_replicas=2, rank=1, shuffle=shuffle)  # type: ignore[var-annotated]
    loader = exact(DataLoader(dataset, batch_size=5, sampler=sampler), 1, train=True)
    order = [int(x) for batch in loader.epoch(0) for x in batch[0]]
    assert loader.num_examples == 20
    assert (order == list(range(20))) == (not shuffle)
    assert sorted(order) == list(range(20))
    assert "its DistributedSampler is replaced" in loader.kind


def test_one_object_may_be_the_loader_of_two_splits() -> None:
    batches = Batches(torch.arange(20), torch.arange(20), batch_size=5)
    train, val = exact(batches, 1, train=True), exact(batches, 1)
    order = [x for _, labels in val.epoch(0) for x in labels.tolist()]
    assert order == list(range(20))
    assert [x for _, labels in train.epoch(0) for x in labels.tolist()] != order


class Endless(Sampler[int]):
    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(12))


def test_a_sampler_without_end_is_drawn_for_as_long_as_it_says() -> None:
    loader = DataLoader(TensorDataset(torch.arange(12)), batch_size=4, sampler=Endless())
    assert numbers(loader) == list(range(8))


class Huge(Dataset[Tensor]):
    def __len__(self) -> int:
        return 10**10

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(index)


class HugeSampler(Sampler[int]):
    def __len__(self) -> int:
        return 10**10

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def test_the_order_of_a_sampler_is_drawn_only_as_far_as_it_is_needed() -> None:
    batches = exact(DataLoader(Huge(), batch_size=4, sampler=HugeSampler()), 1).epoch(0)
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_drop_last_that_leaves_no_batch_is_refused() -> None:
    with pytest.raises(DataError, match="drop_last leaves no batch of 8: 5 examples"):
        numbers(DataLoader(TensorDataset(torch.arange(5)), batch_size=8, drop_last=True))
