"""Runs on records in shards: killed, resumed, with workers, and by several processes."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Folder
from tests.helpers.runs import assert_same, run
from tests.helpers.warm import Warm
from tests.projects.shards.data_loader import write

PARAMS: dict[str, Any] = {"task": "tests.projects.shards", "width": 8, "dropout_rate": 0.2}
PARAMS |= {"shuffle_window": 2, "num_workers": 0, "batch_size": 8, "num_epochs": 3}
PARAMS |= {"checkpoint_minutes": 0, "learning_rate": 0.02}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write(tmp_path / "shards", {"train": 150, "val": 40}, shards=4)


def start(warm: Warm, folder: Path, data: Path, processes: int) -> Any:
    """Start a run with so many processes, which all are of one group."""
    argv = ["--model_dir", str(folder), "--data_dir", str(data)]
    if processes == 1:
        return warm.start(argv, folder / "printed.txt")
    (folder / "jobs.json").write_text(json.dumps([argv]))
    log, jobs = folder / "printed.txt", str(folder / "jobs.json")
    return warm.start([], log, together=processes, jobs=jobs)


def kill_at_random(warm: Warm, make: Folder, data: Path, kills: int) -> dict[str, int]:
    """Kill runs at random moments, of 0, 2, 3 workers and 1, 2, 3 processes in turn."""
    draw, whole, took = random.Random(0), dict[int, Path](), dict[int, float]()
    done, told = 0, dict[str, int]()
    for processes in (1, 2, 3):
        whole[processes] = make(f"whole{processes}", **PARAMS)
        began = time.monotonic()
        assert start(warm, whole[processes], data, processes).wait() == 0
        took[processes] = time.monotonic() - began
    for i in count():
        if done == kills:
            return told
        workers, processes = (0, 2, 3)[i % 3], (1, 2, 3)[i // 3 % 3]
        folder = make(f"killed{i}", **PARAMS | {"num_workers": workers})
        child = start(warm, folder, data, processes)
        time.sleep(draw.uniform(0.1, 1.2 * took[processes]))
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        if child.wait() != 0:  # else it was faster
            done += 1
            place = "in mid-run" if (folder / "last.pt").exists() else "before the first save"
            told[place] = told.get(place, 0) + 1
        assert start(warm, folder, data, processes).wait() == 0, (
            folder / "printed.txt"
        ).read_text()
        assert_same(folder, whole[processes])
    raise AssertionError


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(
    warm: Warm, run_folder: Folder, shards: Path
) -> None:
    told = kill_at_random(warm, run_folder, shards, kills=20)
    print(f"\n20 kills, {told}")
    assert told["in mid-run"] >= 5


def test_a_run_with_workers_ends_as_one_without_and_notes_how_long_it_waited(
    run_folder: Folder, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = run_folder("none", **PARAMS, val_split=0.1)
    two = run_folder("two", **PARAMS | {"num_workers": 2}, val_split=0.1)
    assert run(none, shards) == run(two, shards) == 0
    assert_same(two, none)
    told = (none / "train.log").read_text()
    assert "train: 135 examples in 17 batches, shuffled every epoch in windows of 2 of" in told
    rows = [json.loads(line) for line in (two / "times.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert 0 < row["data_seconds"] < row["train_seconds"]
