"""Where the data are looked for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.base.errors import DataError
from core.data.folder import find_data_dir
from tests.helpers import ROOT


def test_the_tasks_own_folder_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own: Any = SimpleNamespace(data_dir="docs", name="t")
    none: Any = SimpleNamespace(data_dir=None)
    assert find_data_dir(none, own) == ROOT / "docs"
    (tmp_path / "docs").mkdir()
    assert find_data_dir(none, own) == Path("docs")  # that of the working directory comes first
    with pytest.raises(DataError, match="elsewhere: no such folder of data"):
        elsewhere: Any = SimpleNamespace(data_dir="elsewhere")
        find_data_dir(elsewhere, own)
