from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tests.projects.vae.data_loader import pictures, samples
from utils import Batches, Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    scaled = {
        split: 2 * pictures(split, params) - 1 for split in splits
    }  # (N, 1, 8, 8) from -1 to 1
    return {s: Batches(x, None, train=s == "train", **sizes) for s, x in scaled.items()}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # a number of samples
        yield from samples(source)
