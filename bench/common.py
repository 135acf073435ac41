"""What the benches share: processes started in turn, what they took, and a table of medians."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from core.machine.environment import usable_cores

ROOT = Path(__file__).resolve().parent.parent
Figures = dict[str, float]


@dataclass
class Process:
    """What a process that ended took."""

    began: float  # seconds since 1970
    seconds: float
    busy: float  # seconds of processors, those of its own processes included
    peak_mb: float
    printed: str


def run(*command: str | Path) -> Process:
    """Run a Python script of the repository to its end; RuntimeError if it fails."""
    began = time.time()
    words = [sys.executable, *map(str, command)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    printed = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
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


def in_turn(ways: Mapping[str, Callable[[], Figures]], repeats: int) -> dict[str, Figures]:
    """Run every way once, then all of them again, A B A B; return the medians of each figure."""
    seen: dict[str, list[Figures]] = {name: [] for name in ways}
    for i in range(repeats):
        for name, way in ways.items():
            seen[name].append(way())
            print(f"  {i + 1}/{repeats} {name}", file=sys.stderr)
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in seen.items()
    }


def show(title: str, medians: Mapping[str, Figures], against: str, repeats: int) -> None:
    """Print one line a figure: each way's median, and its ratio to the way `against`."""
    print(f"\n{title}\nmedians of {repeats}; in brackets: ratio to {against}")
    print(f"{platform.machine()}, {usable_cores()} cores, torch {torch.__version__}\n")
    print(" " * 24 + "".join(f"{name:>22}" for name in medians))
    for key, reference in medians[against].items():
        cells = [f"{way[key]:.4g} ({way[key] / reference:.2f})" for way in medians.values()]
        print(f"{key:<24}" + "".join(f"{cell:>22}" for cell in cells))


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with what all benches take."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="once, and short: does it run?")
    return made


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
