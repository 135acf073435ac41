"""What is in a checkpoint of a run: taking it from the state of training, and putting it back."""

import logging
from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from core.machine import processes
from core.machine.nested import apply
from core.machine.random_states import random_states, set_random_states
from core.training.checkpoint import kept_weights, load_weights, plain
from core.training.optimizers import lay_out_as_weights
from core.training.state import State
from core.training.tally import MeanLosses

Content = dict[str, Any]  # of a checkpoint


def own_part(state: State) -> Content:
    """Return what each of several processes has of its own."""
    own: Content = {
        "random_states": random_states(),
        "losses": state.tally.losses.sums(),
        "seen": state.tally.collected(),
        "extra": state.extra,
    }
    on_device: list[bool] = []  # of each tensor in these: whether it is where the weights are
    apply(
        lambda x: on_device.append(x.device.type == state.device.type), (own["seen"], own["extra"])
    )
    own["there"] = on_device
    return own if state.alone else plain(own)


def take_last(state: State, parts: list[Content], facts: Mapping[str, Any]) -> Content:
    """Copy everything that decides how training goes on, for `last.pt`.

    Args:
        state: of training, on rank 0.
        parts: what `own_part` returned on every process.
        facts: of the run: see Run.facts.
    """
    others = {name: value for name, value in state.optimizers.items() if name != "main"}
    main = state.optimizers.get("main")
    return plain(
        {
            "epoch": state.epoch,
            "batch": state.batch,
            "step": state.step,
            "state_dict": state.model.state_dict(),
            "ema_dict": None if state.average is None else state.average.state_dict(),
            "optim_dict": None if main is None else main.state_dict(),
            "other_optim_dicts": {name: value.state_dict() for name, value in others.items()},
            "scheduler_dicts": state.schedule.state_dicts(),
            **parts[0],
            "processes": len(parts),
            "other_processes": parts[1:],
            "labelled": state.task.labelled,
            "best": state.best,
            "metrics": state.metrics,
            "stopped_early": state.stopped_early,
            **facts,
        }
    )


def take_best(state: State, last: Content, params: Mapping[str, Any]) -> Content:
    """Return what evaluation needs, for `best.pt`: weights, params and metrics, no optimizer.

    The tensors are those of `last`, which `take_last` has just copied.
    """
    return plain(
        {
            "epoch": state.epoch,
            "step": state.step,
            "state_dict": kept_weights(last),
            "metrics": state.metrics,
            "labelled": state.task.labelled,
            "data": last["data"],
            "params": params,
            "loader_params": last["loader_params"],
        },
        copy=False,
    )


def restore(state: State, last: Content, path: Path, changed: bool) -> None:
    """Put the state where a checkpoint left it.

    With changed params or data, weights, averages and counters stay, and so does the state of an
    optimizer of the same class. The schedule is rebuilt at the current epoch, the epoch in progress
    starts again, and the best epoch is looked for anew.
    """
    load_weights(state.model, last["state_dict"], path)
    if state.average is not None:
        averages = last["ema_dict"] or _first_averages(state, last)
        load_weights(state.average, averages, path)
    _restore_own_part(state, [last, *last.get("other_processes", [])], changed)
    for name in ("epoch", "step"):
        setattr(state, name, last[name])
    if changed and state.epoch < state.params.num_epochs:
        _restore_optimizers(state, last, keep_settings=False)
        state.schedule.advance(state.epoch)
        if last["best"]:
            logging.warning("The best epoch is looked for anew.")
        if last["batch"]:
            logging.warning("The epoch in progress starts again.")
        if state.schedule.schedulers:
            logging.warning("The schedule is rebuilt: the result is not that of one long run.")
        return
    _restore_optimizers(state, last, keep_settings=True)
    state.schedule.load_state_dicts(last["scheduler_dicts"])
    for name in ("batch", "best", "metrics"):
        setattr(state, name, last[name])


def _restore_own_part(state: State, parts: list[Content], changed: bool) -> None:
    """Give this process its own part, or rank 0 the parts of all if they were more or fewer."""
    rank = processes.rank()
    parts = [_on_device(part, state.device) for part in parts]
    own = parts[rank] if rank < len(parts) else parts[0]
    counted = [own]
    if len(parts) != processes.world_size():
        counted = parts if rank == 0 else []
        now = processes.world_size()
        logging.warning("Note: the run had %d processes, and has %d now.", len(parts), now)
    if not changed:
        sums = [apply(lambda x: x.to(state.device), part["losses"]) for part in counted]
        state.tally.restore(MeanLosses(sums), [pair for part in counted for pair in part["seen"]])
    state.extra = own["extra"]
    if own is not parts[0] or rank == 0:
        set_random_states(own["random_states"])


def _on_device(own: Content, device: torch.device) -> Content:
    """Copy a process's tensors, to the device if they were where its weights were."""
    on_device = iter(own.get("there") or repeat(True))
    seen, extra = apply(
        lambda x: x.to(device if next(on_device) else x.device, copy=True),
        (own["seen"], own["extra"]),
    )
    return own | {"seen": seen, "extra": extra}


def _restore_optimizers(state: State, last: Content, keep_settings: bool) -> None:
    """Load the states of the optimizers; an optimizer of another class begins anew."""
    states = {"main": last["optim_dict"], **last["other_optim_dicts"]}
    same_class = last["params"].get("optimizer") == state.params.optimizer
    for name, optimizer in state.optimizers.items():
        if not (keep_settings or (same_class and _fits(optimizer, states.get(name)))):
            logging.warning("The optimizer %r begins anew: it is not the one of before.", name)
            continue
        settings = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict(states[name])
        lay_out_as_weights(optimizer)
        if not keep_settings:
            for group, new in zip(optimizer.param_groups, settings, strict=True):
                group.update({key: value for key, value in new.items() if key != "params"})


def _fits(optimizer: Optimizer, saved: Content | None) -> bool:
    """Tell whether an optimizer can take over a saved state: the same settings, as many weights."""
    if saved is None:
        return False
    own, groups = optimizer.state_dict()["param_groups"], saved["param_groups"]
    return [len(g["params"]) for g in own] == [len(g["params"]) for g in groups] and all(
        mine.keys() == theirs.keys() for mine, theirs in zip(own, groups, strict=True)
    )


def _first_averages(state: State, last: Content) -> Content:
    """Start the averages of a run that had none so far from its weights."""
    own = {f"module.{name}": value for name, value in last["state_dict"].items()}
    assert state.average is not None
    return {"n_averaged": state.average.n_averaged, **own}


def start_from(state: State, content: Content, name: str) -> None:
    """Start from the weights of another checkpoint (fine-tuning)."""
    load_weights(state.model, content["state_dict"], name)
    if state.average is not None:
        state.average.module.load_state_dict(content["state_dict"])
    logging.info("Starts from the weights of %s, with a new optimizer.", name)
