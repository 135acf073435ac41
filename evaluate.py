"""Evaluate a checkpoint of a run: loss and every metric on a whole split, exactly.

    python evaluate.py --model_dir experiments/base_model --split test

The params stored in the checkpoint are used, not today's params file.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from core.base.params import Params
from core.data.folder import synthetic_note
from core.data.order import own_batches
from core.machine.devices import autocast_for, device_of
from core.machine.outcome import Outcome
from core.machine.random_states import seeded
from core.machine.script import answers_in_json, common_parser, one_process_only, reports_errors
from core.run.evaluation import write_evaluation
from core.run.kept_outputs import wanted_bytes
from core.run.log import format_metrics, logging_to, report
from core.run.progress import Bar, hidden_bar
from core.run.restoring import restore
from core.task import Loader, Task
from core.training.tally import Tally


def evaluate(
    model: nn.Module,
    loader: Loader,
    task: Task,
    params: Params,
    keep_bytes: float = 0,
    watch: Callable[[Iterator[Any]], Iterable[Any]] = iter,
) -> tuple[dict[str, float], Tally]:
    """Run a net over a whole split.

    Args:
        model: the net, on its device; it is left in eval mode.
        loader: of the split.
        task: whose forward, loss, collect and metrics are used.
        params: `precision` is used.
        keep_bytes: of outputs and labels that are wanted even if no metric needs them.
        watch: what the batches pass through; a run's `Stop.watch` ends it between two batches.

    Returns:
        Every metric and every loss of the whole split, and the outputs and labels as kept (of
        several processes, rank 0 has them).
    """
    device = device_of(model)
    tally, autocast = Tally(task, keep_bytes), autocast_for(params, device)
    model.eval()
    with torch.no_grad(), seeded(params.seed, device=device):  # a net may draw in eval mode, too
        for batch in own_batches(loader, watch, tally.exchange):
            with autocast():
                outputs, labels = task.forward(model, batch, params)
                if labels is not None or not task.labelled:
                    losses = task.losses(outputs, labels)
                    tally.losses.add(losses, task.loss_weight(outputs, labels))
            tally.collect(outputs, labels)
    return tally.metrics() | tally.means(), tally


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument("--split", default="test", help="train, val, test (default) or the task's")
    parser.add_argument("--restore_file", default="best", help="best (default), last or a path")
    told = "write predictions_*.npz whatever their size"
    parser.add_argument("--save_predictions", action="store_true", help=told)
    return parser.parse_args(argv)


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    one_process_only("evaluate.py")
    args = get_args(argv)
    folder, split, save = args.model_dir, args.split, args.save_predictions
    can_be_written = os.access(folder, os.W_OK)
    with logging_to(folder / "evaluate.log" if can_be_written else None, args.verbose):
        restored = restore(args.model_dir, args.restore_file, args.data_dir, args.settings)
        model, loader = restored.with_loader(split)
        task, params, data_dir = restored.task, restored.params, restored.data_dir
        logging.info("Evaluating %s on %s of %s", restored.path, split, data_dir)
        if note := synthetic_note(data_dir):
            logging.info("Note: these are %s", note)
        keep_bytes = math.inf if save else wanted_bytes(params)
        bar = partial(Bar, desc=split, total=len(loader), leave=False, disable=hidden_bar())
        values, tally = evaluate(model, loader, task, params, keep_bytes, bar)
        if not can_be_written:
            report(f"{split}: {format_metrics(values)}")
            logging.warning("Note: %s cannot be written; nothing else is kept", folder)
        else:
            write_evaluation(folder, restored, split, loader, values, tally, save)
    return Outcome(0, folder, values)


if __name__ == "__main__":
    sys.exit(main())
