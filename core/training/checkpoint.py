"""Checkpoint files: writing, reading, finding them.

A file is what torch.save writes, with a seal of 48 bytes behind it: SHA-256, length, a magic word.
Plain torch.load does not mind the seal, and does not check it.
"""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from core.base.errors import UsageError, UserError, did_you_mean, listed
from core.base.files import MAGIC, SEAL, link_or_copy, replacing
from core.training import chain
from core.training.engines import divided_as

PARTS = "last.dcp"  # folder of what the processes write apart (`shard_checkpoints`)


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, not one of ours, or does not fit the net."""


class _Sealing:
    """A file for torch.save that takes SHA-256 and length of what goes through it.

    An error of the disk is kept until `seal`: an exception must not pass through torch's writer.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.length = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, part: bytes | memoryview) -> int:
        """Take in the next part."""
        self.digest.update(part)
        self.length += len(part)
        if self.error is None:
            try:
                self.file.write(part)
            except OSError as error:
                self.error = error
        return len(part)

    def flush(self) -> None:
        """Do nothing: torch.save asks for it, and the file is synced later."""

    def seal(self) -> None:
        """Write the seal; raises the error that came up on the way."""
        if self.error is not None:
            raise self.error
        self.file.write(SEAL.pack(self.digest.digest(), self.length, MAGIC))


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a sealed checkpoint in one step: the file is the old one or the new one, never a part.

    Args:
        path: the file to replace.
        content: what `plain` returned.

    Raises:
        OSError: the disk is full or fails; `path` is as before and no temporary file is left.
    """
    with replacing(path) as file:
        body = _Sealing(file)  # saved to a path, the archive would hold the file's name
        torch.save(dict(content), body)  # type: ignore[arg-type]
        body.seal()


def _check_seal(path: Path) -> None:
    """Check the seal of a file; one that is not named `.pt` may lack it, which is announced."""
    with path.open("rb") as file:
        length = max(file.seek(0, 2) - SEAL.size, 0)
        file.seek(length)
        seal = file.read()
        if not (len(seal) == SEAL.size and seal.endswith(MAGIC)):
            if path.suffix == ".pt":
                raise CheckpointError(
                    f"{path}: its seal is missing, so the file is cut short or not ours"
                )
            logging.warning("%s: carries no seal, so it is loaded unverified", path)
            return
        file.seek(0)
        digest, left = hashlib.sha256(), length
        while left and (part := file.read(min(2**20, left))):
            digest.update(part)
            left -= len(part)
    if SEAL.unpack(seal)[:2] != (digest.digest(), length):
        raise CheckpointError(f"{path}: its content does not match its seal, the file is damaged")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running any code from it.

    A file named `.pt` must carry our seal. Any other name, such as the CS230 template's
    `best.pth.tar`, may lack it and is announced as unverified. The tensors lie in the file until
    they are used: they take no memory of their own.

    Raises:
        CheckpointError: the file is missing, damaged, compressed, or holds more than tensors and
            plain Python values.
    """
    path = Path(path)
    try:
        _check_seal(path)
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(
                    f"{path}: holds compressed data, which torch.save never writes"
                )
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except PermissionError:
        raise CheckpointError(f"{path}: may not be read (permission denied)") from None
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path}: not an archive of torch.save (1.6 or later)") from None
    except Exception as error:
        kind = type(error).__name__
        raise CheckpointError(
            f"{path}: refused ({kind}): it is damaged, or holds more than tensors and plain values"
        ) from error
    if not (isinstance(content, dict) and isinstance(content.get("state_dict"), dict)):
        raise CheckpointError(f"{path}: no 'state_dict' in it, so it is not a checkpoint")
    return content


def commit(
    folder: Path,
    last: Mapping[str, Any],
    best: Mapping[str, Any] | None,
    tie: Callable[[Path, Mapping[str, Any]], None] = lambda path, content: None,
    keep: int | None = None,
) -> None:
    """Write the checkpoints of one save in the order best, previous, last.

    The rename of `last.pt` is the moment at which the save counts. Before it, `tie` may note which
    numbers belong to the new `best.pt`. Of a run that keeps checkpoints (`keep_checkpoints`) some
    stay, as the same file under a second name.
    """
    if best is not None:
        write_checkpoint(folder / "best.pt", best)
        tie(folder / "best.pt", best)
    if (folder / "last.pt").exists():
        link_or_copy(folder / "last.pt", folder / "previous.pt")
    if keep is None:
        write_checkpoint(folder / "last.pt", last)
        return
    own, hashes = chain.links(folder, last, keep)
    write_checkpoint(own, {**last, "chain": hashes})
    if own.name != "last.pt":
        link_or_copy(own, folder / "last.pt")


def read_newest(folder: Path, warnings: list[str]) -> dict[str, Any] | None:
    """Read `last.pt`, or `previous.pt` if that does not verify; None if there is neither.

    `warnings` is told of a file that does not verify.

    Raises:
        CheckpointError: there are checkpoints, but none verifies.
    """
    paths = [path for name in ("last.pt", "previous.pt") if (path := folder / name).exists()]
    for i, path in enumerate(paths):
        try:
            content = read_checkpoint(path)
            if "random_states" not in content:
                raise CheckpointError(f"{path}: holds weights, but no state of training")
            check_parts(folder, content)
            return content
        except CheckpointError as error:
            if path is paths[-1]:
                raise CheckpointError(f"{error}\n--overwrite starts again from nothing.") from None
            warnings.append(f"{error}; resuming from {paths[i + 1].name}")
    return None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_parts(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise CheckpointError if parts that a checkpoint needs are missing or damaged."""
    parts = content.get("parts", {"files": {}})
    for name, sha256 in parts["files"].items():
        path = folder / PARTS / str(parts["number"]) / name
        if not path.is_file() or file_hash(path) != sha256:
            raise CheckpointError(f"{path}: is missing or damaged")


def find_checkpoint(folder: Path, name: str) -> Path:
    """Find a checkpoint by its path, or by "best" or "last"; CheckpointError if there is none."""
    for found in (folder / f"{name}.pt", folder / f"{name}.pth.tar", folder / name, Path(name)):
        if found.is_file():
            return found
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    there = [path.stem for path in sorted(folder.glob("*.pt"))]
    hint = did_you_mean(name, there) or f"; there is {', '.join(there) or 'none'}"
    raise CheckpointError(f"{folder}: no checkpoint {name!r}{hint}")


def kept_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that were validated: the averaged ones (`ema_decay`) if there are any.

    Raises:
        CheckpointError: they lie elsewhere, in parts.
    """
    if "parts" in content:
        raise CheckpointError(
            "the weights of last.pt lie in last.dcp; take best.pt, which is whole"
        )
    averaged = content.get("ema_dict") or {}
    own = {name.removeprefix("module."): w for name, w in averaged.items() if name != "n_averaged"}
    return own or content["state_dict"]


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Put weights into a model that they fit in name, shape and type.

    Raises:
        CheckpointError: they do not fit; the first differences are named.
    """
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is not in the net" for name in weights if name not in own]
    for name in own.keys() & weights.keys():
        if nn.parameter.is_lazy(own[name]):
            continue
        mine, theirs = (f"{tuple(w[name].shape)} {w[name].dtype}" for w in (own, weights))
        if mine != theirs:
            faults.append(f"{name} is {theirs}, want {mine}")
    if faults:
        raise CheckpointError(f"{path} does not fit the net:\n{listed(sorted(faults), 3)}")
    model.load_state_dict({name: divided_as(own[name], w) for name, w in weights.items()})
