"""The record of a search, shared by all processes that work on it: trials, their owners, values.

Optuna keeps the record, in a file or in PostgreSQL: a study for each space that the search has had,
because Optuna's plots and dashboard want one space a study. Who runs a trial is told by a lock. A
trial has Optuna's parameters, and its values by epoch; its `user_attrs` hold its "number" in the
search, its "point", the "name" of its folder, and "why" it failed. Of a method that pauses trials,
"decisions" lists the number of each decision to train it and the epoch until which, and "reached"
is the epoch after which it has stopped. A trial's values are those of its first seed; those of the
others, as lists, are the first study's "seeds N" for trial N (null: the seed failed).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import pruners
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, journal
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from core.base import files, keys
from core.base.errors import DataError, UsageError
from core.search.locks import CONNECTION, Locks
from core.search.points import directions_of, folder_of
from core.search.settings import Settings
from core.search.space import Point, to_optuna


def number_of(trial: FrozenTrial) -> int:
    """Return a trial's number in the search."""
    return int(trial.user_attrs.get("number", trial.number))


def state_of(trial: FrozenTrial) -> str:
    """Return "complete", "pruned", "failed", "paused" or "running", which one killed is, too."""
    if trial.state.is_finished():
        return {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    decisions = trial.user_attrs.get("decisions", [])
    paused = decisions and trial.user_attrs.get("reached", 0) >= decisions[-1][1]
    return "paused" if paused else "running"


@dataclass
class Claim:
    """A trial that this process may run, until epoch `goal` (None: to its end)."""

    trial: Trial
    number: int
    name: str
    point: Point
    goal: int | None
    noted: set[int]  # epochs whose values the record has
    seed: int = 0  # which of `repeats`


class Record:
    """What all processes know of a search's trials; `study.open_study` makes it.

    `goals` are what trials are judged by: a metric, or several objectives, each with whether more
    of it is better.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        locks: Locks,
        settings: Settings,
        goals: Mapping[str, bool],
        parent_dir: Path | None = None,
    ) -> None:
        self.parent_dir = parent_dir  # of the trials' folders
        self.storage, self.name, self.locks, self.settings = storage, name, locks, settings
        self.goals, self.metric = goals, next(iter(goals))
        self.signs = [1 if more else -1 for more in goals.values()]
        self.home: dict[int, optuna.Study] = {}  # by trials' ids
        self.records: list[optuna.Study] = []  # one a space
        space = {n: distribution_to_json(d) for n, d in settings.space.items()}
        self._find_records()
        fits = [r for r in self.records if r.user_attrs.get("space") == space]
        self.record = fits[0] if fits else self._create(len(self.records))
        if not fits:
            self.record.set_user_attr("space", space)
            self.records.append(self.record)
        self.shared = self.records[0]  # what is told of the whole search

    def _create(self, number: int) -> optuna.Study:
        """Create study `number`, or load it."""
        return optuna.create_study(
            storage=self.storage,
            study_name=self.name if number == 0 else f"{self.name} {number + 1}",
            sampler=optuna.samplers.RandomSampler(),  # not asked for points
            pruner=self.settings.prune and pruners.SuccessiveHalvingPruner(*self.settings.prune),
            directions=directions_of(self.goals.values()),
            load_if_exists=True,
        )

    def _find_records(self) -> None:
        """Load the studies that there are, of which another process may have begun some."""
        there = optuna.get_all_study_names(self.storage)
        while (self.name if not self.records else f"{self.name} {len(self.records) + 1}") in there:
            self.records.append(self._create(len(self.records)))

    def check_base(self, parent_dir: Path) -> None:
        """Refuse to mix trials of different base params in one record."""
        shared = {n: v for n, v in self.settings.base.items() if keys.decides(n) or n == "data_dir"}
        shared |= {"repeats": self.settings.repeats}
        before = self.shared.user_attrs.get("shared")
        if before is None:
            self.shared.set_user_attr("shared", shared)
        elif before != shared:
            changed = sorted(n for n in before | shared if before.get(n, ...) != shared.get(n, ...))
            raise UsageError(
                f"{parent_dir}: {', '.join(map(repr, changed))} changed since the search began.\n"
                "Its trials would not be comparable: put the old value back, or use a new folder."
            )

    def results(self, trials: Sequence[FrozenTrial]) -> dict[int, list[list[float]]]:
        """Return the values of complete trials by their numbers: for each seed, of each goal.

        Of a trial with a seed that failed, they end before it.
        """
        seeds, found = self.shared.user_attrs, {}
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                # Before seeds were raced, all of them stood here.
                earlier = [[value] for value in trial.user_attrs.get("values", [])]
                further = seeds.get(f"seeds {number_of(trial)}", [])
                found[number_of(trial)] = [*(earlier or [trial.values]), *filter(None, further)]
        return found

    def failed_seeds(self) -> set[int]:
        """Return the numbers of trials of which a further seed has failed."""
        seeds = self.shared.user_attrs.items()
        return {int(n.split()[1]) for n, v in seeds if n.startswith("seeds ") and None in v}

    def note_seed(self, claim: Claim, values: list[float] | None) -> None:
        """Note the values of a further seed, None if it failed, and let the trial go."""
        with self.locks:
            name = f"seeds {claim.number}"
            self.shared.set_user_attr(name, [*self.shared.user_attrs.get(name, []), values])
            self.locks.give_back(claim.number)

    def trials(self) -> list[FrozenTrial]:
        """Return Optuna's records of all trials, without failed ones that were tried again."""
        return self._divided()[0]

    def _divided(self) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """Return the trials that count, and the failed ones that were, or will be, tried again."""
        again = self.shared.user_attrs.get("again", [])
        parts: tuple[list[FrozenTrial], list[FrozenTrial]] = ([], [])
        for trial in self._all():  # a database is asked for all unfinished ones each time
            parts[number_of(trial) in again].append(trial)
        return parts

    def _all(self) -> list[FrozenTrial]:
        found = []
        for record in self.records:
            for trial in record.get_trials(deepcopy=False):
                if "point" in trial.user_attrs:
                    self.home[trial._trial_id] = record
                    found.append(trial)
        return sorted(found, key=number_of)

    def _claimed(self, trial: FrozenTrial) -> Claim:
        """Return a trial of the record as one that this process runs."""
        given, decisions = trial.user_attrs, trial.user_attrs.get("decisions")
        goal = decisions[-1][1] if decisions else None
        live = Trial(self.home[trial._trial_id], trial._trial_id)
        noted = {*trial.intermediate_values}
        return Claim(live, number_of(trial), given["name"], given["point"], goal, noted)

    def _write(self, number: int, point: Point, notes: dict[str, Any], **more: Any) -> Claim:
        """Write a new trial into the record, in one piece, and take it."""
        name = folder_of(self.parent_dir, point)
        attributes = {"number": number, "point": point, "name": name, **more}
        fits = self.settings.holds(point)  # one that is tried again may be of an earlier space
        dimensions = {n: d for n, d in self.settings.space.items() if n in point and fits}
        trial = create_trial(
            state=TrialState.RUNNING,
            params={n: to_optuna(d, point[n]) for n, d in dimensions.items()},
            distributions=dimensions,
            user_attrs=attributes,
            system_attrs=notes,
        )
        self.record.add_trial(trial)
        self.locks.take(number)
        return self._claimed(self._all()[-1])

    def try_again(self) -> None:
        """Let trials that failed be run again."""
        with self.locks:
            failed = [number_of(t) for t in self.trials() if t.state == TrialState.FAIL]
            before = self.shared.user_attrs.get("again", [])
            self.shared.set_user_attr("again", before + failed)
            for number in self.failed_seeds():
                name = f"seeds {number}"
                kept = [values for values in self.shared.user_attrs[name] if values is not None]
                self.shared.set_user_attr(name, kept)

    def note(self, claim: Claim, values: Sequence[float | None], prune: bool = False) -> bool:
        """Note the values of the epochs so far (None: not finite); tell whether to prune here."""
        for epoch, value in enumerate(values if len(self.goals) == 1 else [], start=1):
            if value is not None and epoch not in claim.noted:
                claim.trial.report(value, epoch)
                claim.noted.add(epoch)
                if prune and claim.trial.should_prune():
                    return True
        return False

    def pause(self, claim: Claim) -> None:
        """Note that a trial has stopped where it should, and let it go."""
        with self.locks:
            claim.trial.set_user_attr("reached", claim.goal)
            self.locks.give_back(claim.number)

    def end(
        self, claim: Claim, state: TrialState, values: list[float] | None = None, why: str = ""
    ) -> None:
        """Note how a trial ended: its values if it is complete, or why it failed."""
        if why:
            claim.trial.set_user_attr("why", why)
        with self.locks:  # nobody may see the trial running and find its lock free
            claim.trial.study.tell(claim.trial, values, state)
            self.locks.give_back(claim.number)


def open_storage(path: Path, storage: str | None, locks: Locks) -> BaseStorage:
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
