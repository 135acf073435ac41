"""What evaluate.py leaves in a run's folder: numbers first, then tables and pictures."""

import logging
from pathlib import Path
from typing import Any

from core.base.keys import KEYS, decides
from core.data.folder import fingerprint, synthetic_note
from core.run.classes import report_classes
from core.run.folder import add_evaluation, read_resolved, write_numbers
from core.run.kept_outputs import save_predictions, wants_predictions
from core.run.log import format_metrics, report
from core.run.restoring import Restored
from core.task import Loader
from core.training.checkpoint import find_checkpoint
from core.training.tally import Tally

CHANGE_NUMBERS = ("task", "seed", "val_split", "precision")  # of the framework's keys


def write_evaluation(
    folder: Path,
    restored: Restored,
    split: str,
    loader: Loader,
    values: dict[str, float],
    tally: Tally,
    all_predictions: bool,
) -> None:
    """Write an evaluation's numbers and, if asked for, predictions; log a table of the classes.

    The files' names say split and checkpoint; and data or settings that are not the run's own.
    Predictions are written if the params say so, or with `all_predictions` whatever their size.
    """
    report(f"{split}, {loader.num_examples} examples: {format_metrics(values)}")
    path, params, task, data_dir = restored.path, restored.params, restored.task, restored.data_dir
    source = stem = path.name.removesuffix(".pt").removesuffix(".pth.tar")
    shown = path.name
    if path.parent.resolve() != folder.resolve():  # another run's checkpoint
        source, shown = f"{path.parent.name}_{stem}", str(path)
    elif find_checkpoint(folder, stem).name != path.name:  # best.pth.tar beside best.pt
        source = path.name
    data, overrides = fingerprint(data_dir, folder), changed_settings(restored)
    of_run = read_resolved(folder).get("data", {}).get("sha256", data["sha256"])
    marks = [] if of_run == data["sha256"] else [f"_on_{data_dir.resolve().name}"]
    marks += [f"_with_{key}" for key in overrides]
    source += "".join(marks)
    name = f"{split}_{source}"
    written = [f"metrics_{name}.json"]
    write_numbers(folder / written[0], values)
    facts = {"precision": params.precision, "overrides": overrides}
    facts["data"] = {"folder": str(data_dir), **data}
    checkpoint = shown, restored.content, restored.sha256
    add_evaluation(folder, checkpoint, values, split=split, **facts)
    if marks:
        logging.warning("Note: of other data or settings than the run's: metrics_%s.json", name)
    outputs, labels = tally.arrays()
    if all_predictions or (source == "best" and wants_predictions(params, tally)):
        target = folder / f"predictions_{split if source == 'best' else name}.npz"
        made_of = {"checkpoint": restored.sha256, "data": data["sha256"]}
        save_predictions(target, tally, loader, restored.reading, made_of)
        written.append(target.name)
    made_up = synthetic_note(data_dir) is not None
    title = f"{split}, {path.name}" + ("\n(synthetic data)" if made_up else "")
    picture = folder / f"confusion_{name}.png"
    told = outputs, labels, restored.reading, task, params, title, picture, tally.row_counts()
    if report_classes(*told):
        written.append(picture.name)
    logging.info("Wrote %s into %s", ", ".join(written), folder)


def changed_settings(restored: Restored) -> dict[str, Any]:
    """Return what --set changes of the checkpoint's params and a net's numbers depend on."""
    stored = restored.content.get("params", {})
    return {
        name: value
        for name, value in restored.overrides.items()
        if (name in CHANGE_NUMBERS or name not in KEYS) and decides(name)
        if name not in stored or stored[name] != value
    }
