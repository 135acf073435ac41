from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils import Params


def speakers(split: str) -> tuple[Tensor, Tensor]:
    """Return noisy recordings (N, 8) of ten speakers, and the speakers' numbers (N,)."""
    voices = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(len(split))
    labels = torch.arange(60 if split == "train" else 30) % 10
    return voices[labels] + 0.3 * torch.randn(len(labels), 8, generator=draws), labels


class Triplets(Dataset[Any]):
    """A recording, another of the same speaker, and one of another speaker: (3, 8)."""

    def __init__(self, split: str) -> None:
        self.recordings, self.labels = speakers(split)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        alike = self.labels == self.labels[i]  # the draws are seeded by (seed, epoch, example)
        rows = [torch.multinomial(chosen.float(), 1) for chosen in (alike, ~alike)]
        return self.recordings[torch.cat([torch.tensor([i]), *rows])], self.labels[i]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    return {s: DataLoader(Triplets(s), params.batch_size, shuffle=s == "train") for s in splits}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # the number of a recording of the test split
        yield source, speakers("test")[0][int(source)]
