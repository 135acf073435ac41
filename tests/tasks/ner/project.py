from pathlib import Path

from data.ner.prepare import main as prepare
from tests.projects.registry import Project


def make_data(folder: Path) -> None:
    """Make up 42, 9 and 9 sentences."""
    assert prepare(["--output", str(folder), "--count", "60"]) == 0


PROJECT = Project(
    task="model.ner",
    params={
        "monitor": "f1",
        "embedding_dim": 16,
        "feature_dim": 8,
        "lstm_hidden_dim": 16,
        "num_layers": 2,
        "bidirectional": True,
        "dropout_rate": 0.3,
        "min_count": 1,
        "affix_length": 2,
    },
    make_data=make_data,
    together={"dropout_rate": 0.0, "num_layers": 1},
)
