import json
from pathlib import Path

import pytest

import search_hyperparams
import synthesize_results
from search_hyperparams import launch_training_job
from tests.conftest import SMALL, Folder, rows
from utils import Params


def search(folder: Path, data: Path, text: str) -> int:
    (folder / "search.yaml").write_text(text)
    return search_hyperparams.main(["--parent_dir", str(folder), "--data_dir", str(data)])


def test_a_grid_trains_one_folder_a_point_and_a_table_gathers_them(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder("with space; $(echo x)", num_epochs=1)
    assert search(folder, signs, "space: {learning_rate: [1e-3, 1e-2]}") == 0
    trials = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert trials == ["learning_rate_0.001", "learning_rate_0.01"]
    before = (folder / trials[0] / "last.pt").stat().st_mtime_ns
    assert search(folder, signs, "space: {learning_rate: [1e-3, 1e-2, 1e-1]}") == 0
    assert (folder / trials[0] / "last.pt").stat().st_mtime_ns == before

    capsys.readouterr()
    assert synthesize_results.main(["--parent_dir", str(folder)]) == 0
    table = capsys.readouterr().out
    assert (folder / "results.md").read_text() == table
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert lines[0][0] == "run"
    assert lines[0][-2:] == ["learning_rate", "note"]
    assert [line[0] for line in lines[2:]] == [*trials, "learning_rate_0.1"]
    value = rows(folder / trials[1])[0]["val_accuracy"]
    assert lines[3][lines[0].index("accuracy")] == f"{value:.4g}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {lerning_rate: [1]}", "did you mean 'learning_rate'"),
        ("space: {learning_rate: [0]}", "above 0"),
        ("space: {learning_rate: 0.1}", "list of values"),
        ("space: {learning_rate: []}", "no values"),
        ("spase: {learning_rate: [1]}", "did you mean 'space'"),
        ("method: random", "want grid"),
        ("space: {wholly_unknown: [1]}", "wholly_unknown"),
    ],
)
def test_a_wrong_space_stops_before_anything_is_made(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    folder = run_folder()
    assert search(folder, signs, text) == 2
    assert message in capsys.readouterr().err
    assert not any(path.is_dir() for path in folder.iterdir())


def test_a_failed_trial_does_not_stop_the_others(
    run_folder: Folder, signs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1, task="tests.linear", optimizer="SGD", batch_size=12)
    assert search(folder, signs, "space: {learning_rate: [1e38, 1e-3]}") == 1
    said = capfd.readouterr()
    assert "1 of 2 trials are complete" in said.out
    assert "learning_rate_1e+38 (exit code 1)" in said.err


def test_a_job_of_the_original_call_is_a_run_like_any_other(tmp_path: Path, signs: Path) -> None:
    params = Params.of(SMALL | {"num_epochs": 1}, "base")
    assert launch_training_job(str(tmp_path), str(signs), "job 'one'", params) == 0
    assert len(rows(tmp_path / "job 'one'")) == 1


def test_damaged_and_foreign_folders_are_shown_for_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, params, results in [
        ("a_original", '{"lr": 1}', '{"accuracy": 0.5, "loss": 1.25}'),
        ("b_damaged", "{", '{"accuracy": 0.5}'),
        ("c_cut", '{"lr": 2}', '{"accur'),
        ("d_other", '{"lr": 1, "name|x": 3}', json.dumps({"f1": 0.25})),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.json").write_text(params)
        (tmp_path / name / "metrics_val_best_weights.json").write_text(results)
    (tmp_path / "empty").mkdir()
    assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| run | accuracy | loss | f1 | lr | name\\|x | note |"
    assert lines[2] == "| a_original | 0.5 | 1.25 |  | 1 |  |  |"
    assert lines[3] == "| b_damaged |  |  |  |  |  | unreadable params |"
    assert lines[4] == "| c_cut |  |  |  | 2 |  | unreadable results |"
    assert lines[5] == "| d_other |  |  | 0.25 | 1 | 3 |  |"
    assert synthesize_results.main(["--parent_dir", str(tmp_path / "empty")]) == 2
