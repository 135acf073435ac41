import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


def Net(params: Params) -> nn.Module:  # noqa: N802
    return nn.Sequential(nn.Linear(4, params.width), nn.ReLU(), nn.Linear(params.width, 3))


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}
