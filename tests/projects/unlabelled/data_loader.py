from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from tests.projects.data import examples
from utils import Params


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    loaders: dict[str, Any] = {}
    for split in splits:
        pairs = zip(*examples(split), strict=True)
        rows = [{"x": x} if split == "test" else {"x": x, "label": label} for x, label in pairs]
        loaders[split] = DataLoader(rows, params.batch_size, shuffle=split == "train")  # type: ignore[arg-type]
    return loaders
