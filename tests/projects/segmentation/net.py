import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.shapes import NAMES
from utils import Params, png

COLOURS = torch.tensor([[0, 0, 0], [230, 120, 30], [40, 140, 220]], dtype=torch.uint8)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


class Net(nn.Module):
    """A U-Net (Ronneberger et al. 2015): down, up again, and a shortcut at every size."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width, classes = params.width, len(NAMES)
        self.first, self.down = block(3, width), block(width, 2 * width)
        self.bottom, self.up = block(2 * width, 2 * width), block(3 * width, width)
        self.scores = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)  # (B, C, H, W)
        small = self.bottom(self.down(F.max_pool2d(first, 2)))  # (B, 2C, H/2, W/2)
        large = F.interpolate(small, first.shape[2:])  # (B, 2C, H, W)
        return self.scores(self.up(torch.cat([first, large], dim=1)))  # (B, K, H, W)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)


class MeanIoU:
    """Mean over classes of intersection over union, summed up batch by batch."""

    def reset(self) -> None:
        self.hits, self.either = torch.zeros(len(NAMES)), torch.zeros(len(NAMES))

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        found = outputs.argmax(1)
        for k in range(len(NAMES)):
            self.hits[k] += ((found == k) & (labels == k)).sum().cpu()
            self.either[k] += ((found == k) | (labels == k)).sum().cpu()

    def compute(self) -> float:
        return float((self.hits / self.either.clamp(min=1)).mean())


metrics = {"iou": MeanIoU()}


def predict(model: nn.Module, inputs: Tensor, params: Params) -> list[dict[str, object]]:
    masks = model(inputs).argmax(1).cpu()  # (B, H, W)
    shares = [{name: float((mask == k).float().mean()) for k, name in enumerate(NAMES)}
              for mask in masks]  # fmt: skip
    pictures = [png(COLOURS[mask].numpy()) for mask in masks]
    return [{"mask.png": p, "shares": s} for p, s in zip(pictures, shares, strict=True)]
