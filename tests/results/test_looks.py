"""What looks at the test split cost: intervals grow with their number."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evaluate
import synthesize_results
from tests.helpers import forging

NOTE = "Intervals are at 98.75%: 4 test looks have 95% together (Bonferroni)"


def table(parent: Path, split: str, *more: str) -> dict[str, Any]:
    """Make the table; returns the metrics of run a."""
    arguments = ["--parent_dir", str(parent), "--split", split, *more]
    assert synthesize_results.main(arguments) == 0
    rows: list[dict[str, Any]] = json.loads((parent / "results.json").read_text())["rows"]
    found: dict[str, Any] = next(row["metrics"] for row in rows if row["run"] == "a")
    return found


def test_intervals_of_the_test_split_are_widened_for_all_looks_at_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, runs = forging.write_data(tmp_path / "data"), tmp_path / "runs"
    forging.trained(runs / "a", data, num_epochs=2, keep_checkpoints=None)
    argv = ["--model_dir", str(runs / "a")]
    assert evaluate.main(argv) == 0
    capsys.readouterr()
    one = table(runs, "test")
    assert "Bonferroni" not in capsys.readouterr().out
    shutil.copytree(runs / "a", runs / "b")
    for name in ("a", "b"):
        assert evaluate.main(["--model_dir", str(runs / name)]) == 0
    capsys.readouterr()
    four = table(runs, "test", "--no_group")
    assert NOTE in capsys.readouterr().out
    for name in ("results.md", "results.tex"):
        assert NOTE.replace("%", "%" if name.endswith("md") else "\\%") in (runs / name).read_text()
    centre = one["accuracy"]
    for end in ("accuracy low", "accuracy high"):
        assert four[end] - centre == pytest.approx(1.2743 * (one[end] - centre), rel=1e-3)
    assert table(runs, "val", "--no_group") == table(runs, "val", "--no_group", "--intervals", "2")
    assert "Bonferroni" not in capsys.readouterr().out.rpartition(NOTE)[2]
