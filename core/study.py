"""The record of a search, shared by all processes that work on it: trials, their owners, values.

Optuna keeps the record, in a file or in PostgreSQL. Who runs a trial is told by a lock that dies
with its holder: no clock has to be waited for, and no trial stays "running" for ever.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from core.errors import DataError, UsageError, UserError
from core.keys import KEYS
from core.search import Point, Settings, Tried, next_point, planned_points, trial_name

JOURNAL = "search.journal"


class Locks(Protocol):
    """Exclusive locks: one of the whole record, which may be nested, and one for every trial."""

    def acquire(self) -> bool:
        """Wait for the lock of the record."""

    def release(self) -> None:
        """Give it back."""

    def take(self, trial: int) -> bool:
        """Take the lock of a trial; False if somebody holds it, this process included."""

    def give_back(self, trial: int) -> None:
        """Give the lock of a trial back."""

    def check(self) -> None:
        """Raise an error if the locks may have been lost."""

    def close(self) -> None:
        """Give all locks back."""


class FileLocks:
    """Byte 0 of one file is the record's lock, byte n + 1 that of trial n (POSIX `lockf`)."""

    def __init__(self, path: Path) -> None:
        # The only handle: POSIX frees all locks of a process when it closes any of a file's.
        self.file: IO[bytes] = open(path, "ab")  # noqa: SIM115
        self.depth, self.held = 0, set[int]()

    def acquire(self) -> bool:
        """Wait for the lock of the record."""
        if self.depth == 0:
            self._lock("LOCK_EX", 0)
        self.depth += 1
        return True

    def release(self) -> None:
        """Give it back."""
        self.depth -= 1
        if self.depth == 0:
            self._lock("LOCK_UN", 0)

    def take(self, trial: int) -> bool:
        """Take the lock of a trial; False if somebody holds it, this process included."""
        if trial in self.held or not self._lock("LOCK_EX", trial + 1, wait=False):
            return False
        self.held.add(trial)
        return True

    def give_back(self, trial: int) -> None:
        """Give the lock of a trial back."""
        self.held.discard(trial)
        self._lock("LOCK_UN", trial + 1)

    def check(self) -> None:
        """Do nothing: these locks live as long as the process."""

    def close(self) -> None:
        """Give all locks back."""
        self.file.close()

    def _lock(self, kind: str, byte: int, wait: bool = True) -> bool:
        try:
            import fcntl
        except ImportError:  # Windows: two searches of one folder do not notice each other
            return True
        try:
            fcntl.lockf(self.file, getattr(fcntl, kind) | (0 if wait else fcntl.LOCK_NB), 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True


# The server gives up a connection 50 s after its other end fell silent, this side after 20 s: a
# machine that was cut off has stopped its trials when their locks become free for others.
CONNECTION = {
    "connect_timeout": 10,
    "tcp_user_timeout": 20_000,
    "options": "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}


class DatabaseLocks:
    """Advisory locks of PostgreSQL, which it frees when the connection of their holder ends."""

    def __init__(self, url: str, name: str) -> None:
        import psycopg

        self.connection = psycopg.connect(url, autocommit=True, **CONNECTION)  # type: ignore[arg-type]
        self.key = zlib.crc32(name.encode()) - 2**31
        self.depth, self.held = 0, set[int]()

    def acquire(self) -> bool:
        """Wait for the lock of the record."""
        if self.depth == 0:
            self._call("pg_advisory_lock", 0)
        self.depth += 1
        return True

    def release(self) -> None:
        """Give it back."""
        self.depth -= 1
        if self.depth == 0:
            self._call("pg_advisory_unlock", 0)

    def take(self, trial: int) -> bool:
        """Take the lock of a trial; False if somebody holds it, this process included."""
        if trial in self.held or not self._call("pg_try_advisory_lock", trial + 1):
            return False
        self.held.add(trial)
        return True

    def give_back(self, trial: int) -> None:
        """Give the lock of a trial back."""
        self.held.discard(trial)
        self._call("pg_advisory_unlock", trial + 1)

    def check(self) -> None:
        """Raise psycopg.OperationalError if the connection, and with it every lock, is lost."""
        self.connection.execute("SELECT 1")

    def close(self) -> None:
        """Give all locks back."""
        self.connection.close()

    def _call(self, function: str, number: int) -> bool:
        row = self.connection.execute(f"SELECT {function}(%s, %s)", (self.key, number)).fetchone()
        return bool(row and row[0])


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
        self.more_is_better, self.planned = more_is_better, planned_points(settings)

    def check_base(self, parent_dir: Path, base: dict[str, Any]) -> None:
        """Refuse to mix trials of different base params in one record."""
        shared = {n: v for n, v in base.items() if n not in KEYS or not KEYS[n].machine}
        shared |= {"repeats": self.settings.repeats}
        before = self.study.user_attrs.get("shared")
        if before is None:
            self.study.set_user_attr("shared", shared)
        elif before != shared:
            changed = sorted(n for n in before | shared if before.get(n) != shared.get(n))
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
        tried = [t.user_attrs["point"] for t in trials]
        left = sum(point not in tried for point in self.planned)
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
        tried = [t.user_attrs["point"] for t in trials]
        again = self.study.user_attrs.get("again", [])
        planned = [self.study.trials[number].user_attrs["point"] for number in again]
        enough = len(tried) >= self.settings.trials and self.settings.method != "grid"
        if self.planned is not None and not enough:
            planned += self.planned
        for point in planned:
            if point not in tried:
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

    def is_to_be_pruned(self, claim: Claim, epoch: int, value: float) -> bool:
        """Note the value of an epoch, and tell whether the trial should go no further."""
        if epoch in self.study.trials[claim.number].intermediate_values:
            return False
        claim.trial.report(value, epoch)
        return bool(claim.trial.should_prune())

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
        parent_dir: folder of the search; its name is the study's.
        storage: "postgresql://...", or None for a file in `parent_dir`.
        settings: what search.yaml says.
        base: the params that all trials share.
        more_is_better: direction of the monitored metric.

    Raises:
        UsageError: the storage cannot be used, or the trials there had other base params.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, locks = parent_dir.resolve().name, _open_locks(parent_dir, storage)
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
        return JournalStorage(JournalFileBackend(str(path), lock_obj=locks))  # type: ignore[arg-type]
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); without it the search starts anew") from error


@contextmanager
def storage_errors(storage: str | None) -> Iterator[None]:
    """Tell in one line that the database was lost, whichever library noticed it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if storage is None or not names & {"OperationalError", "StorageInternalError"}:
            raise
        raise DataError(
            f"--storage: the connection to the database was lost ({type(error).__name__}).\n"
            "The trials in progress have saved; the same command goes on."
        ) from error


def _open_locks(parent_dir: Path, storage: str | None) -> Locks:
    if storage is None:
        return FileLocks(parent_dir / ".search.lock")
    if not storage.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            f"--storage: found {storage!r}, want postgresql://USER:PASSWORD@HOST/DATABASE.\n"
            "(SQLite is not safe for several workers; without --storage a file is used.)"
        )
    try:
        return DatabaseLocks(storage, parent_dir.resolve().name)
    except ImportError as error:
        raise UsageError(
            f"--storage needs psycopg: pip install 'psycopg[binary]' ({error})"
        ) from None
    except Exception as error:  # psycopg's own, known only where it is installed
        raise UsageError(f"--storage: {str(error).splitlines()[0]}") from error
