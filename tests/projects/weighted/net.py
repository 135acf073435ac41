import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params

WEIGHTS = torch.tensor([1.0, 2.0, 5.0])


class Net(nn.Linear):
    def __init__(self, params: Params) -> None:
        super().__init__(4, 3)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, WEIGHTS.to(outputs))


def loss_weight(outputs: Tensor, labels: Tensor) -> Tensor:
    return WEIGHTS.to(outputs)[labels].sum()


metrics = {"accuracy": lambda outputs, labels: np.mean(outputs.argmax(1) == labels)}


def class_names(params: Params) -> list[str]:
    return ["low", "middle", "high"]
