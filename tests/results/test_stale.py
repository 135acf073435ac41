"""A number is tied to its checkpoint and data; one that does not fit the run any more is stale."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evaluate
import synthesize_results
import train
from core.base.files import checkpoint_hash
from core.run.evaluation import write_evaluation
from core.run.restoring import restore
from utils import save_checkpoint

PARAMS = {"task": "tests.projects.weighted", "monitor": "loss", "batch_size": 10}
PARAMS |= {"num_epochs": 1, "num_threads": 1, "learning_rate": 0.01}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of data; the task makes up its examples."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "examples.txt").write_text("as they were")
    return folder


def run(folder: Path, data: Path, *more: str, **params: Any) -> Path:
    """Train, and return the run's folder, which is one of those in "runs"."""
    folder = folder / "runs" / params.pop("name", "one")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "params.json").exists():
        (folder / "params.json").write_text(json.dumps(PARAMS | params))
    assert train.main(["--model_dir", str(folder), "--data_dir", str(data), *more]) == 0
    return folder


def score(folder: Path, *more: str, split: str = "test") -> None:
    assert evaluate.main(["--model_dir", str(folder), "--split", split, *more]) == 0


def numbers(folder: Path, name: str) -> dict[str, float]:
    values: dict[str, float] = json.loads((folder / f"metrics_{name}.json").read_text())
    return values


def table(folder: Path, *more: str, split: str = "test") -> dict[str, dict[str, str]]:
    """Return the rows of the table of the runs, by name."""
    parent = folder.parent
    arguments = ["--parent_dir", str(parent), "--split", split, *more]
    assert synthesize_results.main(arguments) == 0
    with (parent / "results.csv").open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_numbers_of_an_earlier_best_checkpoint_are_shown_as_stale_until_evaluated_again(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, data)
    score(folder)
    before = numbers(folder, "test_best")
    run(tmp_path, data, "--set", "num_epochs=4")
    capsys.readouterr()
    row = table(folder)["one"]
    assert (row["accuracy"], row["loss"]) == ("", "")
    assert json.loads(row["stale"]) == {"one": before}
    assert "stale: test numbers are of another best.pt (epoch 1)" in row["note"]
    printed = capsys.readouterr().out
    assert f"{before['loss']:.4g} †" in printed
    assert "† stale: not of the run's best checkpoint" in printed
    for name in ("results.md", "results.json", "results.tex", "report.html"):
        assert "stale" in (folder.parent / name).read_text(), name
    score(folder)
    assert float(table(folder)["one"]["loss"]) == numbers(folder, "test_best")["loss"]
    assert "†" not in capsys.readouterr().out


def test_other_data_never_take_the_place_of_the_runs_own(tmp_path: Path, data: Path) -> None:
    folder = run(tmp_path, data)
    score(folder, "--save_predictions")
    own, predictions = numbers(folder, "test_best"), (folder / "predictions_test.npz").read_bytes()
    other = tmp_path / "other"
    shutil.copytree(data, other)
    (other / "examples.txt").write_text("others")
    score(folder, "--data_dir", str(other), "--save_predictions")
    (folder / "metrics_test_best_on_other.json").unlink()  # there it was
    assert (folder / "predictions_test.npz").read_bytes() == predictions
    assert float(table(folder)["one"]["loss"]) == own["loss"]
    rows = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [row["data"]["folder"] for row in rows] == [str(data), str(data), str(other)]
    assert len({row["checkpoint"]["sha256"] for row in rows}) == 1
    score(folder, "--data_dir", str(other), split="val")
    assert float(table(folder, split="val")["one"]["loss"]) == rows[0]["values"]["loss"]


def test_data_that_were_changed_in_place_are_other_data(tmp_path: Path, data: Path) -> None:
    folder = run(tmp_path, data)
    (data / "examples.txt").write_text("changed")
    score(folder)
    row = table(folder)["one"]
    assert "stale: test numbers are of other data" in row["note"]
    assert row["loss"] == ""
    assert (folder / "metrics_test_best_on_data.json").exists()


def test_another_precision_has_a_file_of_its_own_and_another_batch_size_has_not(
    tmp_path: Path, data: Path
) -> None:
    folder = run(tmp_path, data)
    score(folder, "--set", "batch_size=3")
    own = numbers(folder, "test_best")
    score(folder, "--set", "precision=bfloat16")
    assert numbers(folder, "test_best") == own
    assert numbers(folder, "test_best_with_precision")["loss"] != own["loss"]
    assert float(table(folder)["one"]["loss"]) == own["loss"]


def test_a_kept_copy_is_not_the_best_checkpoint(tmp_path: Path, data: Path) -> None:
    folder = run(tmp_path, data)
    shutil.copy(folder / "best.pt", folder / "best.epoch1.pt")
    run(tmp_path, data, "--set", "num_epochs=4")
    score(folder)
    own = numbers(folder, "test_best")
    score(folder, "--restore_file", "best.epoch1.pt", "--save_predictions")
    assert numbers(folder, "test_best") == own
    assert numbers(folder, "test_best.epoch1") != own
    assert (folder / "predictions_test_best.epoch1.npz").exists()
    assert float(table(folder)["one"]["loss"]) == own["loss"]


def test_the_template_s_checkpoint_beside_best_pt_has_a_name_of_its_own(
    tmp_path: Path, data: Path
) -> None:
    folder = run(tmp_path, data)
    score(folder)
    own = numbers(folder, "test_best")
    save_checkpoint(restore(folder, "last").content, True, folder)
    score(folder, "--restore_file", str(folder / "best.pth.tar"))
    assert numbers(folder, "test_best") == own
    assert numbers(folder, "test_best.pth.tar") == own
    (folder / "best.pt").unlink()
    score(folder)
    assert "stale: test" not in table(folder)["one"]["note"]


def test_a_best_checkpoint_replaced_by_hand_makes_all_numbers_stale(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = run(tmp_path, data), run(tmp_path, data, name="two", learning_rate=0.02)
    shutil.copy(other / "best.pt", folder)
    row = table(folder, split="val")["one"]
    assert "stale: val numbers are of another best.pt" in row["note"]
    assert json.loads((folder.parent / "results.json").read_text())["best"]["run"] == "two"
    assert "best epoch" not in row or row["best epoch"] == ""
    compare = ["--parent_dir", str(folder.parent), "--compare", "one", "two"]
    assert synthesize_results.main(compare) == 1
    assert "one: stale, its val numbers are of another best.pt" in capsys.readouterr().err


def test_a_stale_seed_is_in_no_mean(tmp_path: Path, data: Path) -> None:
    folders = [run(tmp_path, data, name=f"s{seed}", seed=seed) for seed in (1, 2, 3)]
    shutil.copy(folders[0] / "best.pt", folders[1])
    row = table(folders[0], split="val")["s{1,2,3}"]
    losses = [numbers(folders[i], "val_best_weights")["loss"] for i in (0, 2)]
    assert float(row["loss"]) == pytest.approx(sum(losses) / 2)
    assert list(json.loads(row["stale"])) == ["s2"]


def test_predictions_of_another_checkpoint_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = run(tmp_path, data), run(tmp_path, data, name="two", learning_rate=0.02)
    compare = ["--parent_dir", str(one.parent), "--compare", "one", "two"]
    assert synthesize_results.main(compare) == 0
    shutil.copy(two / "predictions_val.npz", one)
    assert synthesize_results.main(compare) == 1
    assert "predictions_val.npz: stale, of another best.pt" in capsys.readouterr().err
    table(one, split="val")
    assert "stale, of another best.pt" in capsys.readouterr().out


def test_an_evaluation_is_of_the_checkpoint_it_read_though_training_replaced_it(
    tmp_path: Path, data: Path
) -> None:
    folder = run(tmp_path, data)
    restored, first = restore(folder, "best"), checkpoint_hash(folder / "best.pt")
    model, loader = restored.with_loader("test")
    run(tmp_path, data, "--set", "num_epochs=3")
    values, tally = evaluate.evaluate(model, loader, restored.task, restored.params)
    write_evaluation(folder, restored, "test", loader, values, tally, False)
    last = json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])
    assert last["checkpoint"]["sha256"] == first != checkpoint_hash(folder / "best.pt")
    assert "stale: test numbers" in table(folder)["one"]["note"]


def test_numbers_without_a_record_are_shown_as_of_an_unknown_checkpoint(
    tmp_path: Path, data: Path
) -> None:
    folder = run(tmp_path, data)
    (folder / "evaluations.jsonl").write_text('{"split": "val", "checkpoint": "best.pt"}\n')
    row = table(folder, split="val")["one"]
    assert float(row["loss"]) == numbers(folder, "val_best_weights")["loss"]
    assert "val numbers of an unknown checkpoint" in row["note"]
    assert row["best epoch"] == "1"


def test_numbers_stay_when_the_checkpoints_are_removed(tmp_path: Path, data: Path) -> None:
    folder = run(tmp_path, data)
    score(folder)
    run(tmp_path, data, "--set", "num_epochs=4")
    (folder / "best.pt").unlink()
    assert table(folder, split="val")["one"]["loss"]
    assert table(folder)["one"]["loss"] == ""  # of the one before
