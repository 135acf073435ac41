"""The parts of bench/gpu.py: each returns rows of its page, and says what cannot be measured."""

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, run
from bench.processes import wide
from bench.signs import decode
from core.data.folder import synthetic_note
from core.training.checkpoint import read_checkpoint

INSIDE = "bench/gpu_inside.py"
FILES = ("last.pt", "best.pt", "metrics.jsonl", "predictions_val.npz")
CIFAR = ROOT / "data/cifar-10-batches-bin"
AIRBENCH = "K. Jordan 2024 (arXiv 2404.00498): 3.29 s on an A100; his airbench94_muon: 2.59 s"
Row = tuple[str, str, str]  # what, what was found, and what was wanted


class NotMeasuredError(Exception):
    """Says why."""


class MissedError(Exception):
    """A check that does not hold; says what was found."""


@dataclass
class Here:
    """What is to be done where."""

    device: str
    quick: bool
    folder: Path  # for data and runs
    ends: float  # of time.monotonic()
    gpus: int
    drawing: threading.Lock = field(default_factory=threading.Lock)

    def left(self, limit: float) -> float:
        """Return how many seconds a process may take."""
        if (seconds := min(limit, self.ends - time.monotonic())) < 5:
            raise NotMeasuredError("the time was up")
        return seconds

    def inside(self, *words: object, limit: float = 60) -> dict[str, Any]:
        """Let a process of its own do something, and return what it found."""
        done = run(INSIDE, *map(str, words), at_most=self.left(limit))
        found: dict[str, Any] = json.loads(done.printed.splitlines()[-1])
        return found

    def start(self, name: str, recipe: str, **more: object) -> Path:
        """Write the params of a run, a recipe's with some more, into a folder of its name."""
        if not (file := ROOT / "experiments" / recipe / "params.json").exists():
            raise NotMeasuredError(f"experiments/{recipe} has been removed")
        params = json.loads(file.read_text())
        params |= {"device": self.device, "num_threads": 1, "precision": "bfloat16"} | more
        if self.quick:
            params |= {"precision": "float32", "channels_last": False}
            params |= {"num_channels": 4} if "num_channels" in params else {}
        (folder := self.folder / name).mkdir()
        (folder / "params.json").write_text(json.dumps(params))
        return folder

    def data(self, recipe: str) -> Path:
        """Return drawn data for a recipe, drawn now if they are not there."""
        script = "signs" if recipe == "base_model" else recipe
        with self.drawing:
            if not (folder := self.folder / script).exists():
                few, many = {"signs": (48, 1200), "ner": (100, 4000)}[script]
                count = few if self.quick else many
                prepare = f"data/{script}/prepare.py", "--output", folder, "--count", str(count)
                run(*prepare, at_most=self.left(60))
        return folder


def waiting(here: Here, recipe: str) -> list[Row]:
    """Train an epoch in which torch refuses to wait for the GPU."""
    if here.device == "cpu":
        raise NotMeasuredError("no GPU")
    more = {"num_epochs": 2, "save_summary_steps": 10_000, "checkpoint_minutes": None}
    folder = here.start(f"waiting {recipe}", recipe, **more)
    steps = here.inside("waiting", folder, here.data(recipe))["steps"]
    return [(f"{recipe}: steps without a wait", f"{steps} of {steps}", "all")]


def bits(here: Here, recipe: str) -> list[Row]:
    """Hold a run that a signal stopped and one that goes on to the bytes of an unbroken one."""
    if here.quick and recipe != "base_model":
        raise NotMeasuredError("--quick")
    more = {"num_epochs": 2, "deterministic": True, "batch_size": 16}
    runs = [here.start(f"{kind} {recipe}", recipe, **more) for kind in ("whole", "stopped")]
    whole, stopped = (("--model_dir", each, "--data_dir", here.data(recipe)) for each in runs)
    run("train.py", *whole, at_most=here.left(60))
    try:
        run(INSIDE, "stopping", *stopped, at_most=here.left(60))
    except RuntimeError as error:
        if "exit code 143" not in str(error):
            raise
    step = json.loads((runs[1] / "status.json").read_text())["step"]
    run("train.py", *stopped, at_most=here.left(60))
    steps = json.loads((runs[1] / "status.json").read_text())["step"]
    if not steps // 2 < step < steps:
        raise MissedError(f"it stopped after step {step} of {steps}")
    unlike = [f for f in FILES if (runs[0] / f).read_bytes() != (runs[1] / f).read_bytes()]
    if unlike:
        raise MissedError(f"{recipe}, stopped after step {step} of {steps}: {unlike} differ")
    told = f"{recipe}, deterministic: stopped after step {step} of {steps}, and resumed"
    return [(told, f"{len(FILES)} files equal to the byte", "equal")]


def speed(here: Here, net: str, compiled: bool) -> list[Row]:
    """Train by train.py and by hand, in turn."""
    if here.quick and compiled:
        raise NotMeasuredError("--quick")
    (folder := here.folder / f"{net} {compiled}").mkdir()
    # Of 864 drawn hands or 2,560 images of noise: an epoch has 108 or 20 batches, all full.
    size, repeat = (512, 64) if net == "signs" else (256, 2)
    if net == "signs":
        decode(here.data("base_model"), folder / "images.npz")
    else:
        draw, arrays = np.random.default_rng(1), dict[str, Any]()
        side, counts = (32, (24, 6)) if here.quick else (224, (2560, 256))
        for split, count in zip(("train", "val"), counts, strict=True):
            arrays[f"{split}_images"] = draw.integers(0, 256, (count, 3, side, side), np.uint8)
            arrays[f"{split}_labels"] = draw.integers(0, 6, count)
        np.savez(folder / "images.npz", **arrays)
    size, repeat, epochs = (8, 1, 2) if here.quick else (size, repeat, 6)
    more = {"task": "bench.pictures", "net": net, "repeat": repeat, "compile": compiled}
    more |= {"num_epochs": epochs, "batch_size": size, "save_predictions": False}
    made = here.start(f"run {net} {compiled}", "base_model", **more)
    asked = {"folder": str(made), "data": str(folder), "turns": 1 if here.quick else 3}
    asked |= {"seconds": 45, "params": json.loads((made / "params.json").read_text())}
    found = here.inside("speed", json.dumps(asked), limit=120)
    by_hand, ours = found["rates"].values()
    ratio = ours / by_hand
    missed = ", missed" if ratio < 0.97 and not here.quick else ""
    name = f"{net}, batches of {size}{', compiled' if compiled else ''}"
    turns = f"medians of {found['turns']}, moved by {found['moves']:.1%} if one is left out"
    rates = f"{ours:.0f} images/s, by hand {by_hand:.0f} ({turns})"
    return [(name, rates, ""), (f"{name}: ratio", f"{ratio:.3f}{missed}", ">= 0.97")]


def cifar10(here: Here) -> list[Row]:
    """Train experiments/cifar10/fast, to 94 % if the data are CIFAR-10."""
    real = CIFAR.exists() and synthetic_note(CIFAR) is None
    more: dict[str, object] = {} if real else {"num_epochs": 4}
    more |= {"num_epochs": 2, "width": 8, "batch_size": 16, "compile": False} if here.quick else {}
    folder = here.start("fast", "cifar10/fast", **more)
    data = CIFAR
    if not real:  # noise of the same format
        (data := here.folder / "cifar10").mkdir()
        records = np.random.default_rng(1).integers(0, 256, (12 if here.quick else 4000, 3073))
        records[:, 0] %= 10
        for file in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            (data / file).write_bytes(records.astype(np.uint8).tobytes())
    run("train.py", "--model_dir", folder, "--data_dir", data, at_most=here.left(120))
    times, scores = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("times.jsonl", "metrics.jsonl")
    )
    rate = np.median([row["examples_per_second"] for row in times[1:]])
    rows = [("experiments/cifar10/fast: training", f"{rate:.0f} images/s", "")]
    name = "seconds of training and validation to 94 %"
    if not real or here.quick:
        return [*rows, (name, f"not measured: no CIFAR-10 in {CIFAR.relative_to(ROOT)}", AIRBENCH)]
    reached = [row["epoch"] for row in scores if row["val_accuracy"] >= 0.94]
    if not reached:
        best = max(row["val_accuracy"] for row in scores)
        return [*rows, (name, f"not reached: {best:.2%} after {len(scores)} epochs", AIRBENCH)]
    seconds = [row["seconds"] for row in times[: reached[0]]]
    warm = sum(seconds) - seconds[0] + float(np.median(seconds[1:]))
    told = f"{warm:.2f}, compilation left out ({sum(seconds):.2f} with it)"
    return [*rows, (f"{name} of 1,000 images, epoch {reached[0]}", told, AIRBENCH)]


def several(here: Here) -> None:
    """Raise NotMeasuredError where not every process can have a GPU of its own."""
    if here.gpus < 2:
        raise NotMeasuredError("one GPU" if here.gpus else "no GPU")


def exact(here: Here, shard: bool) -> list[Row]:
    """Compare the weights that one process and several have trained in float64."""
    several(here)
    keys = {"width": 64, "depth": 4, "precision": "float64", "optimizer": "SGD", "shard": shard}
    keys, weights = keys | {"device": here.device}, []
    for count in (1, here.gpus):
        folder = here.folder / f"exact {shard} {count}"
        wide(ROOT, folder, count, keys, at_most=here.left(60))
        weights.append(read_checkpoint(folder / "last.pt")["state_dict"])
    pairs = [(w, weights[1][name]) for name, w in weights[0].items()]
    furthest = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    name = f"{here.gpus} processes, {'in parts' if shard else 'replicas'}: weights beside one's"
    if furthest > 1e-12:
        raise MissedError(f"{name}: {furthest:.1e} apart, wanted at most 1e-12")
    return [(name, f"{furthest:.1e} apart, float64", "<= 1e-12")]


def exchange(here: Here, shard: bool) -> list[Row]:
    """Time steps of 100 million weights, and look at how far their exchange is hidden."""
    several(here)
    rows = {"examples": 40 * 1024, "batch_size": 1024}
    rows = {"examples": 80, "batch_size": 16} if here.device == "cpu" else rows
    part = {name: value // here.gpus for name, value in rows.items()}
    keys = {"width": 2048, "depth": 24, "precision": "bfloat16", "optimizer": "SGD"}
    keys |= {"device": here.device, "shard": shard}
    folder, note = here.folder / f"exchange {shard}", here.folder / "overlap"
    alone, _ = wide(ROOT, folder / "alone", 1, keys | part, at_most=here.left(60))
    step, _ = wide(ROOT, folder / "all", here.gpus, keys | rows, at_most=here.left(60))
    script = INSIDE, "overlap", str(note)
    wide(ROOT, folder / "seen", here.gpus, keys | rows, script, here.left(60))
    seen = json.loads(note.read_text())
    if seen["share"] is None:
        raise MissedError("the profile shows no NCCL kernel")
    name = f"{here.gpus} processes, {'in parts' if shard else 'replicas'}"
    told = f"{step:.1f} ms, alone with 1/{here.gpus} of the rows {alone:.1f} ms"
    share = f"{seen['share']:.0%} of {seen['nccl']:.2f} s of NCCL kernels"
    return [
        (f"{name}: a step", told, ""),
        (f"{name}: exchange inside of compute kernels ({seen['compute']:.2f} s)", share, ""),
    ]
