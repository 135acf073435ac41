import json
from pathlib import Path

import pytest

from core.base.files import append_row, parse_rows, temporary


def test_temporary_names_never_meet(tmp_path: Path) -> None:
    with temporary(tmp_path / "x") as first, temporary(tmp_path / "x") as second:
        assert first != second


@pytest.mark.parametrize(
    ("before", "kept"),
    [("", 0), ('{"a": 1}\n', 1), ('{"a": 1}\n{"a": 2, "b', 1), ('{"a": 1}\n{"a": 2}', 2), ("{", 0)],
)
def test_a_row_never_follows_a_part_of_another(tmp_path: Path, before: str, kept: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(before)
    length = append_row(path, {"a": 9})
    assert length == path.stat().st_size
    rows, complete = parse_rows(path.read_bytes())
    assert complete
    assert rows == [*({"a": i + 1} for i in range(kept)), {"a": 9}]
    assert json.loads(path.read_text().splitlines()[-1]) == {"a": 9}
