"""Runs whose record does not follow from their params, code and data: one kind of forgery each."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tests.projects.minimal.net as net
from core.base.files import checkpoint_hash
from core.training.chain import kept
from core.training.checkpoint import read_checkpoint, write_checkpoint
from core.training.contents import plain
from tests.helpers.runs import run

RECIPE = {
    "task": "tests.projects.minimal",
    "width": 8,
    "batch_size": 16,
    "num_epochs": 9,
    "learning_rate": 0.01,
    "num_threads": 1,
    "keep_checkpoints": 3,
}


def write_data(folder: Path, seed: int = 0) -> Path:
    """Write points around three corners as the CSV files of the task."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, labels = np.random.default_rng(seed), np.arange(60) % 3
    corners = np.array([[0.0, 2.0], [-2.0, -1.0], [2.0, -1.0]])
    for split in ("train", "val", "test"):
        points = corners[labels] + rng.normal(size=(60, 2))
        np.savetxt(folder / f"{split}.csv", np.column_stack([points, labels]), delimiter=",")
    return folder


def trained(folder: Path, data: Path, **params: Any) -> Path:
    """Train a run by the recipe; returns its folder."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(RECIPE | params))
    assert run(folder, data) == 0
    return folder


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint holds, and seal it anew."""
    content = plain(read_checkpoint(path))
    change(content)
    write_checkpoint(path, plain(content))


def rechain(folder: Path) -> None:
    """Let every checkpoint hold the hash of the one kept before, as it is now."""
    before, best = None, checkpoint_hash(folder / "best.pt")
    for path in [*kept(folder).values(), folder / "last.pt"]:
        reseal(path, lambda content, own=before: content["chain"].update(before=own))  # type: ignore[misc]
        before = checkpoint_hash(path)
    reseal(folder / "last.pt", lambda content: content["chain"].update(best=best))


def number(folder: Path, draw: random.Random, deep: bool) -> int:
    """Edit one number of metrics.jsonl by a little; returns its epoch."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    row = draw.choice(rows)
    name = draw.choice([name for name in row if name.startswith(("train_", "val_"))])
    row[name] = row[name] + 1e-6
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return int(row["epoch"])


def weight(folder: Path, draw: random.Random, deep: bool) -> int:
    """Edit one weight of a kept checkpoint by one bit or so, if `deep` with the chain."""
    epoch, path = draw.choice([*kept(folder).items()])

    def change(content: dict[str, Any]) -> None:
        tensor = content["state_dict"][draw.choice(sorted(content["state_dict"]))].flatten()
        tensor[draw.randrange(len(tensor))] *= 1 + 1e-6

    reseal(path, change)
    if deep:
        rechain(folder)
    return epoch


def seed(folder: Path, draw: random.Random, deep: bool) -> int:
    """Name another seed in params.json, if `deep` in the record and checkpoints, too."""
    other = draw.randrange(1000, 2000)
    paths = [folder / "params.json"]
    if deep:
        paths.append(folder / "params.resolved.json")
        for path in [*kept(folder).values(), folder / "last.pt", folder / "best.pt"]:
            reseal(path, lambda content: content["params"].update(seed=other))
        rechain(folder)
    for path in paths:
        found = json.loads(path.read_text())
        found.get("params", found)["seed"] = other
        path.write_text(json.dumps(found))
    return 1


def code(folder: Path, draw: random.Random, deep: bool, data: Path) -> int:
    """Train with an edited loss; if `deep` the record says that there was no edit."""
    params = json.loads((folder / "params.json").read_text())
    shutil.rmtree(folder)
    loss_fn, smoothing = net.loss_fn, draw.uniform(0.01, 0.2)

    def edited(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=smoothing)

    net.loss_fn = edited
    try:
        trained(folder, data, **params)
    finally:
        net.loss_fn = loss_fn
    if deep:
        path = folder / "params.resolved.json"
        found = json.loads(path.read_text())
        found["code"]["tests/projects/minimal/net.py"] = f"{draw.getrandbits(64):016x}"
        path.write_text(json.dumps(found))
    return 1


def best(folder: Path, draw: random.Random, deep: bool, other: Path) -> int:
    """Put the best.pt of another run in place, if `deep` with its hash in last.pt."""
    epoch = int(read_checkpoint(folder / "best.pt")["epoch"])
    theirs = plain(read_checkpoint(other / "best.pt"))
    reseal(folder / "best.pt", lambda content: content.update(state_dict=theirs["state_dict"]))
    if deep:
        rechain(folder)
    return epoch


def skipped(folder: Path, draw: random.Random, deep: bool) -> int:
    """Let a kept checkpoint hold the weights of the one before: nothing was trained between."""
    epochs = [*kept(folder)]
    i = draw.randrange(1, len(epochs))
    before = plain(read_checkpoint(kept(folder)[epochs[i - 1]]))
    names = ("state_dict", "optim_dict", "random_states")
    reseal(kept(folder)[epochs[i]], lambda content: content.update({n: before[n] for n in names}))
    rechain(folder)
    return epochs[i]


def other_data(folder: Path, draw: random.Random, deep: bool, data: Path) -> int:
    """Train on other data; if `deep` the record names the fingerprint of the data."""
    params = json.loads((folder / "params.json").read_text())
    own = json.loads((folder / "params.resolved.json").read_text())["data"]
    shutil.rmtree(folder)
    trained(folder, write_data(data, draw.randrange(1, 1000)), **params)
    if deep:
        fingerprint = {name: own[name] for name in ("files", "bytes", "sha256")}
        for path in [*kept(folder).values(), folder / "last.pt", folder / "best.pt"]:
            reseal(path, lambda content: content.update(data=fingerprint))
        rechain(folder)
    return 1


KINDS: list[Callable[..., int]] = [number, weight, seed, code, best, skipped, other_data]
