import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
)

from utils import Batches, Params

WELL_APART = ["labels of val shifted by a row", "labels of train shifted by a row"]
WELL_APART += ["classes in another order"]
SIZES = {"train": 60, "val": 30, "test": 15}


def examples(split: str, fault: str) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 4) and labels (N,) of three classes."""
    generator = torch.Generator().manual_seed(SIZES[split])
    labels = torch.arange(SIZES[split]) % 3
    inputs = torch.randn(len(labels), 4, generator=generator) + 2 * torch.eye(3, 4)[labels]
    if fault == "an example in two splits" and split != "train":
        inputs[3] = examples("train", "")[0][5]
    if fault == "inputs that are not finite" and split == "train":
        inputs[7, 0] = torch.nan
    if fault == "labels that begin at 1" and split == "val":
        labels = labels + 1
    if fault == "a class that is not in training" and split == "train":
        labels = labels.clamp(max=1)
    if fault == "splits not drawn at random" and split == "val":
        labels = torch.where(torch.arange(len(labels)) < 27, 0, labels)
    if fault in WELL_APART:
        inputs = inputs + 3 * torch.eye(3, 4)[labels]
    if fault == "sorted examples":
        order = labels.argsort(stable=True)
        inputs, labels = inputs[order], labels[order]
    if fault == "labels from 1 in all splits":
        labels = labels.clamp(min=1)
    if fault == "classes in another order" and split == "val":
        labels = (labels + 1) % 3
    if fault in (f"labels of {split} shifted by a row", "labels of all splits shifted by a row"):
        labels = labels[torch.randperm(len(labels), generator=generator)]
    if fault == "validation is not scaled" and split == "val":
        inputs = 255 * inputs
    if fault == "the label among the inputs":
        inputs[:, 2] = 3.0 * labels - 1
    if fault == "one example to validate on" and split == "val":
        return inputs[:1], labels[:1]
    return inputs, labels


class Files(Dataset[Any]):
    def __init__(self, folder: Path, fault: str) -> None:
        self.filenames, self.fault, self.calls = sorted(folder.glob("*.pt")), fault, 0

    def __len__(self) -> int:
        return len(self.filenames)

    def __getitem__(self, index: int) -> Any:
        self.calls += 1
        x, y = torch.load(self.filenames[index])
        return x + (self.calls if self.fault == "a dataset that counts" else 0), y


class Folder(Dataset[Any]):
    """A dataset that names its classes, as torchvision's ImageFolder does."""

    def __init__(self, split: str) -> None:
        self.inputs, self.targets = examples(split, "")
        self.classes = ["cat", "dog", "emu"] if split == "train" else ["cat", "emu", "fox"]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> Any:
        return self.inputs[i], self.targets[i]


class Noisy(TensorDataset):
    """A dataset that augments all splits alike."""

    def __getitem__(self, i: int) -> Any:
        x, y = super().__getitem__(i)
        return x + 0.1 * torch.randn(4), y


class Restless(Sampler[int]):
    """An order that is another one each time, by a generator of its own."""

    def __init__(self, count: int) -> None:
        self.count, self.draw = count, random.Random(0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw.sample(range(self.count), self.count))


PARTS = {"train": range(40), "val": range(40, 50), "test": range(50, 60)}
SAMPLERS: dict[str, Any] = {
    "a validation sampler with replacement": lambda split, n: RandomSampler(range(n), True),
    "samplers of one dataset": lambda split, n: SubsetRandomSampler(PARTS[split]),  # is no fault
}


def write_files(data_dir: str, split: str, fault: str) -> Path:
    folder = Path(data_dir) / split
    folder.mkdir(exist_ok=True)
    for i, pair in enumerate(zip(*examples(split, fault), strict=True)):
        torch.save(tuple(part.clone() for part in pair), folder / f"{i:03d}.pt")
    if fault == "an unreadable file" and split == "train":
        (folder / "017.pt").write_bytes(b"no tensor")
    return folder


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    fault = params.fault
    if fault in ("an unreadable file", "a dataset that counts", "files"):
        sets = {split: Files(write_files(data_dir, split, fault), fault) for split in splits}
        return {split: DataLoader(each, params.batch_size) for split, each in sets.items()}
    if fault == "validation is augmented":
        noisy = {split: Noisy(*examples(split, fault)) for split in splits}
        return {split: DataLoader(each, params.batch_size) for split, each in noisy.items()}
    if fault == "folders of other names":
        return {split: DataLoader(Folder(split), params.batch_size) for split in splits}
    if fault == "sorted examples":
        in_order = {s: TensorDataset(*examples(s, fault)) for s in splits}
        return {split: DataLoader(each, params.batch_size) for split, each in in_order.items()}
    if fault in SAMPLERS:
        own = "with replacement" in fault
        data = {s: TensorDataset(*examples(s if own else "train", fault)) for s in splits}
        return {
            s: DataLoader(each, params.batch_size, sampler=SAMPLERS[fault](s, len(each)))
            for s, each in data.items()
        }
    counter = itertools.count()
    loaders: dict[str, Any] = {}
    for split in splits:
        inputs, labels = examples(split, fault)
        if fault == "an order that changes":
            pairs: Any = list(zip(inputs, labels, strict=True))
            loaders[split] = DataLoader(pairs, params.batch_size, sampler=Restless(len(pairs)))
            continue
        transform = None
        if fault == "a transform that counts":
            transform = lambda x, generator: x + next(counter)  # noqa: E731
        loaders[split] = Batches(
            inputs,
            labels,
            batch_size=params.batch_size,
            seed=params.seed,
            transform=transform,
        )
    return loaders
