"""Layers that learn their shapes from the first batch."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.base.errors import UsageError
from core.base.params import DEFAULTS, Params
from core.data.batches import Batches
from core.reading.outputs import first_outputs
from core.task import Task
from core.training.state import make_state


def test_a_lazy_net_is_trained_by_an_optimizer_over_its_real_weights() -> None:
    values = DEFAULTS | {"precision": "float32", "batch_size": 4, "num_threads": 1}
    task = Task("lazy", lambda params: nn.LazyLinear(3), F.cross_entropy, {}, dict)
    loader = Batches(torch.randn(8, 5), torch.arange(8) % 3, batch_size=4, train=True)
    made = make_state(task, Params.of(values, Path("p.json")), torch.device("cpu"), loader)
    assert [tuple(w.shape) for w in made.model.parameters()] == [(3, 5), (3,)]
    held = [w for group in made.optimizers["main"].param_groups for w in group["params"]]
    assert [w is own for w, own in zip(held, made.model.parameters(), strict=True)] == [True, True]


class Late(nn.Module):
    """A net that makes its last layer when it has seen a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.last is None:
            self.last = nn.Linear(4, 3)  # type: ignore[assignment]
        return self.last(self.first(x))  # type: ignore[misc]


def test_weights_that_are_made_in_forward_are_refused() -> None:
    task = Task("late", lambda params: Late(), F.cross_entropy, {}, dict)
    loader = Batches(torch.randn(8, 5), torch.arange(8) % 3, batch_size=4)
    params = Params.of(DEFAULTS | {"precision": "float32"}, Path("p.json"))
    with pytest.raises(UsageError, match="in forward, too late"):
        first_outputs(task, Late(), loader, params)
