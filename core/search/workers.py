"""The processes that train the trials of a search: started warm, and ended with the search."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.base.params import Params, find_params_file, read_params
from core.machine.locks import one_writer

CONSOLE = "console.log"  # what a trial prints
GRACE = 30.0  # seconds that a run may take to save, if its search has died
STOPPING = 10.0  # if its search waits for it


def make_folder(folder: Path, params: Params) -> None:
    """Make the folder of a trial with its params.json, or check the one that is there.

    The number of threads may differ: it stays as it was when the trial was made.

    Raises:
        UsageError: the folder cannot be made, or its params are not those of this trial.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any((folder / name).exists() for name in ("params.json", "params.yaml")):
            params.save(folder / "params.json")
            return
    except OSError as error:
        raise UsageError(str(error)) from error
    there = read_params(find_params_file(folder))
    if there | {"num_threads": None} != params.dict | {"num_threads": None}:
        raise UsageError(f"{folder}: its params are not those of this trial; rename or remove it")


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let processes started inside the block, and theirs, ignore SIGINT until they handle it."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Launcher:
    """Starts processes that call `target`, as `train_trial`; they have imported `modules`."""

    def __init__(self, target: Callable[..., None], modules: Sequence[str]) -> None:
        self.target, self.method = target, multiprocessing.get_start_method()
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:  # of a server that imports the modules once; elsewhere every process does
            from multiprocessing.forkserver import ensure_running

            self.context.set_forkserver_preload(list(modules))
            # Ctrl-C goes to the search, too, which stops its trials; one that does not listen yet,
            # or no more, would only end as a failure.
            with _ctrl_c_ignored():
                ensure_running()

    def start(
        self, folder: Path, data_dir: str | None, gpu: str | None, goal: int | None = None
    ) -> Any:
        """Start the process that trains `folder`, to its end or until epoch `goal`.

        A server that was killed is started anew.
        """
        for _ in range(5):
            process = self.context.Process(
                target=self.target, args=(folder, data_dir, gpu, goal, self.method)
            )
            try:
                process.start()
                return process
            except (EOFError, ConnectionError):  # the server died meanwhile
                time.sleep(0.2)
        raise OSError("the process that trials are started from dies again and again")


def enter(folder: Path, gpu: str | None, start_method: str) -> None:
    """Prepare the process of a trial: its end, its output, its GPU, the lock of its folder.

    Processes of its own, as workers of a DataLoader, start as those of train.py do.
    """
    multiprocessing.set_start_method(start_method, force=True)
    threading.Thread(target=_end_with_search, daemon=True).start()
    with open(folder / CONSOLE, "ab") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    if gpu is not None:
        from torch import cuda

        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if not cuda.device_count():  # `device: auto` would take the CPU without a word
            sys.exit(f"error: --gpus: there is no GPU {gpu!r} on this machine")
    for _ in range(600):  # one whose search was killed may still be saving
        with suppress(UsageError), one_writer(folder):
            return


def _end_with_search() -> None:
    """Stop the run, so that it saves, when the search that started it is no more."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def stop_all(processes: Collection[Any]) -> None:
    """Let runs save and end; those that take too long are killed, all of them by Ctrl-C."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOPPING
    try:
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.join()
