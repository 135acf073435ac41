import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from core.base.errors import DataError
from core.data.batches import Batches
from core.data.fetching import exact
from core.data.known import known_labels
from core.data.order import split_into_batches


class Noisy(Dataset[tuple[Tensor, int]]):
    """Examples to which all three global generators add their noise."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return noise, index


def seen(loader: Any, epoch: int, start: int = 0) -> list[Any]:
    return [[part.tolist() for part in batch] for batch in loader.epoch(epoch, start)]


def in_memory(count: int, batch_size: int, train: bool = True, seed: int = 3) -> Batches:
    numbers = torch.arange(count)
    return Batches(numbers, numbers, batch_size=batch_size, seed=seed, train=train)


@pytest.mark.parametrize(("count", "size"), [(40, 32), (33, 32), (64, 32), (1, 4), (5, 100)])
def test_every_example_comes_once_an_epoch_whatever_the_batch_size(count: int, size: int) -> None:
    for train in (True, False):
        loader = in_memory(count, size, train)
        labels = [label for _, labels in seen(loader, 0) for label in labels]
        assert sorted(labels) == list(range(count))
        assert len(list(loader.epoch(0))) == len(loader)


def test_a_last_training_batch_of_one_joins_the_one_before_it() -> None:
    assert [len(labels) for _, labels in in_memory(33, 16).epoch(0)] == [16, 17]
    assert [len(labels) for _, labels in in_memory(33, 16, train=False).epoch(0)] == [16, 16, 1]
    loader = exact(DataLoader(Noisy(33), batch_size=16, shuffle=True), 1, train=True)
    assert [len(labels) for _, labels in loader.epoch(0)] == [16, 17]
    assert len(loader) == 2


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert seen(in_memory(50, 8), 4) == seen(in_memory(50, 8), 4)
    assert seen(in_memory(50, 8), 4) != seen(in_memory(50, 8), 5)
    assert seen(in_memory(50, 8), 4) != seen(in_memory(50, 8, seed=4), 4)


def test_an_epoch_starts_in_its_middle_as_it_would_have_gone_on() -> None:
    loaders = [
        in_memory(50, 8),
        exact(DataLoader(Noisy(50), batch_size=8, shuffle=True), 1, train=True),
        exact(DataLoader(Stream(50), batch_size=8), 1, train=True),
    ]
    for loader in loaders:
        assert seen(loader, 2)[3:] == seen(loader, 2, start=3)


class Stream(IterableDataset[Any]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.count):
            yield torch.rand(2), index


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_do_not_change_what_a_loader_yields(workers: int) -> None:
    plain: Any = exact(DataLoader(Noisy(20), batch_size=6, shuffle=True), 7, train=True)
    spread = exact(
        DataLoader(
            Noisy(20), batch_size=6, shuffle=True, num_workers=workers, persistent_workers=True
        ),
        7,
        train=True,
    )
    for epoch in (0, 1):
        assert seen(plain, epoch) == seen(spread, epoch)
    assert seen(plain, 0) != seen(plain, 1)


def test_iterating_draws_nothing_from_the_global_generators() -> None:
    loaders = [
        in_memory(20, 6),
        exact(DataLoader(Noisy(20), batch_size=6, shuffle=True), 7, train=True),
        exact(DataLoader(Stream(20), batch_size=6), 7, train=True),
        exact(DataLoader(Noisy(20), sampler=WeightedRandomSampler([1.0] * 20, 20)), 7),
    ]
    for loader in loaders:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        drawn = torch.rand(()).item(), np.random.rand(), random.random()
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        seen(loader, 0)
        assert (torch.rand(()).item(), np.random.rand(), random.random()) == drawn


def test_a_sampler_of_ones_own_is_kept_and_seeded_by_the_epoch() -> None:
    weights = [1.0] * 10 + [0.0] * 10
    own = exact(
        DataLoader(Noisy(20), batch_size=4, sampler=WeightedRandomSampler(weights, 16)),
        7,
        train=True,
    )
    labels = [label for _, labels in seen(own, 0) for label in labels]
    assert len(labels) == 16
    assert max(labels) < 10
    assert seen(own, 0) == seen(own, 0) != seen(own, 1)


def test_a_loader_without_batching_is_kept() -> None:
    own = exact(DataLoader(Noisy(5), batch_size=None), 7)
    assert [batch[1] for batch in own.epoch(0)] == [0, 1, 2, 3, 4]
    assert own.first_batch()[1] == 0


def test_evaluation_drops_nothing_though_the_loader_says_drop_last() -> None:
    loader = DataLoader(Noisy(10), batch_size=4, shuffle=True, drop_last=True)
    assert sum(len(labels) for _, labels in exact(loader, 0).epoch(0)) == 10
    assert sum(len(labels) for _, labels in exact(loader, 0, train=True).epoch(0)) == 8


def test_labels_are_found_where_datasets_keep_them() -> None:
    dataset = TensorDataset(torch.rand(6, 2), torch.arange(6))
    expected = [0, 1, 2, 3, 4, 5]
    assert exact(DataLoader(dataset), 0).labels.tolist() == expected
    found = known_labels(Subset(dataset, [1, 3]))
    assert found is not None
    assert found.tolist() == [1, 3]
    assert known_labels(Noisy(3)) is None
    assert known_labels(TensorDataset(torch.rand(6, 2))) is None
    numbers = known_labels(TensorDataset(torch.rand(6, 2), torch.ones(6)))
    assert numbers is not None
    assert numbers.tolist() == [1.0] * 6


def test_what_is_no_loader_is_refused() -> None:
    with pytest.raises(DataError, match="list, want a DataLoader"):
        exact([1, 2], 0)
    with pytest.raises(DataError, match="no examples"):
        exact(DataLoader(Noisy(0)), 0)
    with pytest.raises(DataError, match=r"\[2, 3\] examples"):
        Batches(torch.zeros(3), torch.zeros(2), batch_size=1)


def test_batches_of_one_stay_batches_of_one() -> None:
    sizes = [len(batch) for batch in split_into_batches(torch.arange(5), 1, train=True)]
    assert sizes == [1, 1, 1, 1, 1]


def _noisy_collate(batch: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(batch) + torch.rand(1) + np.random.rand() + random.random()


def test_a_collate_function_that_draws_is_exact_and_leaves_the_generators_alone() -> None:
    from torch.utils.data import DataLoader

    seen = []
    for workers in (0, 2):
        data = torch.arange(7.0)
        plain: Any = DataLoader(data, batch_size=3, num_workers=workers, collate_fn=_noisy_collate)  # type: ignore[arg-type]
        loader = exact(plain, 0, train=True)
        before = torch.get_rng_state()
        seen.append([torch.cat(list(loader.epoch(1))), *loader.epoch(1, start=1)])
        loader.first_batch()
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert torch.equal(seen[0][0][3:], seen[0][1])


def sequences(count: int, train: bool, batch_size: int = 4) -> Batches:
    lengths = torch.arange(count) * 7 % 13 + 1
    words = torch.arange(count)[:, None].repeat(1, 13)
    words[torch.arange(13) >= lengths[:, None]] = -1
    return Batches(
        {"words": words, "shapes": words[:, :, None].repeat(1, 1, 2)},
        words,
        batch_size=batch_size,
        train=train,
        lengths=lengths,
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 500])
def test_sequences_come_once_an_epoch_and_are_cut_behind_the_longest(
    train: bool, batch_size: int
) -> None:
    loader = sequences(50, train, batch_size)
    found = []
    for inputs, labels in loader.epoch(0):
        assert inputs["words"].shape == labels.shape
        assert inputs["shapes"].shape == (*labels.shape, 2)
        assert (labels[:, -1] >= 0).any()
        found += labels[:, 0].tolist()
    assert sorted(found) == list(range(50))
    if not train:
        assert found == loader.ids


def test_sequences_are_batched_by_length_and_anew_in_every_epoch() -> None:
    loader = sequences(500, train=True)
    padding = sum(int((labels < 0).sum()) for _, labels in loader.epoch(0))
    tokens = sum(labels.numel() for _, labels in loader.epoch(0))
    assert padding / tokens < 0.1
    first = [labels[:, 0].tolist() for _, labels in loader.epoch(0)]
    assert first == [labels[:, 0].tolist() for _, labels in loader.epoch(0)]
    assert first != [labels[:, 0].tolist() for _, labels in loader.epoch(1)]
