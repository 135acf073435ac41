"""Locks that die with their holder, for the processes that share a search.

No clock has to be waited for, and no trial stays "running" for ever.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from core.base.errors import DataError, UsageError, UserError
from core.machine.locks import lock, unlock


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
            lock(self.file, wait=True, length=1)
        self.depth += 1
        return True

    def release(self) -> None:
        """Give it back."""
        self.depth -= 1
        if self.depth == 0:
            unlock(self.file, 0, 1)

    def take(self, trial: int) -> bool:
        """Take the lock of a trial; False if somebody holds it, this process included."""
        if trial in self.held or not lock(self.file, start=trial + 1, length=1):
            return False
        self.held.add(trial)
        return True

    def give_back(self, trial: int) -> None:
        """Give the lock of a trial back."""
        self.held.discard(trial)
        unlock(self.file, trial + 1, 1)

    def check(self) -> None:
        """Do nothing: these locks live as long as the process."""

    def close(self) -> None:
        """Give all locks back."""
        self.file.close()


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


def open_locks(parent_dir: Path, storage: str | None) -> Locks:
    """Return the locks of a search; UsageError if the database cannot be used."""
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
