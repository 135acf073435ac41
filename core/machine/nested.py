"""Tensors inside tuples, lists and dicts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor


def apply(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Rebuild nested tuples, lists and dicts with `function` of every tensor inside."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: apply(function, item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(apply(function, item) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(apply(function, item) for item in value)
    return value


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors inside nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, str) or not isinstance(items, Iterable):
        return []
    return [tensor for item in items for tensor in tensors(item)]


def example(value: Any, i: int, count: int) -> Any:
    """Return what belongs to example `i` of a batch of `count`, with the first dimension kept.

    Of a tensor that is one row, or several where tokens are merged, (B*T, ...); of a list of
    strings or numbers, one entry.
    """
    if isinstance(value, Tensor):
        share = len(value) // count if value.ndim else 0
        return value[i * share : (i + 1) * share] if share else value
    if isinstance(value, Mapping):
        return {name: example(item, i, count) for name, item in value.items()}
    if isinstance(value, tuple | list) and len(value) == count and _is_plain(value):
        return value[i : i + 1]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(example(item, i, count) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(example(item, i, count) for item in value)
    return value


def _is_plain(values: tuple[Any, ...] | list[Any]) -> bool:
    return all(isinstance(value, str | int | float) for value in values)
