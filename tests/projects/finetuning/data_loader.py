from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tests.projects.segmentation.data_loader import scale
from tests.projects.shapes import draw
from utils import Batches, Params, read_image


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    loaders = {}
    for split in splits:
        scenes = draw(split, shapes=1)
        loaders[split] = Batches(
            scenes.pictures,
            scenes.kinds[:, 0] - 1,  # (N,): 0 square, 1 ring
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=scale,
        )
    return loaders


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        yield source, scale(read_image(source, (32, 32)))
