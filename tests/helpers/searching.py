"""Small searches that the tests share, and the processes of one, to be killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import search_hyperparams
from tests.helpers import ROOT
from tests.helpers.processes import descendants, wait_for

LINEAR = {
    "task": "tests.projects.linear",
    "optimizer": "SGD",
    "batch_size": 12,
    "num_epochs": 1,
    "num_threads": 1,
}
RANDOM = (
    "method: random\ntrials: {n}\nspace: {{learning_rate: {{low: 1e-9, high: 1e-3, log: true}}}}"
)

ASHA = "method: asha\ntrials: {n}\nrungs: {{after: 2, keep: 0.33}}\n"
ASHA += "space: {{learning_rate: {{low: 1e-9, high: 1e-3, log: true}}}}"


def write_search(folder: Path, text: str, **params: Any) -> Path:
    """Make the folder of a search over a small task."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(LINEAR | params))
    (folder / "search.yaml").write_text(text)
    return folder


def search(folder: Path, data: Path, *more: str) -> int:
    """Run a search here; returns its exit code."""
    return search_hyperparams.main(["--parent_dir", str(folder), "--data_dir", str(data), *more])


def start(
    folder: Path, data: Path, *more: str, enter: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """Start a search as a process group of its own; `enter` is a command to put before it."""
    command = [sys.executable, "search_hyperparams.py", "--parent_dir", str(folder)]
    return subprocess.Popen(
        [*enter, *command, "--data_dir", str(data), *more],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def trials(folder: Path) -> list[str]:
    """Return the names of the trials' folders that hold a finished run."""
    return sorted(path.parent.name for path in folder.glob("*/predictions_val.npz"))


def outcomes(folder: Path) -> dict[str, bytes]:
    """Return where each trial is now: its metrics and checkpoints, byte for byte."""
    names = ("metrics.jsonl", "last.pt", "best.pt", "params.json")
    return {
        f"{path.parent.name}/{name}": (path.parent / name).read_bytes()
        for path in sorted(folder.glob("*/last.pt"))
        for name in names
    }


def share(
    folder: Path,
    data: Path,
    count: int,
    *more: str,
    jobs: int = 1,
    searches: int = 2,
    text: str = RANDOM,
    epochs: int = 1,
) -> None:
    """Let some searches run trials, and see that no epoch of any was trained twice."""
    write_search(folder, text.format(n=count), num_epochs=epochs)
    running = [start(folder, data, "--jobs", str(jobs), *more) for _ in range(searches)]
    said = [process.communicate()[0] for process in running]
    for process, printed in zip(running, said, strict=True):
        assert process.returncode == 0, printed
        assert f" of {count} trials complete" in printed
    lines = [line for printed in said for line in printed.splitlines() if line[:1] == "#"]
    ran = [(line.split()[0], "".join(re.findall(r"@\d+", line))) for line in lines]
    assert len(ran) == len(set(ran))
    assert len({number for number, _ in ran}) == len(saves(folder)) == count
    for path in saves(folder):
        trained = re.findall(r" (\d+)/\d+ ", (path.parent / "console.log").read_text())
        assert trained == [str(epoch + 1) for epoch in range(len(trained))]
        assert text != RANDOM or len(trained) == epochs


def saves(folder: Path) -> dict[Path, int]:
    """Return the trials' last checkpoints, with the times when they were written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/last.pt")}


def kill_and_go_on(
    tmp_path: Path, data: Path, text: str, kills: int, epochs: int, *more: str
) -> None:
    """Kill a trial, the search or all its processes at random; compare with a quiet search."""
    rng = random.Random(0)
    params = {"task": "tests.projects.pictures", "optimizer": "AdamW", "num_channels": 2}
    params |= {"dropout_rate": 0.3, "num_epochs": epochs, "checkpoint_minutes": 0.0}
    quiet = write_search(tmp_path / "quiet", text, **params)
    assert search(quiet, data, "--jobs", "2") == 0
    folder = write_search(tmp_path / "killed", text, **params)
    done, hit = 0, {"trial": 0, "search": 0, "all": 0}
    running = start(folder, data, "--jobs", "2", *more)
    while done < kills:
        if rng.random() < 0.8:  # else while it starts
            before = saves(folder)
            wait_for(lambda: running.poll() is not None or saves(folder) != before)  # noqa: B023
        time.sleep(rng.uniform(0, 0.3))
        target = rng.choice(sorted(hit))
        family = descendants(running.pid)
        if running.poll() is not None:
            break
        numbers = {"trial": family[-1:], "search": [running.pid], "all": [running.pid, *family]}
        for number in numbers[target]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        done, hit[target] = done + 1, hit[target] + bool(numbers[target])
        if target != "trial":
            running.communicate()
            running = start(folder, data, "--jobs", "2", *more)
    said, _ = running.communicate(timeout=600)
    print(f"{done} kills: {hit}")
    assert running.returncode == 0, said
    assert done == kills, f"the search ended after {done} kills"
    assert outcomes(folder) == outcomes(quiet)
    assert "failed" not in said
