"""Stopping a run between two steps when a signal asks for it, and one writer at a time."""

import atexit
import multiprocessing.util  # whose own handler at exit has to run after ours
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakSet

from core.base.errors import Stopped, UsageError

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


class Stop:
    """Remembers that a signal asked the run to stop.

    Until training begins there is nothing to save, and a signal stops the run at once. From then
    on it stops between two updates. A second SIGINT always quits at once.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.training = False

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches; raises Stopped before the next one if a signal has come."""
        for batch in batches:
            self.check()
            yield batch

    def check(self, due: bool = False) -> bool:
        """Raise Stopped if a signal has come to any process; tell whether any says `due`."""
        from core.machine import (
            processes as distributed,  # imports torch, which a search must not wait for
        )

        signalled, anywhere = distributed.highest(self.requested or 0, due)
        if signalled:
            raise Stopped(signalled)
        return bool(anywhere)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested == number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.requested = number
        if not self.training:
            raise Stopped(number)

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Handle signals inside the block, except under a debugger, in a notebook or a thread."""
        outside = threading.current_thread() is not threading.main_thread()
        if outside or sys.gettrace() is not None or hasattr(sys, "ps1"):
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _numbers()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    """Return the signals that stop a run, as far as this system has them."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Deliver signals only after the block; processes started inside never get them.

    Without it, a signal to the whole group would end a worker that is just being started.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    running = multiprocessing.active_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _deaf.update(set(multiprocessing.active_children()).difference(running))


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Let processes started inside the block, and theirs, ignore SIGINT until they handle it."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_deaf: WeakSet[Any] = WeakSet()  # processes that no SIGTERM ends


@atexit.register
def end_workers() -> None:
    """Kill the workers an error left running: multiprocessing would wait for them for ever."""
    left = _deaf.intersection(multiprocessing.active_children())
    if left:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise that one was killed
    for process in left:
        process.kill()


def ignore_signals() -> None:
    """Let the main process alone decide when to stop: for worker processes."""
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


def leave_signals_to_main_thread() -> None:
    """Let no signal be delivered to this thread: the main thread may be holding them back."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; the kernel frees it when its holder dies.

    The lock is POSIX `lockf`: unlike `flock` it is not inherited by forked worker processes. Of
    several processes the first holds it. Started again by torchrun, it waits until the one before
    it, which may have been on another machine, is gone.

    Raises:
        UsageError: another process holds it; its number and host are named.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two writers are not noticed
        yield
        return
    from core.machine import processes as distributed

    if not distributed.first():
        yield
        return
    patience = 40 if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" else 0  # seconds
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() < end:
                    time.sleep(0.2)
                    continue
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UsageError(f"{folder}: in use by {holder}; wait for it, or stop it") from None
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
    """Tell whether another process holds the lock of a run's folder, without taking it."""
    try:
        import fcntl
    except ImportError:  # Windows has no lock
        return False
    linux = sys.platform.startswith("linux")  # struct flock: macOS has the numbers first
    layout = struct.Struct("hhqqi4x" if linux else "qqihh")
    kind, free = fcntl.F_RDLCK, fcntl.F_UNLCK
    ask = layout.pack(kind, 0, 0, 0, 0) if linux else layout.pack(0, 0, 0, kind, 0)
    try:
        with open(folder / ".lock", "rb") as file:
            answer = layout.unpack(fcntl.fcntl(file, fcntl.F_GETLK, ask))
    except OSError:
        return False
    return bool(answer[0 if linux else 3] != free)
