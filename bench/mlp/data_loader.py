"""The hand signs, without augmentation."""

from collections.abc import Sequence

from model import data_loader as signs
from utils import Batches, Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader for every split."""
    loaders = signs.fetch_dataloader(splits, data_dir, params)
    for loader in loaders.values():
        loader.transform = lambda images, generator: signs.transform(images, None, params)
    return loaders
