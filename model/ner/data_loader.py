"""Named entities: batches of sentences, every word as the numbers of its features.

Vocabulary and types of entities are kept in the checkpoint and are then what counts, whatever the
files say later. Shapes: N sentences, T tokens, F features of a word.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.ner.reading import SPLITS, Sentence, has_split, read_split
from utils import Batches, DataError, Params, listed

data_dir = "data/entities"

PADDING, UNKNOWN, FIRST = 0, 1, 2  # numbers of feature values; the vocabulary's begin at FIRST
IGNORED = -1  # the label of padding


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Batches]:
    """Return a loader of (features (B, T, F), labels (B, T)) for each split.

    Every row ends with at least one ignored token, so that metrics over all tokens see where a
    sentence ends. What is not on `params` yet is put there: `vocabulary`, for every feature the
    values that the training split has at least `min_count` times, the most frequent first; and
    `entity_types`, those of all splits, because one that is missed for want of examples counts.

    Args:
        splits: some of "train", "val", "test".
        data_dir: the folder that holds the files, see `reading.py`.
        params: `batch_size`, `seed`, `min_count`, `affix_length`, `unknown_rate`.
    """
    folder = Path(data_dir)
    found = {split: read_split(folder, split) for split in splits}
    if "vocabulary" not in params.dict:
        train = found.get("train") or read_split(folder, "train")
        params.vocabulary = list_vocabulary(train, params)
    if "entity_types" not in params.dict:
        others = [split for split in SPLITS if split not in found and has_split(folder, split)]
        everything = [*found.values(), *(read_split(folder, split) for split in others)]
        tags = {tag for sentence in itertools.chain(*everything) for tag in sentence.tags}
        params.entity_types = sorted({tag[2:] for tag in tags if tag != "O"})
    loaders = {}
    for split, sentences in found.items():
        lengths = torch.tensor([len(sentence.words) + 1 for sentence in sentences])
        loaders[split] = Batches(
            encode_words(sentences, params),
            encode_tags(sentences, params.entity_types),
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            transform=partial(hide_words, rate=params.unknown_rate),
            lengths=lengths,
        )
    return loaders


def word_features(word: str, affix_length: int) -> list[str]:
    """Return the F features of a word: itself, its shape, and its prefixes and suffixes.

    With `affix_length` 2, "Iraq's" has the features iraq's, Xxxx'x, I, s, Ir, 's. With 0 there is
    but the word, and upper case is then kept.
    """
    if affix_length == 0:
        return [word]
    shape = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word)
    shape = re.sub(r"(.)\1{3,}", r"\1\1\1\1", re.sub(r"\d", "0", shape))  # at most 4 in a row
    affixes = [part for n in range(1, affix_length + 1) for part in (word[:n], word[-n:])]
    return [word.lower(), shape, *affixes]


def list_vocabulary(sentences: Sequence[Sentence], params: Params) -> list[list[str]]:
    """Return for each of the F features its values, the most frequent first."""
    words = Counter(word for sentence in sentences for word in sentence.words)
    counters: list[Counter[str]] = [Counter() for _ in word_features("", params.affix_length)]
    for word, count in words.items():
        for counter, value in zip(counters, word_features(word, params.affix_length), strict=True):
            counter[value] += count
    return [[v for v, n in c.most_common() if n >= params.min_count] for c in counters]


def encode_words(sentences: Sequence[Sentence], params: Params) -> Tensor:
    """Return the numbers of every word's features (N, T, F), of which `vocabulary` has the list."""
    numbers = [{v: i for i, v in enumerate(part, start=FIRST)} for part in params.vocabulary]
    known: dict[str, list[int]] = {}
    for word in {word for sentence in sentences for word in sentence.words}:
        features = word_features(word, params.affix_length)
        known[word] = [n.get(v, UNKNOWN) for n, v in zip(numbers, features, strict=True)]
    longest = max(len(sentence.words) for sentence in sentences)
    table = np.full((len(sentences), longest + 1, len(numbers)), PADDING, np.int32)
    for row, sentence in zip(table, sentences, strict=True):
        row[: len(sentence.words)] = [known[word] for word in sentence.words]
    return torch.from_numpy(table)


def encode_tags(sentences: Sequence[Sentence], types: Sequence[str]) -> Tensor:
    """Return labels (N, T): 0 for O, 2k + 1 and 2k + 2 for B and I of type k, -1 for padding.

    Raises:
        DataError: a tag is of a type that is not in `types`.
    """
    tags = ["O", *(f"{place}-{name}" for name in types for place in "BI")]
    numbers = {tag: number for number, tag in enumerate(tags)}
    if faults := [
        f"{sentence.place}: tag {tag!r}, known types are {', '.join(types)}"
        for sentence in sentences
        for tag in sentence.tags
        if tag not in numbers
    ]:
        raise DataError(f"{len(faults)} tags of types not known in training:\n{listed(faults)}")
    longest = max(len(sentence.tags) for sentence in sentences)
    labels = np.full((len(sentences), longest + 1), IGNORED)
    for row, sentence in zip(labels, sentences, strict=True):
        row[: len(sentence.tags)] = [numbers[tag] for tag in sentence.tags]
    return torch.from_numpy(labels)


def hide_words(features: Tensor, generator: torch.Generator | None, rate: float) -> Tensor:
    """Make words of training unknown at random, their other features stay.

    Args:
        features: (B, T, F).
        generator: where training draws from; None outside of training.
        rate: share of the words, as after training some more will be unknown.
    """
    if generator is None or rate == 0:
        return features
    hidden = torch.rand(features.shape[:2], generator=generator).to(features.device) < rate
    words = features[..., 0]
    words = torch.where(hidden & (words != PADDING), UNKNOWN, words)
    return torch.cat([words.unsqueeze(-1), features[..., 1:]], dim=-1)
