"""Evaluate a checkpoint of a run: loss and every metric on a whole split, exactly.

    python evaluate.py --model_dir experiments/base_model --split test

The params stored in the checkpoint rule, not today's params file.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.base.errors import reports_errors
from core.base.params import Params, check_names, check_values, parse_overrides, task_folder
from core.base.predictions import report_classes, save_predictions, wants_predictions
from core.data import folder as data
from core.data.batches import fetch_loaders, to_device
from core.machine import devices as runtime
from core.machine.script import common_parser, one_process_only
from core.run.folder import machine_params
from core.run.log import LossAverage, append_row, format_metrics, logging_to, save_dict_to_json
from core.task import Collected, Task, load_task
from core.training import shares
from core.training.checkpoint import find_checkpoint, kept_weights, load_weights, read_checkpoint


def evaluate(
    model: nn.Module,
    loader: Any,
    task: Task,
    params: Params,
    keep: bool = False,
    labelled: bool = True,
    watch: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> tuple[dict[str, float], Collected]:
    """Run a net over a whole split.

    Args:
        model: the net, on its device; it is left in eval mode.
        loader: of the split.
        task: whose forward, loss, collect and metrics are used.
        params: `precision` and `channels_last` are used.
        keep: whether outputs and labels are wanted even if no metric needs them.
        labelled: whether the net was trained with labels; a batch without any is then not scored.
        watch: what the batches pass through; a run's `Stop.watch` ends it between two batches.

    Returns:
        Every metric and every loss of the whole split, and the outputs and labels as kept (of
        several processes, process 0 has them).
    """
    device = next(model.parameters(), torch.empty(0)).device
    losses, collected = LossAverage(), shares.collector(task, keep, labelled)
    model.eval()
    with torch.no_grad():
        for batch in shares.own_batches(loader, watch, collected):
            batch = to_device(batch, device, params)
            with runtime.autocast(params, device):
                outputs, labels = task.forward(model, batch, params)
                if labels is not None or not labelled:
                    losses.add(task.losses(outputs, labels), task.loss_weight(outputs, labels))
            collected.add(outputs, labels)
    return collected.metrics() | shares.summed(losses).means(), collected


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


def params_of(checkpoint: dict[str, Any], path: Path, args: argparse.Namespace) -> Params:
    """Return the params that a checkpoint was made with, under those of the command line."""
    stored = machine_params(args.model_dir, checkpoint.get("params", {}))
    overrides = check_values(parse_overrides(args.settings), "--set")
    params = Params.of(stored | overrides, path)
    task_folder(params.task, "--set" if "task" in overrides else str(path))
    for warning in check_names(overrides, params.task, "--set", beside=stored):
        logging.warning("Note: %s", warning)
    if params.num_threads is not None:
        params.num_threads = min(params.num_threads, runtime.usable_cores())
    if args.data_dir is not None:
        params.dict["data_dir"] = args.data_dir
    return params


def net_of(
    checkpoint: dict[str, Any], path: Path, task: Task, params: Params, device: torch.device
) -> nn.Module:
    """Make the net of a checkpoint, with the weights that were validated, on the device."""
    model = runtime.place(task.Net(params), params, device)
    load_weights(model, kept_weights(checkpoint), path)
    return model


def build(checkpoint: dict[str, Any], path: Path, args: argparse.Namespace) -> Any:
    """Make the net and the split's loader again, as the checkpoint says.

    Returns:
        The net with its weights, the loader, the task, the params, and the folder of the data.
    """
    params = params_of(checkpoint, path, args)
    device = runtime.start(params)
    task = load_task(params.task)
    data_dir = data.find_data_dir(params, task)
    kept = checkpoint.get("loader_params", {})
    loaders, _ = fetch_loaders(task, [args.split], data_dir, params, kept, device, train=False)
    model = net_of(checkpoint, path, task, params, device)
    return model, loaders[args.split], task, params, data_dir


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    one_process_only("evaluate.py")
    args = get_args(argv)
    path = find_checkpoint(args.model_dir, args.restore_file)
    with logging_to(args.model_dir / "evaluate.log"):
        checkpoint = read_checkpoint(path)
        model, loader, task, params, data_dir = build(checkpoint, path, args)
        logging.info("Evaluating %s on %s of %s", path, args.split, data_dir)
        made_up = data.describe(data_dir)
        if made_up:
            logging.info("Note: these are %s", made_up)
        keep = args.save_predictions or bool(params.save_predictions)
        labelled = checkpoint.get("labelled", True)
        values, collected = evaluate(model, loader, task, params, keep, labelled)
        logging.info("%s, %s examples: %s", args.split, loader.num_examples, format_metrics(values))

        source = path.name.split(".")[0]
        if path.parent.resolve() != args.model_dir.resolve():  # another run's checkpoint
            source = f"{path.parent.name}_{source}"
        name = f"{args.split}_{source}"
        title = f"{args.split}, {path.name}" + ("\n(made-up data)" if made_up else "")
        report_classes(collected, params, title, args.model_dir / f"confusion_{name}.png")
        save_dict_to_json(values, args.model_dir / f"metrics_{name}.json")
        best = source == "best"
        if args.save_predictions or (best and wants_predictions(params, collected)):
            target = args.model_dir / f"predictions_{args.split if best else name}.npz"
            save_predictions(target, collected, loader.ids)
            logging.info("Predictions written to %s", target)
        row = {"split": args.split, "checkpoint": path.name, "epoch": checkpoint.get("epoch")}
        append_row(args.model_dir / "evaluations.jsonl", row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
