"""What `auto` stands for in the params of a new run: what is fastest here on its first batch.

A choice is timed by forward and backward passes on copies of the net, so that training begins as if
nothing had been timed. A run that goes on keeps what it began with, also if it was killed before
its first checkpoint.
"""

import copy
import logging
import math
import multiprocessing
import statistics
import time
from collections.abc import Collection, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from core.base.params import Params
from core.machine.devices import autocast_for
from core.machine.random_states import seeded
from core.task import Batch, Loader
from core.training.state import State

CLEARLY = 0.9  # of the time that the usual choice takes: else it stays, so that runs are alike
BRIEF = 1.0  # seconds of an epoch of which nothing is told
PASSES = 10  # of each choice, fewer where one takes twice the time of another


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
    says if bfloat16, which the params ask for, takes twice the time of float32.
    """
    params, timer = state.params, Timer(state, loaders["train"])
    chosen = dict[str, Any]()
    for name, values in choices_of(params, state.device).items():
        pinned, here = asked[name] != "auto", (name, params.dict[name], state.device.type)
        if pinned and here != ("precision", "bfloat16", "cpu"):
            continue
        times = timer.times(name, values)
        fastest, usual = min(times, key=lambda n: times[n], default=None), params.dict[name]
        if not times or times[fastest] > CLEARLY * times[usual]:
            fastest = usual
        if pinned and times and times["bfloat16"] > 2 * times["float32"]:
            ratio = times["bfloat16"] / times["float32"]
            logging.warning("Note: bfloat16 takes %.3g times as long here as float32", ratio)
        elif not pinned:
            chosen[name] = params.dict[name] = fastest
            figures = ", ".join(f"{value} {1000 * t:.3g} ms" for value, t in times.items())
            reason = f"a pass takes: {figures}" if times else f"not measured: {timer.hindrance}"
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

    A run keeps its number of threads, because that changes the bits.
    """

    def __init__(self) -> None:
        self.fastest, self.told = math.inf, False

    def look(self, state: State, seconds: float, part: float) -> None:
        """Compare the part of an epoch that has taken so long, but for waiting for data."""
        if part < 0.5:
            return
        seconds = seconds / part
        self.fastest = min(self.fastest, seconds)
        if self.told or seconds <= max(BRIEF, 2 * self.fastest) or state.device.type != "cpu":
            return
        self.told, threads = True, torch.get_num_threads()
        ratio = seconds / self.fastest
        logging.warning("Note: this epoch took %.3g times as long as another", ratio)
        timer = Timer(state, state.loader)
        timer.batch = state.current
        times = timer.times("num_threads", [1, threads]) if threads > 1 else {}
        if times and times[1] < CLEARLY * times[threads]:
            told = "This machine is busy: %d threads take %.3g times as long as 1.\n"
            told += "--resume --set num_threads=1 goes on with one; it changes the last bits."
            logging.warning(told, threads, times[threads] / times[1])


class Timer:
    """Times passes of the first batch; `hindrance` says why it cannot."""

    def __init__(self, state: State, loader: Loader) -> None:
        self.state, self.loader, self.hindrance = state, loader, ""
        if not state.alone:
            self.hindrance = "several processes"
        elif multiprocessing.parent_process() is not None:
            self.hindrance = "a search may run other trials beside this one"
        elif state.task.train_step is not None:
            self.hindrance = "the task has a train_step of its own"

    @cached_property
    def batch(self) -> Batch:
        """The first batch of training."""
        return self.loader.first_batch()

    def times(self, name: str, values: Collection[Any]) -> dict[Any, float]:
        """Return the seconds of a pass with each value of a key; {} if it cannot be timed."""
        if self.hindrance:
            return {}
        try:
            return seconds_of_passes(self.state, self.batch, name, values)
        except Exception as error:  # a net that cannot be copied, an operation without bfloat16
            self.hindrance = f"{type(error).__name__}: {error}".partition("\n")[0]
            return {}


def seconds_of_passes(
    state: State, batch: Batch, name: str, values: Collection[Any]
) -> dict[Any, float]:
    """Return the median time of a forward and backward pass with each value of a key.

    The choices take turns, after a pass each that does not count.
    """
    threads, times = torch.get_num_threads(), {value: list[float]() for value in values}
    passes = {}
    for value in values:
        params = Params.of(state.params.dict | {name: value}, "params")
        net = copy.deepcopy(state.model).train()
        if params.channels_last:
            net = net.to(memory_format=torch.channels_last)
        passes[value] = partial(_pass, state, net, batch, params)
    try:
        with seeded(state.params.seed, device=state.device):
            for turn in range(PASSES + 1):
                for value, run in passes.items():
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


def _pass(state: State, net: nn.Module, batch: Batch, params: Params) -> None:
    """Run a forward and a backward pass, and wait for the device."""
    with autocast_for(params, state.device)():
        losses = state.task.losses(*state.task.forward(net, batch, params))
    losses["loss"].backward()
    if state.device.type != "cpu":
        torch.accelerator.synchronize()
