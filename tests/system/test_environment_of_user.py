"""Machines of users: no home, no root, names that are not UTF-8, pipes, files of systems."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import predict
import train
from core.base.errors import DataError
from core.data.caches import read_cache, write_cache
from core.data.images import read_image, read_images
from data.prepared import read_manifest, staging, write_manifest
from tests.conftest import Folder
from tests.helpers import ROOT

STRANGER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]  # without an account


def script(name: str, *argv: object, enter: tuple[str, ...] = (), **environment: str | None) -> str:
    """Run a script that has to succeed, a variable of None unset; returns what it says."""
    changed = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    known = {name: value for name, value in changed.items() if value is not None}
    command = [*enter, sys.executable, name, *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True)
    said = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
    assert done.returncode == 0, said
    return said


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.parents[:-2], *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))


def as_stranger() -> tuple[str, ...]:
    """Return the command that makes a process a user without root; skips where that cannot be."""
    if shutil.which("setpriv") is None or os.getuid() != 0:
        pytest.skip("needs setpriv and root")
    command = [*STRANGER, sys.executable, "-c", "import numpy"]
    if subprocess.run(command, capture_output=True, cwd=ROOT).returncode:
        pytest.skip("another user cannot run this Python")
    return tuple(STRANGER)


def test_a_user_without_home_account_and_root_trains_and_evaluates(
    run_folder: Folder, signs: Path, tmp_path: Path
) -> None:
    folder, data, enter = run_folder(num_epochs=1), tmp_path / "data", as_stranger()
    shutil.copytree(signs, data)
    open_to_all(tmp_path)
    where = ("--model_dir", folder, "--data_dir", data)
    for name in ("train.py", "evaluate.py"):
        said = script(name, *where, enter=enter, HOME=None, XDG_CACHE_HOME=None)
        assert "atplotlib" not in said
        assert "fontManager" not in said
    assert (folder / "predictions_val.npz").exists()
    assert [*(data / ".cache").glob("train_signs-*.npy")]


@pytest.mark.slow
def test_where_nothing_but_the_run_can_be_written_it_trains(
    run_folder: Folder, signs: Path, tmp_path: Path
) -> None:
    folder, data, home = run_folder(num_epochs=1), tmp_path / "data", tmp_path / "home"
    enter = as_stranger()
    shutil.copytree(signs, data, ignore=shutil.ignore_patterns(".cache"))
    home.mkdir()
    open_to_all(tmp_path)
    for place in (data, home):
        place.chmod(0o555)
    for name in ("train.py", "evaluate.py"):
        where = ("--model_dir", folder, "--data_dir", data)
        said = script(name, *where, enter=enter, HOME=str(home), XDG_CACHE_HOME=None)
        assert "no cache train_signs" in said or name == "evaluate.py"
        assert "Traceback" not in said
        assert "atplotlib" not in said
    assert not [*home.iterdir()]


def test_without_a_home_caches_lie_beside_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])  # a user without an account
    assert write_cache(tmp_path, "a", lambda file: file.write(b"x")) == tmp_path / ".cache" / "a"
    assert read_cache(tmp_path, "a", lambda file: file.read()) == b"x"
    (tmp_path / "file").write_text("")
    assert write_cache(tmp_path / "file", "a", lambda file: file.write(b"x")) is None


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_names_that_are_not_utf8_in_a_locale_without_letters(
    locale: str, run_folder: Folder, signs: Path, tmp_path: Path
) -> None:
    folder, data = run_folder(num_epochs=1), tmp_path / "data"
    shutil.copytree(signs, data)
    for split in ("train", "val", "test"):
        picture = sorted((data / f"{split}_signs").iterdir())[0]
        picture.rename(picture.with_name(os.fsdecode(b"0_IMG_\xe9.jpg")))
    (data / os.fsdecode(b"notes_\xe9.txt")).write_text("")
    where = ("--model_dir", folder, "--data_dir", data)
    for name, argv in (
        ("train.py", where),
        ("evaluate.py", where),
        ("predict.py", (*where[:2], data / "test_signs")),
        ("predict.py", (*where[:2], data / "test_signs", "--jsonl")),
        ("synthesize_results.py", ("--parent_dir", folder)),
    ):
        said = script(name, *argv, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    rows = (folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(row) for row in rows]) == 2
    assert "finished" in said


def test_a_manifest_lists_names_that_are_not_utf8(tmp_path: Path) -> None:
    out = tmp_path / "out"
    name = os.fsdecode(b"0_IMG_\xe9.jpg")
    for text in ("one", "two"):  # the second time it replaces what the manifest lists
        with staging(out) as folder:
            (folder / name).write_text(text)
            (folder / "größe.txt").write_text(text)
            write_manifest(folder, "a script", "two files", generated=True)
    assert {*read_manifest(out)["files"]} == {name, "größe.txt"}
    assert "größe" in (out / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_file_is_no_picture(
    kind: str, signs: Path, run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(signs, data)
    odd = data / "train_signs" / "1_IMG_x.jpg"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda p: p.symlink_to("/nowhere")}[kind](odd)
    assert train.main(["--model_dir", str(run_folder()), "--data_dir", str(data)]) == 1
    said = capsys.readouterr().err
    assert str(odd) in said
    assert len(said.splitlines()) <= 5
    with pytest.raises(DataError, match="no such file" if kind == "link" else "not a file"):
        read_image(odd, (64, 64))


def test_a_folder_of_new_pictures_may_hold_files_of_systems(
    signs: Path, run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, inputs = run_folder(num_epochs=1), tmp_path / "inputs"
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    shutil.copytree(signs / "test_signs", inputs)
    for name in ("Thumbs.db", "desktop.ini", "._0_IMG_0000.jpg", ".DS_Store"):
        (inputs / name).write_text("no picture")
    capsys.readouterr()
    assert predict.main(["--model_dir", str(folder), str(inputs)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 40


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(40), b"\x80\x04."])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "white.bmp"
    Image.new("RGB", (8, 8), "white").save(path)
    before = read_images([path], (8, 8))
    (cache,) = (tmp_path / ".cache").iterdir()
    cache.write_bytes(damage)
    assert (read_images([path], (8, 8)) == before).all()
    assert cache.stat().st_size > 8 * 8 * 3
