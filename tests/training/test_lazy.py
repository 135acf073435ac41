"""Layers that learn their shapes from the first batch."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from core.base.params import DEFAULTS, Params
from core.data.batches import Batches
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
