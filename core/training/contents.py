"""What a checkpoint may hold: tensors and plain Python, copied so that equal values write equal."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ARRAY = "NumPy array"


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
