"""Evaluate a checkpoint of a run: loss and every metric on a whole split, exactly.

    python evaluate.py --model_dir experiments/base_model --split test

The params stored in the checkpoint are used, not today's params file.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import core  # isort: skip  # noqa: F401 - before torch: it says how threads wait
import torch
from torch import nn

from core.base.params import Params
from core.data.order import own_batches
from core.machine.devices import autocast_for, device_of
from core.machine.outcome import Outcome
from core.machine.random_states import seeded
from core.machine.script import answers_in_json, common_parser, one_process_only, reports_errors
from core.run.evaluation import announce, is_evaluated, own_log, write_evaluation
from core.run.kept_outputs import wanted_bytes
from core.run.log import logging_to
from core.run.many import evaluate_all
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
        Every metric and every loss of the whole split; outputs and labels as kept, on rank 0.
    """
    device = device_of(model)
    tally, autocast = Tally(task, keep_bytes), autocast_for(params, device)
    model.eval()
    with torch.no_grad(), seeded(params.seed, device=device):  # a net may draw in eval mode, too
        for batch, counts in own_batches(loader, watch, tally.exchange):
            with autocast():
                outputs, labels = task.forward(model, batch, params)
                if counts and (labels is not None or not task.labelled):
                    losses = task.losses(outputs, labels)
                    tally.losses.add(losses, task.loss_weight(outputs, labels))
            if counts:
                tally.collect(outputs, labels)
    return tally.metrics() | tally.means(), tally


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    add = parser.add_argument
    add("--parent_dir", type=Path, help="evaluate every finished run below this folder, once")
    add("--split", default="test", help="train, val, test (default) or the task's")
    add("--restore_file", default="best", help="best (default), last or a path")
    add("--holdout", action="store_true", help="tell the score only if it beats the best so far")
    add("--save_predictions", action="store_true", help="write them whatever their size")
    return parser.parse_args(argv)


def evaluate_run(args: argparse.Namespace, folder: Path, once: bool) -> dict[str, Any] | None:
    """Evaluate a run; returns what `--json` prints, None if it is to be done once and has been."""
    split, save, guarded = args.split, args.save_predictions, args.holdout
    with logging_to(own_log(folder), args.verbose, quiet=once):
        restored = restore(folder, args.restore_file, args.data_dir, args.settings)
        if once and is_evaluated(folder, restored, split, guarded):
            return None
        model, loader = restored.with_loader(split)
        announce(restored, split)
        keep_bytes = wanted_bytes(restored.params, save or guarded)
        bar = partial(Bar, desc=split, total=len(loader), leave=False, disable=hidden_bar())
        found = evaluate(model, loader, restored.task, restored.params, keep_bytes, bar)
        return write_evaluation(folder, restored, split, loader, *found, save, guarded)


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    one_process_only("evaluate.py")
    args = get_args(argv)
    if args.parent_dir is not None:
        return evaluate_all(args.parent_dir, partial(evaluate_run, args, once=True))
    return Outcome(0, args.model_dir, **evaluate_run(args, args.model_dir, once=False) or {})


if __name__ == "__main__":
    sys.exit(main())
