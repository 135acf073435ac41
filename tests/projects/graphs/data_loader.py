from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils import Params

SIZES = {"train": 20, "val": 9, "test": 7}


@dataclass
class Graphs:
    """Nodes of several graphs together: features (V, 3), the graph of each (V,), a number each."""

    nodes: Tensor
    graph: Tensor
    y: Tensor

    def to(self, device: Any) -> "Graphs":
        return Graphs(self.nodes.to(device), self.graph.to(device), self.y.to(device))


class Examples(Dataset[Any]):
    def __init__(self, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return SIZES[self.split]

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        draws = torch.Generator().manual_seed(1000 * len(self.split) + i)
        nodes = torch.randn(2 + i % 4, 3, generator=draws)
        return nodes, nodes.sum()


def collate(examples: list[tuple[Tensor, Tensor]]) -> Graphs:
    nodes, sums = zip(*examples, strict=True)
    sizes = torch.tensor([len(each) for each in nodes])
    return Graphs(
        torch.cat(nodes), torch.arange(len(nodes)).repeat_interleave(sizes), torch.stack(sums)
    )


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    settings = {"batch_size": params.batch_size, "collate_fn": collate}
    return {s: DataLoader(Examples(s), shuffle=s == "train", **settings) for s in splits}
