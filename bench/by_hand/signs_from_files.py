"""Hand signs, trained as course projects usually are: photographs decoded anew by worker processes.

Float32, Adam, a loader of single images, metrics and checkpoints in the loop, evaluation batch by
batch. Prints its figures as one line of JSON.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from signs import Net
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

TRAIN = transforms.Compose(
    [transforms.Resize(64), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
EVALUATION = transforms.Compose([transforms.Resize(64), transforms.ToTensor()])


class Signs(Dataset[tuple[Tensor, int]]):
    """The images of a folder; the label is the first character of a name."""

    def __init__(self, folder: Path, transform: transforms.Compose) -> None:
        self.paths, self.transform = sorted(folder.glob("*.jpg")), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        return self.transform(Image.open(path)), int(path.name[0])


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Return the share of right answers of a batch."""
    return float(np.mean(outputs.cpu().numpy().argmax(axis=1) == labels.numpy()))


def main(data_dir: Path, epochs: int, batch_size: int, device: str, workers: int) -> None:
    """Train, evaluate and save for some epochs."""
    loaders = {
        split: DataLoader(
            Signs(data_dir / f"{split}_signs", how), batch_size, train, num_workers=workers
        )
        for split, how, train in (("train", TRAIN, True), ("val", EVALUATION, False))
    }
    net, loss_fn = Net(32).to(device), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    first_step, rates, evaluations = 0.0, [], []
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(epochs):
            began = time.perf_counter()
            net.train()
            total = 0.0
            for images, labels in loaders["train"]:
                first_step = first_step or time.time()
                outputs = net(images.to(device))
                loss = loss_fn(outputs, labels.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            rates.append(len(loaders["train"].dataset) / (time.perf_counter() - began))  # type: ignore[arg-type]
            began = time.perf_counter()
            net.eval()
            with torch.no_grad():
                scores = [accuracy(net(x.to(device)), labels) for x, labels in loaders["val"]]
            content = {
                "epoch": epoch,
                "state_dict": net.state_dict(),
                "optim_dict": optimizer.state_dict(),
            }
            torch.save(content, os.path.join(folder, f"{max(scores) > 0}.pth.tar"))
            evaluations.append(time.perf_counter() - began)
    print(json.dumps({"first_step": first_step, "rates": rates, "evaluations": evaluations}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
