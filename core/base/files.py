"""Writing files so that a reader sees the old content or the new, never a part."""

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MAGIC = b"SEALED01"
SEAL = struct.Struct("<32sQ8s")  # the end of a checkpoint: SHA-256, length of what it covers, MAGIC


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Let an OSError inside the block name `path`: a failed write does not say of which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` that no other writer uses; what is there at the end is removed."""
    name = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield name
    finally:
        with suppress(OSError):
            name.unlink()


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    The file and then its folder are synced, so the content outlasts a power cut. After an error
    `path` is as before.
    """
    path = Path(path)
    with named(path), temporary(path) as name:
        with open(name, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_folder(path.parent)


def link_or_copy(path: Path, target: Path) -> None:
    """Let `target` be the file that `path` is now; what was `target` before is replaced."""
    with named(target), temporary(target) as name:
        try:
            os.link(path, name)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, name)
        os.replace(name, target)
        sync_folder(target.parent)


def checkpoint_hash(path: Path) -> str | None:
    """Return the SHA-256 in a checkpoint's seal, else that of the file; None if there is none."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - SEAL.size, 0))
        if (seal := file.read()).endswith(MAGIC) and len(seal) == SEAL.size:
            return seal[:32].hex()
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` outlast a power cut, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
                raise
        finally:
            os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Replace the content of a text file in one step."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a file's name may not be UTF-8


def write_json(path: str | Path, value: Any) -> None:
    """Replace the content of a JSON file in one step; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=4, allow_nan=False) + "\n")


def finite_or_none(value: float) -> float | None:
    """Return the number, or None (null in JSON) if it is not finite."""
    return value if math.isfinite(value) else None


def append_row(path: Path, row: Mapping[str, Any]) -> int:
    """Add one JSON object as a line at the end of a file; returns the file's new length.

    The part of a row that a full disk or a power cut has left at the end is removed.
    """
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    with named(path), path.open("a+b") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            end = (content := file.read()).rfind(b"\n") + 1
            if parse_rows(content[end:] + b"\n")[0]:
                line = b"\n" + line
            else:
                file.truncate(end)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def parse_rows(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Return the JSON objects of lines, up to one that is damaged or cut short; whether none is."""
    *lines, end = content.split(b"\n")
    rows: list[dict[str, Any]] = []
    with suppress(ValueError, RecursionError):  # all at once, which is quicker
        found = json.loads(b"[" + b",".join(lines) + b"]")
        whole = len(found) == len(lines) and all(line[:1] + line[-1:] == b"{}" for line in lines)
        if whole and all(isinstance(row, dict) for row in found):
            return found, not end
    with suppress(ValueError, TypeError, RecursionError):
        for line in lines:
            rows.append(dict(json.loads(line)))
    return rows, not end and len(rows) == len(lines)
