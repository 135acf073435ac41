from pathlib import Path

from core.base.files import temporary


def test_temporary_names_never_meet(tmp_path: Path) -> None:
    with temporary(tmp_path / "x") as first, temporary(tmp_path / "x") as second:
        assert first != second
