"""What a run's folder holds, and whether its parts fit one another; nothing is trained here."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, spelled
from core.base.files import checkpoint_hash, finite_or_none, parse_rows
from core.base.keys import DEFAULTS, deciding
from core.base.params import find_params_file, load_params, read_mapping
from core.data.folder import find_data_dir, fingerprint
from core.machine.nested import first_difference
from core.run.code import edited_since, import_task
from core.run.folder import EVALUATIONS, RESOLVED, made_with, read_resolved
from core.training.chain import kept
from core.training.checkpoint import CheckpointError, read_checkpoint

NOT_COMPARED = ("chain", "finished", "log_bytes", "overrides", "data", "loader_params")
Content = dict[str, Any]  # of a checkpoint


def same(a: Mapping[str, Any], b: Mapping[str, Any], where: str, tolerance: float = 0) -> list[str]:
    """Return in what two checkpoints, or rows, first differ; [] if in nothing that decides."""
    first, second = ({n: v for n, v in x.items() if n not in NOT_COMPARED} for x in (a, b))
    for content in (first, second):
        if isinstance(content.get("params"), dict):
            content["params"] = deciding(content["params"])
    found = first_difference(first, second, where, tolerance)
    return [] if found is None else [found]


class Record:
    """A run's folder as it is now, and what in it does not fit.

    Args:
        folder: of the run; nothing is written there.
        data_dir: the folder of the data; None: as the run last used it.

    Raises:
        UserError: there is no checkpoint or no folder of data.
    """

    def __init__(self, folder: Path, data_dir: str | None = None) -> None:
        self.folder, self.resolved, self.damaged = folder, read_resolved(folder), list[str]()
        path = folder / "metrics.jsonl"
        rows = parse_rows(path.read_bytes())[0] if path.exists() else []
        self.rows = {row["epoch"]: row for row in rows}
        self.best, self.last = self._read(folder / "best.pt"), self._read(folder / "last.pt")
        self.paths = kept(folder)
        found = {epoch: self._read(path) for epoch, path in self.paths.items()}
        self.kept = {epoch: content for epoch, content in found.items() if content is not None}
        newest = self.last or self.best
        if newest is None:
            raise CheckpointError(f"{folder}: there is no last.pt or best.pt that can be read")
        self.newest, self.asked = newest, deciding(newest["params"])
        self.epochs = self.last["epoch"] if self.last else max(self.rows, default=0)
        self.machine = DEFAULTS | {
            name: value
            for name, value in self.resolved.get("params", {}).items()
            if name in DEFAULTS and name not in deciding(DEFAULTS)
        }
        if data_dir is not None:
            self.machine["data_dir"] = data_dir
        self.params = load_params(find_params_file(folder), self.overrides)[0]
        self.task = import_task(self.params)
        self.params.data_dir = self.machine["data_dir"]
        self.data_dir = find_data_dir(self.params, self.task)

    def _read(self, path: Path) -> Content | None:
        if not path.exists():
            return None
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            self.damaged.append(str(error).replace(f"{self.folder}/", ""))
            return None

    @property
    def overrides(self) -> dict[str, Any]:
        """What the command line said of the params."""
        found = (self.last or {}).get("overrides", self.resolved.get("overrides", {}))
        return {name: value for name, value in found.items() if name != "data_dir"}

    @cached_property
    def unlike(self) -> list[str]:
        """Why the same params may train to other bits here."""
        reasons = list[str]()
        try:
            now = made_with(self.machine["device"])
            if now["device"] != "cpu" and not self.asked.get("deterministic"):
                reasons.append("a GPU without 'deterministic' does not repeat itself")
        except UsageError as error:  # there is no such device here
            reasons.append(str(error))
            now = made_with("cpu") | {"device": self.resolved.get("device")}
        then, here = (facts | facts.get("versions", {}) for facts in (self.resolved, now))
        reasons += [
            f"{name} {then.get(name)} then, {here[name]} here"
            for name in ("torch", "numpy", "processor", "device")
            if then.get(name) != here[name]
        ]
        if (count := self.resolved.get("processes", 1)) > 1:
            reasons.append(f"trained by {count} processes")
        return reasons

    @property
    def code_changed(self) -> list[str]:
        """Why the code of now may not be that of every step: a resumed run has recorded it."""
        changed = dict.fromkeys(self.resolved.get("code_changed", []))
        return [f"{name} was changed on the way" for name in changed]

    def of_params(self) -> list[str]:
        """Return where the params file, the record and the checkpoint differ."""
        of_file, of_record = deciding(self.params.dict), deciding(self.resolved.get("params", {}))
        faults = []
        for source, found in ((find_params_file(self.folder).name, of_file), (RESOLVED, of_record)):
            for name, own in (self.asked | found).items():
                new, old = found.get(name, DEFAULTS.get(name)), self.asked.get(name)
                decided = ("auto", None) if name == "num_threads" else ("auto",)
                left_open = source != RESOLVED and new in decided
                if new != old and not left_open and own is not None:
                    faults.append(f"{source}: {name} is {spelled(new)}, trained: {spelled(old)}")
        return faults

    def of_code(self) -> list[str]:
        """Return which files are not those that the run recorded."""
        recorded = self.resolved.get("code")
        if not recorded:
            return [f"{RESOLVED} records no code"]
        edited = edited_since(recorded, self.params.task)
        return [f"{name} is not what was trained with" for name in edited]

    def of_data(self) -> list[str]:
        """Return whether the data are others than those of the newest checkpoint."""
        same_data = fingerprint(self.data_dir, self.folder) == self.newest["data"]
        return [] if same_data else [f"{self.data_dir} holds other data"]

    def of_chain(self) -> list[str]:
        """Return which checkpoints are damaged, or do not hold the hashes of those before."""
        faults, before = list(self.damaged), None
        ends = [(path, self.kept.get(epoch)) for epoch, path in self.paths.items()]
        for path, content in [*ends, (self.folder / "last.pt", self.last)]:
            chain = (content or {}).get("chain")
            if chain is not None and chain["before"] != before:
                faults.append(f"{path.name} holds another hash than that of the one kept before")
            before = checkpoint_hash(path)
        chain = (self.last or {}).get("chain")
        if chain is not None and chain["best"] != checkpoint_hash(self.folder / "best.pt"):
            faults.append("best.pt is not the file whose hash last.pt holds")
        end = self.kept.get(self.epochs)
        if end is not None and self.last is not None and not self.last["batch"]:
            faults += same(end, self.last, "last.pt")
        return faults

    def of_numbers(self) -> list[str]:
        """Return where metrics.jsonl and metrics_*.json differ from what checkpoints hold."""
        faults = []
        if [*self.rows][: self.epochs] != [*range(1, self.epochs + 1)]:
            faults.append(f"metrics.jsonl has no row for each of {self.epochs} epochs")
        named = {path.name: self.kept.get(epoch) for epoch, path in self.paths.items()}
        for name, content in (named | {"last.pt": self.last, "best.pt": self.best}).items():
            if content is None or not content["metrics"]:
                continue
            row = self.rows.get(content["epoch"], {})
            for metric, value in content["metrics"].items():
                if (own := row.get(f"val_{metric}")) != (held := finite_or_none(value)):
                    where = f"metrics.jsonl, epoch {content['epoch']}"
                    faults.append(f"{where}: val_{metric} is {own}, {name} holds {held}")
            stem = name.removesuffix(".pt")
            if stem in ("best", "last"):
                faults += self._of_file(f"metrics_val_{stem}_weights.json", content["metrics"])
        return faults

    def _of_file(self, name: str, values: Mapping[str, float]) -> list[str]:
        path = self.folder / name
        finite = {metric: finite_or_none(value) for metric, value in values.items()}
        return [f"{name} differs"] if path.exists() and read_mapping(path) != finite else []

    def evaluations(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the values that are recorded of best.pt on the run's data, by split."""
        path, sha256 = self.folder / EVALUATIONS, checkpoint_hash(self.folder / "best.pt")
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in parse_rows(path.read_bytes())[0] if path.exists() else ():
            of_run = row["data"]["sha256"] == self.newest["data"]["sha256"]
            fits = row["checkpoint"]["sha256"] == sha256 and of_run and not row["overrides"]
            if fits and "values" in row:  # else its score was not told
                found.setdefault(row["split"], []).append(row["values"])
        for split, values in found.items():
            if (path := self.folder / f"metrics_{split}_best.json").exists():
                values.append(read_mapping(path))
        if self.best is not None:
            own = {name: finite_or_none(v) for name, v in self.best["metrics"].items()}
            found.setdefault("val", []).append(own)
        return found
