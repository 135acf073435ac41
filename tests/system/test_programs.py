"""What programs rely on: exit codes, one JSON object on stdout, the commands of AGENTS.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evaluate
import predict
import train
from core.machine.script import Main
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.clone import copy_repository
from tests.helpers.runs import stop_at


def answer(capsys: pytest.CaptureFixture[str], main: Main, *argv: str | Path) -> dict[str, Any]:
    """Run a script with --json; returns the one object that it prints, on one line."""
    capsys.readouterr()
    try:
        code = main([*map(str, argv), "--json"])
    except SystemExit as error:
        code = int(error.code or 0)
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["exit_code"] == code
    return found


def test_each_script_prints_one_object_on_standard_output(
    run_folder: Folder, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1)
    where: list[str | Path] = ["--model_dir", folder, "--data_dir", data]
    trained = answer(capsys, train.main, *where)
    assert trained["folder"] == str(folder)
    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert trained["metrics"] == best
    assert answer(capsys, evaluate.main, *where, "--split", "val")["metrics"] == best
    picture = next((data / "val_signs").iterdir())
    (one,) = answer(capsys, predict.main, "--model_dir", folder, picture)["answers"]
    assert one["name"] == str(picture)
    (folder / "no.jpg").write_text("no picture")
    found = answer(capsys, predict.main, "--model_dir", folder, picture, folder / "no.jpg")
    assert found["exit_code"] == 1
    assert found["answers"] == [one]
    assert "no.jpg" in found["unreadable"][0]


def test_each_way_to_fail_has_its_exit_code_and_is_told_in_the_object(
    run_folder: Folder,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = run_folder()
    where: list[str | Path] = ["--model_dir", folder, "--data_dir", data]
    wrong = answer(capsys, train.main, *where, "--set", "batch_size=0")
    assert wrong["exit_code"] == 2
    assert "want a whole number of at least 1" in wrong["error"]
    assert answer(capsys, train.main, *where, "--no_such_option")["exit_code"] == 2
    assert answer(capsys, train.main, *where[:3], folder / "none")["exit_code"] == 1
    stop_at(monkeypatch, 2)
    stopped = answer(capsys, train.main, *where)
    assert stopped == {"exit_code": 143, "error": "stopped by SIGTERM"}


def test_the_page_lists_the_exit_codes_that_the_scripts_use() -> None:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+|128 \+ n) \|", page, re.M) == ["0", "1", "2", "3", "128 + n"]


@pytest.mark.slow
def test_the_commands_of_the_page_for_agents_work(tmp_path: Path) -> None:
    clone = copy_repository(tmp_path / "clone")
    page = (clone / "AGENTS.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 60
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for text in re.findall(r"^```sh\n(.*?)^```$", page, re.S | re.M):
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=clone, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if "--json" in text:
            assert [json.loads(line)["exit_code"] for line in done.stdout.splitlines()] == [0] * 4
