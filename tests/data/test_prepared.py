"""Folders that prepare scripts make: swapped in whole, and never over somebody's own files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.base.errors import UsageError
from core.data.folder import fingerprint
from data.prepared import (
    field,
    file_sha256,
    read_manifest,
    repeated_pairs,
    staging,
    write_croissant,
    write_manifest,
)
from tests.helpers import ROOT


def build(output: Path, *names: str, source: Path | None = None) -> None:
    """Make a folder as a prepare script does."""
    with staging(output, source) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        write_manifest(folder, "data/x/prepare.py", "names", generated=True, seed=3)


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_tells_what_made_the_data_and_seals_every_file(tmp_path: Path) -> None:
    build(tmp_path / "out", "train/a", "val/b")
    text = (tmp_path / "out/manifest.json").read_text()
    assert json.loads(text) == {
        "made_by": "data/x/prepare.py",
        "generated": True,
        "description": "names",
        "seed": 3,
        "files": {name: file_sha256(tmp_path / "out" / name) for name in ("train/a", "val/b")},
    }
    assert read_manifest(tmp_path / "out") == json.loads(text)


def test_a_new_folder_leaves_no_file_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # an empty one is filled
    build(tmp_path / "out", "a", "b")
    build(tmp_path / "out", "b", "c")
    assert contents(tmp_path / "out") == {"manifest.json", "b", "c"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_build_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    build(tmp_path / "out", "a")
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        _ = 1 / 0
    assert contents(tmp_path / "out") == {"manifest.json", "a"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_killed_build_leaves_the_old_folder_whole_and_the_next_one_cleans_up(
    tmp_path: Path,
) -> None:
    build(tmp_path / "out", "a")
    code = (
        "import os, pathlib, signal, sys; from data.prepared import staging\n"
        "with staging(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert contents(tmp_path / "out") == {"manifest.json", "a"}
    assert len(os.listdir(tmp_path)) == 2
    build(tmp_path / "out", "b")
    assert os.listdir(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == {"manifest.json", "b"}


def test_a_folder_that_a_kill_left_in_mid_swap_comes_back(tmp_path: Path) -> None:
    build(tmp_path / "out", "a")
    (tmp_path / ".out.staging").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.staging/old")
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "out"):
        _ = 1 / 0
    assert contents(tmp_path / "out") == {"manifest.json", "a"}


def test_two_builds_of_one_folder_never_run_at_once(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from data.prepared import staging\n"
        "with staging(pathlib.Path(sys.argv[1])) as folder: (folder / 'second').write_text('x')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with staging(tmp_path / "out") as folder:
        (folder / "first").write_text("x")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "UsageError" in done.stderr
    assert f"in use by process {os.getpid()}" in done.stderr
    assert os.listdir(tmp_path / "out") == ["first"]


@pytest.mark.parametrize("where", ["source", "source/out", "."])
def test_an_output_that_overlaps_the_source_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_text("mine")
    with pytest.raises(UsageError, match="overlap"):
        build(tmp_path / where, "b", source=tmp_path / "source")
    assert contents(tmp_path) == {"source/a"}


def test_a_folder_that_no_script_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"manifest\.json"):
        build(tmp_path / "out", "a")
    assert contents(tmp_path / "out") == {"thesis.txt"}


def test_a_file_that_a_person_added_is_not_deleted(tmp_path: Path) -> None:
    build(tmp_path / "out", "a")
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(UsageError, match="mine"):
        build(tmp_path / "out", "b")
    assert contents(tmp_path / "out") == {"manifest.json", "a", "mine"}


def test_equal_examples_of_two_splits_are_pairs() -> None:
    hashes = {"train/a": "1", "train/b": "1", "val/c": "1", "test/d": "2"}
    assert repeated_pairs(hashes) == ["train/a = val/c", "train/b = val/c"]


def test_a_description_of_the_data_is_no_part_of_their_fingerprint(tmp_path: Path) -> None:
    build(tmp_path / "out", "train/a", "val/b")
    before = fingerprint(tmp_path / "out", tmp_path)
    lines = field("line", "Text", "letters", "train", "lines")
    write_croissant(tmp_path / "out", "letters", {"letters": [lines]})
    assert "croissant.json" in contents(tmp_path / "out")
    assert fingerprint(tmp_path / "out", tmp_path) == before
    build(tmp_path / "out", "train/a", "val/b")  # it is replaced without asking
    (tmp_path / "out" / "manifest.json").unlink()
    before = fingerprint(tmp_path / "out", tmp_path)
    (tmp_path / "out" / "croissant.json").write_text("{}")  # of data that no script made
    assert fingerprint(tmp_path / "out", tmp_path) != before
