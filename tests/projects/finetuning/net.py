import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchvision.models.resnet import BasicBlock, ResNet

from utils import Params


class Net(nn.Module):
    """A ResNet (He et al. 2016) as body, and a new head for classes of our own."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.body = ResNet(BasicBlock, params.layers)  # [2, 2, 2, 2] is ResNet-18
        self.head = nn.Linear(self.body.fc.in_features, 2)
        self.body.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # (B, 3, H, W) to (B, K)


def initialize(model: Net, params: Params) -> None:
    if params.pretrained is not None:  # a file of torchvision, such as resnet18-f37072fd.pth
        weights = torch.load(params.pretrained, weights_only=True)
        body = {name: w for name, w in weights.items() if not name.startswith("fc.")}
        model.body.load_state_dict(body)


def make_optimizer(model: Net, params: Params) -> torch.optim.Optimizer:
    rates = {"body": params.body_rate * params.learning_rate, "head": params.learning_rate}
    groups = [{"params": getattr(model, n).parameters(), "lr": r} for n, r in rates.items()]
    return torch.optim.SGD(groups, momentum=0.9)


def make_scheduler(optimizer: Any, params: Params, steps_per_epoch: int) -> LambdaLR:
    warmup, total = steps_per_epoch, params.num_epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:  # the first epoch: linear from almost 0
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, total - warmup))

    return LambdaLR(optimizer, factor)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}


def class_names(params: Params) -> list[str]:
    return ["square", "ring"]
