"""Names and labels that datasets tell without reading their examples."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from core.data.known import known_ids, known_labels


class Folders(Dataset[tuple[Tensor, int]]):
    """A dataset as torchvision's ImageFolder is: paths and labels in `samples` and `targets`."""

    def __init__(
        self, target_transform: Callable[[int], int] | None = None, shift: int = 0
    ) -> None:
        self.samples = [(f"pictures/{i}.png", i % 3) for i in range(9)]
        self.targets = [label for _, label in self.samples]
        self.target_transform, self.shift = target_transform, shift

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        label = self.targets[i] + self.shift
        return torch.zeros(2), self.target_transform(label) if self.target_transform else label


def labels_of(dataset: Dataset[tuple[Tensor, int]]) -> list[int] | None:
    found = known_labels(dataset)
    return None if found is None else found.tolist()


def test_an_image_folder_tells_names_and_labels() -> None:
    whole, part = Folders(), Subset(Folders(), [4, 0])
    assert known_ids(whole)[:2] == ["pictures/0.png", "pictures/1.png"]
    assert [*known_ids(part)] == ["pictures/4.png", "pictures/0.png"]
    assert labels_of(whole) == [0, 1, 2] * 3
    assert labels_of(part) == [1, 0]


def test_labels_are_those_that_examples_have() -> None:
    assert labels_of(Folders(lambda label: 2 - label)) == [2, 1, 0] * 3
    assert labels_of(Folders(shift=1)) is None  # the examples have others than `targets`
