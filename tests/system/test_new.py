"""`make new` begins a task of one's own, beside the examples or instead of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.clone import copy_repository
from tests.helpers.examples import CHANGED, hand_signs


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the repository, without data and runs."""
    return copy_repository(tmp_path / "clone")


def python(clone: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words], cwd=clone, capture_output=True, text=True, check=False
    )


def test_a_new_task_trains(clone: Path) -> None:
    done = python(clone, "tests/new.py", "birds")
    assert done.returncode == 0, done.stderr
    done = python(clone, *done.stdout.partition("python ")[2].split(), "--set", "num_epochs=2")
    assert done.returncode == 0, done.stderr
    assert json.loads((clone / "experiments/birds/status.json").read_text())["state"] == "finished"
    assert python(clone, "-m", "ruff", "check", "--no-cache", "model/birds").returncode == 0


@pytest.mark.skipif(not hand_signs(), reason=CHANGED)
def test_only_leaves_no_example(clone: Path) -> None:
    done = python(clone, "tests/new.py", "birds", "--only")
    assert done.returncode == 0, done.stderr
    for folder in ("experiments", "tests/tasks"):
        assert [path.name for path in (clone / folder).iterdir()] == ["birds"]
    assert sorted(path.name for path in (clone / "model").iterdir()) == ["__init__.py", "birds"]
    assert not list((clone / "data").glob("*/*"))
    done = python(clone, "-m", "pytest", "-q", "--collect-only", "-m", "not slow")
    assert done.returncode == 0, done.stdout
    assert "task_birds" in done.stdout
    assert "tests/tasks" not in done.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("new-task", "'new-task' cannot name a package"),
        ("class", "'class' cannot name a package"),
        ("taken", "experiments/taken exists"),
    ],
)
def test_a_name_that_cannot_be_had_is_told_and_nothing_is_made(
    clone: Path, name: str, told: str
) -> None:
    (clone / "experiments/taken").mkdir()
    done = python(clone, "tests/new.py", name, "--only")
    assert done.returncode == 2
    assert told in done.stderr
    assert (clone / "model").stat().st_mtime == (ROOT / "model").stat().st_mtime
    assert not (clone / "model" / name).exists()


def test_runs_are_not_removed_with_the_examples(clone: Path) -> None:
    run = clone / "experiments/learning_rate/trial"
    run.mkdir(parents=True)
    (run / "last.pt").touch()
    done = python(clone, "tests/new.py", "birds", "--only")
    assert done.returncode == 2
    assert "holds a run" in done.stderr or not hand_signs()
    assert run.exists()
    assert not (clone / "model/birds").exists()
