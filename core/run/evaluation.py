"""What evaluate.py leaves in a run's folder: numbers first, then tables and pictures."""

import logging
from pathlib import Path

from core.base.files import append_row
from core.base.predictions import write_predictions
from core.data.folder import synthetic_note
from core.run.classes import report_classes
from core.run.folder import write_numbers
from core.run.log import format_metrics
from core.run.restoring import Restored
from core.run.run import wants_predictions
from core.task import Loader
from core.training.tally import Tally


def write_evaluation(
    folder: Path,
    restored: Restored,
    split: str,
    loader: Loader,
    values: dict[str, float],
    tally: Tally,
    save_predictions: bool,
) -> None:
    """Write the metrics and, if asked for, the predictions of a split; log a table of its classes.

    Args:
        folder: of the run; the names of the files there say split and checkpoint.
        restored: the checkpoint that was evaluated.
        split: its name.
        loader: of the split; its ids go into the predictions.
        values: metrics and losses of the whole split.
        tally: its outputs and labels, as far as they were kept.
        save_predictions: whether they are written whatever their size and the params say.
    """
    logging.info("%s, %s examples: %s", split, loader.num_examples, format_metrics(values))
    path, params, task = restored.path, restored.params, restored.task
    source = path.name.split(".")[0]
    if path.parent.resolve() != folder.resolve():  # another run's checkpoint
        source = f"{path.parent.name}_{source}"
    name = f"{split}_{source}"
    write_numbers(folder / f"metrics_{name}.json", values)
    row = {"split": split, "checkpoint": path.name, "epoch": restored.content.get("epoch")}
    append_row(folder / "evaluations.jsonl", row)
    outputs, labels = tally.arrays()
    if save_predictions or (source == "best" and wants_predictions(params, tally)):
        target = folder / f"predictions_{split if source == 'best' else name}.npz"
        write_predictions(target, outputs, labels, loader.ids)
        logging.info("Predictions written to %s", target)
    made_up = synthetic_note(restored.data_dir) is not None
    title = f"{split}, {path.name}" + ("\n(made-up data)" if made_up else "")
    report_classes(outputs, labels, task, params, title, folder / f"confusion_{name}.png")
