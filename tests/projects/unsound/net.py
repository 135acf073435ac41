import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.unsound import net as this
from utils import Params

LISTS = {"layers in a list": "list", "layers in a dict": "dict"}
END: dict[str, Any] = {  # what is done at the end of forward
    "softmax before cross-entropy": lambda x: x.softmax(1),
    "relu on the scores": F.relu,
    "sigmoid on the scores": torch.sigmoid,
    "log_softmax before cross-entropy": lambda x: x.log_softmax(1),  # is no fault
}
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
        if self.fault in LISTS:
            self.hidden: Any = {"list": [nn.Linear(8, 8)], "dict": {"a": nn.Linear(8, 8)}}[
                LISTS[self.fault]
            ]
        if self.fault == "a tensor that is no parameter":
            self.weight = torch.full((8,), 0.5, requires_grad=True)
        if self.fault == "weights made anew":
            self.random = torch.rand(8) + 0.5
        if self.fault == "a frozen part that nothing loaded":
            self.body.requires_grad_(False)
        if self.fault in ("a frozen part in train mode", "a frozen part at rest"):
            self.body.requires_grad_(False)
            self.norm.requires_grad_(False)
        if self.fault == "a momentum of Keras":
            self.norm.momentum = 0.99
        if self.fault.startswith("first weights all "):
            for layer in (self.body, self.scores):
                nn.init.constant_(layer.weight, float(self.fault.split()[-1]))
                nn.init.zeros_(layer.bias)
        self.mean = torch.zeros(8)
        self.power = Power()

    def train(self, mode: bool = True) -> "Net":
        super().train(mode)
        if self.fault == "a frozen part at rest":
            self.norm.eval()
        return self

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
        if fault == "a layer whose gradient vanishes":
            h = 1e-12 * h
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
        if fault == "a keep probability":
            h = F.dropout(h, 0.95, self.training)
        if fault == "dropout in eval mode":
            h = F.dropout(h, 0.5)
        if fault in LISTS:
            layers = self.hidden.values() if LISTS[fault] == "dict" else self.hidden
            h = next(iter(layers))(h)
        if fault == "a tensor that is no parameter":
            h = h * self.weight
        if fault == "weights made anew":
            h = h * self.random
        outputs = self.scores(F.relu(h))
        if fault in END:
            outputs = END[fault](outputs)
        if fault == "large outputs":
            outputs = 100 * outputs
        return outputs.squeeze() if fault == "a squeeze" else outputs


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    if this.fault == "a loss that is a sum":
        return F.cross_entropy(outputs, labels, reduction="sum")
    if this.fault == "a class that the loss ignores":
        return F.cross_entropy(outputs, labels, ignore_index=0)
    if this.fault == "a loss of scrambled scores":
        return F.cross_entropy(outputs.t().reshape(outputs.shape), labels)
    if this.fault == "outputs that are no scores":
        return outputs.sum() * torch.nan
    return F.cross_entropy(outputs, labels)


def make_optimizer(model: Any, params: Params) -> torch.optim.Optimizer:
    part = model.scores if this.fault == "an optimizer of a part" else model
    return torch.optim.Adam(part.parameters(), lr=params.learning_rate)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    if this.fault == "a metric over the wrong axis":
        return float(np.mean(outputs.T.argmax(0)[: len(labels)] == labels.max() - labels))
    if this.fault == "a metric of counts":
        return float(np.sum(outputs.argmax(1) != labels))
    if this.fault == "a metric that crashes":
        raise IndexError("no such class")
    return float(np.mean(outputs.argmax(1) == labels))


metrics = {"accuracy": accuracy}
