"""The best run is chosen on the validation split, by the mean over seeds."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

import synthesize_results


def make(parent: Path, name: str, val: float, test: float, **params: Any) -> None:
    """Write what a finished run leaves, but for its checkpoints."""
    folder = parent / name
    folder.mkdir()
    monitor = {
        "monitor": params.pop("monitor", "accuracy"),
        "monitor_mode": params.pop("mode", "max"),
    }
    recorded = {"params": {"seed": 1, **params}, "data": {"sha256": "d"}} | monitor
    (folder / "params.resolved.json").write_text(json.dumps(recorded))
    (folder / "status.json").write_text('{"state": "finished"}')
    checkpoint = {"file": "best.pt", "epoch": 1, "step": 1, "sha256": name}
    rows = [
        {"split": split, "checkpoint": checkpoint, "data": {"sha256": "d"},
         "values": {monitor["monitor"]: value}}
        for split, value in (("val", val), ("test", test))
    ]  # fmt: skip
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def best(parent: Path, split: str = "test", *more: str) -> dict[str, str]:
    """Return what results.json says of the best run."""
    assert synthesize_results.main(["--parent_dir", str(parent), "--split", split, *more]) == 0
    found: dict[str, str] = json.loads((parent / "results.json").read_text())["best"]
    page = re.search(r'id="data">(.*?)</script>', (parent / "report.html").read_text(), re.S)
    assert page is not None
    assert json.loads(page[1])["best"]["run"] == found["run"]
    return found


def test_validation_chooses_the_best_run_and_its_test_numbers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "good_on_test", 0.8, 0.9, width=1)
    make(tmp_path, "good_on_val", 0.9, 0.7, width=2)
    chosen = {"row": "good_on_val", "run": "good_on_val", "chosen": "by val accuracy"}
    assert best(tmp_path, "test") == best(tmp_path, "val") == chosen
    assert "the best, by val accuracy" in capsys.readouterr().out
    with (tmp_path / "results.csv").open(newline="") as file:
        notes = {row["run"]: row["note"] for row in csv.DictReader(file)}
    assert notes == {"good_on_val": "the best, by val accuracy", "good_on_test": ""}


def test_of_equal_runs_the_test_split_does_not_choose_one(tmp_path: Path) -> None:
    for name, test in (("a", 0.5), ("b", 0.9)):
        make(tmp_path, name, 0.8, test, width=name)
    assert best(tmp_path)["run"] == "a"


def test_the_best_setting_is_the_best_mean_and_its_median_seed_stands_for_it(
    tmp_path: Path,
) -> None:
    for seed, (lucky, steady) in enumerate([(0.70, 0.83), (0.99, 0.81), (0.72, 0.82)]):
        make(tmp_path, f"lucky_{seed}", lucky, 0.9, width=1, seed=seed)
        make(tmp_path, f"steady_{seed}", steady, 0.6, width=2, seed=seed)
    found = best(tmp_path)
    assert (found["row"], found["run"]) == ("steady_{0,1,2}", "steady_2")
    assert found["chosen"] == "by val accuracy, mean of 3 seeds; steady_2 is the median seed"
    make(tmp_path, "steady_3", 0.80, 0.6, width=2, seed=3)
    assert best(tmp_path)["run"] == "steady_1"  # 0.83, 0.82, 0.81, 0.80: the worse of the middle
    assert best(tmp_path, "test", "--no_group")["run"] == "lucky_1"  # every run is a setting


def test_the_recorded_direction_chooses_whatever_the_metric_is_called(tmp_path: Path) -> None:
    for name, val in (("a", 0.4), ("b", 0.2), ("c", 0.3)):
        make(tmp_path, name, val, 0.5, width=name, monitor="mae", mode="min")
    assert best(tmp_path) == {"row": "b", "run": "b", "chosen": "by val mae"}


def test_a_run_with_a_seed_that_is_not_finite_is_not_the_best(tmp_path: Path) -> None:
    make(tmp_path, "a", float("nan"), 0.9, width=1)
    make(tmp_path, "b", 0.1, 0.5, width=2)
    text = (tmp_path / "a" / "evaluations.jsonl").read_text().replace("NaN", "null")
    (tmp_path / "a" / "evaluations.jsonl").write_text(text)
    assert best(tmp_path)["run"] == "b"


def test_without_validation_numbers_there_is_no_best_run(tmp_path: Path) -> None:
    make(tmp_path, "a", 0.5, 0.5)
    path = tmp_path / "a" / "evaluations.jsonl"
    path.write_text(path.read_text().splitlines()[1] + "\n")
    assert synthesize_results.main(["--parent_dir", str(tmp_path), "--split", "test"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["best"] is None
