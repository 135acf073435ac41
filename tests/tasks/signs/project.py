from pathlib import Path

from tests.conftest import write_signs
from tests.helpers.examples import CHANGED, hand_signs
from tests.projects.registry import Project


def make_data(folder: Path) -> None:
    """Write 24, 12 and 8 pictures."""
    write_signs(folder, {"train": 24, "val": 12, "test": 8})


PROJECT = Project(
    task="model",
    params={"num_channels": 4, "dropout_rate": 0.2, "optimizer": "SGD"},
    make_data=make_data,
    skip="" if hand_signs() else f"{CHANGED}; write your own tests/tasks/<name>/project.py",
)
