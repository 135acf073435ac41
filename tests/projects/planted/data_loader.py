from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from utils import Batches, Params

SIZES = {"train": 48, "val": 24, "test": 12}


def numbers(split: str, fault: str) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 4) and numbers (N,) or yes-or-no labels (N, 2)."""
    draws = torch.Generator().manual_seed(SIZES[split])
    x = torch.randn(SIZES[split], 4, generator=draws)
    if fault.endswith("of yes or no"):
        return x, (x[:, :2] > (1 if "pos_weight" in fault else 0)).float()
    if fault == "a window that holds its label":
        return x[:, :, None], x[:, 3]
    y = 10 * x @ torch.tensor([1.0, -2.0, 0.5, 1.0])
    if fault == "sorted numbers":
        order = y.argsort()
        x, y = x[order], y[order]
    return x, y


def pictures(split: str, fault: str) -> tuple[Tensor, Tensor]:
    """Return pictures (N, 3, 24, 24) of smooth noise, and classes (N,)."""
    draws = torch.Generator().manual_seed(SIZES[split])
    coarse = torch.rand(SIZES[split], 3, 5, 5, generator=draws)
    x = torch.nn.functional.interpolate(coarse, 24, mode="bilinear")
    if fault == "a flip that changes the class":  # bright on the left, or on the right
        ramp = torch.linspace(1, -1, 24).expand(SIZES[split], 1, 24, 24)
        return x + ramp * (1 - 2 * (torch.arange(len(x)) % 2))[:, None, None, None], torch.arange(
            len(x)
        ) % 2
    if split == "val" and fault == "pictures that are flipped":
        x[:4] = pictures("train", "")[0][5:9].flip(3)
    if split == "val" and fault == "pictures that are resized":
        smaller = torch.nn.functional.interpolate(pictures("train", "")[0][5:9], 16, mode="area")
        x[:4] = torch.nn.functional.interpolate(smaller, 24, mode="bilinear")
    if fault == "pictures that are reshaped":
        x = x.permute(0, 2, 3, 1).reshape(x.shape)
    return x, torch.arange(len(x)) % 2


def flip(x: Tensor, draws: torch.Generator | None) -> Tensor:
    """Flip half of the training pictures."""
    if draws is None:
        return x
    chosen = torch.rand(len(x), 1, 1, 1, generator=draws) < 0.5
    return torch.where(chosen, x.flip(3), x)


def sequences(split: str, fault: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return words (N, T), a class (N,) and lengths (N,)."""
    draws = torch.Generator().manual_seed(SIZES[split])
    lengths = torch.randint(3, 8, (SIZES[split],), generator=draws)
    if fault == "an example of odd length" and split == "train":
        lengths[3] = 700
    numbers = list(range(90))
    if fault == "words numbered by a set":
        numbers = [0, *(int(word) for word in {str(i) for i in range(1, 90)})]
    words = torch.randint(1, 90, (SIZES[split], int(lengths.max())), generator=draws)
    words = torch.tensor(numbers)[words]
    if fault == "a sentence in two splits" and split == "val":
        words, lengths = words.clone(), lengths.clone()
        other, _, known = sequences("train", "")
        words[3], lengths[3] = 0, known[5]
        words[3, : lengths[3]] = other[5, : lengths[3]]
    words[torch.arange(words.shape[1]) >= lengths[:, None]] = 0
    rare = fault == "class weights upside down"
    return words, (words[:, 0] % 8 == 0).long() if rare else words[:, 0] % 2, lengths


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    loaders: dict[str, Any] = {}
    for split in splits:
        sizes: dict[str, Any] = {"batch_size": params.batch_size, "seed": params.seed}
        sizes["train"] = split == "train"
        if params.fault == "sorted numbers":
            numbers_of = TensorDataset(*numbers(split, params.fault))
            loaders[split] = DataLoader(numbers_of, params.batch_size)
        elif params.kind == "letters":
            draws = torch.Generator().manual_seed(SIZES[split])
            letters = torch.randint(1, 9, (48, 9), generator=draws).cumsum(1) % 9
            loaders[split] = Batches(letters[:, :-1], letters[:, 1:], **sizes)
        elif params.kind == "sequences":
            words, labels, lengths = sequences(split, params.fault)
            if params.fault == "the last column of padding":
                loaders[split] = Batches(words, labels, **sizes)
                continue
            loaders[split] = Batches(words, labels, lengths=lengths, **sizes)
        else:
            made = pictures if params.kind == "pictures" else numbers
            if params.fault == "a flip that changes the class":
                sizes["transform"] = flip
            loaders[split] = Batches(*made(split, params.fault), **sizes)
    return loaders
