import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


def Net(params: Params) -> nn.Module:  # noqa: N802 - a function may take the place of the class
    if params.depth == 1:
        return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs, labels.to(outputs.dtype))


metrics = {"error": lambda outputs, labels: np.abs(outputs - labels).mean()}
