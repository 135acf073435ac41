"""A second device, made up of CPU tensors: what a GPU would refuse or wait for shows without one.

`torch.device("meta")` stands for it. Its tensors hold their values in a tensor of the CPU, refuse
to meet tensors that are not on the device, and count how often their values are asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
MOVING = ("aten._to_copy", "aten.copy_", "aten._copy_from")
READING = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten._unique2")


class Elsewhere(Tensor):
    """A tensor on the other device; `held` has its values."""

    reads = 0  # how often a program waited for the device
    is_meta = False  # values are there, to be copied over

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return call(function, args, kwargs or {})


def held(value: Any) -> Any:
    """Return what a tensor of the device holds; anything else as it is."""
    return value.held if isinstance(value, Elsewhere) else value


def call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do on the CPU what is asked of the device."""
    name = str(function).rsplit(".", 1)[0]
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [isinstance(x, Elsewhere) for x in given]
    wanted = kwargs.get("device")
    target = any(there) if wanted is None else torch.device(wanted) == DEVICE
    if name in MOVING:
        waits = not target and any(there)
        if name == "aten.copy_":
            waits = there[1] and not there[0]
            target = there[0]
        Elsewhere.reads += waits
    elif any(there):
        Elsewhere.reads += name in READING
        if any(not here and x.ndim for here, x in zip(there, given, strict=True)):
            raise RuntimeError(f"{name}: tensors on two devices")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = function(*tree_map(held, args), **tree_map(held, kwargs))
    if not target:
        return out
    out = tree_map(lambda x: Elsewhere(x) if isinstance(x, Tensor) else x, out)
    return return_and_correct_aliasing(function, args, kwargs, out)


class _Factories(TorchDispatchMode):
    """Makes tensors on the device where a program asks for some there."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return call(function, args, kwargs or {})


@contextmanager
def there_is_another_device() -> Iterator[None]:
    """Let the device be there inside the block."""
    with _Factories():
        yield
