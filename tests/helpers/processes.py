"""Processes that tests wait for and look at."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.helpers import ROOT


def wait_for(condition: Callable[[], object], seconds: float = 60, every: float = 0.001) -> None:
    """Wait until a condition holds, which is looked at every so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(every)


def alive(number: int) -> bool:
    """Tell whether a process runs (Linux); one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(number: int) -> list[int]:
    """Return the processes below one, children before their children (Linux)."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    below = list(parents.get(number, []))
    for child in below:
        below += parents.get(child, [])
    return below


@contextmanager
def in_progress(folder: Path) -> Iterator[None]:
    """Let another process hold a run's folder, as one that trains does."""
    code = f"""if True:
        from pathlib import Path
        from core.machine.locks import one_writer
        with one_writer(Path({str(folder)!r})):
            print(flush=True)
            input()
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.communicate("\n")
