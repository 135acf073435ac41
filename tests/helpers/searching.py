"""Small searches that the tests share, and the processes of one, to be killed."""

import json
import os
import random
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
    """Return what each trial ended with: its metrics and its last checkpoint, byte for byte."""
    names = ("metrics.jsonl", "last.pt", "best.pt", "params.json")
    return {
        f"{trial}/{name}": (folder / trial / name).read_bytes()
        for trial in trials(folder)
        for name in names
    }


def share(folder: Path, data: Path, count: int, *more: str, jobs: int = 1) -> None:
    """Let two searches of some jobs each run trials, and see that each was run once."""
    write_search(folder, RANDOM.format(n=count))
    with (
        start(folder, data, "--jobs", str(jobs), *more) as one,
        start(folder, data, "--jobs", str(jobs), *more) as two,
    ):
        said = [process.communicate()[0] for process in (one, two)]
    for process, text in zip((one, two), said, strict=True):
        assert process.returncode == 0, text
        assert f"{count} of {count} trials complete\n" in text
    ran = [line.split()[0] for text in said for line in text.splitlines() if line[:1] == "#"]
    assert len(ran) == len(set(ran)) == len(trials(folder)) == count
    for name in trials(folder):
        assert (folder / name / "console.log").read_text().count(" 1/1 ") == 1


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
