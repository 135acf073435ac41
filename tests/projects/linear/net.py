import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.pictures.net import class_names, metrics
from utils import Params

__all__ = ["Net", "class_names", "loss_fn", "metrics"]


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        self.scores = nn.Linear(3 * 8 * 8, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(F.avg_pool2d(images, 2).flatten(1))


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)
