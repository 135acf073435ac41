import os
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from utils import DataError, Params

Pair = namedtuple("Pair", ["x", "y"])
SIZES = {"train": 24, "val": 10, "test": 7}


class Examples(Dataset[Any]):
    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        draw = np.random.default_rng([self.count, index])  # splits are of different counts
        x = torch.from_numpy(draw.normal(size=4)).float()
        label = int(x.argmax() % 3)
        if self.kind == "damaged" and index == 5:
            raise DataError("5.png: damaged\n  as two lines tell")
        if self.kind == "segmentation":
            return x.repeat(3, 4, 1), (x.repeat(4, 1) > 0).long()  # (3, 4, 4), (4, 4)
        if self.kind == "multilabel":
            return x, (x[:3] > 0).long()
        if self.kind == "ignored":
            return x, -100 if index % 3 else label
        if self.kind == "ignored_val" and self.count == SIZES["val"]:
            return x, -100
        if self.kind == "namedtuple":
            return Pair(x, label)
        return x, label


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


class Stateful(IterableDataset[Any]):
    """A stream that knows where it is, and notes what it has read."""

    def __init__(self, count: int) -> None:
        self.count, self.begin, self.read = count, 0, list[int]()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        begin, self.begin = self.begin, 0
        for index in range(begin, self.count):
            self.read.append(index)
            self.place = index + 1
            yield torch.rand(4), index % 3

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.begin = state["place"]


class ByWorker(IterableDataset[Any]):
    """A stream that its workers divide."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, self.count, step):
            yield torch.full((4,), float(index)).cos(), index % 3


class Range(IterableDataset[Any]):
    def __init__(self, begin: int, end: int) -> None:
        self.numbers = range(begin, end)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Any:
        return ((torch.full((4,), number / 10), number % 3) for number in self.numbers)


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    kind = params.kind
    if kind == "cache_writer":
        for name in ("words", *splits):
            (Path(data_dir) / f"{name}.txt").write_text("a\nb\n")
    if kind == "numpy_params":
        params.means = np.arange(4, dtype=np.float32)
        params.device = torch.device("cpu")
    if kind == "stream":
        return {split: DataLoader(Stream()) for split in splits}
    if kind == "stateful":
        return {split: DataLoader(Stateful(SIZES[split]), params.batch_size) for split in splits}
    if kind == "by_worker":
        size = {"batch_size": params.batch_size, "num_workers": params.num_workers}
        return {split: DataLoader(ByWorker(SIZES[split]), **size) for split in splits}
    if kind == "divided":  # by its own, as several processes of another library do
        begin = 3 * int(os.environ.get("RANK", 0))
        return {split: DataLoader(Range(begin, begin + 12), 4) for split in splits}
    return {
        split: DataLoader(
            Examples(kind, SIZES[split]),
            batch_size=params.batch_size,
            shuffle=split == "train",
            num_workers=params.num_workers,
        )
        for split in splits
    }
