from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from utils import Batches, DataError, Params

SPELLED = "zero one two three four five six seven eight nine ten eleven twelve"
PARTS = {"train": slice(0, 34), "val": slice(34, 42), "test": slice(42, 49)}  # of 49 sums
NUMBERS = SPELLED.split()


def text_of(split: str) -> str:
    """Return lines such as "two plus three is five"; no sum stands in two splits."""
    order = torch.randperm(49, generator=torch.Generator().manual_seed(0))[PARTS[split]]
    pairs = [divmod(int(i), 7) for i in order]
    return "".join(f"{NUMBERS[a]} plus {NUMBERS[b]} is {NUMBERS[a + b]}\n" for a, b in pairs)


def encode(text: str, vocabulary: str) -> Tensor:
    if not text or (unknown := sorted(set(text) - set(vocabulary))):
        raise DataError(f"{text!r}: " + (f"the net knows no {unknown[0]!r}" if text else "empty"))
    return torch.tensor([vocabulary.index(letter) for letter in text])


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    params.vocabulary = "".join(sorted(set(text_of("train"))))  # kept in the checkpoint
    loaders = {}
    for split in splits:
        windows = encode(text_of(split), params.vocabulary).unfold(0, params.length + 1, 4)
        sizes = {"batch_size": params.batch_size, "seed": params.seed, "train": split == "train"}
        loaders[split] = Batches(windows[:, :-1], windows[:, 1:], **sizes)  # each the next letter
    return loaders


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # the beginning of a text
        yield source, encode(source, params.vocabulary)
