"""Evaluate a checkpoint of a run: loss and every metric on a whole split, exactly.

    python evaluate.py --model_dir experiments/base_model --split test

The params stored in the checkpoint rule, not today's params file.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from core.base.files import append_row, write_numbers
from core.base.params import Params
from core.base.predictions import write_predictions
from core.data.folder import synthetic_note
from core.data.order import own_batches
from core.machine.devices import autocast_for, device_of
from core.machine.script import common_parser, one_process_only, reports_errors
from core.run.classes import report_classes
from core.run.log import format_metrics, logging_to
from core.run.restoring import restore_from_args
from core.run.run import wants_predictions
from core.task import Loader, Task
from core.training.tally import Tally


def evaluate(
    model: nn.Module,
    loader: Loader,
    task: Task,
    params: Params,
    keep: bool = False,
    watch: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> tuple[dict[str, float], Tally]:
    """Run a net over a whole split.

    Args:
        model: the net, on its device; it is left in eval mode.
        loader: of the split.
        task: whose forward, loss, collect and metrics are used.
        params: `precision` is used.
        keep: whether outputs and labels are wanted even if no metric needs them.
        watch: what the batches pass through; a run's `Stop.watch` ends it between two batches.

    Returns:
        Every metric and every loss of the whole split, and the outputs and labels as kept (of
        several processes, rank 0 has them).
    """
    tally, autocast = Tally(task, keep), autocast_for(params, device_of(model))
    model.eval()
    with torch.no_grad():
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
    parser.add_argument(
        "--save_predictions",
        action="store_true",
        help="write predictions_*.npz whatever their size",
    )
    return parser.parse_args(argv)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    one_process_only("evaluate.py")
    args = get_args(argv)
    folder, split = args.model_dir, args.split
    with logging_to(folder / "evaluate.log"):
        restored = restore_from_args(args)
        params, task, path = restored.params, restored.task, restored.path
        model, loader, data_dir = restored.with_loader(split)
        logging.info("Evaluating %s on %s of %s", path, split, data_dir)
        if note := synthetic_note(data_dir):
            logging.info("Note: these are %s", note)
        keep = args.save_predictions or bool(params.save_predictions)
        values, tally = evaluate(model, loader, task, params, keep)
        logging.info("%s, %s examples: %s", split, loader.num_examples, format_metrics(values))

        source = path.name.split(".")[0]
        if path.parent.resolve() != folder.resolve():  # another run's checkpoint
            source = f"{path.parent.name}_{source}"
        name = f"{split}_{source}"
        title = f"{split}, {path.name}" + ("\n(made-up data)" if note else "")
        outputs, labels = tally.arrays()
        report_classes(outputs, labels, task, params, title, folder / f"confusion_{name}.png")
        write_numbers(folder / f"metrics_{name}.json", values)
        if args.save_predictions or (source == "best" and wants_predictions(params, tally)):
            target = folder / f"predictions_{split if source == 'best' else name}.npz"
            write_predictions(target, outputs, labels, loader.ids)
            logging.info("Predictions written to %s", target)
        row = {"split": split, "checkpoint": path.name, "epoch": restored.content.get("epoch")}
        append_row(folder / "evaluations.jsonl", row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
