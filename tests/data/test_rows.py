"""Rows of a batch that several processes divide."""

import pytest

from core.task import IndexBatch


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
