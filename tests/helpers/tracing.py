"""System calls of a run, as strace sees them, and faults that it injects."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.helpers.runs import begin
from tests.helpers.warm import Child, Warm

OPERATIONS = ("openat", "write", "fsync", "rename", "link", "unlink", "ftruncate")


def trace(
    child: Child, log: Path, *options: str, thread: int | None = None
) -> "subprocess.Popen[bytes]":
    """Attach strace to a held run, or to one thread of it, and let it go on."""
    names = ",".join(OPERATIONS)
    which = ["-f", "-p", str(child.pid)] if thread is None else ["-p", str(thread)]
    command = ["strace", "-y", "-qq", "-o", str(log), "-e", f"trace={names}", "-e", "signal=none"]
    process = subprocess.Popen([*command, *options, *which], stderr=subprocess.DEVNULL)
    child.tracers.append(process)
    status = Path(f"/proc/{child.pid}/task/{thread or child.pid}/status")
    while "TracerPid:\t0\n" in status.read_text():
        assert process.poll() is None, "strace cannot attach"
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGCONT)
    return process


def begin_held(
    warm: Warm, folder: Path, data: Path, writer: bool, log: Path, *options: str
) -> tuple[Child, "subprocess.Popen[bytes]"]:
    """Begin a run, of which strace sees one thread: that which trains, or that which saves."""
    child = begin(warm, folder, data, held_writer=True) if writer else None
    child = child or begin(warm, folder, data, held=True)
    thread = child.pid
    if writer:
        (number,) = re.findall(r"the writer is thread (\d+)", (folder / "printed.txt").read_text())
        thread = int(number)
    return child, trace(child, log, *options, thread=thread)


def calls(log: Path) -> list[tuple[str, str]]:
    """Return the system calls in a log of strace -f as (thread, call), each where it was done."""
    begun: dict[str, str] = {}
    done = []
    for line in log.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        if call.startswith("<..."):
            call = begun.pop(thread) + call.partition("resumed>")[2]
        done.append((thread, call))
    return done


def changes(log: Path, folder: Path) -> list[tuple[str, int]]:
    """Return a thread's operations that change `folder`, as (system call, number of its kind)."""
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        name, parenthesis, rest = line.partition("(")
        if not (parenthesis and name.isalpha()):
            continue
        counts[name] = counts.get(name, 0) + 1
        reading = name == "openat" and not re.search("O_WRONLY|O_RDWR|O_CREAT", rest)
        if str(folder) in rest and not reading and "printed.txt" not in rest:
            found.append((name, counts[name]))
    return found


def commits(log: Path) -> int:
    """Count the renames that put a new last.pt in place."""
    return len(re.findall(r'rename\(.*/last\.pt"\) += 0', log.read_text(errors="replace")))
