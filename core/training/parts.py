"""Checkpoints of a sharded net in parts, for nets that fit into no machine's memory as a whole.

Every process writes what it holds into a folder `last.dcp/N`, by torch.distributed.checkpoint.
`last.pt` has all else, and the hashes of that folder's files; its rename makes the save count.
"""

import itertools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from core.machine import processes
from core.machine.nested import apply, tensors
from core.training.checkpoint import PARTS, check_parts, file_hash
from core.training.engines import is_sharded
from core.training.optimizers import weights_of
from core.training.state import State

Content = dict[str, Any]


class Parts:
    """Writes the weights and optimizer states of a run in parts, while training goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder / PARTS, 0  # of the last save
        self.group: Any = None  # of processes, for saving alone

    def begin(self, shared: Content) -> tuple[Content, Callable[[], Content]]:
        """Copy divided tensors and begin to write them; all processes have to call it.

        Returns:
            the values with empty tensors of shape (0, *shape) in their places, and what waits for
            the end of writing, and then tells `last.pt` where the tensors are.
        """
        from torch.distributed import checkpoint as dcp  # takes a second, and few runs need it

        self.group = self.group or dist.new_group(backend="gloo")
        self.number += 1
        path, numbered = self.folder / str(self.number), enumerate(tensors(shared))
        # What every process holds whole, as buffers that may differ, last.pt has from rank 0.
        named = {str(i): x.detach().clone() for i, x in numbered if _is_divided(x)}
        saving: Any = dcp.async_save(named, checkpoint_id=path, process_group=self.group)

        def end() -> Content:
            saving.result()
            if not processes.is_main():
                return {}
            files = {part.name: file_hash(part) for part in path.iterdir()}
            return {"number": self.number, "files": files, "divided": sorted(map(int, named))}

        return apply(_without_values, shared), end

    def remove_older(self) -> None:
        """Remove the parts that neither `last.pt` nor `previous.pt` needs."""
        for path in self.folder.iterdir():
            if path.name not in (str(self.number), str(self.number - 1)):
                shutil.rmtree(path)

    def load(self, state: State, content: Content) -> Content:
        """Return a checkpoint's content with its tensors, divided as the state's are.

        All processes have to call it, as many as saved it or others.
        """
        from torch.distributed import checkpoint as dcp

        check = processes.on_main(check_parts)
        check(self.folder.parent, content)
        self.number = content["parts"]["number"]
        nets = {"state_dict": state.model, "ema_dict": state.average}
        weights = {w.shape: w for w in weights_of(*state.optimizers.values())}
        divided, numbers = set(content["parts"]["divided"]), itertools.count()

        def place(x: Tensor, own: Tensor | None) -> Tensor:
            return _like(x, own) if next(numbers) in divided else x

        shared = dict[str, Any]()
        for name, net in nets.items():
            own = net.state_dict() if net is not None else {}
            kept = (content[name] or {}).items()
            shared[name] = {key: place(x, own.get(key)) for key, x in kept} or None
        for name in ("optim_dict", "other_optim_dicts"):  # whose tensors are divided as the weights
            shared[name] = apply(lambda x: place(x, weights.get(x.shape[1:])), content[name])
        named = {str(i): x for i, x in enumerate(tensors(shared)) if i in divided}
        with warnings.catch_warnings(action="ignore"):  # that this is the only process
            dcp.load(named, checkpoint_id=self.folder / str(self.number))
        return {**content, **shared}


def _is_divided(x: Tensor) -> bool:
    return hasattr(x, "placements")


def _without_values(x: Tensor) -> Tensor:
    return torch.empty(0, *x.shape, dtype=x.dtype) if _is_divided(x) else x


def _like(placeholder: Tensor, own: Tensor | None) -> Tensor:
    """Return an empty tensor for a saved one, divided as the state's `own` is."""
    shape, dtype = placeholder.shape[1:], placeholder.dtype
    if own is None or own.shape != shape or not _is_divided(own):
        return torch.empty(shape, dtype=dtype)
    return torch.empty_like(own, dtype=dtype, requires_grad=False)


def in_parts(state: State) -> bool:
    """Tell whether the checkpoints of a state are written in parts."""
    return bool(state.params.shard_checkpoints) and is_sharded(state.model)
