"""Saves written in the background while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.machine.signals import leave_signals_to_main_thread
from core.run.folder import write_save
from core.training.parts import Parts


class Writer:
    """Does one save at a time, so checkpoints count in the order in which they were taken.

    A row of metrics.jsonl is synced before the checkpoint that counts it is taken; a resumed run
    drops rows that no checkpoint counts. An error of a save is raised by the next call.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "writer", leave_signals_to_main_thread)
        self.save: Future[object] | None = None  # the one in progress

    def begin(self, save: Callable[..., object], *args: Any) -> None:
        """Call `save(*args)` in the background; nothing of `args` may change any more."""
        self.wait()
        self.save = self.thread.submit(save, *args)

    def check(self) -> None:
        """Raise the error of a save that failed, without waiting for one that is in progress."""
        if self.save is not None and self.save.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the save in progress."""
        save, self.save = self.save, None
        if save is not None:
            save.result()

    def close(self) -> None:
        """Wait for the save in progress, on the way out with an error that is the one to report."""
        self.thread.shutdown()


def write(
    parts: Parts,
    written: Callable[[], dict[str, Any]] | None,
    folder: Path,
    last: dict[str, Any],
    best: dict[str, Any] | None,
    keep: int | None,
) -> None:
    """Write a save into a run's folder; of one in parts, `written` waits for these."""
    if written is None:
        write_save(folder, last, best, keep)
    else:
        write_save(folder, {**last, "parts": written()}, best, keep)
        parts.remove_older()
