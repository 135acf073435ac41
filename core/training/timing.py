"""What `auto` stands for in the params of a new run: what is fastest here on its first batch.

A choice is timed by forward and backward passes on copies of the net, or by steps of a second state
if the task has a train_step, so that training begins as if nothing had been timed. A run that goes
on keeps what it began with, also if it was killed before its first checkpoint.
"""

import copy
import logging
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from core.base.params import Params
from core.machine import processes
from core.machine.devices import autocast_for
from core.machine.random_states import seeded
from core.task import Batch, Loader
from core.training.state import State, make_state

CLEARLY = 0.9  # of the time that the usual choice takes: else it stays, so that runs are alike
BRIEF = 1.0  # seconds of an epoch of which nothing is told
PASSES = 10  # of each choice, fewer where one takes twice the time of another
MANY = 1000  # steps of a run, beside which those that look for what is twice as fast do not count


def choices_of(params: Params, device: torch.device) -> dict[str, list[Any]]:
    """Return the keys that may be auto, in the order of being chosen, with what they may be."""
    found: dict[str, list[Any]] = {"precision": ["float32", "bfloat16"]}
    found["channels_last"] = [False, True]
    if device.type == "cpu":
        found["num_threads"] = sorted({1, max(1, params.num_threads // 2), params.num_threads})
    return found


def choose(state: State, loaders: Mapping[str, Loader], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Time the choices of keys that are auto in the params `asked`; takes and returns the fastest.

    Where a pass cannot be timed, what the params hold by now stays, and the log says so. It also
    says if bfloat16, which the params ask for, takes twice the time of float32. Of several
    processes the first one's times count.
    """
    params, timer = state.params, Timer(state, loaders["train"])
    chosen = dict[str, Any]()
    for name, values in choices_of(params, state.device).items():
        pinned, here = asked[name] != "auto", (name, params.dict[name], state.device.type)
        if pinned and here != ("precision", "bfloat16", "cpu"):
            continue
        times, hindrance = processes.broadcast((timer.times(name, values), timer.hindrance))
        fastest, usual = min(times, key=lambda n: times[n], default=None), params.dict[name]
        if not times or times[fastest] > CLEARLY * times[usual]:
            fastest = usual
        if pinned and times and times["bfloat16"] > 2 * times["float32"]:
            ratio = times["bfloat16"] / times["float32"]
            logging.warning("Note: bfloat16 takes %.3g times as long here as float32", ratio)
        elif not pinned:
            chosen[name] = params.dict[name] = fastest
            figures = ", ".join(f"{value} {1000 * t:.3g} ms" for value, t in times.items())
            reason = f"a pass takes: {figures}" if times else f"not measured: {hindrance}"
            logging.info("%s: auto is %s (%s)", name, fastest, reason)
    take(state, loaders, chosen)
    return chosen


def take(state: State, loaders: Mapping[str, Loader], chosen: Mapping[str, Any]) -> None:
    """Let the state and the loaders go by params that were chosen."""
    params = state.params
    state.autocast = autocast_for(params, state.device)
    if chosen.get("channels_last"):
        for net in (state.model, *([state.average.module] if state.average else [])):
            net.to(memory_format=torch.channels_last)
        for loader in loaders.values():
            loader.put_on(state.device, params)
    if "num_threads" in chosen:
        torch.set_num_threads(params.num_threads)


class Pace:
    """Says once if an epoch takes twice as long as the fastest, and if one thread were faster.

    After the first epoch of a long run it says what the params hold though another value takes half
    the time. A run keeps both, because a change alters the bits.
    """

    def __init__(self) -> None:
        self.fastest, self.told = math.inf, False

    def look(self, state: State, seconds: float, part: float) -> None:
        """Compare the part of an epoch that has taken so long, but for waiting for data."""
        if part < 0.5 or state.device.type != "cpu":
            return
        seconds = seconds / part
        self.fastest = min(self.fastest, seconds)
        long = seconds > BRIEF and state.params.num_epochs * len(state.loader) >= MANY
        if long and state.epoch == 1 and state.alone:
            self._tell_what_is_slow(state)
        if self.told or seconds <= max(BRIEF, 2 * self.fastest):
            return
        self.told, threads = True, torch.get_num_threads()
        ratio = seconds / self.fastest
        logging.warning("Note: this epoch took %.3g times as long as another", ratio)
        timer = Timer(state, state.loader)
        timer.batch = state.current
        times = timer.times("num_threads", [1, threads]) if threads > 1 and state.alone else {}
        if times and times[1] < CLEARLY * times[threads]:
            told = "This machine is busy: %d threads take %.3g times as long as 1.\n"
            told += "--resume --set num_threads=1 goes on with one; it changes the last bits."
            logging.warning(told, threads, times[threads] / times[1])

    def _tell_what_is_slow(self, state: State) -> None:
        """Say of each key that may be auto if its value takes twice the time of another."""
        timer = Timer(state, state.loader)
        timer.batch = state.current
        for name, values in choices_of(state.params, state.device).items():
            now = state.params.dict[name]
            times = timer.times(name, values, 2) if now in values else {}
            fastest = min(times, key=lambda n: times[n], default=now)
            if times and times[now] > 2 * times[fastest]:
                told = "Note: %s %s takes %.3g times as long here as %s"
                logging.warning(told, name, now, times[now] / times[fastest], fastest)


class Timer:
    """Times passes of the first batch; `hindrance` says why it cannot."""

    def __init__(self, state: State, loader: Loader) -> None:
        self.state, self.loader, self.hindrance = state, loader, ""
        if state.params.shard and not state.alone:
            self.hindrance = "the weights are in parts"
        elif multiprocessing.parent_process() is not None:
            self.hindrance = "a search may run other trials beside this one"
        elif state.task.train_step is not None and not state.alone:
            self.hindrance = "several processes, and the task has a train_step of its own"

    @cached_property
    def batch(self) -> Batch:
        """The first batch of training."""
        return self.loader.first_batch()

    def times(self, name: str, values: Collection[Any], passes: int = PASSES) -> dict[Any, float]:
        """Return the seconds of a pass with each value of a key; {} if it cannot be timed."""
        if self.hindrance:
            return {}
        try:
            return seconds_of_passes(self.state, self.loader, self.batch, name, values, passes)
        except Exception as error:  # a net that cannot be copied, an operation without bfloat16
            self.hindrance = f"{type(error).__name__}: {error}".partition("\n")[0]
            return {}


def seconds_of_passes(
    state: State, loader: Loader, batch: Batch, name: str, values: Collection[Any], passes: int
) -> dict[Any, float]:
    """Return the median time of a forward and backward pass with each value of a key.

    The choices take turns, after a pass each that does not count.
    """
    threads, times = torch.get_num_threads(), {value: list[float]() for value in values}
    with seeded(state.params.seed, device=state.device):
        made = {value: _make_pass(state, loader, batch, {name: value}) for value in values}
        try:
            for turn in range(passes + 1):
                for value, run in made.items():
                    if name == "num_threads":
                        torch.set_num_threads(value)
                    began = time.perf_counter()
                    run()
                    times[value].append(time.perf_counter() - began)
                last = [each[-1] for each in times.values()]
                if turn == 1 and max(last) > 2 * min(last):
                    break
        finally:
            torch.set_num_threads(threads)
    return {value: statistics.median(each[1:]) for value, each in times.items()}


def _make_pass(
    state: State, loader: Loader, batch: Batch, change: Mapping[str, Any]
) -> Callable[[], None]:
    """Return what is timed, with changed params, on weights that are not those of the run."""
    params = Params.of(state.params.dict | change, "params")
    if state.task.train_step is not None:
        return partial(_step, make_state(state.task, params, state.device, loader, False), batch)
    net = copy.deepcopy(state.model).train()
    if params.channels_last:
        net = net.to(memory_format=torch.channels_last)
    return partial(_pass, state, net, batch, params)


def _step(second: State, batch: Batch) -> None:
    """Run a step of the task's own on a second state, and wait for the device."""
    assert second.task.train_step is not None
    second.model.train()
    second.current, second.weights, second.seen = batch, [], None
    second.task.train_step(second, batch)
    _wait(second.device)


def _pass(state: State, net: nn.Module, batch: Batch, params: Params) -> None:
    """Run a forward and a backward pass, and wait for the device."""
    with autocast_for(params, state.device)():
        losses = state.task.losses(*state.task.forward(net, batch, params))
    losses["loss"].backward()
    _wait(state.device)


def _wait(device: torch.device) -> None:
    """Wait until the device has done what it was told to."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
