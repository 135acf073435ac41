import os
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Sampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from tests.projects.data import examples
from utils import Params

RANK, WORLD_SIZE = (int(os.environ.get(n, d)) for n, d in (("RANK", "0"), ("WORLD_SIZE", "1")))


class FromRank(Sampler[int]):
    """Begins at another example in every process."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter([(i + RANK) % self.count for i in range(self.count)])


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    loaders = {}
    for split in splits:
        inputs, labels = examples(split)
        if params.differs == "examples":
            inputs, labels = inputs[RANK::2], labels[RANK::2]
        dataset = TensorDataset(inputs, labels)
        sampler: Any = None
        if params.differs == "order":
            sampler = FromRank(len(dataset))
        if params.differs == "sampler":
            sampler = DistributedSampler(dataset, WORLD_SIZE, RANK)
        loaders[split] = DataLoader(dataset, batch_size=8, sampler=sampler)
    return loaders
