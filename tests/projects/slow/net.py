import time

from torch import Tensor

from tests.projects.linear import net
from tests.projects.linear.net import Net, metrics
from tests.projects.slow import data_loader

__all__ = ["Net", "loss_fn", "metrics"]


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    if outputs.requires_grad:
        for folder in data_loader.folders:
            (folder / "in_step").touch()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.05)
    return net.loss_fn(outputs, labels)
