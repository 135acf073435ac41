"""What a run tells a person; telling changes nothing."""

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from core.base.errors import plural, settings
from core.base.monitor import monitored
from core.data.folder import synthetic_note
from core.machine import processes
from core.run.baseline import FirstLook
from core.run.log import format_metrics
from core.task import Loader
from core.training.state import State


def start(
    folder: Path,
    state: State,
    loaders: Mapping[str, Loader],
    data_dir: Path,
    notes: list[str],
    overridden: Mapping[str, Any],
) -> None:
    """Log what is about to be trained, on which data and where."""
    params, together = state.params, processes.world_size()
    where = f"{state.device}, {params.num_threads} CPU threads, {params.precision}"
    where += f", {together} processes" if together > 1 else ""
    if params.shard and together == 1:
        notes = ["'shard' has no effect: this is the only process", *notes]
    logging.info("Training %s (task %s) on %s", folder, params.task, where)
    for note in notes:
        logging.warning("Note: %s", note)
    overrides(overridden)
    logging.info("Data: %s", data_dir)
    if synthetic := synthetic_note(data_dir):
        logging.info("Note: these are %s", synthetic)
    for split, loader in loaders.items():
        examples, batches = loader.num_examples, plural(len(loader), "batch", "batches")
        logging.info("%s: %s examples in %s, %s", split, examples, batches, loader.kind)
    logging.info("Net: %s weights to train", f"{count_weights(state):,}")
    logging.info("%s", state.reading.told(state.task))


def count_weights(state: State) -> int:
    """Count the parameters that are trained."""
    return sum(weight.numel() for weight in state.model.parameters() if weight.requires_grad)


def overrides(values: Mapping[str, Any]) -> None:
    """Log which keys have other values than the params file says."""
    if values:
        logging.info("Overrides of the params file: %s", settings(values))


def first_look(first: FirstLook, new: bool) -> None:
    """Log what the first batch tells, and of a new run an untrained net's loss beside chance."""
    for misfit in first.misfits:
        logging.warning("WARNING: %s.", misfit)
    for number in first.unseen:
        logging.warning("Note: class %d is in the validation split, but not in training", number)
    if values := dict(first.baseline):
        chance = values.pop("loss")
        logging.info("Always %s: val %s", first.answer, format_metrics(values))
        if new:
            logging.info("First loss %.3f, %s %.3f", first.loss, first.of_loss, chance)


def row_of_epoch(name: str, number: str, *columns: str, star: str = "") -> str:
    """Return a line of the terminal's table, of at most 80 columns."""
    width = min(max(len(name), 8), 18)
    widths = (10, 8, width, 13, 9) if name else (10, 8, 13, 9)
    cells = [f"{text[:w]:>{w}}" for text, w in zip(columns, widths, strict=True)]
    return "  ".join([f"{number:>9}", *cells, star]).rstrip()


def _short(state: State, trained: Mapping[str, float], left: float, best: bool, first: bool) -> str:
    """Return an epoch's line for the terminal, the first one below a header."""
    name, _ = monitored(state.params.dict, state.task.metrics)
    if name == "loss":  # which has a column: the other one is for the first metric
        name = next(iter(state.task.metrics), "")
    train, val = (values.get("loss", math.nan) for values in (trained, state.metrics))
    metric = [f"{state.metrics[name]:.4g}"] if name else []
    cells = [f"{train:.4g}", f"{val:.4g}", *metric, f"{state.last_rate:.3g}"]
    number = f"{state.epoch}/{state.params.num_epochs}"
    time_left = str(timedelta(seconds=round(left))).removeprefix("0:")
    line = row_of_epoch(name, number, *cells, time_left, star="*" if best else "")
    titles = ["train loss", "val loss", *([name] if name else []), "learning rate", "time left"]
    return f"{row_of_epoch(name, 'epoch', *titles)}\n{line}" if first else line


def epoch(
    state: State,
    trained: Mapping[str, float],
    times: Mapping[str, Any],
    best: bool,
    left: float,
    first: bool,
) -> None:
    """Log an epoch that has ended: its metrics, what it took; `left` seconds of the run remain."""
    train, val = format_metrics(trained), format_metrics(state.metrics)
    took = f"{times['seconds']:.1f} s, {times['examples_per_second']:.0f} examples/s"
    star = "  best so far" if best else ""
    number = f"{state.epoch}/{state.params.num_epochs}"
    took = f"learning rate {state.last_rate:.3g}, {took}"
    short = {"short": _short(state, trained, left, best, first)}
    logging.info("Epoch %s  train %s  val %s  (%s)%s", number, train, val, took, star, extra=short)


def end(state: State, baseline: Mapping[str, float]) -> None:
    """Log the best epoch, loudly if it is no better than a trivial answer."""
    if state.best is None:
        logging.warning("No epoch had a finite validation metric: there is no best checkpoint.")
        return
    metrics = state.best["metrics"]
    patience = state.params.early_stopping_patience
    why = f" (no better one in {patience})" if state.stopped_early else ""
    logging.info("Done after %s%s.", plural(state.epoch, "epoch", "epochs"), why)
    logging.info("Best: epoch %d, val %s", state.best["epoch"], format_metrics(metrics))
    name, more = monitored(state.params.dict, state.task.metrics)
    if name not in baseline:
        return
    value, trivial = metrics[name], baseline[name]
    if value <= trivial if more else value >= trivial:
        logging.warning(
            "WARNING: THIS NET HAS LEARNED NOTHING USEFUL. Its best val %s, %.4g, does not beat "
            "%.4g, which is reached without looking at the inputs.",
            name,
            value,
            trivial,
        )
