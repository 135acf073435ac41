"""A run that is resumed needs hardly more memory than a new one."""

import pytest

from bench import memory


@pytest.mark.slow
def test_a_resumed_run_needs_at_most_a_tenth_more_memory() -> None:
    medians = memory.measure(num_weights=32 * 2**20, repeats=1)
    new, resumed = (medians[way]["peak memory, MB"] for way in ("new", "resumed"))
    print(f"\n{new:.0f} MB new, {resumed:.0f} MB resumed")
    assert resumed <= 1.1 * new
