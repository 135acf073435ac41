"""What is in a checkpoint: taking it from the state of training, and putting it back."""

import logging
import warnings
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from core.machine import processes as distributed
from core.machine.nested import apply
from core.machine.random_states import random_states, set_random_states
from core.run.log import LossAverage
from core.run.run import Run
from core.training.checkpoint import (
    kept_weights,
    load_weights,
    plain,
    with_arrays,
)

# Keys that decide what the batches of an epoch are.
NEW_BATCHES = {"batch_size", "seed", "task", "grad_accumulation", "val_split"}
# Keys whose change means that the schedule is rebuilt and brought to the current step.
REBUILDING = {
    "lr_scheduler",
    "lr_scheduler_args",
    "lr_scheduler_interval",
    "num_epochs",
    "learning_rate",
    "batch_size",
    "grad_accumulation",
    "optimizer",
    "optimizer_args",
    "task",
}
# Keys that decide what the validation metric is.
NEW_SCORES = {"val_split", "monitor", "monitor_mode", "task"}
PLACE = {"params", "lr", "initial_lr"}  # where a schedule stands


def averaged_or_own(state: Any) -> nn.Module:
    """Return the net that is validated and kept: the averaged one if there is one."""
    return state.model if state.ema is None else state.ema.module


def of_process(state: Any) -> dict[str, Any]:
    """Return what each of several processes has of its own."""
    own = {
        "random_states": random_states(),
        "losses": state.losses.state_dict(),
        "seen": state.summary.seen(),
        "extra": state.extra,
    }
    there: list[bool] = []  # of each tensor in these: whether it is where the weights are
    apply(lambda x: there.append(x.device.type == state.device.type), (own["seen"], own["extra"]))
    own["there"] = there
    return own if distributed.world() == 1 else plain(own)


def take(state: Any, run: Run, processes: list[dict[str, Any]]) -> dict[str, Any]:
    """Copy everything that decides how training goes on, for `last.pt`.

    Args:
        state: of training, on process 0.
        run: what it was started with.
        processes: what `of_process` returned on every process.
    """
    others = {name: value for name, value in state.optimizers.items() if name != "main"}
    main = state.optimizers.get("main")
    return plain(
        {
            "epoch": state.epoch,
            "batch": state.batch,
            "step": state.step,
            "state_dict": state.model.state_dict(),
            "ema_dict": None if state.ema is None else state.ema.state_dict(),
            "optim_dict": None if main is None else main.state_dict(),
            "other_optim_dicts": {name: value.state_dict() for name, value in others.items()},
            "scheduler_dicts": {n: value.state_dict() for n, value in state.schedulers.items()},
            **processes[0],
            "processes": len(processes),
            "other_processes": processes[1:],
            "labelled": state.labelled,
            "best": state.best,
            "metrics": state.metrics,
            "stopped_early": state.stopped_early,
            "finished": state.finished,
            "log_bytes": state.log_bytes,
            "data": state.data,
            "params": run.asked,
            "loader_params": with_arrays(state.loader_params),
        }
    )


def take_best(state: Any, run: Run, last: dict[str, Any]) -> dict[str, Any]:
    """Take what evaluation needs, for `best.pt`: weights, params and metrics, no optimizer.

    The tensors are those of `last`, which `take` has just copied.
    """
    return plain(
        {
            "epoch": state.epoch,
            "step": state.step,
            "state_dict": kept_weights(last),
            "metrics": state.metrics,
            "labelled": state.labelled,
            "data": state.data,
            "params": run.asked | {"data_dir": run.params.data_dir},
            "loader_params": last["loader_params"],
        },
        copy=False,
    )


def put_back(state: Any, run: Run) -> None:
    """Set the state of training to the run's checkpoint, then apply keys with new values."""
    last = run.checkpoint
    assert last is not None
    path = run.folder / "last.pt"
    load_weights(state.model, last["state_dict"], path)
    if state.ema is not None:
        load_weights(state.ema, last["ema_dict"] or _as_averaged(state, last), path)
    new_batches = bool(NEW_BATCHES & run.changed.keys()) or last["data"] != state.data
    # A schedule that counts updates stands elsewhere if an epoch has more or begins again.
    rebuilt = bool(REBUILDING & run.changed.keys()) or (new_batches and state.per_update)
    if not {"optimizer", "task"} & run.changed.keys():
        states = {"main": last["optim_dict"], **last["other_optim_dicts"]}
        for name, optimizer in state.optimizers.items():
            fresh = [dict(group) for group in optimizer.param_groups]
            optimizer.load_state_dict(states[name])
            _lay_out_as_weights(optimizer)
            if rebuilt:
                _put_in_force(optimizer, fresh, state.schedulers, run)
    for name in ("epoch", "batch", "step", "best", "metrics", "log_bytes"):
        setattr(state, name, last[name])
    state.summary.labelled = last.get("labelled", True)
    _put_back_own(state, [last, *last.get("other_processes", [])])
    if NEW_SCORES & run.changed.keys() or last["data"] != state.data:
        logging.warning("The best epoch is looked for anew, because scores are not comparable.")
        state.best = None
    if state.batch and new_batches:
        logging.warning("The epoch in progress starts again, because its batches have changed.")
        state.batch = 0
    _put_back_schedulers(state, last, run, rebuilt)


def _put_back_own(state: Any, processes: list[dict[str, Any]]) -> None:
    """Give this process its own part, or process 0 the parts of all if they were more or fewer."""
    rank = distributed.rank()
    processes = [_on_device(part, state.device) for part in processes]
    own = processes[rank] if rank < len(processes) else processes[0]
    losses, seen = own["losses"], own["seen"]
    if len(processes) != distributed.world():
        counted = processes if rank == 0 else []
        losses = LossAverage.merged([part["losses"] for part in counted]).state_dict()
        seen = [batch for part in counted for batch in part["seen"]]
        now = distributed.world()
        logging.warning("Note: the run had %d processes, and has %d now.", len(processes), now)
    state.losses.load_state_dict(losses, state.device)
    state.summary.restore(seen)
    state.extra = own["extra"]
    if own is not processes[0] or rank == 0:
        set_random_states(own["random_states"])


def _on_device(own: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Put those of a process's tensors on the device that were where its weights were."""
    there = iter(own.get("there") or repeat(True))
    seen, extra = apply(lambda x: x.to(device) if next(there) else x, (own["seen"], own["extra"]))
    return own | {"seen": seen, "extra": extra}


def _lay_out_as_weights(optimizer: Any) -> None:
    """Give what an optimizer keeps of a weight its memory format; fused kernels pair by place."""
    for weight, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape == weight.shape:
                kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _as_averaged(state: Any, last: dict[str, Any]) -> dict[str, Any]:
    """Start the averages of a run that had none so far from its weights."""
    own = {f"module.{name}": value for name, value in last["state_dict"].items()}
    return {"n_averaged": state.ema.n_averaged, **own}


def _on_plateau(schedulers: dict[str, Any]) -> bool:
    """Tell whether a scheduler follows a metric, so that it cannot be replayed from the start."""
    return any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers.values())


def _put_in_force(
    optimizer: Any, fresh: list[dict[str, Any]], schedulers: dict[str, Any], run: Run
) -> None:
    """Give the optimizer the settings of the params in place of those it was saved with."""
    keep = {"params"} if "learning_rate" in run.changed or not _on_plateau(schedulers) else PLACE
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        group.update({name: value for name, value in new.items() if name not in keep})


def _put_back_schedulers(state: Any, last: dict[str, Any], run: Run, rebuilt: bool) -> None:
    """Restore the schedulers, or bring rebuilt ones to the current step if the schedule changed."""
    fresh_plateau = {"learning_rate", "optimizer", "task", "lr_scheduler", "lr_scheduler_args"}
    for name, scheduler in state.schedulers.items():
        follows = isinstance(scheduler, ReduceLROnPlateau)
        restored = not (fresh_plateau & run.changed.keys()) if follows else not rebuilt
        if restored and name in last["scheduler_dicts"]:
            scheduler.load_state_dict(last["scheduler_dicts"][name])
        elif not follows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch: a step before the optimizer's first
                for _ in range(state.schedule_steps):
                    scheduler.step()
    if rebuilt and state.schedulers:
        logging.warning("The schedule was rebuilt: the result is not that of one long run.")


def start_from(state: Any, run: Run) -> None:
    """Start from the weights of the checkpoint that the run restores (fine-tuning)."""
    assert run.restored is not None
    load_weights(state.model, run.restored["state_dict"], run.restore_file or "")
    if state.ema is not None:
        state.ema.module.load_state_dict(run.restored["state_dict"])
    logging.info("Starts from the weights of %s, with a new optimizer.", run.restore_file)
