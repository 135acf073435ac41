from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tests.projects.shapes import draw
from utils import Batches, Params, read_image


def scale(pictures: Tensor, draws: Any = None) -> Tensor:
    """Map uint8 pictures to numbers from -1 to 1."""
    return pictures.float() / 127.5 - 1


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    loaders = {}
    for split in splits:
        scenes = draw(split)
        loaders[split] = Batches(
            scenes.pictures,
            scenes.masks,  # (N, H, W), a class for every pixel
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=scale,
        )
    return loaders


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        yield source, scale(read_image(source))  # the mask will be of its size
