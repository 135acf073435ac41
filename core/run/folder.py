"""The files of a run's folder, but for its checkpoints and its logs."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.base.errors import UsageError
from core.base.files import write_json
from core.base.keys import KEYS
from core.base.params import ROOT, find_params_file, load_params, read_mapping, task_folder
from core.data.folder import describe
from core.machine import processes as distributed
from core.machine.devices import pick_device
from core.run.log import save_dict_to_json
from core.task import Task
from core.training.checkpoint import commit

if TYPE_CHECKING:
    from core.run.run import Run

# What a run writes into its folder, and --overwrite removes.
OUTPUTS = (
    "params.resolved.json",
    "times.jsonl",
    "metrics.jsonl",
    "last.pt",
    "previous.pt",
    "best.pt",
    "nonfinite.pt",
    "metrics_*_weights.json",
    "metrics_*_best.json",
    "metrics_*_last.json",
    "predictions_*.npz",
    "confusion_*.png",
    "evaluations.jsonl",
    "evaluate.log",
    "console.log",
    "events.out.tfevents.*",
)
RESOLVED = "params.resolved.json"


def recorded(folder: Path) -> dict[str, Any]:
    """Return what params.resolved.json holds, or {} if there is none that can be read."""
    try:
        return read_mapping(folder / RESOLVED)
    except UsageError:
        return {}


def machine_params(folder: Path, stored: dict[str, Any]) -> dict[str, Any]:
    """Return the params of a checkpoint, with machine and data folder as the run last used them.

    A checkpoint that holds no params, such as one of the CS230 template, takes those of the file.
    """
    if not stored:
        return load_params(find_params_file(folder), {})[0].dict
    last_used = recorded(folder).get("params", {})
    defaults = {name: key.default for name, key in KEYS.items()}
    machine = {
        n: last_used[n]
        for n, key in KEYS.items()
        if (key.machine or n == "data_dir") and n in last_used
    }
    return defaults | machine | stored


def remove_outputs(folder: Path) -> None:
    """Remove what a run wrote into its folder, and nothing else; the log, in use, is emptied."""
    for pattern in OUTPUTS:
        for path in folder.glob(pattern):
            path.unlink()
    (folder / "train.log").open("w").close()


def write_save(folder: Path, last: Mapping[str, Any], best: Mapping[str, Any] | None) -> None:
    """Write the checkpoints of a save, and then the JSON results that repeat what they hold."""
    commit(folder, last, best)
    write_results(folder, last)


def write_results(folder: Path, last: Mapping[str, Any]) -> None:
    """Write the validation metrics of the last and the best epoch, as a checkpoint holds them."""
    if last["metrics"]:
        save_dict_to_json(last["metrics"], folder / "metrics_val_last_weights.json")
    if last["best"] is not None:
        save_dict_to_json(last["best"]["metrics"], folder / "metrics_val_best_weights.json")


def _git(*args: str) -> str | None:
    try:
        # Without optional locks: killed in the middle, git would leave one in the repository.
        command = ["git", "--no-optional-locks", *args]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_of(task: Task) -> dict[str, str]:
    """Return a hash of every Python file of a task's package, by path."""
    folder = task_folder(task.name, "task")
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(folder.glob("*.py"))
    }


def write_resolved(run: "Run", data_dir: Path, fingerprint: dict[str, Any]) -> None:
    """Write params.resolved.json: everything in force, and what it ran on."""
    device = pick_device(run.params.device)
    dirty = _git("status", "--porcelain")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    content = {
        "params": run.in_force,
        "overrides": run.overrides,
        "restore_file": run.restore_file,
        "resumed_with": {name: new for name, (_, new) in run.changed.items()},
        "code": code_of(run.task),
        "code_changed": [*recorded(run.folder).get("code_changed", []), *run.code_changed],
        "data": {"folder": str(data_dir), **fingerprint, "made_up": describe(data_dir)},
        "device": gpu or device.type,
        "processes": distributed.world(),
        "processor": platform.processor() or platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": [line[3:] for line in dirty.splitlines()] if dirty else [],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    write_json(run.folder / RESOLVED, content)
