"""Which trial is trained next: those that were interrupted, those that go on, new ones."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, journal
from optuna.trial import FrozenTrial, TrialState

from core.base.errors import DataError, UsageError
from core.base.keys import DEFAULTS
from core.search import halving
from core.search.halving import Curve, Step
from core.search.locks import open_locks
from core.search.points import Tried, next_point, planned_points
from core.search.racing import contenders, first_round, means
from core.search.record import Claim, Record, number_of, open_storage, state_of
from core.search.settings import RECORD, Settings
from core.search.space import Point, point_key


class Study(Record):
    """The trials of one search, and what comes next; `open_study` makes it."""

    @cached_property
    def planned(self) -> dict[str, Point]:
        """The points of a method that needs no results, by their texts."""
        return {point_key(point): point for point in planned_points(self.settings) or []}

    def ranked(self) -> list[tuple[FrozenTrial, list[list[float]]]]:
        """Return the complete trials with their values, by seed and goal, the best one first.

        Those with more seeds come before others, which were left out of the race.
        """
        trials = self.trials()
        results = self.results(trials)
        found = [(t, results[number_of(t)]) for t in trials if number_of(t) in results]
        return sorted(found, key=lambda x: (-len(x[1]), -self.signs[0] * means(x[1])[0]))

    def best(self) -> dict[str, float]:
        """Return what the best trial is judged by, means over its seeds; {} if none is complete."""
        ranked = self.ranked()
        return dict(zip(self.goals, means(ranked[0][1]), strict=True)) if ranked else {}

    def has_failed(self) -> bool:
        """Tell whether a trial has failed, or a seed of one."""
        return bool(self.failed_seeds()) or "failed" in map(state_of, self.trials())

    def in_race(self, trials: Sequence[FrozenTrial]) -> dict[int, int]:
        """Return which trials are still in the race, and how many seeds of each are missing."""
        failed, repeats, scores = self.failed_seeds(), self.settings.repeats, {}
        for number, values in self.results(trials).items():
            if number not in failed:
                scores[number] = [
                    [s * v for s, v in zip(self.signs, each, strict=True)] for each in values
                ]
        found = contenders(scores, repeats, self.settings.race)
        return {number: max(0, repeats - len(scores[number])) for number in found}

    def others_at_work(self) -> bool:
        """Tell whether this process should wait: another one trains a trial, or a seed of one."""
        trials = self.trials()
        return any(self.in_race(trials).values()) or "running" in map(state_of, trials)

    def size(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many trials there will be in the end."""
        missing = max(0, self.settings.trials - len(trials))
        if self.planned:
            left = len(self.planned.keys() - {point_key(t.user_attrs["point"]) for t in trials})
            missing = left if self.settings.method == "grid" else min(left, missing)
        return len(trials) + missing

    def epochs_left(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many epochs are left to train, those of trials in progress included."""
        settings, total = self.settings, self.size(trials)
        further = self._further_seeds(trials) * settings.epochs if settings.repeats > 1 else 0
        curves = [self.curve(trial) for trial in trials]
        if settings.method == "freeze_thaw":
            return max(0, settings.budget - sum(len(curve.values) for curve in curves)) + further
        if settings.method == "asha":
            done = sum(curve.goal if curve.over else len(curve.values) for curve in curves)
            return max(0, halving.planned_epochs(settings, total) - done) + further
        running = sum(not curve.over for curve in curves)
        return (total - len(trials) + running) * settings.epochs + further

    def _further_seeds(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many seeds are left to train if no more trials are left out of the race."""
        settings, complete = self.settings, sum(t.state == TrialState.COMPLETE for t in trials)
        ends, missing = self.size(trials), self.in_race(trials)
        if settings.method == "asha":
            ends = halving.sizes(settings, ends)[-1][1]
        coming = (first_round(ends) if settings.race else ends) - len(missing)
        coming = max(0, coming) if complete < ends else 0
        return sum(missing.values()) + coming * (settings.repeats - 1)

    def curve(self, trial: FrozenTrial) -> Curve:
        """Return how far a trial is."""
        given = trial.user_attrs
        reached = max([given.get("reached", 0), *trial.intermediate_values])
        values = [trial.intermediate_values.get(e, math.nan) for e in range(1, reached + 1)]
        signed = [self.signs[0] * v if math.isfinite(v) else -math.inf for v in values]
        failed, decisions = trial.state == TrialState.FAIL, given.get("decisions", [])
        goal = decisions[-1][1] if decisions else self.settings.epochs
        over = trial.state.is_finished()
        return Curve([] if failed else signed, goal, over, given["point"], decisions)

    def results_of(self, folder: Path) -> list[tuple[Point, list[float]]]:
        """Return points and values of another search's complete trials; UsageError if none fit.

        They are read once, when this search begins, so that its points do not change later.
        """
        storage = JournalStorage(journal.JournalFileBackend(str(folder / RECORD)))
        found, task = [], self.settings.base.get("task", DEFAULTS["task"])
        for name in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=name, storage=storage)
            shared = study.user_attrs.get("shared", {"task": task})
            if study.directions != self.record.directions or shared.get("task", "model") != task:
                raise UsageError(f"'start_from': {folder} searches another task, or metric")
            found += [
                (trial.user_attrs["point"], trial.values)
                for trial in study.get_trials(states=[TrialState.COMPLETE])
            ]
        if not any(self.settings.holds(point) for point, _ in found):
            raise UsageError(f"'start_from': no complete trial of {folder} lies in this space")
        return found

    def claim(self, jobs: int = 1) -> Claim | None:
        """Return a trial to run: one whose process died, a paused one, a new one; None for none.

        `jobs` trials run at once if this call begins the search.
        """
        with self.locks:
            self._find_records()
            trials, again = self._divided()
            for left in trials:
                if state_of(left) == "running" and self.locks.take(number_of(left)):
                    return self._claimed(left)
            step = self._next_step(trials, jobs)
            if step is None:
                return self._next_seed(trials)
            made = sum(len(trial.user_attrs.get("decisions", [])) for trial in trials)
            decision = [made, step.goal]
            if step.index is None:
                found = self._next_point(trials, again) if step.point is None else (step.point, {})
                more: dict[str, Any] = {"decisions": [decision]} if self.settings.pausing else {}
                if found is None:
                    return self._next_seed(trials)
                return self._write(len(trials) + len(again), *found, **more)
            trial = trials[step.index]
            if not self.locks.take(number_of(trial)):
                return None  # whoever paused it has not let it go
            claim = self._claimed(trial)
            claim.goal = step.goal
            decisions = [*trial.user_attrs["decisions"], decision]
            claim.trial.set_user_attr("decisions", decisions)
            return claim

    def _next_seed(self, trials: Sequence[FrozenTrial]) -> Claim | None:
        """Return a further seed of a trial to run, once no trial is running; None for none."""
        if "running" in map(state_of, trials):
            return None
        missing = self.in_race(trials)
        least = max(missing.values(), default=0)  # of those that have the fewest seeds
        for trial in trials:
            number = number_of(trial)
            if least and missing.get(number) == least and self.locks.take(number):
                claim = self._claimed(trial)
                claim.goal, claim.seed = None, self.settings.repeats - least
                return claim
        return None

    def _next_step(self, trials: Sequence[FrozenTrial], jobs: int) -> Step | None:
        """Return what is trained next; None if there is nothing to do now."""
        if not self.settings.pausing:
            return Step(None, self.settings.epochs)
        curves = [self.curve(trial) for trial in trials]
        if self.settings.method == "asha":
            return halving.next_step(self.settings, curves, self.size(trials))
        tried = {point_key(trial.user_attrs["point"]) for trial in trials}
        pool = [point for key, point in self.planned.items() if key not in tried]
        parallel = self.settings.parallel or self.shared.user_attrs.get("parallel")
        if parallel is None:
            self.shared.set_user_attr("parallel", parallel := jobs)
        from core.search.thawing import next_step  # imports SciPy

        return next_step(self.settings, curves, pool, parallel)

    def _next_point(
        self, trials: Sequence[FrozenTrial], again: Sequence[FrozenTrial]
    ) -> tuple[Point, dict[str, Any]] | None:
        """Return the next point and the sampler's notes; None if there are enough.

        Those of trials that are run `again` come first.
        """
        tried = {point_key(t.user_attrs["point"]) for t in trials}
        points = [t.user_attrs["point"] for t in again]
        enough = self.size(trials) == len(trials)
        points += [] if enough else self.planned.values()
        for point in points:
            if point_key(point) not in tried:
                return point, {}
        if enough:
            return None
        prior = self.shared.user_attrs.get("prior", [])
        # An earlier version noted one value.
        history = [Tried(p, v if isinstance(v, list) else [v], {}) for p, v in prior]
        for trial in trials:
            values = trial.values if trial.state.is_finished() else None
            history.append(Tried(trial.user_attrs["point"], values, trial.system_attrs))
        return next_point(self.settings, history, [*self.goals.values()])


@contextmanager
def open_study(
    parent_dir: Path, storage: str | None, settings: Settings, goals: Mapping[str, bool]
) -> Iterator[Study]:
    """Open the record of a search, or begin it: in `storage`, "postgresql://...", or in a file.

    `goals` are what trials are judged by, each with whether more of it is better.

    Raises:
        UsageError: the storage cannot be used, or the trials there had other base params.
        DataError: the record is damaged, or the connection to the database was lost.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with closing(open_locks(parent_dir, storage)) as locks:
            with locks:
                # A file goes with its folder, which may be renamed.
                name = "search" if storage is None else parent_dir.resolve().name
                record = open_storage(parent_dir / RECORD, storage, locks)
                opened = Study(record, name, locks, settings, goals, parent_dir)
                opened.check_base(parent_dir)
                if settings.start_from and "prior" not in opened.shared.user_attrs:
                    opened.shared.set_user_attr("prior", opened.results_of(settings.start_from))
            yield opened
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & {"OperationalError", "StorageInternalError"}:  # psycopg's, Optuna's
            raise
        cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise DataError(
            f"--storage: the connection to the database was lost ({cause}).\n"
            "The trials in progress have saved; the same command resumes them."
        ) from error
