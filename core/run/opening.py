"""How a run starts: whether it is new, interrupted or complete, and what is asked of it."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from core.base.errors import Stopped, UsageError, settings, spelled
from core.base.keys import DEFAULTS, deciding, naming_source
from core.base.monitor import check_monitor
from core.base.params import Params, find_params_file, load_params, parse_overrides
from core.machine import processes
from core.machine.compiler import import_when_compiling
from core.machine.devices import pick_device
from core.machine.environment import default_threads
from core.machine.locks import one_writer
from core.machine.signals import Stop
from core.run import trackers
from core.run.code import edited_since, import_task
from core.run.folder import STATUS, read_resolved, refuse_changes, refuse_pipes, write_status
from core.run.log import logging_to
from core.run.run import Run
from core.task import Task
from core.training.checkpoint import CheckpointError, find_checkpoint, read_checkpoint, read_newest
from core.training.optimizers import check_optimizer
from core.training.schedule import check_schedule, depends_on_length

# What the last checkpoint says of a run, beside the state of training.
FACTS = ["epoch", "step", "finished", "stopped_early", "params", "data", "processes"]
FACTS += ["loader_params", "log_bytes", "best", "metrics", "reading", "overrides"]


@contextmanager
def started(get_args: Callable[..., Namespace], argv: Sequence[str] | None) -> Iterator[Run]:
    """Open the run that the command line names, and hold its folder inside the block.

    A signal that comes in training ends the block; then the run saves. How it ended is noted in
    its status, unless it was refused before it began.
    """
    stop = Stop()
    with stop.handling_signals(), processes.ending_with_others(), processes.group():
        if processes.world_size() > 1:
            stop.agree = processes.maximum
        args = processes.on_main(get_args)(argv)
        overrides = parse_overrides(args.settings)
        if args.data_dir is not None:
            overrides["data_dir"] = args.data_dir
        find_params_file(args.model_dir)
        main = processes.is_main()
        with one_writer(args.model_dir) if main else nullcontext():
            run = open_run(
                args.model_dir,
                overrides,
                resume=args.resume,
                overwrite=args.overwrite,
                restore_file=args.restore_file,
            )
            run.stop, stop.after = stop, args.stop_after
            log = logging_to(run.folder / "train.log", args.verbose) if main else nullcontext()
            with log, ending(run), processes.ending_with_others():
                yield run


@contextmanager
def ending(run: Run) -> Iterator[None]:
    """Save when a signal ends the block, and note how it ended."""
    try:
        with naming_source(find_params_file(run.folder), run.overrides):
            yield
    except Stopped as stopped:
        if run.state is not None:
            run.save(run.state)
            run.writer.wait()
            run.write_status("interrupted", run.state)
            logging.info("Stopped by %s; the same command resumes from here.", stopped)
        raise
    except Exception as error:
        if run.state is not None:
            run.write_status("failed", run.state, error=str(error))
        elif run.before is None and processes.is_main() and not (run.folder / STATUS).exists():
            write_status(run.folder, "failed", error=str(error))
        raise
    finally:
        run.writer.close()
        if run.trackers is not None:
            run.trackers.close()


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
    given anew; those of a start that left no checkpoint do not. UsageError tells that params are
    wrong, or differ from those the run was started with.
    """
    import_when_compiling()
    contents: list[dict[str, Any] | None] = []  # stays on rank 0

    def decide() -> dict[str, Any]:
        decided, content = _decide(folder, overrides, overwrite, restore_file)
        changed = decided["changed"].items()
        if changed and not resume:
            refuse_changes(
                folder,
                [f"{name}: {spelled(old)} -> {spelled(new)}" for name, (old, new) in changed],
            )
        contents.append(content)
        return decided

    decided = processes.on_main(decide)()
    return Run(
        folder=folder,
        task=import_task(decided["params"]),
        content=contents[0] if contents else None,
        may_change=resume,
        overwrite=overwrite,
        **decided,
    )


def _decide(
    folder: Path, overrides: dict[str, Any], overwrite: bool, restore_file: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what a Run is made of, and the checkpoint that it goes on or starts from."""
    path = find_params_file(folder)
    refuse_pipes(folder)
    for leftover in folder.glob(".*.tmp"):  # of writers that were killed
        leftover.unlink(missing_ok=True)
    notes: list[str] = []
    last = None if overwrite else read_newest(folder, notes)
    if last is not None and last["best"] is not None:
        try:
            read_checkpoint(folder / "best.pt")
        except CheckpointError as error:
            notes.append(f"{error}; the best epoch is looked for from here on")
            last["best"] = None
    before = None if last is None else {name: last[name] for name in FACTS if name in last}
    earlier = {} if overwrite else read_resolved(folder)
    began = before or {n: earlier[n] for n in ("params", "processes") if n in earlier}
    if last is None:
        notes += _forgotten(earlier, overrides, restore_file)
        earlier = {}
    given = (before or {}).get("overrides", earlier.get("overrides", {}))
    overrides = given | overrides
    params, of_params = load_params(path, overrides)
    task = import_task(params)
    same = "params" in began and began.get("processes", 1) == processes.world_size()
    with naming_source(path, overrides):
        check_schedule(params, task, check_optimizer(params, task))
        check_monitor(params.dict, task.metrics)
        _fill_in(params, began.get("params", {}), same)
    if params.lr_scheduler_args and not (params.lr_scheduler or task.make_scheduler):
        notes.append("'lr_scheduler_args' has no effect: 'lr_scheduler' is null")
    began_from, restored = earlier.get("restore_file"), None
    if restore_file not in (None, began_from):
        if last is not None:
            raise UsageError(
                f"{folder}: this run has begun already, so --restore_file would discard what it "
                "did.\nStart in a folder of its own, or add --overwrite."
            )
        found = find_checkpoint(folder, str(restore_file))
        if overwrite and found.parent.resolve() == folder.resolve() and found.suffix == ".pt":
            raise UsageError(f"{found}: --overwrite removes this file; move it elsewhere first")
        restored = read_checkpoint(found)
    edited = edited_since({} if before is None else earlier.get("code", {}), task.name)
    content = last or restored
    decided = {
        "params": params,
        "in_force": dict(params.dict),
        "overrides": overrides,
        "notes": [*notes, *of_params, *(f"{n} has changed since the last start" for n in edited)],
        "restore_file": restore_file or began_from,
        "before": before,
        "loader_params": (content or {}).get("loader_params", {}),
        "changed": {} if before is None else _changes(folder, before, params, task, same),
        "code_changed": edited,
    }
    return decided, content


def _forgotten(
    earlier: dict[str, Any], overrides: dict[str, Any], restore_file: str | None
) -> list[str]:
    """Note which options of a start that left no checkpoint were not given again."""
    before = earlier.get("overrides", {}).items()
    options = [f"--set {settings({n: value})}" for n, value in before if n not in overrides]
    if restore_file is None and earlier.get("restore_file") is not None:
        options.append(f"--restore_file {earlier['restore_file']}")
    told = "of a start that left no checkpoint is not in force any more"
    return [f"{', '.join(options)} {told}"] if options else []


def _fill_in(params: Params, began_with: dict[str, Any], same_processes: bool) -> None:
    """Decide what the params leave to the machine; a run keeps what it began with."""
    device = pick_device(params.device)
    if params.sync_batchnorm and device.type != "cuda":
        raise UsageError(f"'sync_batchnorm' is true, but works on GPUs only, not on {device.type}")
    whole = [name for name in ("compile", "log_histograms") if params.dict[name]]
    whole += [name for name in ("Adafactor", "LBFGS", "Muon") if params.optimizer == name]
    if params.shard and whole:
        raise UsageError(f"'shard' is true, which does not go with {whole[0]}")
    if params.shard_checkpoints and (not params.shard or params.keep_checkpoints):
        raise UsageError("'shard_checkpoints' needs 'shard', and goes without 'keep_checkpoints'")
    trackers.wanted(params)
    if params.num_threads in (None, "auto") and same_processes:
        params.num_threads = began_with["num_threads"]
    elif params.num_threads is None or (began_with and params.num_threads == "auto"):
        params.num_threads = default_threads()
    for name in ("precision", "channels_last"):  # of a new run it is measured
        if params.dict[name] == "auto" and began_with:
            params.dict[name] = began_with.get(name, DEFAULTS[name])


def _changes(
    folder: Path, before: dict[str, Any], params: Params, task: Task, same_processes: bool
) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ from those the run began with: old and new values.

    A key that is absent has its default, else None. Another number of epochs is none, if the
    schedule does not depend on it and what is done remains.
    """
    old, new = DEFAULTS | before["params"], DEFAULTS | deciding(params.dict)
    names = dict.fromkeys([*old, *new])
    changed = {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}
    if not same_processes:
        changed.pop("num_threads", None)  # as many as fit the processes
    if "num_epochs" in changed:
        epochs, done = params.num_epochs, before["epoch"]
        if epochs < done:
            told = f"num_epochs is {epochs}, but {done} epochs are done already"
            raise UsageError(f"{folder}: {told}")
        if not depends_on_length(params, task):
            del changed["num_epochs"]
    return changed
