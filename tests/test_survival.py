"""Runs that are killed, or asked to stop, end as if they had not been: to the bit."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from core.base.files import temporary
from core.training.checkpoint import read_newest
from tests.conftest import Folder
from tests.warm import Child, Warm

RESULTS = (
    "last.pt",
    "best.pt",
    "metrics.jsonl",
    "metrics_val_best_weights.json",
    "metrics_val_last_weights.json",
    "predictions_val.npz",
)
RECIPE = {  # everything that a checkpoint has to remember, and a save after every update
    "dropout_rate": 0.3,
    "ema_decay": 0.9,
    "optimizer": "AdamW",
    "learning_rate": 0.01,
    "lr_scheduler": "OneCycleLR",
    "batch_size": 8,
    "num_epochs": 3,
    "checkpoint_minutes": 0,
    "save_summary_steps": 2,
}


def begin(warm: Warm, folder: Path, data: Path, **job: object) -> Child:
    argv: Sequence[str | Path] = ["--model_dir", folder, "--data_dir", data]
    return warm.start(argv, folder / "printed.txt", **job)


def assert_same(folder: Path, whole: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(folder.glob(".*.tmp"))


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


def test_twenty_kills_at_random_times_change_no_bit(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    kill_at_random(warm, run_folder, data, kills=20)


@pytest.mark.slow
def test_two_hundred_kills_at_random_times_change_no_bit(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    inside = kill_at_random(warm, run_folder, data, kills=200, seed=1)
    print(f"\n{inside} of 200 kills came inside a save")
    assert inside >= 20


OPERATIONS = ("openat", "write", "fsync", "rename", "link", "unlink", "ftruncate")


def trace(
    child: Child, log: Path, *options: str, thread: int | None = None
) -> "subprocess.Popen[bytes]":
    """Attach strace to a held run, or to one thread of it, and let it go on."""
    names = ",".join(OPERATIONS)
    which = ["-f", "-p", str(child.pid)] if thread is None else ["-p", str(thread)]
    command = ["strace", "-y", "-qq", "-o", str(log), "-e", f"trace={names}", "-e", "signal=none"]
    process = subprocess.Popen([*command, *options, *which], stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{child.pid}/task/{thread or child.pid}/status")
    while "TracerPid:\t0\n" in status.read_text():
        assert process.poll() is None, "strace cannot attach"
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGCONT)
    return process


def calls(log: Path) -> list[tuple[str, str]]:
    """Return the system calls in a log of strace -f as (thread, call), each where it was done."""
    begun: dict[str, str] = {}
    done = []
    for line in log.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        if call.startswith("<..."):
            call = begun.pop(thread) + call.partition("resumed>")[2]
        done.append((thread, call))
    return done


def changes(log: Path, folder: Path) -> list[tuple[str, int]]:
    """Return a thread's operations that change `folder`, as (system call, number of its kind)."""
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        name, parenthesis, rest = line.partition("(")
        if not (parenthesis and name.isalpha()):
            continue
        counts[name] = counts.get(name, 0) + 1
        reading = name == "openat" and not re.search("O_WRONLY|O_RDWR|O_CREAT", rest)
        if str(folder) in rest and not reading and "printed.txt" not in rest:
            found.append((name, counts[name]))
    return found


def commits(log: Path) -> int:
    """Count the renames that put a new last.pt in place."""
    return len(re.findall(r'rename\(.*/last\.pt"\) += 0', log.read_text(errors="replace")))


def begin_held(
    warm: Warm, folder: Path, data: Path, writer: bool, log: Path, *options: str
) -> tuple[Child, "subprocess.Popen[bytes]"]:
    """Begin a run, of which strace sees one thread: that which trains, or that which saves."""
    child = begin(warm, folder, data, held_writer=True) if writer else None
    child = child or begin(warm, folder, data, held=True)
    newest = max(int(name) for name in os.listdir(f"/proc/{child.pid}/task"))
    thread = newest if writer else child.pid
    return child, trace(child, log, *options, thread=thread)


def kill_before_operations(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path, every: int
) -> int:
    """Kill a small run before each (or every n-th) operation that changes its folder.

    Both threads do such operations: the one that trains, and the one that writes the checkpoints.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
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
            went_on = re.search(r"Going on after .* step (\d+)", (folder / "train.log").read_text())
            if newest and newest["step"] < 4:
                assert went_on
                assert int(went_on[1]) == newest["step"]
            assert_same(folder, whole)
            shutil.rmtree(folder)
    return total


def test_kills_before_a_sample_of_operations_lose_nothing(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    kill_before_operations(warm, run_folder, data, tmp_path, every=17)


def test_files_are_synced_before_and_folders_after_every_rename(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
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


def test_rows_are_synced_before_the_checkpoint_that_counts_them(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
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


def test_temporary_names_never_meet(tmp_path: Path) -> None:
    with temporary(tmp_path / "x") as first, temporary(tmp_path / "x") as second:
        assert first != second


@pytest.mark.slow
def test_kills_before_every_operation_lose_nothing(
    warm: Warm, run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    points = kill_before_operations(warm, run_folder, data, tmp_path, every=1)
    print(f"\nkilled before each of {points} operations")
    assert points > 100
