"""A copy of the repository, for tests that change it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.helpers import ROOT


def copy_repository(target: Path) -> Path:
    """Copy the repository without data, checkpoints and caches; returns where the copy is."""

    def left_out(folder: str, names: Sequence[str]) -> list[str]:
        found = [n for n in names if n.startswith((".", "__pyc")) or n.endswith((".pt", ".npz"))]
        if Path(folder) == ROOT / "data":
            scripts = {path.parent.name for path in ROOT.glob("data/*/prepare.py")}
            found += [n for n in names if (ROOT / "data" / n).is_dir() and n not in scripts]
        return found

    return shutil.copytree(ROOT, target, ignore=left_out)
