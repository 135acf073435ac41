from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data.cifar10.prepare import main as prepare


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets as small as these are faster with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 drawn images: 490 for training, 10 for validation, 100 for testing."""
    folder = tmp_path_factory.mktemp("cifar10") / "data"
    assert prepare(["--output", str(folder), "--count", "600"]) == 0
    return folder
