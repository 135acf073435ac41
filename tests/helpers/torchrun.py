"""Several processes of one run, started by torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import train
from tests.helpers import ROOT
from tests.helpers.processes import wait_for
from tests.helpers.warm import Warm

PATIENCE = 120  # seconds after which a test calls it a hang
MANY = ROOT / "tests" / "helpers" / "many.py"
Job = tuple[str, dict[str, Any], Path]  # a run: its name, params and data


def torchrun(count: int, script: Path, *arguments: object, options: tuple[str, ...] = ()) -> Any:
    """Start `count` processes of a script; what they print goes to a pipe."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}"]
    command += [*(options or ["--standalone"]), str(script), *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: Any) -> tuple[int, str]:
    """Wait for a process; returns its exit code and what it printed."""
    try:
        printed = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.terminate()
        pytest.fail(f"it hangs: {process.communicate()[0][-2000:]}")
    return process.returncode, printed


def begin_two(folder: Path, data: Path, *options: str) -> Any:
    """Start two processes that train a run; they leave their exit codes beside it."""
    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps([["--model_dir", str(folder), "--data_dir", str(data)]]))
    return torchrun(2, MANY, jobs, options=options)


def train_two(warm: Warm, folder: Path, data: Path) -> tuple[int, str]:
    """Train a run with two processes, forks instead of torchrun's; returns code and output."""
    argv = ["--model_dir", str(folder), "--data_dir", str(data)]
    jobs, log = folder / "jobs.json", folder / "printed.txt"
    jobs.write_text(json.dumps([argv]))
    return warm.start([], log, together=2, jobs=str(jobs)).wait(), log.read_text()


def train_all(warm: Warm, folder: Path, count: int, jobs: Sequence[Job]) -> Path:
    """Train many runs with `count` processes, each in a folder of its name below `folder`.

    With several processes each leaves its exit codes in a file: codes.0, codes.1 ...
    """
    commands = []
    for name, params, data in jobs:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "params.json").write_text(json.dumps({"num_threads": 1} | params))
        commands.append(["--model_dir", str(folder / name), "--data_dir", str(data)])
    if count == 1:
        assert [train.main(argv) for argv in commands] == [0] * len(commands)
        return folder
    (folder / "jobs.json").write_text(json.dumps(commands))
    log = folder / "printed.txt"
    child = warm.start([], log, together=count, jobs=str(folder / "jobs.json"))
    assert child.wait() == 0, log.read_text()[-3000:]
    return folder


def processes_of(agent: int) -> dict[int, int]:
    """Return the processes that an agent has started: rank -> number."""
    found: dict[int, int] = {}
    for number in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        with suppress(OSError):  # it has just ended
            words = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            ranks = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
            found |= {rank: int(number) for rank in ranks}
    return found


def wait_for_save(folder: Path, agent: Any, since: int = 0) -> None:
    """Wait until a run has written another checkpoint, or has ended."""
    last = folder / "last.pt"

    def saved() -> bool:
        return agent.poll() is not None or (last.exists() and last.stat().st_mtime_ns > since)

    wait_for(saved, every=0.02)
