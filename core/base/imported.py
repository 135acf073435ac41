"""What this process has imported of the project, and which files of it were edited since.

Packages of tasks can be imported anew; core, and the scripts beside it, cannot while they run.
"""

import hashlib
import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

from core.base.params import ROOT

STARTED = time.time()
HASH = "__hash_of_source__"  # of a module: what its file held when it was imported


def imported() -> Iterator[tuple[str, Path]]:
    """Yield the modules of the project that are imported, and their files."""
    tops = {path.stem for path in ROOT.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
        file, stem = getattr(sys.modules[name], "__file__", None), name.replace(".", "/")
        for path in (f"{ROOT}/{stem}.py", f"{ROOT}/{stem}/__init__.py"):
            if file and (path == file or (os.path.isfile(path) and os.path.samefile(path, file))):
                yield name, Path(path)
                break


def hash_of(path: Path) -> str:
    """Return a hash of what a file holds now."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def hashes() -> dict[str, str]:
    """Return a hash of what was imported from each file outside core, by its path in the project.

    What has been imported by now is noted.
    """
    found = {}
    for name, path in imported():
        module = vars(sys.modules[name])
        known = module[HASH] if HASH in module else module.setdefault(HASH, hash_of(path))
        if name.partition(".")[0] != "core":
            found[path.relative_to(ROOT).as_posix()] = known
    return found


def edited() -> list[Path]:
    """Return the files that hold something else than what was imported from them."""
    found = []
    for name, path in imported():
        known, status = vars(sys.modules[name]).get(HASH), path.stat()
        late = max(status.st_mtime, status.st_ctime) > STARTED  # so perhaps after the import
        if late if known is None else known != hash_of(path):
            found.append(path)
    return found


def can_be_forgotten(path: Path) -> bool:
    """Tell whether a file belongs to a package beside core; scripts may be on the call stack."""
    return path.parent != ROOT and not path.is_relative_to(ROOT / "core")


def forget() -> None:
    """Let the packages beside core be imported anew, all: one module holds names of another."""
    for name, path in [*imported()]:
        if can_be_forgotten(path):
            del sys.modules[name]
            forget_bytecode(path)
    importlib.invalidate_caches()


def forget_bytecode(path: Path) -> None:
    """Remove the compiled form: that of a file edited within the same second looks up to date."""
    with suppress(OSError):
        Path(cache_from_source(str(path))).unlink()
