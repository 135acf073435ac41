from pathlib import Path

import pytest

from data.ner.sentences import make_sentences
from tests.tasks.ner.helpers import write_split


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 150, 41 and 40 made-up sentences."""
    folder, made = tmp_path_factory.mktemp("ner"), list(make_sentences(231, seed=1))
    write_split(folder, "train", made[:150])
    write_split(folder, "val", made[150:191])
    write_split(folder, "test", made[191:])
    return folder
