"""The files of a run's folder, but for its checkpoints and its logs."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from core.base.errors import UsageError, listed
from core.base.files import append_row, checkpoint_hash, finite_or_none, write_json
from core.base.params import ROOT
from core.base.parsing import read_mapping
from core.data.folder import synthetic_note
from core.machine import processes
from core.machine.devices import pick_device
from core.run.code import hash_code
from core.training.checkpoint import commit

RESOLVED = "params.resolved.json"
STATUS = "status.json"
EVALUATIONS = "evaluations.jsonl"
# What a run writes into its folder, and --overwrite removes.
OUTPUTS = [RESOLVED, STATUS, EVALUATIONS, "metrics.jsonl", "times.jsonl", "console.log"]
OUTPUTS += ["last.pt", "previous.pt", "best.pt", "kept_*.pt", "last.dcp"]
OUTPUTS += ["predictions_*.npz", "confusion_*.*", "metrics_*_weights.json"]
OUTPUTS += ["metrics_*_best.json", "metrics_*_last.json", "metrics_*_kept_*.json"]
OUTPUTS += ["metrics_*_best_*.json", "metrics_*_last_*.json", "evaluate.log"]
OUTPUTS += ["events.out.tfevents.*", "trackers.json"]
Evaluated = tuple[str, Mapping[str, Any], str | None]  # a checkpoint: name, content, SHA-256


def read_resolved(folder: Path) -> dict[str, Any]:
    """Return what params.resolved.json holds, but for what is damaged; {} if there is none."""
    try:
        found = read_mapping(folder / RESOLVED)
    except UsageError:
        return {}
    kinds = {"code_changed": list} | dict.fromkeys(("params", "overrides", "data", "code"), dict)
    return {name: v for name, v in found.items() if isinstance(v, kinds.get(name, object))}


def refuse_changes(folder: Path, changes: list[str]) -> NoReturn:
    """Stop, because what decides the result is not what it was when the run started."""
    raise UsageError(
        f"{folder}: changed since this run began:\n{listed(changes, 2)}\n"
        "--resume continues with what is new, --overwrite starts again from nothing."
    )


def refuse_pipes(folder: Path) -> None:
    """Raise UsageError for a named pipe in place of a run's file: whoever opens it would hang."""
    for path in (each for name in [*OUTPUTS, "train.log"] for each in folder.glob(name)):
        if path.is_fifo():
            raise UsageError(f"{path}: is a named pipe, want a regular file")


def remove_outputs(folder: Path) -> None:
    """Remove what a run wrote into its folder, and nothing else; the log, in use, is emptied."""
    for pattern in OUTPUTS:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.name == "last.dcp" else path.unlink()
    (folder / "train.log").open("w").close()


def write_save(
    folder: Path,
    last: Mapping[str, Any],
    best: Mapping[str, Any] | None,
    keep: int | None,
) -> None:
    """Write the checkpoints of a save, and then the JSON results that repeat what they hold."""

    def tie(path: Path, content: Mapping[str, Any]) -> None:
        params, checkpoint = content["params"], (path.name, content, checkpoint_hash(path))
        facts = {"precision": params["precision"], "overrides": {}}
        facts["data"] = {"folder": params["data_dir"], **content["data"]}
        add_evaluation(folder, checkpoint, content["metrics"], split="val", **facts)

    commit(folder, last, best, tie, keep)
    write_results(folder, last)


def add_evaluation(
    folder: Path, checkpoint: Evaluated, values: Mapping[str, Any] | None, **facts: Any
) -> None:
    """Add a row to evaluations.jsonl: values, the checkpoint that they are of, and `facts`.

    Without values (None) it counts a look whose score is not told.
    """
    name, content, sha256 = checkpoint
    place = {"file": name, "epoch": content.get("epoch"), "step": content.get("step")}
    row = {**facts, "checkpoint": {**place, "sha256": sha256}}
    if values is not None:
        row["values"] = {name: finite_or_none(float(value)) for name, value in values.items()}
    append_row(folder / EVALUATIONS, row)


def write_results(folder: Path, last: Mapping[str, Any]) -> None:
    """Write the validation metrics of the last and the best epoch, as a checkpoint holds them."""
    if last["metrics"]:
        write_numbers(folder / "metrics_val_last_weights.json", last["metrics"])
    if last["best"] is not None:
        write_numbers(folder / "metrics_val_best_weights.json", last["best"]["metrics"])


def write_numbers(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write numbers (floats, 0-d arrays or tensors) as JSON; what is not finite becomes null."""
    write_json(path, {name: finite_or_none(float(value)) for name, value in values.items()})


def write_status(folder: Path, state: str, **facts: Any) -> None:
    """Write how a run stands ("running", "interrupted", "failed", "finished"), and more facts."""
    holder = {"host": socket.gethostname(), "pid": os.getpid()}
    write_json(folder / STATUS, {"state": state, **facts, **holder})


def _git(*args: str) -> str | None:
    try:
        # Without optional locks: killed in the middle, git would leave one in the repository.
        command = ["git", "--no-optional-locks", *args]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def made_with(device: str) -> dict[str, Any]:
    """Return what decides the last bits beside params, data and code: device, CPU, versions."""
    found = pick_device(device)
    gpu = torch.cuda.get_device_name(found) if found.type == "cuda" else None
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    return {
        "device": gpu or found.type,
        "processor": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), **versions},
    }


def write_resolved(
    folder: Path, facts: dict[str, Any], task: str, data_dir: Path, data: dict[str, Any]
) -> None:
    """Write params.resolved.json: facts of the run, its code and data, and what it runs on."""
    dirty = _git("status", "--porcelain")
    content = facts | {
        "code": hash_code(task),
        "data": {"folder": str(data_dir), **data, "made_up": synthetic_note(data_dir)},
        **made_with(facts["params"]["device"]),
        "processes": processes.world_size(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": [line[3:] for line in dirty.splitlines()] if dirty else [],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    write_json(folder / RESOLVED, content)
