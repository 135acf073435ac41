"""What the log and the terminal show: no orders to a terminal, no forged lines, no library talk."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest

import evaluate
import predict
import train
from bench.noop import net
from core.run.log import logging_to
from tests.conftest import Folder
from tests.helpers import ROOT

NOOP = {"task": "bench.noop", "num_steps": 4, "num_epochs": 1, "num_threads": 1, "monitor": "loss"}
FORGED = "x\x1b[31m\n2026-01-01 00:00:00,000:INFO: Epoch 8/8"


def begin(folder: Path) -> list[str]:
    (folder / "params.json").write_text(json.dumps(NOOP))
    return ["--model_dir", str(folder), "--data_dir", str(folder)]


def records(folder: Path, name: str = "train.log") -> list[str]:
    """Return the lines of a log that look like records."""
    text = (folder / name).read_text(encoding="utf-8")
    assert "\x1b" not in text
    return [line for line in text.splitlines() if re.match(r"\d{4}-\d\d-\d\d", line)]


def test_names_of_metrics_forge_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(net.metrics, FORGED, lambda outputs, labels: 0.5)
    assert train.main(begin(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\n2026-01-01" not in said
    assert r"x\x1b[31m\n2026-01-01 00:00:00,000:INFO: Epoch 8/8: 0.5" in said
    assert not [line for line in records(tmp_path) if line.startswith("2026-01-01")]


def test_an_exception_forges_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="Epoch 8"), logging_to(tmp_path / "train.log"):
        raise ValueError(FORGED)
    assert len(records(tmp_path)) == 1


def test_names_of_files_forge_no_line(
    signs: Path, run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    picture = next((signs / "test_signs").iterdir()).read_bytes()
    for name in (os.fsencode("a" + FORGED.replace("/", "_")), b"b\xff"):
        Path(os.fsdecode(bytes(inputs) + b"/" + name)).write_bytes(picture)
    (inputs / "c\x1b[2J\n.jpg").write_text("no picture")
    capsys.readouterr()
    assert predict.main(["--model_dir", str(folder), str(inputs)]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("error: 1 input could not be read:\n")
    assert len(said.err.splitlines()) == 2
    assert "\x1b" not in said.out + said.err


def test_a_warning_is_called_one_once(tmp_path: Path) -> None:
    assert train.main([*begin(tmp_path), "--set", "learning_rate=1e-9"]) == 0
    text = (tmp_path / "train.log").read_text()
    assert text.count("WARNING: THIS NET HAS LEARNED NOTHING") == 1
    assert "WARNING: WARNING" not in text


def test_warnings_of_libraries_are_notes_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "train.log"), warnings.catch_warnings(action="default"):
        warnings.warn("a metric divides by 0\nand more", RuntimeWarning, stacklevel=1)
    for said in (capsys.readouterr().err, (tmp_path / "train.log").read_text()):
        assert said.strip().endswith("Note: RuntimeWarning: a metric divides by 0")
        assert len(said.splitlines()) == 1
        assert "site-packages" not in said


@pytest.mark.parametrize(
    ("kind", "helps"), [("failing", True), ("of core", False), ("memory", False)]
)
def test_check_is_named_where_it_helps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    helps: bool,
) -> None:
    def fails(*args: object) -> None:
        raise (
            MemoryError if kind == "memory" else RuntimeError("Could not determine home directory")
        )

    folder = tmp_path / "run"
    folder.mkdir()
    params = {"task": "tests.projects.kinds", "kind": "failing", "num_threads": 1, "num_epochs": 1}
    (folder / "params.json").write_text(json.dumps(params | {"batch_size": 4}))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    if kind != "failing":
        monkeypatch.setattr("core.run.run.fingerprint", fails if kind == "memory" else len)
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path)]
    if kind not in ("failing", "memory"):  # a fault of core keeps its traceback
        with pytest.raises((RuntimeError, TypeError)):
            train.main(argv)
        return
    assert train.main(argv) == 1
    said = capsys.readouterr().err
    assert ("check.py tries the net" in said) == helps
    if kind == "failing":
        assert "error: your forward, tests/projects/kinds/net.py:" in said
        assert "    raise RuntimeError(" in said
    with pytest.raises((RuntimeError, MemoryError)):
        train.main([*argv, "--traceback"])


def test_evaluation_shows_on_a_terminal_how_far_it_is(tmp_path: Path) -> None:
    argv = begin(tmp_path)
    assert train.main(argv) == 0
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 100))
    command = [sys.executable, "evaluate.py", *argv, "--split", "train"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=other_end, check=True)
    os.close(other_end)
    said = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert re.search(r"train:.*\d/4", said)


def test_numbers_agree_with_their_nouns(
    signs: Path, run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1, batch_size=48)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    said = capsys.readouterr().err
    assert "48 examples in 1 batch," in said
    assert "Done after 1 epoch." in said
    assert evaluate.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
