import json
from pathlib import Path

import pytest

import synthesize_results


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
