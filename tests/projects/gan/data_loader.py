from collections.abc import Sequence
from typing import Any

from tests.projects.data import examples
from tests.projects.diffusion.data_loader import read_inputs
from utils import Batches, Params

__all__ = ["fetch_dataloader", "read_inputs"]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    real = {split: examples(split)[0] for split in splits}  # each (N, 4)
    return {s: Batches(x, x, train=s == "train", **sizes) for s, x in real.items()}
