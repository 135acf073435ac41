"""Executing stretches of a run again, in a scratch folder, and evaluating its best checkpoint."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from core.base.errors import UserError, spelled
from core.base.files import finite_or_none, parse_rows, write_json
from core.base.keys import deciding
from core.data.folder import fingerprint
from core.run.opening import open_run
from core.run.restoring import restore
from core.run.run import Run
from core.training.checkpoint import CheckpointError, find_checkpoint, read_checkpoint
from core.training.state import State, make_state
from core.verify.record import Content, Record, same

TOLERANCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
# Keys without which the scratch run writes nowhere else, and no more than it must.
ALONE = {"track": [], "tensorboard": False, "log_histograms": False, "save_predictions": False}
ALONE |= {"checkpoint_minutes": None, "keep_checkpoints": None}
Pairs = list[tuple[Mapping[str, Any], Mapping[str, Any]]]  # of the record, and trained again


class EndedError(Exception):
    """The last epoch of a stretch has been trained."""


@dataclass(frozen=True)
class Stretch:
    """The epochs between two checkpoints, the first of which is 0 for the start of the run."""

    begin: int
    end: int
    first: Path | None  # checkpoint at its beginning
    target: Content | None  # at its end; None where the run was stopped within the next epoch

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"epochs {self.begin + 1} to {self.end}"


def stretches(record: Record) -> list[Stretch]:
    """Return all stretches of a run, from its start to the last whole epoch."""
    ends: dict[int, Content | None] = {e: c for e, c in record.kept.items() if e < record.epochs}
    whole = record.last if record.last is not None and not record.last["batch"] else None
    ends[record.epochs] = record.kept.get(record.epochs, whole)
    begins = [0, *ends][:-1]
    paths = {epoch: record.paths[epoch] for epoch in begins[1:]}
    pairs = zip(begins, ends.items(), strict=True)
    return [Stretch(begin, end, paths.get(begin), target) for begin, (end, target) in pairs if end]


def execute(record: Record, stretch: Stretch, train: ModuleType) -> tuple[list[str], list[str]]:
    """Train a stretch again; returns where it differs, and why that may be so on this machine."""
    begin = {} if stretch.first is None else record.kept[stretch.begin]
    end = stretch.target or record.newest
    unlike = [*record.unlike, *record.code_changed]
    asked = deciding(end["params"])
    for name, value in deciding(begin.get("params", asked)).items():
        if name != "num_epochs" and asked.get(name) != value:
            told = f"{name} was changed from {spelled(value)} to {spelled(asked.get(name))}"
            unlike.append(f"{told} on the way")
    if begin.get("data", end["data"]) != end["data"]:
        unlike.append("the data were changed on the way")
    source = None if begin else record.resolved.get("restore_file")
    if source is not None:
        unlike.append(f"it began from {source}, whose hash is not recorded")
        with suppress(CheckpointError):
            source = str(find_checkpoint(record.folder, source))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary) / "run"
        scratch.mkdir()
        params = record.machine | asked | ALONE | {"data_dir": str(record.data_dir)}
        write_json(scratch / "params.json", params)
        if stretch.first is not None:
            shutil.copy(stretch.first, scratch / "last.pt")
            shutil.copy(stretch.first, scratch / "best.pt")  # the best so far stands in last.pt
        try:
            _train(record, stretch, train, open_run(scratch, params, restore_file=source))
        except Exception as error:  # of the task's code, too
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            told = f"{kind}{error}".replace(str(scratch), str(record.folder))
            return [f"it cannot be trained again: {' '.join(told.split())}"], unlike
        return compare(record, stretch, scratch, unlike), unlike


def _train(record: Record, stretch: Stretch, train: ModuleType, run: Run) -> None:
    """Train to the end of a stretch, by the loop of train.py."""
    try:
        if run.before is not None:  # the data are verified apart
            run.before["data"] = fingerprint(run.data_dir, run.folder)
        loaders = run.fetch_loaders()
        state = make_state(run.task, run.params, run.device, loaders["train"], run.new)
        run.resume(state, loaders)
        write_epoch: Callable[[State, dict[str, float], bool], None] = run.write_epoch

        def write_and_end(state: State, trained: dict[str, float], is_best: bool) -> None:
            write_epoch(state, trained, is_best)
            if state.epoch == stretch.end:
                raise EndedError

        run.write_epoch = write_and_end  # type: ignore[method-assign]
        with suppress(EndedError):
            train.train_and_evaluate(state, loaders, run)
        run.writer.wait()
    finally:
        run.writer.close()


def compare(record: Record, stretch: Stretch, scratch: Path, unlike: list[str]) -> list[str]:
    """Return where the record first differs from what was trained again."""
    rows = parse_rows((scratch / "metrics.jsonl").read_bytes())[0]
    trained = read_checkpoint(scratch / "last.pt")
    numbers: Pairs = [(record.rows.get(row["epoch"], {}), row) for row in rows]
    checkpoints: Pairs = [] if stretch.target is None else [(stretch.target, trained)]
    if record.best is not None and stretch.begin < record.best["epoch"] <= stretch.end:
        checkpoints.insert(0, (record.best, read_checkpoint(scratch / "best.pt")))
    found = []
    for kind, pairs in (("metrics.jsonl", numbers), ("checkpoint", checkpoints)):
        texts = [text for a, b in pairs for text in same(a, b, f"step {b['step']}: {kind}")]
        found += texts[:1]  # the first step that differs
    if [row["epoch"] for row in rows] != [*range(stretch.begin + 1, stretch.end + 1)]:
        found.append(f"training ends after epoch {trained['epoch']}")
    return [*found, within(numbers + checkpoints)] if found and unlike else found


def within(pairs: Pairs) -> str:
    """Say how near weights and metrics are, where bits may differ."""
    for tolerance in TOLERANCES:
        if not any(same(_numbers(a), _numbers(b), "", tolerance) for a, b in pairs):
            return f"weights and metrics agree within {tolerance:g}"
    return f"weights and metrics do not agree within {TOLERANCES[-1]:g}"


def _numbers(content: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("state_dict", "metrics")
    return {name: content[name] for name in names} if "state_dict" in content else content


def evaluate(record: Record, split: str, train: ModuleType) -> list[str]:
    """Evaluate best.pt on a split again; returns where recorded values differ."""
    restored = restore(record.folder, "best", str(record.data_dir))
    model, loader = restored.with_loader(split)
    values, _ = train.evaluate(model, loader, restored.task, restored.params)
    finite = {name: finite_or_none(float(value)) for name, value in values.items()}
    recorded = record.evaluations()[split]
    found = [text for old in recorded for text in same(old, finite, split)]
    if found and record.unlike:
        found.insert(1, within([(old, finite) for old in recorded]))
    return found[: 2 if record.unlike else 1]
