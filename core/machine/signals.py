"""Stopping a run between two steps when a signal asks for it."""

import atexit
import multiprocessing.util  # whose own handler at exit has to run after ours
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any
from weakref import WeakSet

from core.base.errors import Stopped

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


class Stop:
    """Remembers that a signal asked the run to stop.

    Until training begins there is nothing to save, and a signal stops the run at once. From then
    on it stops between two updates. A second SIGINT always quits at once.
    """

    # Of several processes: returns for each number the largest that any of them has. They ask each
    # other every so many seconds, in as many calls of `check` as the fastest makes meanwhile.
    agree: Callable[..., list[int]] | None = None
    seconds = 0.1
    pace, calls, asked = 1, 0, 0.0

    def __init__(self) -> None:
        self.requested = 0  # number of the signal
        self.training = False
        self.after: int | None = None  # epochs, as if a signal came then

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches; raises Stopped before the next one if a signal has come."""
        self.pace = 1
        for batch in batches:
            self.check()
            yield batch
        self.pace = 1
        self.check()
        self.pace = 1  # what follows may be slower

    def check(self, due: bool = False) -> bool:
        """Raise Stopped if a signal has come to any process; tell whether any says `due`."""
        requested, anywhere = self.requested, int(due)
        if self.agree is not None:
            self.calls += 1
            if self.calls < self.pace:
                return False
            now = time.monotonic()
            pace = min(32, 2 * self.calls, int(self.calls * self.seconds / (now - self.asked)))
            requested, anywhere, pace = self.agree(requested, anywhere, pace)
            self.pace, self.calls, self.asked = max(1, pace), 0, now
        if requested:
            raise Stopped(requested)
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


def _ours() -> list[signal.Signals]:
    """Return the signals that a Stop handles now."""
    handlers = {number: signal.getsignal(number) for number in _numbers()}
    return [n for n, own in handlers.items() if isinstance(getattr(own, "__self__", None), Stop)]


_forking = threading.local()  # its `mask`: what a thread that forks had blocked before


def _begin_fork() -> None:
    """Block signals: one that comes to a new process waits until it has handlers of its own."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ours())


def _end_fork() -> None:
    with suppress(Stopped):  # nothing can be raised here: the next `check` does
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _end_fork_in_child() -> None:
    """Let a process that a task forks end by signals: only the main process may have to save."""
    for number in _ours():
        own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, own)
    _end_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_fork_in_child
    )


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
