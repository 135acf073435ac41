"""Prepared data folders: built aside, swapped in whole, and described by a manifest.json."""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, listed

MANIFEST = "manifest.json"


def check_output(output: Path, source: Path | None = None) -> None:
    """Make sure that replacing `output` can only ever remove what a prepare script made.

    Raises:
        UsageError: output is or overlaps the source, is no folder, or holds anything else.
    """
    inside, outside = output.resolve(), source.resolve() if source else None
    if outside and (inside.is_relative_to(outside) or outside.is_relative_to(inside)):
        raise UsageError(f"output {output} and source {source} overlap; choose another output")
    if not inside.exists():
        return
    if not inside.is_dir():
        raise UsageError(f"output {output} is a file; want a folder, or a name not yet taken")
    if not any(inside.iterdir()):
        return
    manifest = read_manifest(inside)
    if manifest is None:
        raise UsageError(
            f"output {output} holds files, but no {MANIFEST} of a prepare script, so they may be\n"
            "yours and are left alone. Move the folder away, or choose another output."
        )
    known = {MANIFEST, *manifest["files"]}
    extra = sorted(name for name in _file_names(inside) if name not in known)
    if extra:
        raise UsageError(
            f"output {output} holds files that no prepare script made, so it is left alone. Move\n"
            f"them away, or choose another output:\n{listed(extra)}"
        )


@contextlib.contextmanager
def staging(output: Path, source: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `output` when the block ends without error.

    Whatever happens before that moment, a kill included, the old output stays whole. What a killed
    run leaves beside the output is removed by the next run, and only one run at a time may build.

    Raises:
        UsageError: see `check_output`; or another process is building the same output.
    """
    check_output(output, source)
    output = output.resolve()  # a link to a folder on a larger disk stays a link
    output.parent.mkdir(parents=True, exist_ok=True)
    workshop = output.parent / f".{output.name}.staging"
    new, old = workshop / "new", workshop / "old"
    with _locked(workshop):
        try:
            _clear(new, old, output)
            new.mkdir()
            yield new
            check_output(output, source)  # it may have changed in the meantime
            if output.exists():
                output.rename(old)
            new.rename(output)
        finally:
            _clear(new, old, output)
            with contextlib.suppress(OSError):
                workshop.rmdir()


def write_manifest(
    folder: Path, made_by: str, description: str, *, generated: bool, seed: int | None = None
) -> dict[str, Any]:
    """Write `folder`'s manifest.json and return what it says.

    Args:
        folder: the finished data; every file below it is listed with its SHA-256.
        made_by: the script, as a path from the repository's root.
        description: one sentence, shown wherever results on these data are shown.
        generated: true if a program made up the data, false if they were recorded or collected.
        seed: of whatever was random, if anything was.
    """
    files = {name: file_sha256(folder / name) for name in sorted(_file_names(folder))}
    manifest = {
        "made_by": made_by,
        "generated": generated,
        "description": description,
        "seed": seed,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest that a prepare script wrote into `folder`; None if there is no such thing."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return None
    made_by = str(manifest.get("made_by"))
    ours = made_by.startswith("data/") and made_by.endswith("/prepare.py")
    return manifest if ours and isinstance(manifest.get("generated"), bool) else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repeated_pairs(hashes: Mapping[str, str]) -> list[str]:
    """Pairs with equal hashes in different splits, as "name = name"; a name is "split/example"."""
    same = defaultdict(list)
    for name, digest in sorted(hashes.items()):
        same[digest].append(name)
    pairs = [pair for names in same.values() for pair in itertools.combinations(names, 2)]
    return [f"{a} = {b}" for a, b in sorted(pairs) if a.split("/")[0] != b.split("/")[0]]


def _file_names(folder: Path) -> Iterator[str]:
    """Paths of the files below `folder`, hidden ones (.DS_Store, caches) left out."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not path.is_dir() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _clear(new: Path, old: Path, output: Path) -> None:
    """Remove what a run left in its workshop; an old output cut off in mid-swap goes back."""
    if old.exists() and not output.exists():
        old.rename(output)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it for this process; the kernel frees it when the process dies."""
    folder.mkdir(exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two runs at once are not noticed
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks cannot lock a folder
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"another process is building {folder}; wait for it") from None
        yield
    finally:
        os.close(handle)
