"""The folder of a run: whether it is new, interrupted or complete, and what was asked of it."""

import hashlib
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import distributed
from core.checkpoint import commit, find_checkpoint, read_checkpoint, read_newest
from core.data import describe
from core.errors import UsageError, listed
from core.files import remove_leftovers, write_json
from core.interrupt import Stop
from core.keys import KEYS
from core.monitor import check_monitor
from core.optim import check_optimizer_params, schedule_depends_on_length
from core.params import (
    ROOT,
    Params,
    find_params_file,
    load_params,
    read_mapping,
    task_folder,
)
from core.records import check_tensorboard, save_dict_to_json
from core.runtime import cores_per_process, fastest_precision, pick_device
from core.task import Task, load_task
from core.writer import Writer

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


@dataclass
class Run:
    """One start of a run.

    `params` are the file's, defaults and overrides, to which a loader may add its own; `in_force`
    are those before it does, `asked` those of them that decide the result. `checkpoint` is what it
    goes on from, None for a new run. `changed` names the keys with new values, which `--resume`
    allows.
    """

    folder: Path
    task: Task
    params: Params
    in_force: dict[str, Any]
    overrides: dict[str, Any]
    warnings: list[str]
    checkpoint: dict[str, Any] | None
    restore_file: str | None
    restored: dict[str, Any] | None  # what that file holds, for a run that begins with it
    asked: dict[str, Any]
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    code_changed: list[str] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    writer: Writer = field(default_factory=Writer)
    saved_at: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be sent to another process: the task's functions, a thread."""
        return {n: value for n, value in vars(self).items() if n not in ("task", "writer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, task=load_task(state["params"].task), writer=Writer())

    def checkpoint_is_due(self) -> bool:
        """Tell whether `checkpoint_minutes` have passed since the last save."""
        minutes = self.params.checkpoint_minutes
        return (
            distributed.first()
            and minutes is not None
            and time.monotonic() - self.saved_at >= 60 * minutes
        )

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: every epoch is done, or it stopped early."""
        if self.checkpoint is None or not self.checkpoint["finished"]:
            return False
        stopped = self.checkpoint["stopped_early"] and not self.changed
        return stopped or self.checkpoint["epoch"] >= self.params.num_epochs

    def data_changed(self, fingerprint: dict[str, Any]) -> bool:
        """Tell whether the data are not those that the run began with."""
        return self.checkpoint is not None and self.checkpoint["data"] != fingerprint


def deciding(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of the params what does not decide the result of a run: machine and places."""
    left_out = {"data_dir", "cuda", *(name for name, key in KEYS.items() if key.machine)}
    return {name: value for name, value in params.items() if name not in left_out}


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


def _forgotten(
    earlier: dict[str, Any], overrides: dict[str, Any], restore_file: str | None
) -> list[str]:
    """Note which options of a start that left no checkpoint were not given again."""
    options = [
        f"--set {n}={v}" for n, v in earlier.get("overrides", {}).items() if n not in overrides
    ]
    if restore_file is None and earlier.get("restore_file") is not None:
        options.append(f"--restore_file {earlier['restore_file']}")
    if not options:
        return []
    return [f"{', '.join(options)} of a start that left no checkpoint is not in force any more"]


@distributed.by_first
def open_run(
    folder: Path,
    overrides: dict[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    restore_file: str | None = None,
) -> Run:
    """Look into a folder and decide how the run starts; only what killed writers left is removed.

    Overrides and the restore file that a checkpoint was made with stay in force unless they are
    given anew; those of a start that left no checkpoint do not.

    Raises:
        UsageError: the params are wrong, or differ from those the run was started with.
    """
    path = find_params_file(folder)
    remove_leftovers(folder)
    warnings: list[str] = []
    checkpoint = None if overwrite else read_newest(folder, warnings)
    earlier = {} if overwrite else recorded(folder)
    if checkpoint is None:
        warnings += _forgotten(earlier, overrides, restore_file)
        earlier = {}
    overrides = earlier.get("overrides", {}) | overrides
    params, of_params = load_params(path, overrides)
    warnings += of_params
    task = load_task(params.task)
    check_optimizer_params(params, task)
    check_monitor(params, task)
    device = _check_machine(params)
    began_from = earlier.get("restore_file")
    if checkpoint is not None and restore_file not in (None, began_from):
        raise UsageError(
            f"{folder}: this run has begun already, so --restore_file would discard what it did.\n"
            "Start in a folder of its own, or add --overwrite."
        )
    restored = None
    if checkpoint is None and restore_file is not None:
        restored = _read_restore_file(folder, restore_file, overwrite)
    same = checkpoint is not None and checkpoint.get("processes", 1) == distributed.world()
    began_with = checkpoint["params"] if checkpoint else {}  # which a run keeps
    if params.num_threads is None:
        params.num_threads = began_with["num_threads"] if same else cores_per_process()
    if params.precision == "auto":
        params.precision = began_with.get("precision") or fastest_precision(device)
    run = Run(
        folder=folder,
        task=task,
        params=params,
        in_force=dict(params.dict),
        overrides=overrides,
        warnings=warnings,
        checkpoint=checkpoint,
        restore_file=restore_file or began_from,
        restored=restored,
        asked=deciding(params.dict),
    )
    if checkpoint is not None:
        run.changed = changed_params(checkpoint["params"], run.asked)
        if not same:
            run.changed.pop("num_threads", None)  # as many as fit the processes
        _check_length(run)
    run.code_changed = code_changes(run)
    warnings += [f"{name} has changed since the run was last started" for name in run.code_changed]
    if run.changed and not resume:
        refuse(folder, [f"{name}: {old!r} -> {new!r}" for name, (old, new) in run.changed.items()])
    return run


def _read_restore_file(folder: Path, name: str, overwrite: bool) -> dict[str, Any]:
    """Read the checkpoint that a new run starts from."""
    found = find_checkpoint(folder, name)
    if overwrite and found.parent.resolve() == folder.resolve() and found.suffix == ".pt":
        raise UsageError(f"{found}: --overwrite removes this file; move it elsewhere first")
    return read_checkpoint(found)


def _check_machine(params: Params) -> torch.device:
    """Return the device of a run; UsageError if something that the params ask for is missing."""
    device = pick_device(params.device)
    if params.sync_batchnorm and device.type != "cuda":
        raise UsageError(f"'sync_batchnorm' is true, but works on GPUs only, not on {device.type}")
    if params.tensorboard:
        check_tensorboard()
    return device


def changed_params(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ; a key that is absent has its default, else None."""
    defaults = {name: key.default for name, key in KEYS.items()}
    old, new = defaults | old, defaults | new
    names = [*old, *(name for name in new if name not in old)]
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


def _check_length(run: Run) -> None:
    """Allow another number of epochs, if the schedule is the same and the done ones remain."""
    if "num_epochs" not in run.changed or run.checkpoint is None:
        return
    epochs, done = run.params.num_epochs, run.checkpoint["epoch"]
    if epochs < done:
        raise UsageError(
            f"{run.folder}: num_epochs is {epochs}, but {done} epochs are done already"
        )
    if not schedule_depends_on_length(run.params, run.task):
        del run.changed["num_epochs"]


def refuse(folder: Path, changes: list[str]) -> None:
    """Stop, because what decides the result is not what it was when the run started."""
    raise UsageError(
        f"{folder}: changed since this run began:\n{listed(changes, 2)}\n"
        "--resume goes on with what is new, --overwrite starts again from nothing."
    )


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


def code_changes(run: Run) -> list[str]:
    """Return the files of the task that have changed since the run was last started."""
    if run.checkpoint is None:
        return []
    before, now = recorded(run.folder).get("code", {}), code_of(run.task)
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def write_resolved(run: Run, data_dir: Path, fingerprint: dict[str, Any]) -> None:
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
