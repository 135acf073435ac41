import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.kind = nn.Linear(8, 3)
        self.size = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.tanh(self.body(x))
        return {"kind": self.kind(h), "size": self.size(h).squeeze(1)}


def make_optimizer(model: Net, params: Params) -> torch.optim.Optimizer:
    groups = [
        {"params": model.body.parameters(), "lr": params.learning_rate / 10},
        {"params": [*model.kind.parameters(), *model.size.parameters()]},
    ]
    return torch.optim.SGD(groups, lr=params.learning_rate, momentum=0.9)


def make_scheduler(
    optimizer: torch.optim.Optimizer, params: Params, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)


def loss_fn(outputs: dict[str, Tensor], labels: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    kind = F.cross_entropy(outputs["kind"], labels[0])
    size = F.mse_loss(outputs["size"], labels[1])
    return {"loss": kind + 0.1 * size, "kind": kind, "size": size}


metrics = {
    "accuracy": lambda outputs, labels: np.mean(outputs["kind"].argmax(1) == labels[0]),
    "size_error": lambda outputs, labels: np.abs(outputs["size"] - labels[1]).mean(),
}
