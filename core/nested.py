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
