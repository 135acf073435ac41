"""Hand signs, trained by a loop written by hand with everything that helps: the speed limit.

Reads the decoded images from a file, and prints its figures as one line of JSON.
"""

import ctypes
import json
import math
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """The net of `model/net.py`."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, 2 * c, 3, padding=1), nn.BatchNorm2d(2 * c)
        self.conv3, self.bn3 = nn.Conv2d(2 * c, 4 * c, 3, padding=1), nn.BatchNorm2d(4 * c)
        self.fc1, self.fcbn1 = nn.Linear(8 * 8 * 4 * c, 4 * c), nn.BatchNorm1d(4 * c)
        self.dropout, self.fc2 = nn.Dropout(0.0), nn.Linear(4 * c, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, 64, 64) images to (B, 6) logits, in evaluation with their mirror images."""
        return self.score(x) if self.training else (self.score(x) + self.score(x.flip(3))) / 2

    def score(self, x: Tensor) -> Tensor:
        """Map (B, 3, 64, 64) images to (B, 6) logits."""
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(x)), 2))
        x = F.relu(F.max_pool2d(self.bn2(self.conv2(x)), 2))
        x = F.relu(F.max_pool2d(self.bn3(self.conv3(x)), 2))
        x = self.dropout(F.relu(self.fcbn1(self.fc1(x.flatten(1)))))
        return self.fc2(x)


def augment(x: Tensor) -> Tensor:
    """Flip, rotate, scale, shift and brighten, as `model/data_loader.py` does."""
    draw = torch.rand(6, len(x), device=x.device) * 2 - 1
    flip, angle, scale = draw[0].sign(), draw[1] * math.radians(10), 1 + draw[2] * 0.1
    cos, sin, shift = angle.cos() * scale, angle.sin() * scale, draw[3:5] * 0.12
    rows = torch.stack([flip * cos, -sin, shift[0], flip * sin, cos, shift[1]], dim=1)
    places = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, places, padding_mode="border", align_corners=False)
    return (x + 1) * (1 + draw[5] * 0.1).view(-1, 1, 1, 1) - 1


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors, as train.py does (glibc only)."""
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)  # M_MMAP_MAX
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def main(
    path: str,
    epochs: int,
    bfloat16: bool,
    batch_size: int,
    device: str,
    net: nn.Module | None = None,
    compiled: bool = False,
    repeat: int = 1,
) -> dict[str, Any]:
    """Train and evaluate for some epochs on the arrays of an .npz file.

    `net` scores six classes; an epoch holds every training image `repeat` times. Returns the time
    of the first step, and of every epoch the images a second and the seconds of its evaluation.
    """
    keep_freed_memory()
    with np.load(path) as arrays:
        data = {name: torch.from_numpy(arrays[name]).to(device) for name in arrays}
    images, labels = data["train_images"].repeat(repeat, 1, 1, 1), data["train_labels"]
    labels = labels.repeat(repeat)
    net = (net or Net(32)).to(memory_format=torch.channels_last).to(device)
    if compiled:
        net.compile()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.05, fused=True)
    steps = epochs * math.ceil(len(images) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)

    def scores(x: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            return net(x.contiguous(memory_format=torch.channels_last))

    first_step, rates, evaluations = time.time(), [], []
    for _ in range(epochs):
        began = time.perf_counter()
        net.train()
        for index in torch.randperm(len(images), device=device).split(batch_size):
            x = augment(images[index].float() / 127.5 - 1)
            loss = F.cross_entropy(scores(x), labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        float(loss)  # a GPU is done
        rates.append(len(images) / (time.perf_counter() - began))
        began = time.perf_counter()
        net.eval()
        with torch.no_grad():
            parts = range(0, len(data["val_images"]), batch_size)
            batches = [slice(i, i + batch_size) for i in parts]
            found = [scores(data["val_images"][i].float() / 127.5 - 1).argmax(1) for i in batches]
            right = (torch.cat(found) == data["val_labels"]).sum()
            float(right)
        evaluations.append(time.perf_counter() - began)
    return {"first_step": first_step, "rates": rates, "evaluations": evaluations}


if __name__ == "__main__":
    path, epochs, precision, size, device = sys.argv[1:]
    print(json.dumps(main(path, int(epochs), precision == "bfloat16", int(size), device)))
