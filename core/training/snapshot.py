"""What is in a checkpoint of a run: taking it from the state of training, and putting it back."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.machine import processes
from core.machine.nested import apply
from core.machine.random_states import random_states, set_random_states
from core.training.checkpoint import kept_weights, load_weights, read_checkpoint
from core.training.contents import plain
from core.training.engines import is_sharded, wholes
from core.training.optimizers import lay_out_as_weights
from core.training.parts import in_parts
from core.training.state import State
from core.training.tally import MeanLosses

Content = dict[str, Any]  # of a checkpoint


def own_part(state: State) -> Content:
    """Return what each of several processes has of its own."""
    seen, on_device = state.tally.collected(), list[bool]()  # whether it is where the weights are
    apply(lambda x: on_device.append(x.device.type == state.device.type), (seen, state.extra))
    own: Content = {"random_states": random_states(), "losses": state.tally.losses.sums()}
    own |= {"seen": seen, "extra": state.extra, "there": on_device}
    own["collected"] = [state.tally.seen, state.tally.stride]
    stream: Any = getattr(state.loader, "state", dict)()
    own |= {"stream": stream} if stream else {}
    return own if state.alone else plain(own)


def shared_part(state: State) -> Content:
    """Return weights and what the optimizers keep; of a sharded net all have to ask."""
    optimizers = {name: value.state_dict() for name, value in state.optimizers.items()}
    shared: Content = {"state_dict": state.model.state_dict()}
    shared["ema_dict"] = None if state.average is None else state.average.state_dict()
    shared |= {"optim_dict": optimizers.pop("main", None), "other_optim_dicts": optimizers}
    return wholes(shared) if is_sharded(state.model) and not in_parts(state) else shared


def take_last(
    state: State, shared: Content, parts: list[Content], facts: Mapping[str, Any]
) -> Content:
    """Copy everything that decides how training goes on, for `last.pt`.

    Args:
        state: of training, on rank 0.
        shared: what `shared_part` returned.
        parts: what `own_part` returned on every process.
        facts: of the run, to be kept beside.
    """
    return plain(
        {
            "epoch": state.epoch,
            "batch": state.batch,
            "step": state.step,
            **shared,
            "scheduler_dicts": state.schedule.state_dicts(),
            **parts[0],
            "processes": len(parts),
            "other_processes": parts[1:],
            "reading": state.reading.values(),
            "best": state.best,
            "metrics": state.metrics,
            "stopped_early": state.stopped_early,
            **facts,
        }
    )


def take_best(
    state: State, last: Content, params: Mapping[str, Any], weights: Content | None = None
) -> Content:
    """Return what evaluation needs, for `best.pt`: weights, params and metrics, no optimizer.

    The tensors are those of `last`, which `take_last` has just copied, if no `weights` are given.
    """
    content: Content = {"epoch": state.epoch, "step": state.step}
    content["state_dict"] = kept_weights(last) if weights is None else weights
    content |= {"metrics": state.metrics, "reading": last["reading"], "data": last["data"]}
    content |= {"params": params, "loader_params": last["loader_params"]}
    return plain(content, copy=False)


def restore(state: State, last: Content, path: Path, changed: bool) -> None:
    """Put the state where a checkpoint left it.

    With changed params or data, weights, averages and counters stay, and so does the state of an
    optimizer of the same class. The schedule is rebuilt at the current epoch, the epoch in progress
    starts again, and the best epoch is looked for anew.
    """
    changed = changed and last["epoch"] < state.params.num_epochs
    load_weights(state.model, last["state_dict"], path)
    if state.average is not None:
        own = {f"module.{name}": value for name, value in last["state_dict"].items()}
        fresh = {"n_averaged": state.average.n_averaged, **own}  # the run had no averages so far
        load_weights(state.average, last["ema_dict"] or fresh, path)
    state.epoch, state.step = last["epoch"], last["step"]
    _restore_own_part(state, [last, *last.get("other_processes", [])], changed)
    _restore_optimizers(state, last, changed)
    if not changed:
        state.schedule.load_state_dicts(last["scheduler_dicts"])
        state.batch, state.best, state.metrics = last["batch"], last["best"], last["metrics"]
        return
    state.schedule.advance(state.epoch)
    if last["best"]:
        logging.warning("The search for the best epoch starts again.")
    if last["batch"]:
        logging.warning("The epoch in progress starts again.")
    if state.schedule.schedulers:
        logging.warning("The schedule is rebuilt: the result is not that of one long run.")


def _restore_own_part(state: State, parts: list[Content], changed: bool) -> None:
    """Give this process its own part, or rank 0 the parts of all if they were more or fewer."""
    rank, world_size = processes.rank(), processes.world_size()
    parts = [_on_device(part, state.device) for part in parts]
    own = parts[rank] if rank < len(parts) else parts[0]
    counted = [own]
    if len(parts) != world_size:
        counted = parts if rank == 0 else []
        logging.warning("Note: the run had %d processes, and has %d now.", len(parts), world_size)
    if not changed:
        losses = MeanLosses(part["losses"] for part in counted)
        pairs = [pair for part in counted for pair in part["seen"]]
        state.tally.restore(losses, pairs, *own.get("collected", (len(pairs), 1)))
        state.stream = own.get("stream")
    state.extra = own["extra"]
    if own is not parts[0] or rank == 0:
        set_random_states(own["random_states"])


def _on_device(own: Content, device: torch.device) -> Content:
    """Copy a process's tensors, to the device if they were where its weights were."""
    on_device = iter(own.get("there") or repeat(True))

    def copied(x: Tensor) -> Tensor:
        return x.to(device if next(on_device) else x.device, copy=True)

    seen, extra = apply(copied, (own["seen"], own["extra"]))
    losses = apply(lambda x: x.to(device, copy=True), own["losses"])
    return own | {"seen": seen, "extra": extra, "losses": losses}


def _restore_optimizers(state: State, last: Content, changed: bool) -> None:
    """Load the states of the optimizers; with `changed`, settings stay those of the params."""
    states = {"main": last["optim_dict"], **last["other_optim_dicts"]}
    for name, optimizer in state.optimizers.items():
        if changed and not _is_same_kind(optimizer, states.get(name), state, last):
            logging.warning("The optimizer %r begins anew: it is not the one of before.", name)
            continue
        settings = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict(states[name])
        lay_out_as_weights(optimizer)
        optimizer._opt_called = True  # type: ignore[attr-defined] # torch asks before a schedule
        for group, new in zip(optimizer.param_groups, settings, strict=True):
            kept = () if changed else group.keys() - {"fused"}  # which depends on the machine
            group.update({n: value for n, value in new.items() if n not in ("params", *kept)})


def _is_same_kind(optimizer: Optimizer, saved: Content | None, state: State, last: Content) -> bool:
    """Tell whether an optimizer has class, settings and number of weights of a saved one."""
    if saved is None or last["params"].get("optimizer") != state.params.optimizer:
        return False
    own, theirs = optimizer.state_dict()["param_groups"], saved["param_groups"]
    return [(group.keys(), len(group["params"])) for group in own] == [
        (group.keys(), len(group["params"])) for group in theirs
    ]


def start_from(state: State, content: Content, name: str) -> None:
    """Start from the weights of another checkpoint (fine-tuning)."""
    load_weights(state.model, content["state_dict"], name)
    if state.average is not None:
        load_weights(state.average.module, content["state_dict"], name)
    logging.info("Starts from the weights of %s, with a new optimizer.", name)


@contextmanager
def with_weights(state: State, path: Path) -> Iterator[nn.Module]:
    """Yield the net with the weights of a file; those it has now come back at the end."""
    own = {name: value.clone() for name, value in state.net.state_dict().items()}
    content = processes.broadcast(read_checkpoint(path) if processes.is_main() else {})
    load_weights(state.net, content["state_dict"], path)
    try:
        yield state.net
    finally:
        state.net.load_state_dict(own)
