"""What a dataset tells of its examples without reading them: names and labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from core.machine.random_states import kept_states


class Names(Sequence[Any]):
    """Names of examples by their numbers, each made when it is asked for: there may be millions."""

    def __init__(self, name: Callable[[int], Any], numbers: Sequence[int]) -> None:
        self.name, self.numbers = name, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        numbers = self.numbers[i]
        return [*map(self.name, numbers)] if isinstance(i, slice) else self.name(numbers)


def whole(dataset: Any) -> Any:
    """Return the dataset that a part is of, or the dataset itself."""
    return whole(dataset.dataset) if isinstance(dataset, Subset) else dataset


def known_ids(dataset: Any) -> Sequence[Any]:
    """Return names of the examples, or their numbers; of a part, those of the whole.

    Names are a dataset's `filenames`, or the paths in `samples` as torchvision's ImageFolder has
    them: a list of (path, label).
    """
    if isinstance(dataset, Subset):
        return Names(known_ids(dataset.dataset).__getitem__, dataset.indices)
    names = getattr(dataset, "filenames", None)
    if names is None and (samples := _samples(dataset)):
        names = [str(path) for path, _ in samples]
    if names is None:
        return range(len(dataset))
    return names if isinstance(names, Sequence) else list(names)


def _samples(dataset: Any) -> list[Any]:
    samples: Any = getattr(dataset, "samples", None)
    listed = isinstance(samples, list) and 0 < len(samples) == len(dataset)
    pairs = listed and all(isinstance(each, tuple) and len(each) == 2 for each in samples)
    return list(samples) if pairs and isinstance(samples[0][0], str | Path) else []


def known_labels(dataset: Any) -> Tensor | None:
    """Return the labels (N, ...) that a dataset holds.

    They are its `targets`, `labels`, the second ones in `samples`, or its last tensor, after its
    `target_transform`. Labels that its first and last example do not have are not returned.
    """
    if isinstance(dataset, Subset):
        whole = known_labels(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if labels is None and len(getattr(dataset, "tensors", ())) > 1:
        labels = dataset.tensors[-1]
    if labels is None and (samples := _samples(dataset)):
        labels = [label for _, label in samples]
    try:
        if transform := getattr(dataset, "target_transform", None):
            labels = [transform(label) for label in labels or ()]
        labels = torch.as_tensor(labels)
        shown = len(labels) == len(dataset)
        return labels if shown and all(_has_label(dataset, labels, i) for i in (0, -1)) else None
    except Exception:  # the task's own code may raise anything
        return None


def _has_label(dataset: Any, labels: Tensor, place: int) -> bool:
    """Tell whether an example is (inputs, label) with this label; of other examples True."""
    with kept_states():
        found = dataset[range(len(labels))[place]]
    if not (isinstance(found, tuple | list) and len(found) == 2):
        return True
    return bool((torch.as_tensor(found[1]) == labels[place]).all())
