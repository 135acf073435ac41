"""Searches that share their trials, and searches whose processes are killed at random times."""

from pathlib import Path

import pytest

from tests.helpers.searching import RANDOM, kill_and_go_on, share


def test_two_searches_share_trials_and_none_runs_twice(tmp_path: Path, data: Path) -> None:
    share(tmp_path / "s", data, 8)


@pytest.mark.slow
def test_two_searches_share_300_trials_and_none_runs_twice(tmp_path: Path, data: Path) -> None:
    share(tmp_path / "s", data, 300, jobs=2)


def test_a_search_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, data: Path) -> None:
    kill_and_go_on(tmp_path, data, RANDOM.format(n=2), kills=2, epochs=30)


@pytest.mark.slow
def test_a_search_that_is_killed_30_times_ends_as_one_that_was_not(
    tmp_path: Path, data: Path
) -> None:
    kill_and_go_on(tmp_path / "random", data, RANDOM.format(n=16), kills=15, epochs=100)
    grid = "space: {learning_rate: [1e-6, 1e-5, 1e-4, 1e-3], dropout_rate: [0.0, 0.1, 0.2, 0.3]}"
    kill_and_go_on(tmp_path / "grid", data, grid, kills=15, epochs=100)
