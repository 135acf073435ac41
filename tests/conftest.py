"""Data and runs that the tests share; functions that they share are in tests/helpers."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.runs import RECIPE, begin
from tests.helpers.warm import Warm

Folder = Callable[..., Path]


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores, because many tests wait for other processes."""
    return min((os.cpu_count() or 1) + 1, 8)


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
    """Data of tests.projects.pictures: 48, 20 and 40 images."""
    return write_signs(tmp_path_factory.mktemp("signs"), {"train": 48, "val": 20, "test": 40})


SMALL = {
    "task": "tests.projects.pictures",
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


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Return the process that starts runs in milliseconds."""
    server = Warm()
    yield server
    server.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of tests.projects.pictures: 36 and 12 images, for runs that are killed or stopped."""
    return write_signs(tmp_path_factory.mktemp("data"), {"train": 36, "val": 12})


@pytest.fixture(scope="session")
def whole(warm: Warm, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on `data` by the RECIPE that has ended; leave it as it is."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "params.json").write_text(json.dumps(SMALL | RECIPE))
    assert begin(warm, folder, data).wait() == 0
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a real browser, for pages of results."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def no_data(tmp_path: Path) -> Path:
    """Return an empty folder, for tasks that make up their data."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
