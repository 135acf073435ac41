"""Records in shards, for the tests of them."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.projects.shards.data_loader import add, write

COUNT = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 50 records in three tar shards."""
    return write(tmp_path, {"train": COUNT}) / "train"


def archive(path: Path, *files: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as made:
        for name, content in files:
            add(made, name, content)
    return path


def key(record: dict[str, Any]) -> str:
    return str(record["key"])
