"""Pretrain a small ResNet, and write it as torchvision does: pretrain FILE.pth."""

import sys

import torch
import torch.nn.functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from tests.projects.segmentation.data_loader import scale
from tests.projects.shapes import draw


def main(path: str, epochs: int = 3) -> None:
    """Train on another task: how many of two shapes are squares, 0 to 2."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    scenes = draw("train", count=128)
    pictures, labels = scale(scenes.pictures), (scenes.kinds == 1).sum(dim=1)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(16):
            optimizer.zero_grad()
            F.cross_entropy(model(pictures[rows]), labels[rows]).backward()
            optimizer.step()
    torch.save(model.state_dict(), path)


if __name__ == "__main__":
    main(sys.argv[1])
