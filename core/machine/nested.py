"""Tensors inside tuples, lists and dicts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def apply(function: Callable[[Any], Any], value: Any, of: Any = Tensor) -> Any:
    """Rebuild nested tuples, lists and dicts with `function` of every tensor, or `of`, inside."""
    if isinstance(value, of):
        return function(value)
    if isinstance(value, Mapping):
        return {name: apply(function, item, of) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(apply(function, item, of) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(apply(function, item, of) for item in value)
    return value


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors inside nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, str) or not isinstance(items, Iterable):
        return []
    return [tensor for item in items for tensor in tensors(item)]


def num_examples(value: Any) -> int | None:
    """Return the number of examples of a batch's nested values; None if there is no tensor.

    It is the length of a list with one dict per example, else of the first tensor.
    """
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 1
    if is_per_example(value):
        return len(value)
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, str) or not isinstance(items, Iterable):
        return None
    return next((n for item in items if (n := num_examples(item)) is not None), None)


def is_per_example(value: Any) -> bool:
    """Tell whether a value is a list with one dict per example, as detection has them.

    Those have the same keys; a list of dicts with others is structure, as a collate function gives.
    """
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        return False
    return len({tuple(item) for item in value}) == 1


def example(value: Any, i: int, count: int) -> Any:
    """Return what belongs to example `i` of a batch of `count`, with the first dimension kept.

    Of a tensor that is one row, or several where tokens are merged, (B*T, ...); of a list of
    strings or numbers, or with one dict per example, one entry.
    """
    if isinstance(value, Tensor):
        share = len(value) // count if value.ndim else 0
        return value[i * share : (i + 1) * share] if share else value
    if isinstance(value, Mapping):
        return {name: example(item, i, count) for name, item in value.items()}
    listed = isinstance(value, tuple | list) and len(value) == count
    if listed and (all(isinstance(x, str | int | float) for x in value) or is_per_example(value)):
        return value[i : i + 1]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(example(item, i, count) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(example(item, i, count) for item in value)
    return value


def as_array(x: Tensor) -> np.ndarray:
    """Return a tensor as a NumPy array."""
    return (x.float() if x.dtype is torch.bfloat16 else x).detach().cpu().numpy()


def from_array(x: Any) -> Any:
    """Return a NumPy array or number as a tensor; one of strings as a list."""
    return torch.tensor(x) if x.dtype.kind in "biufc" else x.tolist()


def first_difference(a: Any, b: Any, where: str, tolerance: float = 0.0) -> str | None:
    """Say where two nested dicts, lists and tuples first differ; None if equal (NaN equals NaN).

    Numbers may differ by `tolerance` times the largest one of their tensor, or 1 if that is less.
    """
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        pairs = ((name, a.get(name), b.get(name)) for name in {**a, **b})
        found = (first_difference(x, y, f"{where}, {n}", tolerance) for n, x, y in pairs)
        return next(filter(None, found), None)
    if isinstance(a, float) and isinstance(b, float):
        a, b = torch.tensor([a, b], dtype=torch.float64)
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        if type(a) is type(b) and hasattr(a, "__dict__"):  # a batch of a library's own kind
            return first_difference(vars(a), vars(b), where, tolerance)
        return None if a == b else where
    if a.shape != b.shape or a.dtype != b.dtype:
        return where
    slack = 0.0
    if tolerance and b.numel():
        slack = tolerance * max(1.0, float(b.float().abs().nan_to_num(0.0, 0.0).max()))
    return None if torch.allclose(a, b, 0.0, slack, equal_nan=True) else where
