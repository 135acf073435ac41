"""Ctrl-C of a search: it says what it does, and ends within seconds."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.processes import alive, descendants, wait_for
from tests.helpers.searching import search, start, write_search

GRID = "method: grid\nspace: {learning_rate: [0.001, 0.01, 0.1]}\n"


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_search_in_long_steps_ends_within_seconds_and_says_so(
    tmp_path: Path, data: Path, times: int
) -> None:
    folder = write_search(tmp_path / "s", GRID, task="tests.projects.slow")  # 20 s a step
    with start(folder, data, "--jobs", "2") as running:
        wait_for(lambda: len([*folder.glob("*/in_step")]) == 2)
        family = descendants(running.pid)
        began = time.monotonic()
        for _ in range(times):
            os.killpg(running.pid, signal.SIGINT)
            time.sleep(1)
        said, _ = running.communicate(timeout=60)
    assert time.monotonic() - began < (15 if times == 1 else 5)
    assert running.returncode == 130
    assert "SIGINT: trials in progress save and end" in said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    wait_for(lambda: not any(map(alive, family)))


def test_a_search_that_is_stopped_goes_on_to_the_same_end(tmp_path: Path, data: Path) -> None:
    folder = write_search(tmp_path / "s", GRID, num_epochs=40)
    with start(folder, data) as running:
        wait_for(lambda: [*folder.glob("*/last.pt")])
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "failed" not in said
    assert search(folder, data) == 0


def test_the_edge_is_not_named_where_all_values_are_equal(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "method: grid\nspace: {learning_rate: [1e-12, 1e-11, 1e-10]}\n"  # nothing is learned
    folder = write_search(tmp_path / "s", text)
    assert search(folder, data) == 0
    said = capsys.readouterr().out
    assert "3 of 3 trials complete" in said
    assert "lies at the edge" not in said
