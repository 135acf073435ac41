"""Weights that are added to the inputs; many of them, if a checkpoint is to be large."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params

NUM_CLASSES = 10


class Net(nn.Module):
    """Add one weight to each score, and the mean of the others to all."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(NUM_CLASSES))
        size = 2**20
        count = params.dict.get("num_weights", 0) // size
        self.others = nn.ParameterList(torch.zeros(size) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, K) scores to (B, K) scores."""
        return x + sum((weights.mean() for weights in self.others), self.shift)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy ()."""
    return F.cross_entropy(outputs, labels)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


metrics = {"accuracy": accuracy}
