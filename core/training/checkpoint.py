"""What is in a checkpoint; writing and reading checkpoint files.

A file is what torch.save writes, with a seal behind it (core/training/sealing.py). torch.load does
not mind the seal, and does not check it.
"""

import io
import logging
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.base.errors import UserError, listed
from core.base.files import link_or_copy, replacing
from core.training.sealing import MAGIC, Sealing, unseal

ARRAY = "NumPy array"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, not one of ours, or does not fit the net."""


def plain(
    value: Any,
    where: str = "checkpoint",
    strings: dict[str, str] | None = None,
    copy: bool = True,
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


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a sealed checkpoint in one step: the file is the old one or the new one, never a part.

    Args:
        path: the file to replace.
        content: what `plain` returned.

    Raises:
        OSError: the disk is full or fails; `path` is as before and no temporary file is left.
    """
    with replacing(path) as file:
        body = Sealing(file)  # saved to a path, the archive would hold the file's name
        torch.save(dict(content), body)  # type: ignore[arg-type]
        body.seal()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running any code from it.

    A file named `.pt` must carry our seal. Any other name, such as the CS230 template's
    `best.pth.tar`, may lack it and is announced as unverified.

    Raises:
        CheckpointError: the file is missing, damaged, compressed, or holds more than tensors and
            plain Python values.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    sealed = data.endswith(MAGIC)
    if sealed or path.suffix == ".pt":
        try:
            body = unseal(data)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
    else:
        body = memoryview(data)
        logging.warning("%s: carries no seal, so it is loaded unverified", path)
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(
                    f"{path}: holds compressed data, which torch.save never writes"
                )
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
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


def commit(folder: Path, last: Mapping[str, Any], best: Mapping[str, Any] | None) -> None:
    """Write the checkpoints of one save in the order best, previous, last.

    The rename of `last.pt` is the moment at which the save counts.
    """
    if best is not None:
        write_checkpoint(folder / "best.pt", best)
    if (folder / "last.pt").exists():
        link_or_copy(folder / "last.pt", folder / "previous.pt")
    write_checkpoint(folder / "last.pt", last)


def read_newest(folder: Path, warnings: list[str]) -> dict[str, Any] | None:
    """Read `last.pt`, or `previous.pt` if that does not verify; None if there is neither.

    Args:
        folder: of the run.
        warnings: is told of a file that does not verify.

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
            if i == len(paths) - 1:
                raise CheckpointError(f"{error}\n--overwrite starts again from nothing.") from None
            warnings.append(f"{error}; going on from {paths[i + 1].name}")
    return None


def find_checkpoint(folder: Path, name: str) -> Path:
    """Find the checkpoint that `--restore_file` names: a path, or "best" or "last" in the folder.

    Raises:
        CheckpointError: there is no such file.
    """
    candidates = [folder / f"{name}.pt", folder / f"{name}.pth.tar", folder / name, Path(name)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"{folder}: no checkpoint {name!r} (looked for {name}.pt, {name}.pth.tar)"
    )


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
        mine, theirs = own[name], weights[name]
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            faults.append(
                f"{name} is {tuple(theirs.shape)} {theirs.dtype}, "
                f"want {tuple(mine.shape)} {mine.dtype}"
            )
    if faults:
        raise CheckpointError(f"{path} does not fit the net:\n{listed(sorted(faults), 3)}")
    model.load_state_dict(dict(weights))


def save_checkpoint(state: Mapping[str, Any], is_best: bool, checkpoint: str | Path) -> None:
    """Write `last.pth.tar`, and `best.pth.tar` too if `is_best`, in the folder `checkpoint`.

    This is the CS230 template's call, for code that makes its own checkpoints.

    Args:
        state: 'state_dict' of the model, and whatever else: 'epoch', 'optim_dict'.
        is_best: whether this is the best model so far.
        checkpoint: the folder, made if it is missing.
    """
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    content = plain(state)
    write_checkpoint(folder / "last.pth.tar", content)
    if is_best:
        write_checkpoint(folder / "best.pth.tar", content)


def load_checkpoint(
    checkpoint: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` and, if one is given, its state into `optimizer`.

    Returns:
        The whole checkpoint, a dict.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit.
    """
    content = read_checkpoint(checkpoint)
    load_weights(model, content["state_dict"], checkpoint)
    if optimizer is not None:
        if not content.get("optim_dict"):
            raise CheckpointError(f"{checkpoint}: holds no state of an optimizer ('optim_dict')")
        optimizer.load_state_dict(content["optim_dict"])
    return content
