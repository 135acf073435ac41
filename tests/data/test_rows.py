"""Rows of a batch that several processes divide."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.data.batches import Batches
from core.data.dataloaders import ExactLoader
from core.machine.random_states import RowDraws
from core.task import IndexBatch, Loader

N = 23  # examples


def noisy(x: Tensor, row_draws: RowDraws | None) -> Tensor:
    """Add numbers of all three kinds to (B,) examples."""
    if row_draws is None:
        return x
    drawn = row_draws.uniform(), row_draws.normal(2), row_draws.integers(-5, 5, 2, 3)
    return x + drawn[0] + drawn[1].sum(1) + drawn[2].sum((1, 2))


class Numbers(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), index

    batch_transform = staticmethod(noisy)


def in_memory(size: int, transform: Any = noisy) -> Loader:
    x = torch.arange(N).double()
    return Batches(x, torch.arange(N), batch_size=size, seed=3, train=True, transform=transform)


def from_dataset(size: int) -> Loader:
    return ExactLoader(DataLoader(Numbers(), size, shuffle=True), 3, train=True)


@pytest.mark.parametrize("make", [in_memory, from_dataset])
def test_what_an_example_draws_depends_on_seed_epoch_and_example_alone(make: Any) -> None:
    def epoch(number: int, size: int, rank: int, world_size: int) -> dict[int, float]:
        loader = make(size)
        part = (planned.of_process(rank, world_size) for planned in loader.plan(number))
        batches = list(loader.load(number, part))
        return {int(i): float(v) for x, y in batches for i, v in zip(y, x, strict=True)}

    one = epoch(1, 8, 0, 1)
    assert one == epoch(1, 5, 0, 1)
    assert one == epoch(1, 8, 0, 3) | epoch(1, 8, 1, 3) | epoch(1, 8, 2, 3)
    other = epoch(2, 8, 0, 1)
    assert len(one) == N and all(one[i] != other[i] for i in one)


def test_a_process_makes_no_rows_that_it_does_not_take() -> None:
    seen: list[int] = []

    def counted(x: Tensor, row_draws: RowDraws | None) -> Tensor:
        seen.append(len(x))
        return x

    loader = in_memory(8, counted)
    list(loader.load(0, [planned.of_process(1, 2) for planned in loader.plan(0)]))
    assert seen == [4, 4, 3]


def test_a_generator_draws_for_a_whole_batch_and_the_log_says_so() -> None:
    def whole(x: Tensor, draws: torch.Generator | None) -> Tensor:
        return x + torch.rand(len(x), generator=draws)

    loader = in_memory(8, whole)
    first = next(iter(loader.plan(0)))
    (everything,) = loader.load(0, [first])
    (rows,) = loader.load(0, [first.of_process(1, 2)])
    assert (rows[0] == everything[0][1::2]).all()
    assert loader.kind.endswith("random numbers by batch")
    assert in_memory(8).kind.endswith("random numbers by example")


def test_draws_are_spread_as_they_say() -> None:
    draws = RowDraws(0, 0, torch.arange(20_000))
    uniform, normal, dice = draws.uniform(3), draws.normal(3), draws.integers(1, 7, 3)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean(0).sub(0.5).abs().max() < 0.01  # 5 standard errors
    assert uniform.std(0).sub(12**-0.5).abs().max() < 0.01
    assert normal.mean(0).abs().max() < 0.035 and normal.std(0).sub(1).abs().max() < 0.025
    assert dice.unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert (dice == 6).double().mean(0).sub(1 / 6).abs().max() < 0.0135
    columns = torch.cat([uniform, normal, dice], 1).T  # of neighbouring examples, and of calls
    apart = torch.corrcoef(torch.cat([columns[:, 1:], columns[:, :-1]])).fill_diagonal_(0)
    assert apart.abs().max() < 0.037


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 32])
def test_every_row_counts_once_and_no_process_has_a_single_one(world_size: int, count: int) -> None:
    whole = IndexBatch(0, list(range(count)))
    parts = [whole.of_process(rank, world_size) for rank in range(world_size)]
    rows = [whole.index[part.rows] for part in parts]
    counting = [each for each, part in zip(rows, parts, strict=True) if part.fraction]
    assert sorted(i for each in counting for i in each) == whole.index
    assert sum(part.fraction for part in parts) == pytest.approx(1)
    assert all(len(each) >= min(2, count) for each in rows)
