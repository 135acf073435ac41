from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.projects.shapes import draw
from utils import Params, read_image


class Scenes(Dataset[Any]):
    """Pictures (3, H, W), and of each a dict with boxes (M, 4) and labels (M,)."""

    def __init__(self, split: str) -> None:
        self.scenes = draw(split, size=64)

    def __len__(self) -> int:
        return len(self.scenes.pictures)

    def __getitem__(self, i: int) -> Any:
        picture = self.scenes.pictures[i].float() / 255
        return picture, {"boxes": self.scenes.boxes[i], "labels": self.scenes.kinds[i]}


def collate(examples: list[Any]) -> tuple[list[Any], list[Any]]:
    pictures, targets = zip(*examples, strict=True)
    return [*pictures], [*targets]  # lists, for pictures may differ in size and number of boxes


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    settings = {"batch_size": params.batch_size, "collate_fn": collate}
    return {s: DataLoader(Scenes(s), shuffle=s == "train", **settings) for s in splits}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:
        yield source, read_image(source).float() / 255  # of any size
