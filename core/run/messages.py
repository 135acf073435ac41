"""What a run tells a person at its start and its end."""

import logging
import math
from pathlib import Path
from typing import Any

import torch

from core.base.monitor import monitored
from core.data.batches import to_device
from core.data.folder import describe
from core.machine import devices as runtime
from core.machine import processes as distributed
from core.machine.random_states import seeded
from core.run.baseline import baseline, unseen_classes
from core.run.log import append_row, finite_or_none, format_metrics
from core.run.run import Run


def start(state: Any, run: Run, loaders: dict[str, Any], data_dir: Path) -> None:
    """Log what is about to be trained, on which data and where."""
    params = state.params
    logging.info(
        "Training %s (task %s) on %s, %d CPU threads, %s%s",
        run.folder,
        params.task,
        state.device,
        params.num_threads,
        params.precision,
        f", {distributed.world()} processes" if distributed.world() > 1 else "",
    )
    if params.precision == "bfloat16" and state.device.type == "cpu" and runtime.lacks_bfloat16():
        logging.warning(
            "Note: this processor has no bfloat16; with --set precision=float32 it is faster."
        )
    for warning in run.warnings:
        logging.warning("Note: %s", warning)
    overrides(run)
    logging.info("Data: %s", data_dir)
    if made_up := describe(data_dir):
        logging.info("Note: these are %s", made_up)
    for split, loader in loaders.items():
        examples = "?" if loader.num_examples is None else loader.num_examples
        logging.info("%s: %s examples in %d batches, %s", split, examples, len(loader), loader.kind)
    weights = [weight for weight in state.model.parameters() if weight.requires_grad]
    logging.info("Net: %s weights to train", f"{sum(weight.numel() for weight in weights):,}")
    if run.checkpoint is not None:
        logging.info("Going on after epoch %d, step %d", state.epoch, state.step)


def overrides(run: Run) -> None:
    """Log which keys have other values than the params file says."""
    if run.overrides:
        settings = ", ".join(f"{name}={value}" for name, value in run.overrides.items())
        logging.info("Overrides of the params file: %s", settings)


def trivial_answers(state: Any, loaders: dict[str, Any]) -> dict[str, float]:
    """Log the untrained net's loss beside chance, and the metrics of the most frequent class."""
    state.model.eval()
    with (
        seeded(state.params.seed),  # a run that goes on draws what it would have drawn
        torch.no_grad(),
        runtime.autocast(state.params, state.device),
    ):
        batch = to_device(loaders["val"].first_batch(), state.device, state.params)
        outputs, labels = state.task.forward(state.model, batch, state.params)
        state.labelled = labels is not None
        losses = state.task.losses(outputs, labels)
        monitored(state.params, dict.fromkeys([*state.task.metrics, *losses], 0.0))
        trivial = baseline(state.task, loaders["train"], loaders["val"], outputs, labels)
    for number in unseen_classes(loaders):
        logging.warning("Note: class %d is in the validation split, but not in training", number)
    if trivial:
        shown = format_metrics({name: trivial[name] for name in trivial if name != "loss"})
        logging.info("Always the most frequent class: val %s", shown)
    if trivial and state.step == 0:
        logging.info("First loss %.3f, chance %.3f", losses["loss"], trivial["loss"])
    return trivial


def epoch(
    state: Any,
    run: Run,
    train_metrics: dict[str, float],
    timing: dict[str, float],
    num_examples: int | None,
    is_best: bool,
) -> None:
    """Log an epoch that has ended, and add what it took to times.jsonl.

    Args:
        state: of training, after the epoch.
        run: whose log it is.
        train_metrics: of the epoch.
        timing: "train_seconds" without and "seconds" with the validation; "share" of the epoch
            that was trained in them, less than 1 if it had begun in an earlier start.
        num_examples: of the training split.
        is_best: whether the epoch is the best so far.
    """
    rate = timing["share"] * (num_examples or math.nan) / timing["train_seconds"]
    logging.info(
        "Epoch %d/%d  train %s  val %s  (%.1f s, %.0f examples/s)%s",
        state.epoch,
        state.params.num_epochs,
        format_metrics(train_metrics),
        format_metrics(state.metrics),
        timing["seconds"],
        rate,
        "  best so far" if is_best else "",
    )
    measured = timing | {"examples_per_second": finite_or_none(rate)}
    row = {"epoch": state.epoch, **measured, "peak_memory_mb": runtime.peak_memory_mb()}
    if distributed.first():
        append_row(run.folder / "times.jsonl", row)


def end(state: Any, run: Run, trivial: dict[str, float]) -> None:
    """Log the best epoch, loudly if it is no better than a trivial answer."""
    if state.best is None:
        logging.warning("No epoch had a finite validation metric: there is no best checkpoint.")
        return
    name, more = monitored(state.params, state.best["metrics"])
    value = state.best["metrics"][name]
    why = (
        f" (no better one in {state.params.early_stopping_patience})" if state.stopped_early else ""
    )
    logging.info("Done after %d epochs%s.", state.epoch, why)
    logging.info(
        "Best: epoch %d, val %s", state.best["epoch"], format_metrics(state.best["metrics"])
    )
    if name in trivial and (value <= trivial[name] if more else value >= trivial[name]):
        logging.warning(
            "WARNING: THIS NET HAS LEARNED NOTHING USEFUL. Its best val %s, %.4g, does not beat "
            "%.4g, which is reached without looking at the inputs.",
            name,
            value,
            trivial[name],
        )
