from collections.abc import Sequence

from tests.projects.data import examples
from utils import Batches, Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    loaders = {}
    for split in splits:
        inputs, labels = examples(split)
        loaders[split] = Batches(
            inputs,
            (labels, inputs.norm(dim=1)),
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
        )
    return loaders
