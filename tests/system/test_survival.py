"""Runs that are killed, or asked to stop, end as if they had not been: to the bit."""

import os
import random
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from core.training.checkpoint import read_newest
from tests.conftest import Folder
from tests.helpers.runs import RECIPE, assert_same, begin
from tests.helpers.tracing import begin_held, calls, changes, commits, trace
from tests.helpers.warm import Warm

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")


def killed_inside_a_save(folder: Path) -> bool:
    return any(".pt." in path.name for path in folder.glob(".*.tmp"))


def kill_at_random(warm: Warm, run_folder: Folder, data: Path, kills: int, seed: int = 0) -> int:
    """Kill runs at random times, at most three times each; returns the kills inside a save."""
    draw = random.Random(seed)
    whole = run_folder("whole", **RECIPE)
    began = time.monotonic()
    assert begin(warm, whole, data, slow=0.001).wait() == 0
    seconds = time.monotonic() - began
    done = inside = 0
    while done < kills:
        folder = run_folder(f"killed{done}", **RECIPE)
        for _ in range(3):
            child = begin(warm, folder, data, slow=0.001)
            time.sleep(draw.uniform(0, 0.8 * seconds))
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            if child.wait() == 0:  # it was faster
                break
            done += 1
            inside += killed_inside_a_save(folder)
        assert begin(warm, folder, data).wait() == 0
        assert_same(folder, whole)
        shutil.rmtree(folder)
    return inside


def test_ten_kills_at_random_times_change_no_bit(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    kill_at_random(warm, run_folder, data, kills=10)


@pytest.mark.slow
def test_two_hundred_kills_at_random_times_change_no_bit(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    inside = kill_at_random(warm, run_folder, data, kills=200, seed=1)
    print(f"\n{inside} of 200 kills came inside a save")
    assert inside >= 20


def kill_before_operations(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path, every: int
) -> int:
    """Kill a small run before each (or every n-th) operation that changes its folder.

    Both threads do such operations: the one that trains, and the one that writes the checkpoints.
    """
    recipe = RECIPE | {"num_epochs": 2, "batch_size": 18}
    assert begin(warm, run_folder("first", **recipe), data).wait() == 0  # makes the images' cache
    # Saves: after each of 2 updates, at the end of each epoch, and when all is done.
    steps = [0, 1, 2, 2, 3, 4, 4, 4]
    total = 0
    for writer in (True, False):
        whole, log = run_folder(f"whole{writer}", **recipe), tmp_path / "whole.trace"
        child, tracer = begin_held(warm, whole, data, writer, log)
        assert child.wait() == 0
        tracer.wait()
        points = changes(log, whole)
        assert commits(log) == (len(steps) - 1 if writer else 0)
        total += len(points)

        for number, (name, ordinal) in enumerate(points[::every]):
            folder, log = run_folder(f"killed{number}", **recipe), tmp_path / "killed.trace"
            kill = f"inject={name}:signal=KILL:when={ordinal}"
            child, tracer = begin_held(warm, folder, data, writer, log, "-e", kill)
            assert child.wait() == 137, f"{name} {ordinal} was not reached"
            tracer.wait()
            committed = steps[commits(log)]
            newest = read_newest(folder, [])
            assert (newest["step"] if newest else 0) >= committed, (name, ordinal)
            assert begin(warm, folder, data).wait() == 0
            went_on = re.search(r"Resuming after .* step (\d+)", (folder / "train.log").read_text())
            if newest and newest["step"] < 4:
                assert went_on
                assert int(went_on[1]) == newest["step"]
            assert_same(folder, whole)
            shutil.rmtree(folder)
    return total


@needs_strace
def test_kills_before_a_sample_of_operations_lose_nothing(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    kill_before_operations(warm, run_folder, data, tmp_path, every=31)


@needs_strace
def test_files_are_synced_before_and_folders_after_every_rename(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    folder, log = run_folder(**RECIPE | {"num_epochs": 1}), tmp_path / "trace"
    child = begin(warm, folder, data, held=True)
    tracer = trace(child, log)
    assert child.wait() == 0
    tracer.wait()
    synced: set[str] = set()
    waiting: set[str] = set()  # folders that no sync has followed the last rename in
    renames = 0
    for _, line in sorted(calls(log), key=lambda call: call[0]):  # thread by thread
        if match := re.search(r"fsync\(\d+<(.*?)>\)", line):
            synced.add(match[1])
            waiting.discard(match[1])
        elif match := re.search(r'rename\("(.*?)", "(.*?)"\)', line):
            renames += 1
            assert match[1] in synced or "/previous.pt" in match[2], line
            assert not waiting, f"no sync of the folder before {line}"
            waiting.add(str(Path(match[2]).parent))
    assert renames > 10
    assert not waiting


@needs_strace
def test_rows_are_synced_before_the_checkpoint_that_counts_them(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    folder, log = run_folder(num_epochs=2), tmp_path / "trace"
    child = begin(warm, folder, data, held=True)
    tracer = trace(child, log)
    assert child.wait() == 0
    tracer.wait()
    synced = commits_seen = 0
    for _, line in calls(log):
        synced += bool(re.search(r"fsync\(\d+<.*/metrics\.jsonl>", line))
        if "rename(" in line and '/last.pt"' in line:
            commits_seen += 1  # after the first epoch, after the second, and when all is done
            assert synced >= min(commits_seen, 2), line
    assert (synced, commits_seen) == (2, 3)


@needs_strace
@pytest.mark.slow
def test_kills_before_every_operation_lose_nothing(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    points = kill_before_operations(warm, run_folder, data, tmp_path, every=1)
    print(f"\nkilled before each of {points} operations")
    assert points > 100
