"""data/records.py: packing files into shards, and what is in them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from core.check import data_checks
from core.check.subject import FaultError
from core.data.fetching import exact
from core.data.records_hashes import kept_hashes
from data.records import main
from tests.data.conftest import archive
from tests.helpers import ROOT
from tests.helpers.preparing import hashes
from utils import Records


def pictures(folder: Path, count: int = 24, size: int = 8) -> Path:
    """Write pictures into folders of three classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("cat", "dog", "owl")[i % 3] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return folder


def pack(*argv: object) -> int:
    return main(["pack", *map(str, argv)])


def test_what_is_packed_is_unpacked_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, shards, back = pictures(tmp_path / "a"), tmp_path / "b", tmp_path / "c"
    assert pack(source, "--output", shards, "--shard_mb", 0.002) == 0
    assert len([*shards.glob("*.tar")]) > 2
    for command in ("list", "verify"):
        assert main([command, str(shards)]) == 0
    told = capsys.readouterr().out
    assert "label 1 dog: 8" in told
    assert "24 records were read, 24 have the hash of when they were packed" in told
    assert main(["unpack", str(shards), "--output", str(back)]) == 0
    rows = (back / "labels.csv").read_text().splitlines()
    (back / "labels.csv").unlink()
    assert hashes(back) == hashes(source)
    assert sorted(rows[1:])[0] == "cat/000.png,0"
    records = Records(shards)
    assert torch.equal(records.labels.sort().values, torch.arange(3).repeat_interleave(8))  # type: ignore[union-attr]
    assert records.labels.tolist() != sorted(records.labels.tolist())  # type: ignore[union-attr]


def test_a_table_with_files_and_labels_is_packed(tmp_path: Path) -> None:
    source = pictures(tmp_path / "a", 6)
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*.png"))
    lines = "".join(f"{file},{i + 5}\n" for i, file in enumerate(files))
    (source / "t.csv").write_text("file,label\n" + lines)
    assert pack(source / "t.csv", "--output", tmp_path / "b") == 0
    records = Records(tmp_path / "b")
    found = {record["key"]: record["label"] for record in map(records.record, range(6))}
    assert found == {file.removesuffix(".png"): i + 5 for i, file in enumerate(files)}
    assert pack(source / "t.csv", "--output", tmp_path / "b") == 0  # nothing is left to do


def test_splits_may_number_their_classes_alike(tmp_path: Path) -> None:
    source = pictures(tmp_path / "a", 6)
    assert pack(source, "--output", tmp_path / "train") == 0
    (source / "t.csv").write_text("file,label\nowl/002.png,owl\n")
    command = (source / "t.csv", "--output", tmp_path / "val", "--classes_of", tmp_path / "train")
    assert pack(*command) == 0
    assert Records(tmp_path / "val")[0]["label"] == 2
    (source / "t.csv").write_text("file,label\nowl/002.png,owls\n")
    assert pack(*command[:2], tmp_path / "b", *command[3:]) == 1


def test_names_of_any_bytes_and_labels_below_zero_are_packed(tmp_path: Path) -> None:
    source, name = tmp_path / "a", os.fsdecode(b"\xfc.txt")
    source.mkdir()
    (source / "ü.txt").write_bytes(b"")
    (source / name).write_bytes(b"x")
    lines = os.fsencode(f"file,label\n{name},-1\nü.txt,0\n")
    (source / "t.csv").write_bytes(lines)
    assert pack(source / "t.csv", "--output", tmp_path / "b") == 0
    assert main(["verify", str(tmp_path / "b")]) == 0
    assert main(["unpack", str(tmp_path / "b"), "--output", str(tmp_path / "c")]) == 0
    assert sorted((tmp_path / "c/labels.csv").read_bytes().splitlines()) == sorted(
        lines.splitlines()
    )


def test_a_key_of_two_shards_is_unpacked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "s").mkdir(exist_ok=True)
        archive(tmp_path / f"s/{name}.tar", ("1.txt", name.encode()))
    assert main(["unpack", str(tmp_path / "s"), "--output", str(tmp_path / "c")]) == 1
    assert "File exists" in capsys.readouterr().err
    assert (tmp_path / "c/1.txt").read_bytes() == b"a"


@pytest.mark.slow
def test_a_pack_that_is_killed_goes_on_to_the_same_files(tmp_path: Path) -> None:
    source = pictures(tmp_path / "a", 300, 32)
    assert pack(source, "--output", tmp_path / "whole", "--shard_mb", 0.02) == 0
    command = [sys.executable, "data/records.py", "pack", str(source), "--shard_mb", "0.02"]
    rng = np.random.default_rng(0)
    for i in range(2):
        output, kills = tmp_path / f"killed{i}", 0
        while kills < 3:
            process = subprocess.Popen([*command, "--output", str(output)], cwd=ROOT)
            while process.poll() is None and not [*output.glob("*.tar")]:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            kills += 1
            if process.wait() == 0:
                break
        assert subprocess.run([*command, "--output", str(output)], cwd=ROOT, check=True)
        found = {name: each for name, each in hashes(output).items() if not name.startswith(".")}
        whole = hashes(tmp_path / "whole")
        assert found == {name: each for name, each in whole.items() if not name.startswith(".")}
    assert len([*tmp_path.glob("whole/*.tar")]) > 10


def test_a_shard_that_a_kill_cut_off_is_written_again_and_others_are_not(tmp_path: Path) -> None:
    source, shards = pictures(tmp_path / "a"), tmp_path / "b"
    command = (source, "--output", shards, "--shard_mb", 0.002)
    assert pack(*command) == 0
    before, times = hashes(shards), {p: p.stat().st_mtime_ns for p in shards.glob("*.tar")}
    (shards / "000001.sha256").unlink()
    (shards / "manifest.json").unlink()
    os.truncate(shards / "000001.tar", 700)
    assert pack(*command) == 0
    assert hashes(shards) == before
    changed = {p.name for p, time in times.items() if p.stat().st_mtime_ns != time}
    assert changed == {"000001.tar"}


def test_a_byte_that_changed_is_found_and_its_record_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack(pictures(tmp_path / "a"), "--output", tmp_path / "b") == 0
    shard = tmp_path / "b/000000.tar"
    assert len(kept_hashes(shard) or ()) == 24
    with shard.open("r+b") as file:
        file.seek(600)
        byte = file.read(1)
        file.seek(600)
        file.write(bytes([byte[0] ^ 1]))
    assert main(["verify", str(tmp_path / "b")]) == 1
    first = Records(tmp_path / "b").filenames[0]
    assert f"1 of 24 records are damaged:\n  {first}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda source, output: (source / "cat/000.jpg").write_bytes(b"x"), "get the key cat/000"),
        (lambda source, output: output.mkdir() or (output / "x").touch(), "holds other files"),
        (lambda source, output: pack(source, "--output", output, "--seed", 1), "or options"),
        (lambda source, output: (source / "t.csv").write_text("file,label\nx.png\n"), "line 2"),
        (lambda source, output: (source / "t.csv").write_text("file,label\n"), "no files"),
        (
            lambda source, output: (
                (source / "x.cls").touch() or (source / "t.csv").write_text("f,l\nx.cls,1\n")
            ),
            "want an ending, other than .cls",
        ),
        (
            lambda source, output: (source / "t.csv").write_text("f,l\n../x.png,1\n"),
            "in the folder",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Path], object],
    told: str,
) -> None:
    source, output = pictures(tmp_path / "a"), tmp_path / "b"
    spoil(source, output)
    table = source / "t.csv"
    assert pack(table if table.exists() else source, "--output", output) in (1, 2)
    assert told in capsys.readouterr().err


def label_and_size(record: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return torch.tensor([float(len(record["png"]))]), record["label"]


def test_check_reads_every_byte_of_the_shards(tmp_path: Path) -> None:
    assert pack(pictures(tmp_path / "a"), "--output", tmp_path / "b") == 0
    loader = exact(DataLoader(Records(tmp_path / "b", label_and_size), 4), 0)
    subject: Any = SimpleNamespace(own_loaders={"train": loader, "val": loader})
    told = data_checks.every_example_can_be_read(subject)
    assert told.count("every byte") == 1  # both splits are of the same shards
    assert "every byte of 24 records, 24 with the hash of when they were packed" in told
    with (tmp_path / "b/000000.tar").open("r+b") as file:
        file.seek(700)
        file.write(b"other")
    with pytest.raises(FaultError, match="1 of 24 records are damaged: 000000/"):
        data_checks.every_example_can_be_read(subject)
