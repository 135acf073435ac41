"""What the tests of named entities share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils import Params

TINY = {
    "task": "model.ner",
    "monitor": "f1",
    "learning_rate": 0.02,
    "min_count": 2,
    "affix_length": 2,
    "embedding_dim": 8,
    "feature_dim": 4,
    "lstm_hidden_dim": 8,
    "num_layers": 1,
    "bidirectional": True,
}
Tagged = tuple[Sequence[str], Sequence[str]]


def write_split(folder: Path, split: str, sentences: Sequence[Tagged]) -> None:
    """Write words and tags of a split as sentences.txt and labels.txt."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(("sentences.txt", "labels.txt")):
        lines = "".join(f"{' '.join(sentence[i])}\n" for sentence in sentences)
        (folder / split / name).write_text(lines, encoding="utf-8")


def tagged(*texts: str) -> list[Tagged]:
    """Turn texts such as "Ann/B-per sings/O" into words and tags."""
    pairs = [[word.rpartition("/") for word in text.split()] for text in texts]
    return [([p[0] for p in sentence], [p[2] for p in sentence]) for sentence in pairs]


def params(**values: Any) -> Params:
    return Params.of({"batch_size": 16, "seed": 1, "dropout_rate": 0.0} | TINY | values, "p.json")
