from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from utils import DataError, Params


def speakers(split: str) -> tuple[Tensor, Tensor]:
    """Return noisy recordings (N, 8) of ten speakers, and the speakers' numbers (N,)."""
    voices = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(len(split))
    labels = torch.arange(60 if split == "train" else 30) % 10
    return voices[labels] + 0.3 * torch.randn(len(labels), 8, generator=draws), labels


class Triplets(TensorDataset):
    """A recording, another of the same speaker, and one of another speaker: (3, 8)."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        recordings, labels = self.tensors
        alike = labels == labels[index]
        # The draws are seeded by (seed, epoch, example).
        rows = [int(torch.multinomial(chosen.float(), 1)) for chosen in (alike, ~alike)]
        return recordings[[index, *rows]], labels[index]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    sets = {split: Triplets(*speakers(split)) for split in splits}
    return {s: DataLoader(sets[s], params.batch_size, shuffle=s == "train") for s in splits}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # the number of a recording of the test split
        if not (source.isdecimal() and int(source) < 30):
            raise DataError(f"{source!r}: want the number of a recording, 0 to 29")
        yield source, speakers("test")[0][int(source)]
