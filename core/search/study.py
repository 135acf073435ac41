"""The record of a search, shared by all processes that work on it: trials, their owners, values.

Optuna keeps the record, in a file or in PostgreSQL. Who runs a trial is told by a lock.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.base.errors import DataError, UsageError
from core.base.keys import decides
from core.search.locks import CONNECTION, Locks, open_locks
from core.search.points import Tried, next_point, planned_points, trial_name
from core.search.space import Point, Settings, point_key

JOURNAL = "search.journal"


@dataclass
class Claim:
    """A trial that this process is to run: its number, the name of its folder, its point."""

    number: int
    name: str
    point: Point
    trial: Any  # Optuna's


class Study:
    """The trials of one search; `open_study` makes it."""

    def __init__(self, study: Any, locks: Locks, settings: Settings, more_is_better: bool) -> None:
        self.study, self.locks, self.settings = study, locks, settings
        self.more_is_better, points = more_is_better, planned_points(settings)
        self.planned = None if points is None else {point_key(point): point for point in points}

    def check_base(self, parent_dir: Path, base: dict[str, Any]) -> None:
        """Refuse to mix trials of different base params in one record."""
        shared = {n: v for n, v in base.items() if decides(n) or n == "data_dir"}
        shared |= {"repeats": self.settings.repeats}
        before = self.study.user_attrs.get("shared")
        if before is None:
            self.study.set_user_attr("shared", shared)
        elif before != shared:
            changed = sorted(n for n in before | shared if before.get(n, ...) != shared.get(n, ...))
            raise UsageError(
                f"{parent_dir}: {', '.join(map(repr, changed))} changed since the search began.\n"
                "Its trials would not be comparable: put the old value back, or search in a new"
                " folder."
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of the record."""
        self.locks.acquire()
        try:
            yield
        finally:
            self.locks.release()

    def trials(self) -> list[Any]:
        """Return Optuna's records of all trials, without failed ones that were tried again."""
        again = self.study.user_attrs.get("again", [])
        return [t for t in self.study.get_trials(deepcopy=False) if t.number not in again]

    def size(self, trials: list[Any]) -> int:
        """Return how many trials there will be in the end."""
        if self.planned is None:
            return max(self.settings.trials, len(trials))
        tried = {_key(t) for t in trials}
        left = len(self.planned.keys() - tried)
        if self.settings.method == "grid":
            return len(trials) + left
        return len(trials) + min(left, max(0, self.settings.trials - len(trials)))

    def done(self) -> bool:
        """Tell whether every trial that was asked for has ended."""
        trials = self.trials()
        return all(t.state.is_finished() for t in trials) and self._next(trials) is None

    def claim(self) -> Claim | None:
        """Return a trial to run: one whose process died, else a new one; None if none is left."""
        from optuna.trial import Trial, TrialState

        with self.alone():
            trials = self.trials()
            for left in trials:
                if left.state == TrialState.RUNNING and self.locks.take(left.number):
                    return self._claimed(Trial(self.study, left._trial_id))
            # One that waits was added by a process that was killed before the next line but two.
            if not any(t.state == TrialState.WAITING for t in trials):
                if (following := self._next(trials)) is None:
                    return None
                point, notes = following
                self.study.enqueue_trial({}, {"point": point, "name": trial_name(point)} | notes)
            trial = self.study.ask()
            self.locks.take(trial.number)
            return self._claimed(trial)

    def _claimed(self, trial: Any) -> Claim:
        attributes = trial.user_attrs
        return Claim(trial.number, attributes["name"], attributes["point"], trial)

    def _next(self, trials: list[Any]) -> tuple[Point, dict[str, Any]] | None:
        """Return the next point, with the sampler's notes; None if there are enough trials."""
        tried = {_key(t) for t in trials}
        again = self.study.user_attrs.get("again", [])
        trials_before = self.study.get_trials(deepcopy=False)
        planned = [trials_before[number].user_attrs["point"] for number in again]
        enough = len(trials) >= self.settings.trials and self.settings.method != "grid"
        if self.planned is not None and not enough:
            planned += self.planned.values()
        for point in planned:
            if point_key(point) not in tried:
                return point, {}
        if self.planned is not None or enough:
            return None
        history = [
            Tried(
                t.user_attrs["point"],
                t.value if t.state.is_finished() else None,
                {name[5:]: v for name, v in t.user_attrs.items() if name.startswith("note:")},
            )
            for t in trials
        ]
        point, notes = next_point(self.settings, history, self.more_is_better)
        return point, {f"note:{name}": value for name, value in notes.items()}

    def try_again(self) -> None:
        """Let trials that failed be run again."""
        with self.alone():
            failed = [t.number for t in self.trials() if t.state.name == "FAIL"]
            before = self.study.user_attrs.get("again", [])
            self.study.set_user_attr("again", before + failed)

    def is_to_be_pruned(self, claim: Claim, values: Sequence[float | None]) -> bool:
        """Note the values of the epochs so far, and tell whether the trial should go no further.

        Args:
            claim: the trial.
            values: one for every epoch; None where it was not a finite number.
        """
        noted = self.study.get_trials(deepcopy=False)[claim.number].intermediate_values
        for epoch, value in enumerate(values, start=1):
            if value is not None and epoch not in noted:
                claim.trial.report(value, epoch)
                if claim.trial.should_prune():
                    return True
        return False

    def finish(self, claim: Claim, values: list[float]) -> None:
        """Note the values of a trial, one for every seed; their mean is what is judged."""
        claim.trial.set_user_attr("values", values)
        self._end(claim, value=sum(values) / len(values))

    def fail(self, claim: Claim, why: str) -> None:
        """Note that a trial failed."""
        claim.trial.set_user_attr("why", why)
        self._end(claim, state="FAIL")

    def prune(self, claim: Claim) -> None:
        """Note that a trial was stopped early."""
        self._end(claim, state="PRUNED")

    def _end(self, claim: Claim, value: float | None = None, state: str = "COMPLETE") -> None:
        from optuna.trial import TrialState

        with self.alone():  # nobody may see the trial running and find its lock free
            self.study.tell(claim.number, value, TrialState[state])
            self.locks.give_back(claim.number)


@contextmanager
def open_study(
    parent_dir: Path,
    storage: str | None,
    settings: Settings,
    base: dict[str, Any],
    more_is_better: bool,
) -> Iterator[Study]:
    """Open the record of a search, or begin it.

    Args:
        parent_dir: folder of the search; in a database its name is the study's.
        storage: "postgresql://...", or None for a file in `parent_dir`.
        settings: what search.yaml says.
        base: the params that all trials share.
        more_is_better: direction of the monitored metric.

    Raises:
        UsageError: the storage cannot be used, or the trials there had other base params.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A file goes with its folder, which may be renamed.
    name = "search" if storage is None else parent_dir.resolve().name
    locks = open_locks(parent_dir, storage)
    pruner = settings.prune and optuna.pruners.SuccessiveHalvingPruner(*settings.prune)
    try:
        locks.acquire()
        study = optuna.create_study(
            storage=_open_storage(parent_dir / JOURNAL, storage, locks),
            study_name=name,
            sampler=optuna.samplers.RandomSampler(),  # not asked for points
            pruner=pruner or optuna.pruners.NopPruner(),
            direction="maximize" if more_is_better else "minimize",
            load_if_exists=True,
        )
        opened = Study(study, locks, settings, more_is_better)
        opened.check_base(parent_dir, base)
        locks.release()
        yield opened
    finally:
        locks.close()


def _key(trial: Any) -> str:
    return point_key(trial.user_attrs["point"])


def _open_storage(path: Path, storage: str | None, locks: Locks) -> Any:
    """Open Optuna's storage; half a line that a crash left in the file is cut off."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if storage is not None:
        url = "postgresql+psycopg://" + storage.partition("://")[2]
        return RDBStorage(url, engine_kwargs={"connect_args": CONNECTION})
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
    try:
        for line in content[:whole].splitlines():  # Optuna would write on behind a bad last one
            json.loads(line)["op_code"]
        return JournalStorage(JournalFileBackend(str(path), lock_obj=locks))  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DataError(f"{path}: damaged ({error}); without it the search starts anew") from error
