"""The record of a search, shared by all processes that work on it: trials, their owners, values.

Optuna keeps the record, in a file or in PostgreSQL. Who runs a trial is told by a lock. A trial's
`user_attrs` hold its "point", the "name" of its folder, what the sampler needs to know of it later
("note:..."), and in the end its "values", one for every seed, or "why" it failed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna import pruners
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, journal
from optuna.trial import FrozenTrial, Trial, TrialState

from core.base import files, keys
from core.base.errors import DataError, UsageError
from core.search.locks import CONNECTION, Locks, open_locks
from core.search.points import Tried, next_point, planned_points, trial_name
from core.search.space import Settings, point_key


class Study:
    """The trials of one search; `open_study` makes it."""

    def __init__(
        self, record: optuna.Study, locks: Locks, settings: Settings, more_is_better: bool
    ) -> None:
        self.record, self.locks, self.settings = record, locks, settings
        self.more_is_better = more_is_better
        self.planned = {point_key(point): point for point in planned_points(settings) or []}

    def check_base(self, parent_dir: Path) -> None:
        """Refuse to mix trials of different base params in one record."""
        shared = {n: v for n, v in self.settings.base.items() if keys.decides(n) or n == "data_dir"}
        shared |= {"repeats": self.settings.repeats}
        before = self.record.user_attrs.get("shared")
        if before is None:
            self.record.set_user_attr("shared", shared)
        elif before != shared:
            changed = sorted(n for n in before | shared if before.get(n, ...) != shared.get(n, ...))
            raise UsageError(
                f"{parent_dir}: {', '.join(map(repr, changed))} changed since the search began.\n"
                "Its trials would not be comparable: put the old value back, or use a new folder."
            )

    def trials(self) -> list[FrozenTrial]:
        """Return Optuna's records of all trials, without failed ones that were tried again."""
        again = self.record.user_attrs.get("again", [])
        return [t for t in self.record.get_trials(deepcopy=False) if t.number not in again]

    def best(self) -> float | None:
        """Return the best value of a complete trial; None if there is none."""
        values = [
            t.value for t in self.trials() if t.state.name == "COMPLETE" and t.value is not None
        ]
        return (max if self.more_is_better else min)(values) if values else None

    def size(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many trials there will be in the end."""
        missing = max(0, self.settings.trials - len(trials))
        if self.planned:
            left = len(self.planned.keys() - {point_key(t.user_attrs["point"]) for t in trials})
            missing = left if self.settings.method == "grid" else min(left, missing)
        return len(trials) + missing

    def claim(self) -> Trial | None:
        """Return a trial to run: one whose process died, else a new one; None if none is left."""
        with self.locks:
            trials = self.trials()
            for left in trials:
                if left.state == TrialState.RUNNING and self.locks.take(left.number):
                    return Trial(self.record, left._trial_id)
            # One that waits was added by a process that was killed before the next line but two.
            if not any(t.state == TrialState.WAITING for t in trials):
                if (attributes := self._next(trials)) is None:
                    return None
                self.record.enqueue_trial({}, attributes)
            trial = self.record.ask()
            self.locks.take(trial.number)
            return trial

    def _next(self, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """Return the attributes of the next trial; None if there are enough."""
        tried = {point_key(t.user_attrs["point"]) for t in trials}
        before = self.record.get_trials(deepcopy=False)
        points = [before[n].user_attrs["point"] for n in self.record.user_attrs.get("again", [])]
        enough = self.size(trials) == len(trials)
        points += [] if enough else self.planned.values()
        for point in points:
            if point_key(point) not in tried:
                return {"point": point, "name": trial_name(point)}
        if enough:
            return None
        history = []
        for trial in trials:
            attributes = trial.user_attrs.items()
            notes = {n.removeprefix("note:"): v for n, v in attributes if n.startswith("note:")}
            value = trial.value if trial.state.is_finished() else None
            history.append(Tried(trial.user_attrs["point"], value, notes))
        point, notes = next_point(self.settings, history, self.more_is_better)
        noted = {f"note:{name}": value for name, value in notes.items()}
        return {"point": point, "name": trial_name(point)} | noted

    def try_again(self) -> None:
        """Let trials that failed be run again."""
        with self.locks:
            failed = [t.number for t in self.trials() if t.state == TrialState.FAIL]
            before = self.record.user_attrs.get("again", [])
            self.record.set_user_attr("again", before + failed)

    def prunes(self, trial: Trial, values: Sequence[float | None]) -> bool:
        """Note the values of the epochs so far (None: not finite); tell whether to stop here."""
        noted = self.record.get_trials(deepcopy=False)[trial.number].intermediate_values
        for epoch, value in enumerate(values, start=1):
            if value is not None and epoch not in noted:
                trial.report(value, epoch)
                if trial.should_prune():
                    return True
        return False

    def end(self, trial: Trial, state: TrialState, value: float | None = None, **more: Any) -> None:
        """Note how a trial ended: its value if it is complete, and more attributes."""
        for name, content in more.items():
            trial.set_user_attr(name, content)
        with self.locks:  # nobody may see the trial running and find its lock free
            self.record.tell(trial.number, value, state)
            self.locks.give_back(trial.number)


@contextmanager
def open_study(
    parent_dir: Path, storage: str | None, settings: Settings, more_is_better: bool
) -> Iterator[Study]:
    """Open the record of a search, or begin it: in `storage`, "postgresql://...", or in a file.

    Raises:
        UsageError: the storage cannot be used, or the trials there had other base params.
        DataError: the record is damaged, or the connection to the database was lost.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with closing(open_locks(parent_dir, storage)) as locks:
            with locks:
                record = optuna.create_study(
                    storage=_open_storage(parent_dir / "search.journal", storage, locks),
                    # A file goes with its folder, which may be renamed.
                    study_name="search" if storage is None else parent_dir.resolve().name,
                    sampler=optuna.samplers.RandomSampler(),  # not asked for points
                    pruner=settings.prune and pruners.SuccessiveHalvingPruner(*settings.prune),
                    direction="maximize" if more_is_better else "minimize",
                    load_if_exists=True,
                )
                opened = Study(record, locks, settings, more_is_better)
                opened.check_base(parent_dir)
            yield opened
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & {"OperationalError", "StorageInternalError"}:  # psycopg's, Optuna's
            raise
        raise DataError(
            f"--storage: the connection to the database was lost ({type(error).__name__}).\n"
            "The trials in progress have saved; the same command resumes them."
        ) from error


def _open_storage(path: Path, storage: str | None, locks: Locks) -> BaseStorage:
    """Open Optuna's storage; half a line that a crash left in the file is cut off."""
    if storage is not None:
        url = "postgresql+psycopg://" + storage.partition("://")[2]
        return RDBStorage(url, engine_kwargs={"connect_args": CONNECTION})
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    rows, sound = files.parse_rows(content[:whole])  # Optuna would not mind a damaged last line
    try:
        if not sound:
            raise ValueError(f"line {len(rows) + 1}")
        return JournalStorage(journal.JournalFileBackend(str(path), locks))  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DataError(f"{path}: damaged ({error}); without it the search starts anew") from error
