import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


class Net(nn.Sequential):
    """A small net for three classes; which examples it learns from says `fold`."""

    def __init__(self, params: Params) -> None:
        super().__init__(nn.Linear(4, params.width), nn.ReLU(), nn.Linear(params.width, 3))


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}


def class_names(params: Params) -> list[str]:
    return ["red", "green", "blue"]
