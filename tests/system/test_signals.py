"""Signals, and two writers on one folder."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.machine.locks import one_writer
from core.training.checkpoint import read_newest
from tests.conftest import SMALL, Folder
from tests.helpers import ROOT
from tests.helpers.processes import wait_for
from tests.helpers.runs import RECIPE, assert_same, begin, rows, run, score, stopped
from tests.helpers.warm import Warm

# A save at the end of every epoch only, so that a signal comes amid one.
LONG = RECIPE | {"num_epochs": 40, "checkpoint_minutes": None}
WORKERS = {"task": "tests.projects.original", "num_workers": 2, "num_channels": 2}


def began(folder: Path) -> bool:
    return (folder / "last.pt").exists()


@pytest.fixture(scope="module")
def wholes(
    warm: Warm, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], Path]]:
    """Return recipes, each with the folder of a run that no signal disturbed."""
    recipes = {
        "in memory": LONG,
        "by workers": WORKERS | {"num_epochs": 5, "checkpoint_minutes": None},
    }
    made = {}
    for name, recipe in recipes.items():
        folder = tmp_path_factory.mktemp("whole")
        (folder / "params.json").write_text(json.dumps(SMALL | recipe))
        assert begin(warm, folder, data).wait() == 0
        made[name] = recipe, folder
    return made


@pytest.mark.parametrize(
    ("name", "to_group", "kind"),
    [
        ("SIGTERM", False, "in memory"),
        ("SIGINT", True, "in memory"),
        ("SIGUSR1", False, "in memory"),
        ("SIGTERM", False, "by workers"),
        ("SIGINT", True, "by workers"),  # as Ctrl-C does, which reaches the workers, too
        ("SIGUSR1", True, "by workers"),
    ],
)
def test_a_signal_saves_and_the_same_command_ends_as_if_it_had_not_come(
    warm: Warm,
    run_folder: Folder,
    data: Path,
    wholes: dict[str, tuple[dict[str, Any], Path]],
    name: str,
    to_group: bool,
    kind: str,
) -> None:
    (recipe, whole), number = wholes[kind], getattr(signal, name)
    folder = run_folder(**recipe)
    child = begin(warm, folder, data)
    wait_for(lambda: began(folder))
    time.sleep(random.Random(f"{name}{to_group}").uniform(0, 0.2))
    (os.killpg if to_group else os.kill)(child.pid, number)
    assert child.wait() == 128 + number
    assert f"Stopped by {name}" in (folder / "train.log").read_text()
    newest = read_newest(folder, [])
    assert newest is not None
    assert 0 < newest["step"] < read_newest(whole, [])["step"]  # type: ignore[index]
    assert begin(warm, folder, data).wait() == 0
    assert_same(folder, whole)


def test_workers_may_differ_before_and_after_an_interruption(
    warm: Warm, run_folder: Folder, data: Path
) -> None:
    recipe = WORKERS | {"num_epochs": 2, "checkpoint_minutes": 0, "dropout_rate": 0.3}
    none = run_folder("none", **recipe | {"num_workers": 0})
    cut = run_folder("cut", **recipe | {"num_workers": 3})
    assert begin(warm, none, data).wait() == 0
    stopped(warm, cut, data, signal.SIGTERM)
    (cut / "params.json").write_text((none / "params.json").read_text())  # no workers from here
    assert begin(warm, cut, data).wait() == 0
    assert_same(cut, none)


def test_signals_at_any_moment_from_the_start_are_obeyed(
    warm: Warm, run_folder: Folder, data: Path, whole: Path
) -> None:
    draw, folder = random.Random(1), run_folder(**RECIPE)
    codes = set()
    for _ in range(12):
        child = begin(warm, folder, data, slow=0.001)
        time.sleep(draw.uniform(0, 0.15))
        try:
            os.kill(child.pid, signal.SIGTERM)
        except ProcessLookupError:
            assert child.wait() == 0
            break
        codes.add(child.wait())
    assert codes <= {143, 0}
    assert begin(warm, folder, data).wait() == 0
    assert_same(folder, whole)


def test_a_signal_amid_accumulated_batches_waits_for_their_update(
    warm: Warm, run_folder: Folder, no_data: Path
) -> None:
    common = {"task": "tests.projects.kinds", "batch_size": 2, "grad_accumulation": 2}
    whole = run_folder("whole", **common, kind="plain")
    folder = run_folder("stopped", **common, kind="stopping")
    assert begin(warm, whole, no_data).wait() == 0
    for start in range(1, 6):  # 12 updates, two in every start: the second one begins with a signal
        assert begin(warm, folder, no_data).wait() == 143
        assert read_newest(folder, [])["step"] == 2 * start  # type: ignore[index]
    assert begin(warm, folder, no_data).wait() == 143  # before the last epoch is validated
    assert begin(warm, folder, no_data).wait() == 0
    assert rows(folder) == rows(whole)


def test_a_second_interrupt_quits_at_once(warm: Warm, run_folder: Folder, data: Path) -> None:
    folder = run_folder(task="tests.projects.slow", num_epochs=1)
    child = begin(warm, folder, data)
    wait_for(lambda: (folder / "in_step").exists())
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.3)
    assert os.path.exists(f"/proc/{child.pid}"), "the first one waits for the step"
    os.kill(child.pid, signal.SIGINT)
    began_waiting = time.monotonic()
    assert child.wait() == 130
    assert time.monotonic() - began_waiting < 5


def test_the_second_writer_is_told_who_the_first_one_is(
    warm: Warm, run_folder: Folder, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**WORKERS | {"num_epochs": 2000})
    first = begin(warm, folder, data)
    wait_for(lambda: began(folder))
    assert run(folder, data) == 2
    said = capsys.readouterr().err
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
    folder = run_folder(task="tests.projects.kinds", kind="failing", num_workers=2)
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--data_dir", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a fault of the task" in said


def test_evaluation_needs_no_lock(warm: Warm, run_folder: Folder, data: Path) -> None:
    folder = run_folder(**RECIPE | {"num_epochs": 2000})
    training = begin(warm, folder, data)
    wait_for(lambda: (folder / "best.pt").exists())
    assert score(folder, split="val")
    os.kill(training.pid, signal.SIGTERM)
    assert training.wait() == 143
