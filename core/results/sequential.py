"""Is A better than B? Training further seeds of both until a sequential test decides.

The test looks after every pair of seeds. So that looking often finds no differences by chance, its
limits spend 5% of errors over all looks (Lan & DeMets 1983), little of it at first.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from core.base.errors import DataError, UsageError
from core.base.files import write_text
from core.base.params import find_params_file, read_params
from core.results.gathering import Result, read_run
from core.results.rows import Row, less_is_better, main_metric, same_code

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
SPENT = 0.045  # of 5%: the rest is for the error of simulated limits
DRAWS = 100_000


def statistics_t(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Student's t of the first n values of a and b (..., N), for every n; NaN for n = 1."""
    n = np.arange(1, a.shape[-1] + 1)
    means = [each.cumsum(-1) / n for each in (a, b)]
    squares = [(each**2).cumsum(-1) / n for each in (a, b)]
    variance = sum(square - mean**2 for square, mean in zip(squares, means, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        t: np.ndarray = (means[0] - means[1]) / np.sqrt(np.maximum(variance, 0) / (n - 1))
    return t


def limits(most: int) -> np.ndarray:
    """Return what |t| must reach after n pairs for a verdict, (most,).

    Of 100,000 simulated comparisons of equal settings with normal scores, those that ever reach it
    by n are a fraction of SPENT * (n / most)**2 (the power family of Kim & DeMets 1987).
    """
    rng, found, spent = np.random.default_rng(0), np.full(most, np.inf), 0
    t = np.abs(statistics_t(*rng.normal(size=(2, DRAWS, most)).astype(np.float32)))
    for n in range(2, most + 1):
        if (new := int(SPENT * (n / most) ** 2 * DRAWS) - spent) > 0:
            found[n - 1] = np.partition(t[:, n - 1], -new)[-new]
            t, spent = t[t[:, n - 1] < found[n - 1]], spent + new
    return found


def decided(a: Sequence[float], b: Sequence[float], at: np.ndarray) -> tuple[int, float]:
    """Return after how many pairs the test has decided, and t there; 0 and the last t if not."""
    pairs = min(len(a), len(b), len(at))
    t = statistics_t(np.array(a[:pairs]) - a[0], np.array(b[:pairs]) - a[0])  # for the rounding
    hit = np.flatnonzero(np.abs(t) >= at[:pairs])
    return (int(hit[0]) + 1, float(t[hit[0]])) if len(hit) else (0, float(t[-1]))


def until_decided(a: Row, b: Row, most: int, jobs: int) -> dict[str, Any]:
    """Train pairs of seeds until the test decides or each setting has `most` seeds.

    Returns:
        The `metric`, its values `A` and `B`, the number of `pairs`, and a `verdict`: "A", "B" (is
        better), or None. If the two are equal, at most 5% of comparisons find one better.

    Raises:
        DataError: a run fails, or the task's code is no longer that of the first run.
    """
    rows, metric = [a, b], main_metric([a, b]) or ""
    values = x, y = [row.values(metric) for row in rows]
    if not 2 <= most <= 200:
        raise UsageError(f"--most_seeds: found {most}, want 2 to 200")
    if not all(values):
        raise DataError(f"{a.name} and {b.name}: want a finished run of each")
    at, seeds = limits(most), [free_seeds(row) for row in rows]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        while not decided(x, y, at)[0] and min(map(len, values)) < most:
            pairs = min(map(len, values)) + max(1, jobs // 2)
            lacking = [max(0, min(pairs, most) - len(each)) for each in values]
            ended = [
                [pool.submit(train_seed, row, next(new)) for _ in range(count)]
                for row, new, count in zip(rows, seeds, lacking, strict=True)
            ]
            for each, futures in zip(values, ended, strict=True):
                each += [future.result().metrics[metric] for future in futures]
            told = f"{min(map(len, values))} pairs of seeds: t = {decided(x, y, at)[1]:.2f}"
            print(told, file=sys.stderr, flush=True)
    pairs, t = decided(x, y, at)
    better = "A" if (t > 0) != less_is_better(metric, rows) else "B"
    found = {"a": a.name, "b": b.name, "metric": metric, "verdict": better if pairs else None}
    return found | {"A": values[0], "B": values[1], "pairs": pairs or min(map(len, values)), "t": t}


def free_seeds(row: Row) -> Iterator[int]:
    """Yield seeds that no run of a setting has."""
    known = {run.params.get("seed") for run in row.members}
    yield from (seed for seed in range(1, 10**6) if seed not in known)


def train_seed(row: Row, seed: int) -> Result:
    """Train a setting with a seed, in a folder beside its first run; a stopped one is resumed."""
    first = row.first
    folder = first.folder.with_name(f"{Path(row.setting).name}-seed_{seed}")
    if not folder.exists():
        folder.mkdir()
        params = read_params(find_params_file(first.folder))
        params |= first.recorded.get("overrides", {}) | {"seed": seed}
        write_text(folder / "params.json", json.dumps(params, indent=4))
    data = ["--data_dir", first.data["folder"]] if "folder" in first.data else []
    command = [sys.executable, str(TRAIN), "--model_dir", str(folder), *data]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"{folder}: training failed\n{done.stderr.strip()[-2000:]}")
    result = Result(folder.name, folder)
    read_run(result, "val")
    if not same_code(result, first):
        told = f"the task's code has changed since {first.name} was trained"
        raise DataError(f"{folder}: {told}: these are no longer seeds of one setting")
    return result


def as_text(found: dict[str, Any]) -> str:
    """Return the verdict for a person."""
    verdict, pairs = found["verdict"], found["pairs"]
    told = f"not distinguishable after {pairs} pairs of seeds"
    if verdict:
        told = f"{verdict} is better: decided after {pairs} pairs of seeds"
    means = ", ".join(f"{name} {np.mean(found[name]):.4g}" for name in ("A", "B"))
    lines = [f"A: {found['a']}", f"B: {found['b']}", "", f"{found['metric']}: {means}", told]
    return "\n".join([*lines, "If the two are equal, one is found better in at most 5% of tries."])
