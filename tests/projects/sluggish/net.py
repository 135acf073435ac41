import time

import torch
from torch import Tensor

from tests.projects.linear import net
from tests.projects.linear.net import class_names, loss_fn, metrics

__all__ = ["Net", "class_names", "loss_fn", "metrics"]


class Net(net.Net):
    """Waits in `params.slow`: 4 ms in training, beside a pass of 1 ms or less."""

    def forward(self, images: Tensor) -> Tensor:
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        time.sleep(0.004 * (precision == self.slow))
        return super().forward(images)

    def __init__(self, params: net.Params) -> None:
        super().__init__(params)
        self.slow = params.slow
