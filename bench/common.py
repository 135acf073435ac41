"""What the benches share: processes started in turn, what they took, and a table of medians."""

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF
from typing import Any, TypeVar

import torch

from core.machine.environment import usable_cores

ROOT = Path(__file__).resolve().parent.parent
LONG = 86_400.0  # seconds: no limit
Figures = dict[str, float]
T = TypeVar("T")


@dataclass
class Process:
    """What a process that ended took."""

    began: float  # seconds since 1970
    seconds: float
    busy: float  # seconds of processors, those of its own processes included
    peak_mb: float
    printed: str


def run(
    *command: str | Path,
    root: Path = ROOT,
    at_most: float = LONG,
    python: str | Path = sys.executable,
) -> Process:
    """Run a Python script of the repository, or of another `root`, to its end.

    Raises:
        RuntimeError: it failed, or took longer than `at_most` seconds, after which it is ended.
    """
    began = time.time()
    words = [str(python), *map(str, command)]
    with tempfile.TemporaryFile() as output:  # a pipe would stay open in processes of its own
        process = subprocess.Popen(words, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        signals = (signal.SIGTERM, at_most), (signal.SIGKILL, at_most + 10)
        timers = [threading.Timer(t, process.send_signal, [number]) for number, t in signals]
        try:
            for timer in timers:
                timer.start()
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            for timer in timers:
                timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if time.time() - began > at_most:
        raise RuntimeError(f"{' '.join(words)}: ended after {at_most:.0f} s\n{printed}")
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}\n{printed}")
    busy = usage.ru_utime + usage.ru_stime
    return Process(began, time.time() - began, busy, usage.ru_maxrss / 1024, printed)


def by_hand(*command: str | Path) -> Figures:
    """Run a loop written by hand, which prints its figures as one line of JSON."""
    process = run(*command)
    told = json.loads(process.printed.splitlines()[-1])
    return figures(process, told["first_step"], told["rates"], told["evaluations"])


def train(folder: Path, params: Mapping[str, Any], data_dir: str | Path) -> Figures:
    """Run train.py in `folder` from the start, as a user would, and read what it noted there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    for name in ("train.log", "times.jsonl"):
        (folder / name).unlink(missing_ok=True)
    process = run("train.py", "--model_dir", folder, "--data_dir", data_dir, "--overwrite")
    log = (folder / "train.log").read_text().splitlines()
    # The line of the untrained net's loss is the last one before the first step.
    stamp = next(line for line in log if "First loss" in line)[:23]
    first_step = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp()
    times = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
    rates = [row["examples_per_second"] for row in times]
    return figures(process, first_step, rates, [r["seconds"] - r["train_seconds"] for r in times])


def figures(
    process: Process, first_step: float, rates: Sequence[float], evaluations: Sequence[float]
) -> Figures:
    """Return the figures of a run; the first epoch, in which torch warms up, is left out."""
    return {
        "examples/s": statistics.median(rates[1:] or rates),
        "evaluation, s": statistics.median(evaluations[1:] or evaluations),
        "whole process, s": process.seconds,
        "processors, s": process.busy,
        "to the first step, s": first_step - process.began,
        "peak memory, MB": process.peak_mb,
    }


class Medians(dict[str, Figures]):
    """The medians of each way's figures; how far they can be believed stands beside them."""

    turns = 0
    least: dict[str, float]  # of the first figure, by way
    most: dict[str, float]
    moves = 0.0  # fraction by which the first median moves if one turn is left out, at most
    others = 0.0  # cores that other processes used meanwhile

    @property
    def quiet(self) -> bool:
        """Whether others used at most a tenth of a core: else ratios would be luck."""
        return self.others <= 0.1


def in_turn(
    ways: Mapping[str, Callable[[], Figures]], repeats: int, at_most: float = LONG
) -> Medians:
    """Run every way once, then all of them again, A B A B; return the medians of each figure.

    More turns follow, at most twice as many again, while a median still moves by more than 3%. No
    turn but the first begins if it would probably end later than after `at_most` seconds.
    """
    seen: dict[str, list[Figures]] = {name: [] for name in ways}
    found, before, began, last = Medians(), used_by_others(), time.monotonic(), 0.0
    while found.turns < repeats or (
        repeats > 1 and found.turns < 3 * repeats and found.moves > 0.03
    ):
        turn_began = time.monotonic()
        if found.turns and turn_began - began + last > at_most:
            break
        found.turns += 1
        for name, way in ways.items():
            seen[name].append(way())
            print(f"  {found.turns}/{repeats} {name}", file=sys.stderr)
        found.moves, last = max(map(moved, seen.values())), time.monotonic() - turn_began
    after = used_by_others()
    found.others = (after[0] - before[0]) / (after[1] - before[1])
    for name, turns in seen.items():
        found[name] = {key: statistics.median(one[key] for one in turns) for key in turns[0]}
    firsts = {name: [next(iter(one.values())) for one in turns] for name, turns in seen.items()}
    found.least = {name: min(values) for name, values in firsts.items()}
    found.most = {name: max(values) for name, values in firsts.items()}
    return found


def moved(turns: Sequence[Figures]) -> float:
    """Return by what fraction the first figure's median moves if one turn is left out, at most."""
    values = [next(iter(figures.values())) for figures in turns]
    whole = statistics.median(values)
    parts = [values[:i] + values[i + 1 :] or values for i in range(len(values))]
    return max(abs(statistics.median(part) / whole - 1) for part in parts)


def used_by_others() -> tuple[float, float]:
    """Return the seconds of processors that other processes have used so far, and the time now.

    What other systems have taken from this virtual machine counts, too. 0 but on Linux.
    """
    own = sum(sum(resource.getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return 0.0, time.monotonic()
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - own, time.monotonic()


def show(title: str, medians: Medians, against: str) -> None:
    """Print one line a figure: each way's median, and its ratio to the way `against`.

    Ratios are left out if other processes used more than a tenth of a core: they would be luck.
    """
    quiet = medians.quiet
    print(f"\n{title}\nmedians of {medians.turns}; in brackets: ratio to {against}")
    print(f"{platform.machine()}, {usable_cores()} cores, torch {torch.__version__}")
    steady = f"leaving a turn out moves the first median by {medians.moves:.1%}"
    print(f"other processes used {medians.others:.2f} cores; {steady}")
    print("" if quiet else "NOT QUIET: no ratios. Run it again when nothing else runs.\n")
    print(" " * 28 + "".join(f"{name:>22}" for name in medians))
    for key, reference in medians[against].items():
        cells = [f"{way[key]:.4g}" for way in medians.values()]
        ratios = [f" ({way[key] / reference:.2f})" if quiet else "" for way in medians.values()]
        both = zip(cells, ratios, strict=True)
        print(f"{key:<28}" + "".join(f"{cell + ratio:>22}" for cell, ratio in both))
        if key == next(iter(medians[against])):
            ranges = [f"{medians.least[name]:.4g}..{medians.most[name]:.4g}" for name in medians]
            print(f"{'  least..most':<28}" + "".join(f"{cell:>22}" for cell in ranges))


def parser(doc: str | None, short: bool = False) -> argparse.ArgumentParser:
    """Return a parser with what all benches take, or those of all.sh --short."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    much = made.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="once, and short: does it run?")
    if short:
        much.add_argument("--short", action="store_true", help="fewer turns, for all.sh --short")
    return made


def effort(args: argparse.Namespace, quick: T, short: T, full: T) -> T:
    """Return what goes with --quick, with --short, or with neither."""
    return quick if args.quick else short if args.short else full


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
