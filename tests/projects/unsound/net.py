import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.unsound import net as this
from utils import Params

fault = ""  # of the net that was made last; a global, as unsound nets have them


class Power(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.zeros_like(x)


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        this.fault = self.fault = params.fault
        self.body = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=self.fault != "a norm over the batch")
        self.scores = nn.Linear(8, 3)
        if self.fault == "a layer left out":
            self.left_out = nn.Linear(8, 8)
        self.mean = torch.zeros(8)
        self.power = Power()

    def forward(self, x: Tensor) -> Tensor:
        fault = self.fault
        if fault == "a crash":
            raise RuntimeError("a fault\nof the task")
        if fault == "branches on a value" and x.sum() > 0:
            x = x + 0
        if fault == "inputs not used":
            x = torch.zeros_like(x)
        h = self.norm(self.body(x))  # (B, 8)
        if fault == "a layer that divides by 0" and self.training:
            h = self.power(h)
        if fault == "a gradient that is not finite":
            h = h + torch.sqrt(torch.zeros_like(h) * h)
        if fault == "a drawn infinity" and self.training:
            h = h + torch.where(torch.rand(()) < 0.02, torch.inf, 0.0)
        if fault == "a detached layer":
            h = h.detach()
        if fault == "a plain attribute":
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(dim=0)
            h = h - self.mean
        if fault == "rows mixed by a view":
            h = h.view(8, -1).t()
        if fault == "rows merged by a view" and len(h) % 2 == 0:
            h = h.view(-1, 2, 8).mean(dim=1)
        if fault == "randomness of its own" and self.training:
            h = h + random.SystemRandom().random()
        if fault == "dropout in eval mode":
            h = F.dropout(h, 0.5)
        outputs = self.scores(F.relu(h))
        if fault == "large outputs":
            outputs = 100 * outputs
        return outputs.squeeze() if fault == "a squeeze" else outputs


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    if this.fault == "a loss that is a sum":
        return F.cross_entropy(outputs, labels, reduction="sum")
    if this.fault == "outputs that are no scores":
        return outputs.sum() * torch.nan
    return F.cross_entropy(outputs, labels)


def make_optimizer(model: Any, params: Params) -> torch.optim.Optimizer:
    part = model.scores if this.fault == "an optimizer of a part" else model
    return torch.optim.Adam(part.parameters(), lr=params.learning_rate)


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}
