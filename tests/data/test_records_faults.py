"""What is wrong with shards is told, and a shard that changes under a run is noticed."""

import copy
import gzip
import os
import pickle
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from core.base.errors import DataError
from core.data import records as records_module
from core.data.fetching import exact
from core.data.records_index import CHANGED
from tests.data.conftest import COUNT, archive, key
from utils import Records


def test_records_are_copied_into_another_process_without_open_files(folder: Path) -> None:
    records = Records(folder, key)
    assert records[3] == "train/0003"
    sent = pickle.dumps(records)
    assert len(sent) < 2000
    assert pickle.loads(sent)[3] == copy.copy(records)[3] == "train/0003"


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def renamed(path: Path) -> None:
    for each in path.parent.glob("*.tar"):
        each.rename(f"{each}.gz")


def joined(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + other.read_bytes())


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1  # in the second header's name
    path.write_bytes(content)


A, B = ("a.bin", bytes(600)), ("a.cls", b"1")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: cut(path, 530), "00.tar: cut off inside of train/0000.bin"),
        (lambda path: cut(path, 2048), "00.tar: cut off: the empty block is missing"),
        (lambda path: cut(path, 2049), "no tar archive, damaged, or cut off: no header at byte"),
        (packed, "00.tar: compressed \\(gz\\), so nothing in it has a place"),
        (renamed, "00.tar.gz without 00.tar: decompress it, or move it away"),
        (flipped, "00.tar: no tar archive, damaged, or cut off: no header at byte 1024"),
        (lambda path: archive(path, A, B, ("b.bin", b""), A), "the key a comes twice"),
        (lambda path: [archive(p) for p in path.parent.glob("*.tar")], "no records in the shards"),
        (lambda path: archive(path, A, B, A), "the key a has two files .bin"),
        (lambda path: archive(path, ("a.cls", b"cat")), "a.cls is b'cat', want a whole number"),
        (
            lambda path: archive(path.with_name("9.tar"), A),
            r"9.tar: a has no part .cls, only bin \(1 record is so",
        ),
        (lambda path: joined(path, path.with_name("01.tar")), "00.tar: more follows its end"),
        (lambda path: archive(path, ("a.cls", b"9" * 20)), "want a whole number"),
        (
            lambda path: path.with_name("records.json").write_text(
                '{"made_by": "data/records.py", "records": 60}'
            ),
            "50 records in the shards, records.json promises 60",
        ),
        (lambda path: np.save(path.with_name("x.npy"), [1]), "several kinds, .npy, .tar"),
        (lambda path: path.rename(path.with_name("00.tgz")), "00.tgz without 00.tar: decompress"),
        (lambda path: path.with_name("9.tar").mkdir(), "9.tar: a folder, a broken link or no"),
        (lambda path: path.with_name("9.tar").symlink_to("gone"), "9.tar: a folder, a broken link"),
        (lambda path: os.mkfifo(path.with_name("9.tar")), "9.tar: a folder, a broken link or no"),
        (lambda path: archive(path, A, B, ("a.key", b"")), "name is taken, .key or .label"),
        (lambda path: archive(path, A, B, ("a.label", b"")), "name is taken, .key or .label"),
    ],
)
def test_what_is_wrong_with_shards_is_told(
    folder: Path, damage: Callable[[Path], object], told: str
) -> None:
    damage(folder / "00.tar")
    with pytest.raises(DataError, match=told):
        Records(folder)


def test_parts_that_are_named_are_all_that_a_record_needs(folder: Path) -> None:
    archive(folder / "9.tar", ("a.bin", bytes(600)))
    assert len(Records(folder, parts=["bin"])) == COUNT + 1
    assert Records(folder, parts=["bin"]).labels is None


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"a": [1, 2]}, "a.labels.npy: missing"),
        ({"a": [1, 2], "a.labels": [1]}, "a.npy: 2 rows, and 1 labels; want as many"),
        ({"a": np.ones((2, 2), order="F"), "a.labels": [1, 2]}, "want rows of numbers, in C order"),
        ({"a": np.ones(2, [("x", "f4")]), "a.labels": [1, 2]}, "want rows of numbers, in C order"),
        ({"a": [1, 2], "a.labels": 3}, r"the array is int64 \(\), want rows"),
        ({"a": ["x", "y"], "a.labels": [1, 2]}, "the array is <U1"),
        ({"a": [1], "a.labels": [1], "b.labels": [1]}, "b.labels.npy without b.npy: want both"),
        (
            {"a": [1], "a.labels": np.array([2**63], np.uint64)},
            "a.npy: the label 9223372036854775808 is too large",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_told(
    tmp_path: Path, arrays: dict[str, Any], told: str
) -> None:
    for name, value in arrays.items():
        np.save(tmp_path / f"{name}.npy", value)
    with pytest.raises(DataError, match=told):
        Records(tmp_path)


def test_a_shard_that_changes_under_a_run_is_told(folder: Path) -> None:
    records = Records(folder, key)
    archive(folder / "00.tar", ("other/00000.bin", bytes(64)), ("other/00000.cls", b"1"))
    with pytest.raises(DataError, match=f"00.tar: {CHANGED}"):
        _ = records[0]
    cut(folder / "01.tar", 100)
    loader = exact(DataLoader(records, 8, num_workers=1), 0)
    with pytest.raises(DataError, match=rf"0.\.tar: {CHANGED}"):
        list(loader.epoch(0))


def test_an_open_shard_that_is_written_into_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "LOOK", 0.0)
    records = Records(folder)
    assert records[0] == records[0]
    with (folder / "00.tar").open("r+b") as file:
        file.seek(512)
        file.write(b"other")
    with pytest.raises(DataError, match=f"00.tar: {CHANGED}"):
        _ = records[0]


def test_a_parquet_file_that_changes_is_told(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "a.parquet")
    records = Records(tmp_path)
    parquet.write_table(pyarrow.table({"x": [2]}), tmp_path / "a.parquet")
    os.utime(tmp_path / "a.parquet", (1, 1))
    with pytest.raises(DataError, match=f"a.parquet: {CHANGED}"):
        _ = records[0]


def test_a_shard_of_the_same_keys_and_size_in_place_of_another_is_told(folder: Path) -> None:
    records, path = Records(folder), folder / "00.tar"
    content = bytearray(path.read_bytes())
    content[512] ^= 1  # of the first record
    path.with_name("new").write_bytes(content)
    os.utime(path.with_name("new"), (1, 1))
    path.with_name("new").replace(path)
    with pytest.raises(DataError, match=CHANGED):
        _ = records[0]


def test_a_copy_in_another_process_is_of_the_same_shards_or_none(folder: Path) -> None:
    sent = pickle.dumps(Records(folder))
    archive(folder / "0.tar", A, B)
    with pytest.raises(DataError, match=CHANGED):  # its numbers would be those of other records
        pickle.loads(sent)


def test_labels_beside_an_array_that_change_are_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 0)))
    np.save(tmp_path / "a.labels.npy", np.arange(3))
    assert Records(tmp_path, window=1)[2]["label"] == 2
    np.save(tmp_path / "a.labels.npy", np.arange(3) + 5)
    assert torch.equal(Records(tmp_path).labels, torch.arange(3) + 5)  # type: ignore[arg-type]


def test_files_without_a_record_may_stand_between_the_parts_of_one(tmp_path: Path) -> None:
    strays = ("./._a.bin", b"of macOS"), ("README", b"x")
    path = archive(tmp_path / "a.tar", strays[0], ("./a.bin", b""), *strays, ("./a.cls", b"1"))
    assert Records(path)[0] == {"key": "./a", "bin": b"", "cls": b"1", "label": 1}


def test_a_link_in_an_archive_is_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", A)
    with tarfile.open(path, "a") as made:
        info = tarfile.TarInfo("b.bin")
        info.type, info.linkname = tarfile.LNKTYPE, "a.bin"
        made.addfile(info)
    with pytest.raises(DataError, match=r"a.tar: b.bin is a link or has holes"):
        Records(path)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
@pytest.mark.parametrize("name", ["a.bin", "README"])
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_files_with_holes_in_an_archive_are_told(tmp_path: Path, form: str, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        for place in range(8):  # more stretches than the header has room for
            file.seek(place * 2**20)
            file.write(b"content")
    (tmp_path / "b.bin").touch()
    command = ["tar", "--sparse", f"--format={form}", "-cf", "a.tar", name, "b.bin"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with pytest.raises(DataError, match=f"{name} is a link or has holes"):
        Records(tmp_path)


def test_a_long_name_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", (f"{'e' * 150}.bin", b"1"))
    content = path.read_bytes()
    path.write_bytes(content[:512] + b"000" + content[515:])
    with pytest.raises(DataError, match="damaged, or cut off: no header at byte 0"):
        Records(path)


def test_a_record_may_be_larger_than_four_gigabytes(tmp_path: Path) -> None:
    path, size = tmp_path / "a.tar", 5 * 2**30
    infos = [tarfile.TarInfo(name) for name in ("a.bin", "b.bin")]
    infos[0].size = size
    with path.open("wb") as file:  # a hole: it takes no room
        file.write(infos[0].tobuf())
        file.seek(size, os.SEEK_CUR)
        file.write(infos[1].tobuf() + bytes(1024))
    records = Records(path)
    assert records.index.sizes.tolist() == [size + 512, 512]
    assert records[1] == {"key": "b", "bin": b""}
