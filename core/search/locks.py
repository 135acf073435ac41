"""Locks of the processes that share a search; they die with their holder, so no clock decides."""

import zlib
from pathlib import Path

from core.base.errors import UsageError
from core.machine import locks as file_locks


class Locks:
    """Exclusive locks on bytes of a file (POSIX): byte 0 for the record, byte n + 1 for trial n."""

    depth = 0  # how many times this process has the lock of the record

    def __init__(self, path: Path) -> None:
        self.held = set[int]()  # trials
        # The only handle: POSIX frees all locks of a process when it closes any of a file's.
        self.file = open(path, "ab")  # noqa: SIM115

    def acquire(self) -> bool:  # Optuna calls it by this name, and `release`
        """Wait for the lock of the record; who has it may ask again."""
        if self.depth == 0:
            self._lock(0, wait=True)
        self.depth += 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Give the lock of the record back."""
        self.depth -= 1
        if self.depth == 0:
            self._unlock(0)

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, trial: int) -> bool:
        """Take the lock of a trial; False if somebody holds it, this process included."""
        if trial in self.held or not self._lock(trial + 1, wait=False):
            return False
        self.held.add(trial)
        return True

    def give_back(self, trial: int) -> None:
        """Give the lock of a trial back."""
        self.held.discard(trial)
        self._unlock(trial + 1)

    def check(self) -> None:
        """Raise an error if the locks may have been lost: those of a file never are."""

    def close(self) -> None:
        """Give all locks back."""
        self.file.close()

    def _lock(self, number: int, wait: bool) -> bool:
        return file_locks.lock(self.file, wait=wait, start=number, length=1)

    def _unlock(self, number: int) -> None:
        file_locks.unlock(self.file, number, 1)


# The server gives up a connection 50 s after its other end fell silent, this side after 20 s: a
# machine that was cut off has stopped its trials when their locks become free for others.
CONNECTION = {
    "connect_timeout": 10,
    "tcp_user_timeout": 20_000,
    "options": "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}


class DatabaseLocks(Locks):
    """The same as advisory locks of PostgreSQL, freed when the connection of their holder ends."""

    def __init__(self, url: str, name: str) -> None:
        import psycopg

        self.held = set()
        self.connection = psycopg.connect(url, autocommit=True, **CONNECTION)  # type: ignore[arg-type]
        self.key = zlib.crc32(name.encode()) - 2**31

    def check(self) -> None:
        """Raise psycopg.OperationalError if the connection, and with it every lock, is lost."""
        self.connection.execute("SELECT 1")

    def close(self) -> None:
        """Give all locks back."""
        self.connection.close()

    def _lock(self, number: int, wait: bool) -> bool:
        function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
        answer = self.connection.execute(f"SELECT {function}(%s, %s)", (self.key, number))
        return answer.fetchone() != (False,)  # the one that waits returns void

    def _unlock(self, number: int) -> None:
        self.connection.execute("SELECT pg_advisory_unlock(%s, %s)", (self.key, number))


def open_locks(parent_dir: Path, storage: str | None) -> Locks:
    """Return the locks of a search; UsageError if the database cannot be used."""
    if storage is None:
        return Locks(parent_dir / ".search.lock")
    if not storage.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            f"--storage: found {storage!r}, want postgresql://USER:PASSWORD@HOST/DATABASE.\n"
            "(SQLite is not safe for several workers; without --storage a file is used.)"
        )
    try:
        return DatabaseLocks(storage, parent_dir.resolve().name)
    except ImportError as error:
        raise UsageError(f"--storage needs: pip install 'psycopg[binary]' ({error})") from None
    except Exception as error:  # psycopg's own, known only where it is installed
        raise UsageError(f"--storage: {str(error).splitlines()[0]}") from error
