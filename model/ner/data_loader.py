"""Named entities: batches of sentences, every word as the numbers of its features.

Vocabulary and types of entities are kept in the checkpoint and are then what counts, whatever the
files say later. Shapes: N sentences, T tokens, F features of a word.
"""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.ner.reading import (
    SPLITS,
    Sentence,
    has_split,
    looks_like_conll,
    parse_conll,
    read_lines,
    read_split,
    split_words,
)
from utils import Batches, DataError, Params, listed, plural

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
        params: `batch_size`, `seed`, `min_count`, `affix_length`.
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
    return {
        split: Batches(
            encode_words(sentences, params),
            encode_tags(sentences, params.entity_types),
            batch_size=params.batch_size,
            seed=params.seed,
            train=split == "train",
            lengths=torch.tensor([len(sentence.words) + 1 for sentence in sentences]),
        )
        for split, sentences in found.items()
    }


def show(index: int, split: str, data_dir: str, params: Params) -> str:
    """Return the words of a sentence, for reports."""
    return " ".join(read_split(Path(data_dir), split)[index].words)


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    """Yield every line and its words' features (T, F), for predict.py; "-" is standard input.

    As in the data, words and punctuation marks stand between spaces. Of CoNLL columns the words
    are read; that is said in the log.
    """
    for source in sources:
        lines = read_lines(source)
        if Path(source).suffix.startswith(".conll") or looks_like_conll(lines):
            name = "standard input" if source == "-" else source
            logging.warning("%s: read as CoNLL columns, the word first and its tag last", name)
            sentences = parse_conll(lines, name)
        else:
            sentences = [Sentence(w, [], source) for line in lines if (w := split_words(line))]
        for sentence in sentences:
            yield " ".join(sentence.words), encode_words([sentence], params)[0]


def word_features(word: str, affix_length: int) -> list[str]:
    """Return the F features of a word: itself, its shape, and its prefixes and suffixes.

    With `affix_length` 2, "Iraq's" has the features iraq's, Xxxx'x, i, s, ir, 's: the shape alone
    tells the case. With 0 there is but the word, and upper case is then kept.
    """
    if affix_length == 0:
        return [word]
    shape = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word)
    shape = re.sub(r"(.)\1{3,}", r"\1\1\1\1", re.sub(r"\d", "0", shape))  # at most 4 in a row
    word = word.lower()
    affixes = [part for n in range(1, affix_length + 1) for part in (word[:n], word[-n:])]
    return [word, shape, *affixes]


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
    padding = [PADDING] * len(numbers)
    rows = [[*(known[word] for word in sentence.words), padding] for sentence in sentences]
    return pad(rows, PADDING).int()


def encode_tags(sentences: Sequence[Sentence], types: Sequence[str]) -> Tensor:
    """Return labels (N, T), the numbers of the tags, and -1 for padding.

    Every entity begins with a B, also in corpora that mark one by I alone; the log says so.

    Raises:
        DataError: a tag is of a type that is not in `types`.
    """
    numbers = {tag: number for number, tag in enumerate(tag_names(types))}
    if faults := [
        f"{sentence.place}: tag {tag!r}, known types are {', '.join(types)}"
        for sentence in sentences
        for tag in sentence.tags
        if tag not in numbers
    ]:
        raise DataError(f"{len(faults)} tags of types not known in training:\n{listed(faults)}")
    tags = [begun_with_b(sentence.tags) for sentence in sentences]
    pairs = zip(tags, sentences, strict=True)
    if changed := sum(a != b for new, s in pairs for a, b in zip(new, s.tags, strict=True)):
        logging.info("%s: an I that begins an entity is read as B", plural(changed, "tag", "tags"))
    return pad([[*(numbers[tag] for tag in each), IGNORED] for each in tags], IGNORED)


def begun_with_b(tags: Sequence[str]) -> list[str]:
    """Return tags in which an I that goes on with no entity of its type is a B (IOB2)."""
    pairs = itertools.pairwise(["O", *tags])
    return [f"B{t[1:]}" if t[0] == "I" and t[1:] != before[1:] else t for before, t in pairs]


def pad(rows: Sequence[Any], value: int) -> Tensor:
    """Return rows of different lengths as one tensor (N, T, ...), filled up with `value`."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def tag_names(types: Sequence[str]) -> list[str]:
    """Return the tags by number: O, then B and I of every type, an order that scores rely on."""
    return ["O", *(f"{place}-{name}" for name in types for place in "BI")]
