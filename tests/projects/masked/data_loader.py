from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tests.projects.data import examples
from utils import Params


class Masked(Dataset[dict[str, Any]]):
    def __init__(self, split: str) -> None:
        self.inputs, _ = examples(split)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        mask = (torch.rand(4) < 0.3 + 0.05 * (index % 10)).float()
        return {"x": self.inputs[index], "mask": mask, "name": f"example {index}"}


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    return {
        split: DataLoader(Masked(split), params.batch_size, shuffle=split == "train")
        for split in splits
    }
