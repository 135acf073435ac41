"""Small data and runs that the tests share."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.warm import Warm

ROOT = Path(__file__).resolve().parent.parent
Folder = Callable[..., Path]


def write_signs(folder: Path, sizes: dict[str, int], size: int = 64) -> Path:
    """Write noisy images whose brightness tells their label: {split}_signs/{label}_IMG_{id}.jpg."""
    rng = np.random.default_rng(0)
    for split, count in sizes.items():
        (folder / f"{split}_signs").mkdir(parents=True)
        for i in range(count):
            label = i % 6
            pixels = rng.normal(30 + 40 * label, 25, (size, size, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{split}_signs" / f"{label}_IMG_{i:04d}.jpg")
    return folder


@pytest.fixture(scope="session")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hand-signs data of 48, 20 and 40 images."""
    return write_signs(tmp_path_factory.mktemp("signs"), {"train": 48, "val": 20, "test": 40})


SMALL = {
    "num_channels": 2,
    "dropout_rate": 0.3,
    "batch_size": 16,
    "num_epochs": 2,
    "num_threads": 1,
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Folder:
    """Return a function that makes a run's folder with the given params on top of small ones."""

    def make(name: str = "run", **params: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(SMALL | params))
        return folder

    return make


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Return the process that starts runs in milliseconds."""
    server = Warm()
    yield server
    server.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hand-signs data of 36 and 12 images, for runs that are killed or stopped."""
    return write_signs(tmp_path_factory.mktemp("data"), {"train": 36, "val": 12})
