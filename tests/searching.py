"""Small searches that the tests share, and the processes of one, to be killed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import search_hyperparams
from tests.conftest import ROOT

LINEAR = {
    "task": "tests.linear",
    "optimizer": "SGD",
    "batch_size": 12,
    "num_epochs": 1,
    "num_threads": 1,
}


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


def results(folder: Path) -> dict[str, bytes]:
    """Return what each trial ended with: its metrics and its last checkpoint, byte for byte."""
    names = ("metrics.jsonl", "last.pt", "best.pt", "params.json")
    return {
        f"{trial}/{name}": (folder / trial / name).read_bytes()
        for trial in trials(folder)
        for name in names
    }


def alive(number: int) -> bool:
    """Tell whether a process runs (Linux); one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(number: int) -> list[int]:
    """Return the processes below one, children before their children (Linux)."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    below = list(parents.get(number, []))
    for child in below:
        below += parents.get(child, [])
    return below
