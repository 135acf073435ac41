"""Checkpoint files: what may be in them, writing, reading, finding them.

A file is what torch.save writes, with a seal of 48 bytes behind it: SHA-256, length, a magic word.
Plain torch.load does not mind the seal, and does not check it.
"""

import hashlib
import logging
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from core.base.errors import UsageError, UserError, did_you_mean, listed
from core.base.files import MAGIC, SEAL, link_or_copy, replacing
from core.training import chain
from core.training.engines import divided_as

ARRAY = "NumPy array"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, not one of ours, or does not fit the net."""


def plain(
    value: Any, where: str = "checkpoint", strings: dict[str, str] | None = None, copy: bool = True
) -> Any:
    """Copy nested containers of tensors and plain Python values, so that equal values write equal.

    Tensors are copied to the CPU. Containers are built anew and strings interned, because pickle
    writes an object that it has met before differently from an equal one that it has not.

    Args:
        value: what is to be kept.
        where: what an error calls it.
        strings: the one object for every equal string, among the containers of one call.
        copy: False for tensors that nothing changes, such as those of another copy.

    Raises:
        TypeError: something is neither a tensor nor plain Python: it could not be loaded safely.
    """
    strings = {} if strings is None else strings
    if isinstance(value, Tensor):
        contiguous = torch.contiguous_format
        return value.detach().to("cpu", copy=True, memory_format=contiguous) if copy else value
    if isinstance(value, str | Path):
        text = str(value)  # of one character there can be two interned objects (Python 3.12)
        return strings.setdefault(text, chr(ord(text)) if len(text) == 1 else sys.intern(text))
    if isinstance(value, np.generic):  # before float, which np.float64 is a kind of
        return value.item()
    if value is None or isinstance(value, bool | int | float | complex | bytes):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {
            plain(name, where, strings): plain(item, f"{where}[{name!r}]", strings, copy)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [plain(item, f"{where}[{i}]", strings, copy) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TypeError(f"{where} is {type(value).__name__}, want tensors and plain Python values only")


def storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out, with a warning, what a checkpoint cannot hold."""
    kept = {}
    for name, value in values.items():
        try:
            plain(value, f"params.{name}")
            kept[name] = value
        except TypeError as error:
            logging.warning("Not kept in checkpoints: %s.", error)
    return kept


def with_arrays(value: Any) -> Any:
    """Mark the NumPy arrays inside of dicts and lists, so that without_marks gives them back."""
    if isinstance(value, np.ndarray):
        return {ARRAY: value}
    if isinstance(value, Mapping):
        return {name: with_arrays(item) for name, item in value.items()}
    return [with_arrays(item) for item in value] if isinstance(value, list) else value


def without_marks(value: Any) -> Any:
    """Turn what with_arrays marked, and a checkpoint kept as tensors, into NumPy arrays again."""
    if isinstance(value, Mapping):
        if value.keys() == {ARRAY}:
            return value[ARRAY].numpy()
        return {name: without_marks(item) for name, item in value.items()}
    return [without_marks(item) for item in value] if isinstance(value, list) else value


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
            return content
        except CheckpointError as error:
            if path is paths[-1]:
                raise CheckpointError(f"{error}\n--overwrite starts again from nothing.") from None
            warnings.append(f"{error}; resuming from {paths[i + 1].name}")
    return None


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
    """Return the weights that were validated: the averaged ones (`ema_decay`) if there are any."""
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
