"""CIFAR-10, classified by a ConvNet that a loop written by hand trains: the speed limit.

Reads images and labels from a file, and prints its figures as one line of JSON.
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_SIZE = 64
MEAN = 255 * torch.tensor([0.4914, 0.4822, 0.4465]).view(-1, 1, 1)
DEVIATION = 255 * torch.tensor([0.2470, 0.2435, 0.2616]).view(-1, 1, 1)


class Net(nn.Module):
    """The ConvNet of `model/cifar10/net.py`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 32, 5, padding=2), nn.Conv2d(32, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 32 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, 32, 32) images to (B, 10) scores."""
        x = F.relu(self.conv2(F.relu(self.conv1((x.float() - MEAN) / DEVIATION))))
        return self.fc(x.flatten(1))


def main(path: str, epochs: int) -> None:
    """Train and evaluate for some epochs on the arrays of an .npz file."""
    with np.load(path) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays}
    images, labels, net = data["train_images"], data["train_labels"], Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=3e-3, fused=True)
    first_step, rates, evaluations = time.time(), [], []
    for _ in range(epochs):
        began = time.perf_counter()
        net.train()
        for index in torch.randperm(len(images)).split(BATCH_SIZE):
            loss = F.cross_entropy(net(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rates.append(len(images) / (time.perf_counter() - began))
        began = time.perf_counter()
        net.eval()
        with torch.no_grad():
            found = [net(part).argmax(1) for part in data["val_images"].split(BATCH_SIZE)]
            float((torch.cat(found) == data["val_labels"]).sum())
        evaluations.append(time.perf_counter() - began)
    print(json.dumps({"first_step": first_step, "rates": rates, "evaluations": evaluations}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
