"""How a run starts: whether it is new, interrupted or complete, and what is asked of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from core.base.errors import UsageError, listed
from core.base.files import remove_leftovers
from core.base.keys import KEYS
from core.base.monitor import check_monitor
from core.base.params import Params, find_params_file, load_params
from core.machine import processes as distributed
from core.machine.devices import cores_per_process, fastest_precision, pick_device
from core.machine.signals import Stop
from core.run.folder import code_of, recorded
from core.run.log import check_tensorboard
from core.run.writer import Writer
from core.task import Task, load_task
from core.training.checkpoint import find_checkpoint, read_checkpoint, read_newest
from core.training.optimizers import check_optimizer_params, schedule_depends_on_length

BEGUN = (
    "this run has begun already, so --restore_file would discard what it did.\n"
    "Start in a folder of its own, or add --overwrite."
)


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
    restored, began_from = None, earlier.get("restore_file")
    if restore_file not in (None, began_from):
        if checkpoint is not None:
            raise UsageError(f"{folder}: {BEGUN}")
        restored = _read_restore_file(folder, str(restore_file), overwrite)
    same = checkpoint is not None and checkpoint.get("processes", 1) == distributed.world()
    _fill_in(params, checkpoint["params"] if checkpoint else {}, same, device)
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
    warnings += [f"{n} has changed since the run was last started" for n in run.code_changed]
    if run.changed and not resume:
        refuse(folder, [f"{name}: {old!r} -> {new!r}" for name, (old, new) in run.changed.items()])
    return run


def _fill_in(params: Params, began_with: dict[str, Any], same: bool, device: torch.device) -> None:
    """Decide what the params leave to the machine; a run keeps what it began with.

    The number of threads it keeps for the `same` number of processes only.
    """
    if params.num_threads is None:
        params.num_threads = began_with["num_threads"] if same else cores_per_process()
    if params.precision == "auto":
        params.precision = began_with.get("precision") or fastest_precision(device)


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


def code_changes(run: Run) -> list[str]:
    """Return the files of the task that have changed since the run was last started."""
    if run.checkpoint is None:
        return []
    before, now = recorded(run.folder).get("code", {}), code_of(run.task)
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
