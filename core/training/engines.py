"""Gradients of several processes, summed by torch's own engines while the backward pass runs.

Losses count with their number of terms, the engines sum, and what comes out is divided once.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.base.errors import DataError, UsageError
from core.machine import processes
from core.machine.nested import apply
from core.task import Task, default_forward

Number = Tensor | float


class _Loss(nn.Module):
    """The weights that a loss reaches, for an engine that wants a net; it passes the loss on."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        exact = torch.promote_types(weights[0].dtype, torch.float32)
        # The gradient of `terms` is the number of terms, which so comes to all processes, too.
        self.terms = nn.Parameter(weights[0].new_zeros((), dtype=exact))
        self.spare = nn.Parameter(self.terms.detach().clone())  # without one DDP warns

    def forward(self, loss: Number, weight: Number) -> Tensor:
        return loss + self.terms * weight


class Replicas:
    """Gradients of weights that every process holds whole.

    DistributedDataParallel prepares its exchange in a forward pass, here one of the loss alone. So
    a net may be called through its submodules, each optimizer has an exchange of its own, a process
    may have nothing to add, and a weight may be left out by a step of all processes or of some.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights, self.loss = weights, _Loss(weights)
        self.engine = DistributedDataParallel(
            self.loss, find_unused_parameters=True, gradient_as_bucket_view=True, init_sync=False
        )

    def backward(self, loss: Tensor, weight: Number | None, last: bool) -> Tensor | None:
        """Add the gradient of a mean loss () over `weight` terms; None: of nothing.

        After the `last` one of an update the gradients are the sums of all processes. Then it
        returns what to divide them by, and the next update begins from nothing.
        """
        net = self.engine if last else self.loss
        total = net(0.0, 0.0) if weight is None else net(loss * weight, weight)
        total.backward(inputs=[*self.weights, self.loss.terms])
        terms = self.loss.terms.grad
        if last:
            self.loss.terms.grad = None
        return terms if last else None


class Shards:
    """Gradients of weights of which every process holds a part: FSDP2 sums them in every batch.

    All processes have to run the same passes, those without rows too. `others` are the weights of
    other optimizers, whose gradients a loss leaves.
    """

    def __init__(self, weights: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        self.weights, self.others = weights, others
        self.total: Number = 0.0
        self.suspect = False  # a loss without terms was not finite, and so its gradient may be

    def backward(self, loss: Tensor, weight: Number | None, last: bool) -> Tensor | None:
        """Do as `Replicas.backward` does."""
        on_cpu = loss.device.type == "cpu"
        self.suspect |= weight is None and on_cpu and not math.isfinite(loss.detach())
        weight = 0.0 if weight is None else weight
        terms = torch.as_tensor(self.total + weight, dtype=torch.float64, device=loss.device)
        work, self.total = (dist.all_reduce(terms, async_op=True), 0.0) if last else (None, terms)
        kept = [w.grad for w in self.others]
        for w in self.others:
            w.grad = None
        (loss * weight).backward()
        for w, grad in zip(self.others, kept, strict=True):
            w.grad = grad
        if work is not None:
            work.wait()
        if last and on_cpu and processes.maximum(self.suspect)[0]:
            self.suspect, grads = False, [w.grad for w in self.weights if w.grad is not None]
            if any(grad.to_local().isnan().any() for grad in grads):  # type: ignore
                raise DataError("with 'shard' a loss of ignored labels must have a gradient of 0")
        if last and on_cpu and terms == 0:  # of all processes: then no weight is stepped
            for w in self.weights:
                w.grad = None
        return terms if last else None


Engine = Replicas | Shards


def make_engine(model: nn.Module, weights: list[Tensor]) -> Engine:
    """Return what sums the gradients of some weights of a net."""
    if is_sharded(model):
        own = set(weights)
        return Shards(weights, [w for w in model.parameters() if w not in own])
    if any(getattr(module, "sparse", False) for module in model.modules()):
        raise UsageError("sparse gradients cannot be shared by several processes")
    return Replicas(weights)


def is_sharded(model: nn.Module) -> bool:
    """Tell whether every process holds a part of a net only."""
    return hasattr(model, "set_gradient_divide_factor")


def shard(task: Task, net: nn.Module, device: torch.device) -> None:
    """Divide the weights of a net among the processes.

    A block's weights are whole only while its passes run; those outside of blocks are from the
    forward pass to the end of the backward pass.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # takes a second, and only a few runs need it

    if scalars := [name for name, w in net.named_parameters() if w.ndim == 0]:
        raise UsageError(f"'shard' cannot divide {scalars[0]} of shape (): want (1,)")
    mesh, blocks = init_device_mesh(device.type, (processes.world_size(),)), _blocks(task, net)
    for module in [*reversed(blocks), net]:
        part = fully_shard(module, mesh=mesh)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    net._get_fsdp_state()._lazy_init()  # type: ignore # else a block called first is taken for it
    kinds = sorted({type(block).__name__.removeprefix("FSDP") for block in blocks})
    logging.info("Sharded: %d blocks (%s), and the rest", len(blocks), ", ".join(kinds))


def _blocks(task: Task, net: nn.Module) -> list[nn.Module]:
    """Return what is sharded apart, parents first: what the task says, or the largest children.

    These are the largest that repeat, as layers do. Of a task with a way of its own through the net
    they are its direct children, too, because that may call them one by one.
    """
    if task.blocks is not None:
        chosen = set(task.blocks(net))
        if not chosen <= {*net.modules()} - {net}:
            raise UsageError("blocks(model) of net.py must return modules inside of the model")
    else:
        alike: dict[tuple[nn.Module, type], list[nn.Module]] = {}
        for parent in net.modules():
            for child in parent.children():
                alike.setdefault((parent, type(child)), []).append(child)
        repeated = [children for children in alike.values() if len(children) > 1]
        chosen = set(max(repeated, key=lambda children: sum(map(_size, children)), default=[]))
        if task.train_step is not None or task.forward is not default_forward:
            chosen |= set(net.children())
    uses = Counter(w for _, w in net.named_parameters(remove_duplicate=False))
    return [each for each in net.modules() if each in chosen and _stands_alone(each, uses)]


def _size(module: nn.Module) -> int:
    return sum(w.numel() for w in module.parameters())


def _stands_alone(module: nn.Module, uses: Counter[nn.Parameter]) -> bool:
    """Tell whether a module is called, has weights, and shares none with the rest of the net."""
    own = Counter(w for _, w in module.named_parameters(remove_duplicate=False))
    called = type(module).forward is not nn.Module.forward
    return called and bool(own) and all(uses[w] == count for w, count in own.items())


def divided_as(sharded: Tensor, whole: Tensor) -> Tensor:
    """Return this process's part of a tensor, divided as another one is, if that is."""
    if not hasattr(sharded, "placements") or hasattr(whole, "placements"):
        return whole
    from torch.distributed.tensor import distribute_tensor  # takes most of a second

    mesh, placements = sharded.device_mesh, sharded.placements  # type: ignore[attr-defined]
    whole = whole.detach().to(sharded.device)
    return distribute_tensor(whole, mesh, placements, src_data_rank=None).clone()


def wholes(value: Any) -> Any:
    """Return nested tensors, on rank 0 whole and on the CPU; every process has to ask."""
    from torch.distributed.tensor import DTensor

    def whole(x: Tensor) -> Tensor:
        if not isinstance(x, DTensor):
            return x
        found = x.full_tensor()
        return found.cpu() if processes.is_main() else found.new_empty(0)

    return apply(whole, value)
