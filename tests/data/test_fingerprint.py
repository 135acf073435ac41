"""The fingerprint of a data folder: finds changes, and reads again only what may have changed."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.data import folder
from core.data.folder import fingerprint
from tests.conftest import Folder
from tests.helpers.runs import run, score
from tests.projects.registry import OWN
from tests.projects.shards.data_loader import write

NOWHERE = Path("/nowhere")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of a 300 KB shard and small files, old enough to be kept in the cache."""
    made = tmp_path / "data"
    (made / "train").mkdir(parents=True)
    (made / "train" / "shard.bin").write_bytes(bytes(300_000))
    for name in ("a.txt", "b.txt"):
        (made / name).write_text(name)
    return made


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every reading count as slow, and every file as settled."""
    monkeypatch.setattr(folder, "SLOW", -1.0)
    monkeypatch.setattr(folder.time, "time", lambda: 4e9)


def digest(data: Path) -> str:
    return str(fingerprint(data, NOWHERE)["sha256"])


def put(path: Path, place: int, content: bytes) -> None:
    """Overwrite a part of a file; its size and time stay."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.slow
def test_a_byte_in_the_middle_of_a_shard_is_found(data: Path) -> None:
    path = data / "train" / "shard.bin"
    with path.open("r+b") as file:
        file.truncate(2**31 + 10_000)  # above 2 GiB, with holes
    before = digest(data)
    put(path, 2**30 + 123, b"x")
    assert digest(data) != before


def test_samples_of_a_larger_folder_find_a_change_of_a_stretch_and_at_both_ends(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "WHOLE", 0)
    path = data / "train" / "shard.bin"
    with path.open("r+b") as file:
        file.truncate(100 * 2**20)
    found = {digest(data)}
    put(path, 0, b"x")
    found.add(digest(data))
    put(path, 100 * 2**20 - 1, b"x")
    found.add(digest(data))
    put(path, 50 * 2**20, b"x" * 9 * 2**20)
    found.add(digest(data))
    put(data / "a.txt", 2, b"x")  # small files are read whole
    found.add(digest(data))
    assert len(found) == 5


@pytest.mark.usefixtures("slow")
def test_unchanged_files_are_not_read_again_and_changed_ones_are(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    own = folder._digest

    def noted(path: Path, size: int, whole: bool) -> str:
        read.append(path.name)
        return own(path, size, whole)

    monkeypatch.setattr(folder, "_digest", noted)
    before = digest(data)
    assert sorted(read) == ["a.txt", "b.txt", "shard.bin"]
    read.clear()
    assert digest(data) == before
    assert read == []
    put(data / "train" / "shard.bin", 150_000, b"x")
    changed = digest(data)
    assert changed != before
    assert read == ["shard.bin"]
    (data / "a.txt").rename(data / "c.txt")
    (data / "b.txt").rename(data / "a.txt")
    (data / "c.txt").rename(data / "b.txt")
    assert digest(data) != changed
    assert sorted(read) == ["a.txt", "b.txt", "shard.bin"]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_damaged_cache_changes_nothing(data: Path, content: bytes | None) -> None:
    before = digest(data)
    (cache,) = (data / ".cache").iterdir()
    whole = cache.read_bytes()
    flipped = bytes([*whole[:40], whole[40] ^ 1, *whole[41:]])
    cache.write_bytes(flipped if content is None else content)
    assert digest(data) == before
    assert digest(data) == before


def test_a_file_that_has_just_changed_is_not_kept(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SLOW", -1.0)
    monkeypatch.setattr(folder.time, "time", lambda: (data / "a.txt").stat().st_ctime)
    before = digest(data)
    monkeypatch.setattr(folder, "_digest", lambda *of: "read again")
    assert digest(data) != before


def test_a_copy_has_the_same_fingerprint_and_a_quick_reading_leaves_no_cache(data: Path) -> None:
    shutil.copytree(data, data.parent / "copy")
    assert fingerprint(data.parent / "copy", NOWHERE) == fingerprint(data, NOWHERE)
    assert not (data / ".cache").exists()


def test_reading_that_takes_long_is_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(folder, "SLOW", 0.01)
    own = folder._digest

    def slowly(path: Path, size: int, whole: bool) -> str:
        while "reading the files" not in caplog.text:
            os.sched_yield()
        return own(path, size, whole)

    monkeypatch.setattr(folder, "_digest", slowly)
    fingerprint(data, NOWHERE)
    assert f"{data}: reading the files" in caplog.text


def test_files_of_the_system_links_and_pipes_do_not_change_it(data: Path) -> None:
    before = fingerprint(data, NOWHERE)
    (data / "Thumbs.db").write_bytes(b"x")
    (data / "train" / "again").symlink_to(data)
    (data / "gone").symlink_to("/nowhere/at/all")
    os.mkfifo(data / "pipe")
    assert fingerprint(data, NOWHERE) == before


def test_what_a_loader_writes_for_an_evaluation_is_no_data(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (run_folder(name, **OWN["cache_writer"].all_params()) for name in ("one", "other"))
    assert run(one, no_data) == run(other, no_data) == 0
    score(one)
    assert "the loader made 1 file in" in capsys.readouterr().err
    assert (no_data / "test.txt").exists()
    assert json.loads((one / "evaluations.jsonl").read_text().splitlines()[-1])["split"] == "test"
    assert not [*one.glob("metrics_test_*_on_*")]
    for each in (one, other):
        assert run(each, no_data) == 0
    (no_data / "new.txt").write_text("a new file of data")
    assert run(one, no_data) == 2


def test_of_a_larger_folder_the_index_of_its_shards_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "WHOLE", 0)
    data = write(tmp_path, {"train": 900}, shards=1)
    (data / "train/notes.tar").write_bytes(b"no archive" * 9)
    broken = digest(data)  # what is no shard is a file like others
    (data / "train/notes.tar").unlink()
    before = digest(data)
    path = data / "train/00.tar"
    content = path.read_bytes()
    label = content.index(b"train/0450.cls") + 512  # one label in the middle, read by no sample
    put(path, label, b"2")
    assert digest(data) != before
    shutil.rmtree(data / "train/.cache")
    put(path, label, content[label : label + 1])
    assert digest(data) == before != broken


def test_of_a_larger_folder_every_label_beside_an_array_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "WHOLE", 0)
    labels = np.zeros(100_000, np.int64)
    np.save(tmp_path / "a.npy", labels)
    np.save(tmp_path / "a.labels.npy", labels)
    before = digest(tmp_path)
    for number in range(0, len(labels), 9000):  # most lie between the samples
        labels[number] = 1
        np.save(tmp_path / "a.labels.npy", labels)
        assert digest(tmp_path) != before
        labels[number] = 0
    np.save(tmp_path / "a.labels.npy", labels)
    assert digest(tmp_path) == before
