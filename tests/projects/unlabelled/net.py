from typing import Any

from torch import Tensor, nn

from tests.projects.weighted.net import Net, metrics
from utils import Params

__all__ = ["Net", "forward", "loss_fn", "metrics"]


def forward(model: nn.Module, batch: dict[str, Any], params: Params) -> tuple[Tensor, Any]:
    return model(batch["x"]), batch.get("label")


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, labels)
