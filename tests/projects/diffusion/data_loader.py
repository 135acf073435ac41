from collections.abc import Sequence
from typing import Any

from tests.projects.vae.data_loader import pictures, read_inputs
from utils import Batches, Params

__all__ = ["fetch_dataloader", "read_inputs"]


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    sizes = {"batch_size": params.batch_size, "seed": params.seed}
    scaled = {split: 2 * pictures(split) - 1 for split in splits}  # (N, 1, 8, 8) from -1 to 1
    return {s: Batches(x, None, train=s == "train", **sizes) for s, x in scaled.items()}
