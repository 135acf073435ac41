"""A second device, made up of CPU tensors: what a GPU would refuse or wait for shows without one.

`torch.device("meta")` stands for it. Its tensors hold their values in a tensor of the CPU, and
refuse to meet tensors that are not on the device. What a program would wait for is counted: asking
for values, shapes that depend on values (masks), and copies to the device that are not
non_blocking.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
COPYING = ("aten._to_copy", "aten.copy_")
INDEXING = ("aten.index", "aten.index_put", "aten.index_put_")
WAITING = (
    "aten._local_scalar_dense",
    "aten.bincount",
    "aten.equal",
    "aten.masked_select",
    "aten.nonzero",
    "aten.repeat_interleave",
    "aten._unique2",
    "aten.unique_dim",
    "aten.unique_consecutive",
)


class Elsewhere(Tensor):
    """A tensor on the other device; `held` has its values."""

    waits = 0  # how often a program waited for the device
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

    def tolist(self) -> Any:
        Elsewhere.waits += 1
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return call(function, args, kwargs or {})


def on_cpu(value: Any) -> Any:
    """Return what a tensor of the device holds; anything else as it is."""
    return value.held if isinstance(value, Elsewhere) else value


def call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do on the CPU what is asked of the device."""
    name = str(function).rsplit(".", 1)[0]
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [isinstance(x, Elsewhere) for x in given]
    wanted = kwargs.get("device")
    target = any(there) if wanted is None else torch.device(wanted) == DEVICE
    if name in COPYING:
        target = there[0] if name == "aten.copy_" else target
        non_blocking = kwargs.get("non_blocking") or (name == "aten.copy_" and args[2:] == (True,))
        Elsewhere.waits += target != there[-1] and not (target and non_blocking)
    elif any(there):
        masks = name in INDEXING and any(x.dtype is torch.bool for x in given[1:])
        Elsewhere.waits += name in WAITING or masks
        # CUDA takes scalars and the numbers of rows from the CPU.
        own = given[:1] if name in INDEXING else given
        if any(x.ndim and not isinstance(x, Elsewhere) for x in own):
            raise RuntimeError(f"{name}: tensors on two devices")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = function(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
    if not target:
        return out
    out = tree_map(lambda x: Elsewhere(x) if isinstance(x, Tensor) else x, out)
    return return_and_correct_aliasing(function, args, kwargs, out)


class AnotherDevice(TorchDispatchMode):
    """Lets the device be there inside a block: tensors can be made on it."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return call(function, args, kwargs or {})
