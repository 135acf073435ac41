"""Locks on files, which the kernel frees when their holder dies (POSIX `lockf`); no torch.

Unlike those of `flock` they are not inherited by forked worker processes. A process that closes any
handle of a file loses all its locks on it.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from core.base.errors import UsageError

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
LOCK = ".lock"  # in the folder of a run


def lock(
    file: IO[Any], shared: bool = False, wait: bool = False, start: int = 0, length: int = 0
) -> bool:
    """Lock `length` bytes of a file (0: all) from `start` on; False if another process has them.

    Where there are no such locks (Windows, some network file systems) nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.lockf(file, how, length, start)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _warn_of_no_locks()
    return True


@cache
def _warn_of_no_locks() -> None:
    logging.warning(
        "Note: this file system has no locks, so a second process could write into the same folder"
    )


def unlock(file: IO[Any], start: int, length: int) -> None:
    """Give back what `lock` locked."""
    with suppress(ImportError):
        import fcntl

        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN, length, start)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder.

    It waits for a moment, because who asks whether there is a writer holds it for an instant; a run
    that torchrun started again waits until the one before it, maybe on another machine, is gone.

    Raises:
        UsageError: another process holds it; its number and host are named.
    """
    patience = 0.5 if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" else 40  # seconds
    end = time.monotonic() + patience
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        while not lock(file):
            if time.monotonic() > end:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UsageError(f"{folder}: in use by {holder}; wait for it, or stop it")
            time.sleep(0.05)
        with suppress(OSError):  # a full disk: the lock holds all the same
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def has_writer(folder: Path) -> bool:
    """Tell whether another process holds the lock of a run's folder."""
    try:
        with open(folder / LOCK, "rb") as file:
            return not lock(file, shared=True)
    except OSError:
        return False
