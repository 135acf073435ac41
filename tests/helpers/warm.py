"""Runs of train.py that start in milliseconds: forks of a process that has imported torch.

Started as a script, it is that process: it reads jobs as JSON lines and forks for each. A job is
{"argv": [...], "log": PATH, "held": bool, "slow": seconds, "limits": {name: number}}; the answers
are the child's number and, when it has ended, its exit status. A child that is held stops before
it begins; with "held_writer" when the thread that writes checkpoints begins, whose number it then
prints. With "together": n the child's n children train the runs in the file "jobs", as torchrun's
would (tests/helpers/many.py).
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """A run that was started, to be signalled and waited for."""

    def __init__(self, server: "subprocess.Popen[str]", number: int) -> None:
        self.server, self.pid, self.ended = server, number, False
        self.tracers: list[subprocess.Popen[bytes]] = []

    def wait(self) -> int:
        """Return the exit code as a shell gives it: 128 + n after signal n."""
        assert self.server.stdout is not None
        code = os.waitstatus_to_exitcode(int(self.server.stdout.readline()))
        self.ended = True
        return code if code >= 0 else 128 - code

    def end(self) -> None:
        """Kill the run if nobody has waited for it, as after a test that failed."""
        if not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for tracer in self.tracers:
            tracer.wait()


class Warm:
    """The client: starts runs one after the other."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == "ready\n"
        self.child: Child | None = None

    def start(self, argv: Sequence[str | Path], log: Path, **job: Any) -> Child:
        """Start `train.main(argv)`; what it prints goes to `log`."""
        self.end_child()
        job |= {"argv": [str(word) for word in argv], "log": str(log)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        self.child = Child(self.server, int(self.server.stdout.readline()))
        return self.child

    def end_child(self) -> None:
        """Make sure that no run is in progress."""
        if self.child is not None:
            self.child.end()

    def close(self) -> None:
        """End the process."""
        self.end_child()
        self.server.communicate()


def slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return function(*args, **kwargs)

    return slow


def hold(frame: FrameType, event: str, argument: Any) -> None:
    """Stop the process at the first thing that the writer's thread does."""
    sys.setprofile(None)
    if threading.current_thread().name.startswith("writer"):
        os.write(1, f"the writer is thread {threading.get_native_id()}\n".encode())
        os.kill(os.getpid(), signal.SIGSTOP)


def run_together(count: int, jobs: Path) -> int:
    """In the child: train a list of runs with several processes, forks of this one."""
    from tests.helpers import many

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    place |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "none"}
    numbers = []
    for rank in range(count):
        if (number := os.fork()) == 0:
            os.environ.update(place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            return many.main(jobs)
        numbers.append(number)
    return max(abs(os.waitstatus_to_exitcode(os.waitpid(n, 0)[1])) for n in numbers)


def run_job(job: dict[str, Any]) -> None:
    """In the child: become the leader of a group, and run."""
    import train

    os.setpgid(0, 0)
    handle = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(handle, standard)
    os.close(handle)
    if seconds := job.get("slow"):
        for name in ("fsync", "replace", "link"):
            setattr(os, name, slowed(getattr(os, name), seconds))
    for name, number in job.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (number, number))
    if job.get("held"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if job.get("held_writer"):
        threading.setprofile(hold)
    try:
        together = job.get("together")
        code = run_together(together, Path(job["jobs"])) if together else train.main(job["argv"])
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 99
        print(f"ended by {type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(code)


def serve() -> None:
    import torchvision.transforms  # noqa: F401 - all this is imported before the forks
    from PIL import Image  # noqa: F401

    import evaluate  # noqa: F401
    import tests.projects.pictures.data_loader
    import tests.projects.pictures.net  # noqa: F401
    import train  # noqa: F401
    from core.base.params import check_names

    check_names({}, "tests", "")  # reads the code of all tests, which the forks then know
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        number = os.fork()
        if number == 0:
            run_job(job)
        if job.get("held") or job.get("held_writer"):
            os.waitpid(number, os.WUNTRACED)
        print(number, flush=True)
        print(os.waitpid(number, 0)[1], flush=True)


if __name__ == "__main__":
    serve()
