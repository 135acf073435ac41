"""The processes that train the trials of a search: started warm, watched, brought to an end."""

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, UserError
from core.base.files import parse_rows
from core.base.params import Params, find_params_file
from core.base.parsing import read_mapping
from core.machine.locks import one_writer
from core.machine.signals import ctrl_c_ignored
from core.search.study import Claim

CONSOLE = "console.log"  # what a trial prints
GRACE = 30.0  # seconds that a run may take to save
FRUITLESS = 3  # kills in a row without a new checkpoint, after which a trial is given up


def make_folder(folder: Path, params: Params) -> None:
    """Make the folder of a trial with its params.json, or check the one that is there.

    The number of threads may differ: it stays as it was when the trial was made.

    Raises:
        UsageError: the folder's params are not those of this trial.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not any((folder / name).exists() for name in ("params.json", "params.yaml")):
        params.save(folder / "params.json")
        return
    there = read_mapping(find_params_file(folder))
    if there | {"num_threads": None} != params.dict | {"num_threads": None}:
        raise UsageError(f"{folder}: its params are not those of this trial; rename or remove it")


class Launcher:
    """Starts processes that have imported what a run needs: forks of a server, where there are.

    Args:
        target: what a process does with (folder, data_dir, gpu).
        modules: what the server imports, once.
    """

    def __init__(self, target: Callable[..., None], modules: Sequence[str]) -> None:
        methods = multiprocessing.get_all_start_methods()
        self.target = target
        self.context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        if "forkserver" in methods:
            from multiprocessing.forkserver import ensure_running

            self.context.set_forkserver_preload(list(modules))
            # Ctrl-C goes to the search, too, which stops its trials; one that does not listen yet,
            # or no more, would only end as a failure.
            with ctrl_c_ignored():
                ensure_running()

    def start(self, folder: Path, data_dir: str | None, gpu: str | None) -> Any:
        """Start the process that trains `folder`; a server that was killed is started anew."""
        for _ in range(5):
            process = self.context.Process(target=self.target, args=(folder, data_dir, gpu))
            try:
                process.start()
                return process
            except (EOFError, ConnectionError):  # the server died meanwhile
                time.sleep(0.2)
        raise UserError("the process that trials are started from dies again and again")


def enter(folder: Path, gpu: str | None) -> None:
    """Prepare the process of a trial: its end, its output, its GPU, the lock of its folder."""
    threading.Thread(target=_end_with_search, daemon=True).start()
    handle = os.open(folder / CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(handle, standard)
    os.close(handle)
    if gpu is not None:
        from torch import cuda

        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if not cuda.device_count():  # `device: auto` would take the CPU without a word
            sys.exit(f"error: --gpus: there is no GPU {gpu!r} on this machine")
    for _ in range(600):  # one whose search was killed may still be saving
        with suppress(UsageError), one_writer(folder):
            return
        time.sleep(0.1)


def _end_with_search() -> None:
    """Stop the run, so that it saves, when the search that started it is no more."""
    search = multiprocessing.parent_process()
    assert search is not None
    search.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Job:
    """A trial in the hands of a process: one run for every seed, one after the other."""

    claim: Claim
    folders: list[Path]
    gpu: str | None
    num_epochs: int
    values: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    process: Any = None
    began: float = 0.0
    began_at: int = 0  # rows there were then
    progress: tuple[int, int] = (0, 0)
    kills: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the run in progress."""
        return self.folders[min(len(self.values), len(self.folders) - 1)]

    def start(self, launcher: Launcher, data_dir: str | None) -> None:
        """Start or go on with the run in progress."""
        self.read()
        self.began, self.began_at = time.monotonic(), len(self.rows)
        self.process = launcher.start(self.folder, data_dir, self.gpu)

    def read(self) -> None:
        """Read the epochs that the run in progress has finished."""
        with suppress(OSError, ValueError):  # the last line may be half written
            self.rows, _ = parse_rows((self.folder / "metrics.jsonl").read_bytes())

    def gives_up(self) -> bool:
        """Count a kill; tell whether the run made no progress since the last few."""
        now = (0, 0)
        with suppress(OSError):
            status = (self.folder / "last.pt").stat()
            now = (status.st_mtime_ns, status.st_size)
        self.kills = self.kills + 1 if now == self.progress else 1
        self.progress = now
        return self.kills >= FRUITLESS

    def result(self, metric: str) -> float | None:
        """Return the best value of the monitored metric, as the finished run wrote it, or None."""
        with suppress(OSError, ValueError):  # no file: no epoch had a value
            value = read_mapping(self.folder / "metrics_val_best_weights.json").get(metric)
            return None if value is None else float(value)
        return None

    def last_lines(self, count: int = 5) -> str:
        """Return the end of what the run printed."""
        with suppress(OSError):
            text = (self.folder / CONSOLE).read_text(encoding="utf-8", errors="replace")
            return "\n".join(text.splitlines()[-count:])
        return ""

    def line(self, metric: str) -> str:
        """Describe the run in progress for the table on the terminal."""
        values = [row[f"val_{metric}"] for row in self.rows if f"val_{metric}" in row]
        done = len(self.rows) - self.began_at
        left = "-"
        if done:
            seconds = (time.monotonic() - self.began) / done * (self.num_epochs - len(self.rows))
            left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
        value = f"{values[-1]:.4f}" if values and values[-1] is not None else "-"
        epoch = f"{len(self.rows)}/{self.num_epochs}"
        return f"  {self.folder.name[:60]:60}  epoch {epoch:>7}  {metric} {value}  {left} left"


def stop_all(jobs: Sequence[Job]) -> None:
    """Let runs save and end; those that take too long are killed."""
    for job in jobs:
        with suppress(OSError):
            job.process.terminate()
    until = time.monotonic() + GRACE
    for job in jobs:
        job.process.join(max(0.0, until - time.monotonic()))
        if job.process.is_alive():
            job.process.kill()
            job.process.join()


class Screen:
    """A table that is drawn over itself on a terminal; elsewhere only events are printed."""

    def __init__(self) -> None:
        self.lines, self.live = 0, sys.stdout.isatty()

    def event(self, text: str) -> None:
        """Print what happened, above the table."""
        self._clear()
        print(text, flush=True)

    def table(self, lines: Iterator[str]) -> None:
        """Draw the table anew."""
        if self.live:
            width = shutil.get_terminal_size().columns
            drawn = [line[: width - 1] for line in lines]  # one that wraps could not be wiped out
            self._clear()
            print("\n".join(drawn), flush=True)
            self.lines = len(drawn)

    def _clear(self) -> None:
        if self.lines:
            print(f"\x1b[{self.lines}F\x1b[J", end="")
        self.lines = 0
