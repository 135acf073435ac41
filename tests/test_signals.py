"""Signals, and two writers on one folder."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.machine.locks import one_writer
from core.training.checkpoint import read_newest
from tests.conftest import ROOT, Folder, rows
from tests.test_survival import RECIPE, assert_same, begin
from tests.warm import Child, Warm

WORKERS = {"task": "tests.original", "num_workers": 2, "num_channels": 2, "num_epochs": 3}


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.001)


def began(folder: Path) -> bool:
    return (folder / "last.pt").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("to_group", [False, True])
@pytest.mark.parametrize("recipe", [RECIPE, WORKERS])
def test_a_signal_saves_and_the_same_command_ends_as_if_it_had_not_come(
    warm: Warm,
    run_folder: Folder,
    data: Path,
    name: str,
    to_group: bool,
    recipe: dict[str, object],
) -> None:
    epochs = 12 if "task" in recipe else 40  # workers are started anew in every epoch
    recipe = recipe | {"num_epochs": epochs, "checkpoint_minutes": None}
    number = getattr(signal, name)
    whole, stopped = run_folder("whole", **recipe), run_folder("stopped", **recipe)
    assert begin(warm, whole, data).wait() == 0
    child = begin(warm, stopped, data)
    wait_for(lambda: began(stopped))
    time.sleep(random.Random(f"{name}{to_group}").uniform(0, 0.2))
    (os.killpg if to_group else os.kill)(child.pid, number)
    assert child.wait() == 128 + number
    assert f"Stopped by {name}" in (stopped / "train.log").read_text()
    newest = read_newest(stopped, [])
    assert newest is not None
    assert 0 < newest["step"] < read_newest(whole, [])["step"]  # type: ignore[index]
    assert begin(warm, stopped, data).wait() == 0
    assert_same(stopped, whole)


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_may_differ_before_and_after_an_interruption(
    warm: Warm, run_folder: Folder, data: Path, workers: int
) -> None:
    recipe = WORKERS | {"num_epochs": 4, "checkpoint_minutes": 0, "dropout_rate": 0.3}
    whole = run_folder("whole", **recipe | {"num_workers": 0})
    cut = run_folder("cut", **recipe | {"num_workers": workers})
    assert begin(warm, whole, data).wait() == 0
    child = begin(warm, cut, data, slow=0.005)
    wait_for(lambda: (cut / "previous.pt").exists())
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 143
    (cut / "params.json").write_text((whole / "params.json").read_text())  # no workers from here
    assert begin(warm, cut, data).wait() == 0
    assert_same(cut, whole)


def test_signals_at_any_moment_from_the_start_are_obeyed(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    draw = random.Random(1)
    whole, stopped = run_folder("whole", **RECIPE), run_folder("stopped", **RECIPE)
    assert begin(warm, whole, data).wait() == 0
    codes = set()
    for _ in range(12):
        child = begin(warm, stopped, data, slow=0.001)
        time.sleep(draw.uniform(0, 0.15))
        try:
            os.kill(child.pid, signal.SIGTERM)
        except ProcessLookupError:
            assert child.wait() == 0
            break
        codes.add(child.wait())
    assert codes <= {143, 0}
    assert begin(warm, stopped, data).wait() == 0
    assert_same(stopped, whole)


def test_a_signal_amid_accumulated_batches_waits_for_their_update(
    warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    common = {"task": "tests.kinds", "batch_size": 2, "grad_accumulation": 2}
    whole = run_folder("whole", **common, kind="plain")
    stopped = run_folder("stopped", **common, kind="stopping")
    empty = tmp_path / "data"
    empty.mkdir()
    assert begin(warm, whole, empty).wait() == 0
    for start in range(1, 6):  # 12 updates, two in every start: the second one begins with a signal
        assert begin(warm, stopped, empty).wait() == 143
        assert read_newest(stopped, [])["step"] == 2 * start  # type: ignore[index]
    assert begin(warm, stopped, empty).wait() == 143  # before the last epoch is validated
    assert begin(warm, stopped, empty).wait() == 0
    assert rows(stopped) == rows(whole)


def test_a_second_interrupt_quits_at_once(warm: Warm, run_folder: Folder, data: Path) -> None:
    folder = run_folder(task="tests.slow", num_epochs=1)
    child = begin(warm, folder, data)
    wait_for(lambda: (folder / "in_step").exists())
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.3)
    assert os.path.exists(f"/proc/{child.pid}"), "the first one waits for the step"
    os.kill(child.pid, signal.SIGINT)
    began_waiting = time.monotonic()
    assert child.wait() == 130
    assert time.monotonic() - began_waiting < 5


def start_alone(folder: Path, data: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--data_dir", str(data)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_the_second_writer_is_told_who_the_first_one_is(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    folder = run_folder(**WORKERS | {"num_epochs": 2000})
    first = begin(warm, folder, data)
    wait_for(lambda: began(folder))
    second = start_alone(folder, data)
    _, said = second.communicate()
    assert second.returncode == 2
    assert f"process {first.pid} on {socket.gethostname()}" in said
    assert len(said.splitlines()) <= 5

    os.kill(first.pid, signal.SIGKILL)  # its worker processes linger
    assert first.wait() == 137
    epochs = read_newest(folder, [])["epoch"]  # type: ignore[index]
    (folder / "params.json").write_text(
        json.dumps(json.loads((folder / "params.json").read_text()) | {"num_epochs": epochs + 1})
    )
    third = begin(warm, folder, data)
    assert third.wait() == 0


LEAVES_A_CHILD = """
import os, signal, sys, time
from pathlib import Path
from core.machine.locks import one_writer
with one_writer(Path(sys.argv[1])):
    if child := os.fork():
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_run_is_free_though_its_children_live(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAVES_A_CHILD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        try:
            with one_writer(tmp_path):
                assert os.path.exists(f"/proc/{child}")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_fault_of_the_task_ends_the_run_and_its_workers(run_folder: Folder, data: Path) -> None:
    folder = run_folder(task="tests.kinds", kind="failing", num_workers=2)
    process = start_alone(folder, data)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a fault of the task" in said


def test_evaluation_needs_no_lock(warm: Warm, run_folder: Folder, data: Path) -> None:
    folder = run_folder(**RECIPE | {"num_epochs": 2000})
    training: Child = begin(warm, folder, data)
    wait_for(lambda: (folder / "best.pt").exists())
    command = [sys.executable, "evaluate.py", "--model_dir", str(folder), "--split", "val"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    os.kill(training.pid, signal.SIGTERM)
    assert training.wait() == 143
