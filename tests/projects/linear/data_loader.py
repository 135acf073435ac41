from collections.abc import Sequence

from tests.projects.pictures import data_loader as pictures
from utils import Batches, Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    loaders = pictures.fetch_dataloader(splits, data_dir, params)
    for loader in loaders.values():
        loader.transform = lambda images, generator: pictures.transform(images, None)
    return loaders
