import math
import time

import torch
from torch import Tensor

from tests.projects.linear import net
from tests.projects.linear.net import class_names, loss_fn, metrics

__all__ = ["Net", "class_names", "loss_fn", "metrics"]


class Net(net.Net):
    """Waits 12 ms in `params.slow`, and 0.1 s with two threads from call `busy_after` on.

    A pass takes 1 ms or less.
    """

    def forward(self, images: Tensor) -> Tensor:
        self.calls += self.training
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        time.sleep(0.012 * (precision == self.slow))
        time.sleep(0.1 * (torch.get_num_threads() == 2 and self.calls > self.busy_after))
        return super().forward(images)

    def __init__(self, params: net.Params) -> None:
        super().__init__(params)
        self.slow, self.calls = params.slow, 0
        self.busy_after = params.dict.get("busy_after", math.inf)
