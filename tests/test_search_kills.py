"""Searches that share their trials, and searches whose processes are killed at random times."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.searching import descendants, results, search, start, trials, write_search

RANDOM = (
    "method: random\ntrials: {n}\nspace: {{learning_rate: {{low: 1e-9, high: 1e-3, log: true}}}}"
)


def share(folder: Path, data: Path, count: int, *more: str) -> None:
    """Let two searches of two jobs each run trials, and see that each was run once."""
    write_search(folder, RANDOM.format(n=count))
    with (
        start(folder, data, "--jobs", "2", *more) as one,
        start(folder, data, "--jobs", "2", *more) as two,
    ):
        said = [process.communicate()[0] for process in (one, two)]
    for process, text in zip((one, two), said, strict=True):
        assert process.returncode == 0, text
        assert f"{count} of {count} trials complete\n" in text
    ran = [
        line.split(":")[0] for text in said for line in text.splitlines() if ": accuracy " in line
    ]
    assert len(ran) == len(set(ran)) == len(trials(folder)) == count
    for name in trials(folder):
        assert (folder / name / "console.log").read_text().count("Epoch 1/1") == 1


def test_two_searches_share_trials_and_none_runs_twice(tmp_path: Path, data: Path) -> None:
    share(tmp_path / "s", data, 24)


@pytest.mark.slow
def test_two_searches_share_300_trials_and_none_runs_twice(tmp_path: Path, data: Path) -> None:
    share(tmp_path / "s", data, 300)


def kill_and_go_on(
    tmp_path: Path, data: Path, text: str, kills: int, epochs: int, *more: str
) -> None:
    """Kill a trial, the search or all its processes at random; compare with a quiet search."""
    rng = random.Random(0)
    params = {"task": "model", "optimizer": "AdamW", "num_channels": 2, "dropout_rate": 0.3}
    params |= {"num_epochs": epochs, "checkpoint_minutes": 0.0}
    quiet, began = write_search(tmp_path / "quiet", text, **params), time.perf_counter()
    assert search(quiet, data, "--jobs", "2") == 0
    longest = 0.8 * (time.perf_counter() - began) / kills  # so the last one comes in time, too
    folder = write_search(tmp_path / "killed", text, **params)
    done, hit = 0, {"trial": 0, "search": 0, "all": 0}
    running = start(folder, data, "--jobs", "2", *more)
    while done < kills:
        time.sleep(rng.uniform(0, longest))
        target = rng.choice(sorted(hit))
        family = descendants(running.pid)
        if running.poll() is not None:
            break
        numbers = {"trial": family[-1:], "search": [running.pid], "all": [running.pid, *family]}
        for number in numbers[target]:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        done, hit[target] = done + 1, hit[target] + bool(numbers[target])
        if target != "trial":
            running.communicate()
            running = start(folder, data, "--jobs", "2", *more)
    said, _ = running.communicate(timeout=600)
    print(f"{done} kills: {hit}")
    assert running.returncode == 0, said
    assert done == kills, f"the search ended after {done} kills"
    assert results(folder) == results(quiet)
    assert "failed" not in said


def test_a_search_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, data: Path) -> None:
    kill_and_go_on(tmp_path, data, RANDOM.format(n=3), kills=2, epochs=25)


@pytest.mark.slow
def test_a_search_that_is_killed_30_times_ends_as_one_that_was_not(
    tmp_path: Path, data: Path
) -> None:
    kill_and_go_on(tmp_path / "random", data, RANDOM.format(n=16), kills=15, epochs=100)
    grid = "space: {learning_rate: [1e-6, 1e-5, 1e-4, 1e-3], dropout_rate: [0.0, 0.1, 0.2, 0.3]}"
    kill_and_go_on(tmp_path / "grid", data, grid, kills=15, epochs=100)
