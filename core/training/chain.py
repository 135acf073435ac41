"""The checkpoints that a run keeps: each holds the hash of the one before, for verify.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.base.files import checkpoint_hash


def kept(folder: Path) -> dict[int, Path]:
    """Return the kept checkpoints of a run by their epochs, in order."""
    paths = [path for path in folder.glob("kept_*.pt") if path.stem[5:].isdecimal()]
    return dict(sorted((int(path.stem[5:]), path) for path in paths))


def links(folder: Path, last: Mapping[str, Any], keep: int) -> tuple[Path, dict[str, str | None]]:
    """Return the path of a save, and the hashes that it has to hold.

    Args:
        folder: of the run; its `best.pt` is already that of this save.
        last: what is about to be saved.
        keep: how many checkpoints the run keeps, evenly spaced, at the ends of epochs.

    Returns:
        `last.pt`, or the path of a checkpoint that stays; "before": the hash of the newest that was
        kept before, and "best": that of `best.pt`.
    """
    epoch, epochs, path = last["epoch"], last["params"]["num_epochs"], folder / "last.pt"
    at_end = epoch > 0 and not (last["batch"] or last["finished"])
    if at_end and epoch * keep // epochs > (epoch - 1) * keep // epochs:
        path = folder / f"kept_{epoch:04d}.pt"
    before = [each for e, each in kept(folder).items() if e <= epoch and each != path]
    hashes = {"before": checkpoint_hash(before[-1]) if before else None}
    return path, hashes | {"best": checkpoint_hash(folder / "best.pt")}
