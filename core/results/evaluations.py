"""Which rows of evaluations.jsonl are of a run's best weights and its data as they are now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.base.errors import settings
from core.base.files import checkpoint_hash

BEST = ("best.pt", "best.pth.tar")  # the second is the CS230 template's


def is_tied(row: dict[str, Any]) -> bool:
    """Tell whether a row says of what its values are; those of earlier versions do not."""
    return all(isinstance(row.get(part), dict) for part in ("checkpoint", "data", "values"))


def is_of_best(row: dict[str, Any], best: str | None = None) -> bool:
    """Tell whether a row is of a best checkpoint: by its name, or by the hash `best`."""
    sha256 = row["checkpoint"].get("sha256")
    return row["checkpoint"].get("file") in BEST or (best is not None and sha256 == best)


def hash_of_best(folder: Path, tied: Sequence[dict[str, Any]]) -> str | None:
    """Return the SHA-256 of today's best checkpoint; if it is gone, the last one recorded."""
    found = [checkpoint_hash(folder / name) for name in BEST]
    found += [row["checkpoint"].get("sha256") for row in reversed(tied) if is_of_best(row)]
    return next(filter(None, found), None)


def last_fitting(
    tied: Sequence[dict[str, Any]], split: str, best: str | None, data: str | None
) -> tuple[dict[str, Any], str]:
    """Return the last row of the best weights on a split that fits the hashes of today, and "".

    Where none does, it is the last one, and in what it does not fit; {} if there is no row.
    """
    own = [row for row in tied if row.get("split") == split and is_of_best(row, best)]
    if fits := [row for row in own if not misfit(row, best, data)]:
        return fits[-1], ""
    return (own[-1], misfit(own[-1], best, data)) if own else ({}, "")


def misfit(row: dict[str, Any], best: str | None, data: str | None) -> str:
    """Say in what an evaluation differs from the run as it is now; "" if in nothing."""
    if best not in (None, row["checkpoint"].get("sha256")):
        return f"are of another best.pt (epoch {row['checkpoint'].get('epoch')})"
    if data not in (None, row["data"].get("sha256")):
        return f"are of other data ({row['data'].get('folder')})"
    if row.get("overrides"):
        return f"were computed with {settings(row['overrides'])}"
    return ""
