"""What evaluate.py leaves in a run's folder: numbers first, then tables and pictures."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.base.files import parse_rows
from core.base.keys import KEYS, decides
from core.data.folder import fingerprint, synthetic_note
from core.run.classes import report_classes
from core.run.code import hash_scores
from core.run.folder import EVALUATIONS, add_evaluation, read_resolved, write_numbers
from core.run.holdout import UNCHANGED, enter, look_at
from core.run.kept_outputs import save_predictions, wants_predictions
from core.run.log import format_metrics, report
from core.run.restoring import Restored
from core.task import Loader
from core.training.checkpoint import find_checkpoint
from core.training.tally import Tally

CHANGE_NUMBERS = ("task", "seed", "val_split", "precision")  # of the framework's keys


def own_log(folder: Path) -> Path | None:
    """Return where evaluations of a run are logged; None if its folder cannot be written."""
    return folder / "evaluate.log" if os.access(folder, os.W_OK) else None


def announce(restored: Restored, split: str) -> None:
    """Say what is evaluated on which data."""
    logging.info("Evaluating %s on %s of %s", restored.path, split, restored.data_dir)
    if note := synthetic_note(restored.data_dir):
        logging.info("Note: these are %s", note)


def write_evaluation(
    folder: Path,
    restored: Restored,
    split: str,
    loader: Loader,
    values: dict[str, float],
    tally: Tally,
    all_predictions: bool,
    holdout: bool = False,
) -> dict[str, Any]:
    """Report an evaluation, and write its numbers and, if asked for, predictions.

    The files' names say split and checkpoint; and data or settings that are not the run's own.
    Predictions are written if the params say so, or with `all_predictions` whatever their size.
    With `holdout` nothing is told and nothing but the look is written, if the ledger of the split
    has a score that this one does not beat by more than chance.

    Returns:
        What `--json` prints of it: `metrics`, and with `holdout` a `verdict`.
    """
    if own_log(folder) is None:
        if holdout:
            raise UsageError(f"{folder}: cannot be written, and --holdout has to count the look")
        report(f"{split}: {format_metrics(values)}")
        logging.warning("Note: %s cannot be written; nothing else is kept", folder)
        return {"metrics": values}
    shown, source = names_of(folder, restored.path)
    facts = facts_of(folder, restored, split)
    checkpoint = shown, restored.content, restored.sha256
    tell_changed_code(folder, facts)
    told: dict[str, Any] = {}
    if holdout:
        look = look_at(folder, restored, facts, loader, tally, values)
        told["verdict"] = facts["holdout"] = enter(folder.resolve().parent, split, look)
        if told["verdict"] == UNCHANGED:
            add_evaluation(folder, checkpoint, None, **facts)
            report(UNCHANGED)
            return {"metrics": {}, **told}
    report(f"{split}, {loader.num_examples} examples: {format_metrics(values)}")
    sha256 = facts["data"]["sha256"]
    of_run = read_resolved(folder).get("data", {}).get("sha256", sha256)
    marks = [] if of_run == sha256 else [f"_on_{restored.data_dir.resolve().name}"]
    marks += [f"_with_{key}" for key in facts["overrides"]]
    name = f"{split}_{(source := source + ''.join(marks))}"
    write_numbers(folder / f"metrics_{name}.json", values)
    add_evaluation(folder, checkpoint, values, **facts)
    if marks:
        logging.warning("Note: of other data or settings than the run's: metrics_%s.json", name)
    written = [f"metrics_{name}.json"]
    if all_predictions or (source == "best" and wants_predictions(restored.params, tally)):
        target = folder / f"predictions_{split if source == 'best' else name}.npz"
        made_of = {"checkpoint": restored.sha256, "data": sha256}
        save_predictions(target, tally, loader, restored.reading, made_of)
        written.append(target.name)
    if draw_classes(restored, tally, split, picture := folder / f"confusion_{name}.png"):
        written.append(picture.name)
    logging.info("Wrote %s into %s", ", ".join(written), folder)
    return {"metrics": values, **told}


def names_of(folder: Path, path: Path) -> tuple[str, str]:
    """Return how a checkpoint is called in evaluations.jsonl, and in the names of files."""
    stem = path.name.removesuffix(".pt").removesuffix(".pth.tar")
    if path.parent.resolve() != folder.resolve():  # another run's checkpoint
        return str(path), f"{path.parent.name}_{stem}"
    if find_checkpoint(folder, stem).name != path.name:  # best.pth.tar beside best.pt
        return path.name, path.name
    return path.name, stem


def draw_classes(restored: Restored, tally: Tally, split: str, picture: Path) -> bool:
    """Log a table of the classes, and draw it; returns whether there is a picture."""
    made_up = synthetic_note(restored.data_dir) is not None
    title = f"{split}, {restored.path.name}" + ("\n(synthetic data)" if made_up else "")
    task, params = restored.task, restored.params
    (outputs, labels), rows = tally.arrays(), tally.row_counts()
    return report_classes(outputs, labels, restored.reading, task, params, title, picture, rows)


def facts_of(folder: Path, restored: Restored, split: str) -> dict[str, Any]:
    """Return what a row of evaluations.jsonl says besides its checkpoint and its values."""
    data = {"folder": str(restored.data_dir), **fingerprint(restored.data_dir, folder)}
    facts: dict[str, Any] = {"split": split, "precision": restored.params.precision}
    facts |= {"overrides": changed_settings(restored), "data": data}
    return facts | {"code": hash_scores(restored.task)}


def earlier(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of evaluations.jsonl that say what they are of."""
    path = folder / EVALUATIONS
    rows = parse_rows(path.read_bytes())[0] if path.exists() else []
    return [row for row in rows if isinstance(row.get("checkpoint"), dict)]


def tell_changed_code(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say which metrics' code is not that of the last evaluation of the same split."""
    known = [row for row in earlier(folder) if row.get("split") == facts["split"] and "code" in row]
    if known:
        then, now, epoch = known[-1]["code"], facts["code"], known[-1]["checkpoint"].get("epoch")
        if changed := [name for name in now if then.get(name) != now[name]]:
            told = "Note: the metric's code has changed since the evaluation of epoch %s: %s"
            logging.warning(told, epoch, ", ".join(changed))


def is_evaluated(folder: Path, restored: Restored, split: str, holdout: bool) -> bool:
    """Tell whether evaluations.jsonl has a row of this checkpoint, data, settings and code.

    With `holdout` one whose score was not told will do.
    """
    facts = facts_of(folder, restored, split)
    return any(
        row["checkpoint"].get("sha256") == restored.sha256
        and row.get("data", {}).get("sha256") == facts["data"]["sha256"]
        and all(row.get(name) == facts[name] for name in ("split", "overrides", "code"))
        and (holdout or "values" in row)
        for row in earlier(folder)
    )


def changed_settings(restored: Restored) -> dict[str, Any]:
    """Return what --set changes of the checkpoint's params and a net's numbers depend on."""
    stored = restored.content.get("params", {})
    return {
        name: value
        for name, value in restored.overrides.items()
        if (name in CHANGE_NUMBERS or name not in KEYS) and decides(name)
        if name not in stored or stored[name] != value
    }
