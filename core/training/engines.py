"""Gradients of several processes, summed by torch's own engines while the backward pass runs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.machine.processes import exchange


class _Loss(nn.Module):
    """The weights that a loss reaches, for an engine that wants a net; it passes the loss on."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        exact = torch.promote_types(weights[0].dtype, torch.float32)
        # The gradient of `terms` is the number of terms, which so comes to all processes, too.
        self.terms = nn.Parameter(weights[0].new_zeros((), dtype=exact))
        self.spare = nn.Parameter(self.terms.detach().clone())  # without one DDP warns

    def forward(self, loss: Tensor | float, weight: Tensor | float) -> Tensor:
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

    def backward(self, loss: Tensor | None, weight: Tensor | float, last: bool) -> None:
        """Add the gradient of a mean loss () over `weight` terms; after the `last` all are shared.

        None stands for a loss without terms.
        """
        net = self.engine if last else self.loss
        total = net(0.0, 0.0) if loss is None else net(loss * weight, weight)
        with exchange():
            total.backward(inputs=[*self.weights, self.loss.terms])

    def terms(self) -> Tensor:
        """Return what to divide the gradients by; the next update begins from nothing."""
        total, self.loss.terms.grad = self.loss.terms.grad, None
        assert total is not None
        return total
