"""Damaged and malicious checkpoints: none loads, nothing in them runs."""

import os
import pickle
import random
import resource
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import RECIPE, assert_same, begin, stopped
from tests.helpers.warm import Warm

PAGE = 4096


def flip(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def zero_page(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data) // PAGE) * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


def zero_tail(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    data[start:] = bytes(len(data) - start)


@pytest.mark.parametrize("damage", [flip, truncate, zero_page, zero_tail])
def test_none_of_a_thousand_damaged_files_loads(
    whole: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    intact = (whole / "last.pt").read_bytes()
    draw, silent, harmless = random.Random(7), 0, 0
    for _ in range(1000):
        data = bytearray(intact)
        damage(data, draw)
        if bytes(data) == intact:  # a page that was zero already
            harmless += 1
            continue
        (tmp_path / "last.pt").write_bytes(data)
        try:
            read_checkpoint(tmp_path / "last.pt")
            silent += 1
        except CheckpointError as error:
            assert str(tmp_path / "last.pt") in str(error)
    assert silent == 0
    assert harmless < 500


def test_a_run_goes_on_from_the_previous_checkpoint_and_says_so(
    warm: Warm, run_folder: Folder, data: Path, whole: Path
) -> None:
    folder = run_folder(**RECIPE)
    stopped(warm, folder, data, signal.SIGTERM)
    damaged = bytearray((folder / "last.pt").read_bytes())
    damaged[1000] ^= 1
    (folder / "last.pt").write_bytes(damaged)
    assert begin(warm, folder, data).wait() == 0
    assert "resuming from previous.pt" in (folder / "train.log").read_text()
    assert_same(folder, whole)


def test_damage_to_both_checkpoints_says_what_to_do(
    warm: Warm, run_folder: Folder, data: Path, whole: Path
) -> None:
    folder = run_folder(**RECIPE)
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes((whole / name).read_bytes()[:-1])
    assert begin(warm, folder, data).wait() == 1
    said = (folder / "printed.txt").read_text()
    assert "--overwrite" in said
    assert len(said.splitlines()) <= 5


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE")  # else it hides the load
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["sealed", "zip", "legacy", "tar", "module"])
def test_malicious_checkpoints_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, force: bool
) -> None:
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    sign, path = tmp_path / "executed", tmp_path / "best.pth.tar"
    content = {"state_dict": {}, "payload": Payload(sign)}
    if kind == "sealed":
        path = tmp_path / "best.pt"
        write_checkpoint(path, content)
    elif kind == "zip":
        torch.save(content, path)
    elif kind == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif kind == "module":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        (tmp_path / "pickle").write_bytes(pickle.dumps(content))
        with tarfile.open(path, "w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                archive.add(tmp_path / "pickle", name)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert not sign.exists()
    assert "weights_only" not in str(error.value)


def test_a_compressed_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path = tmp_path / "best.pth.tar"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data.pkl", "w", force_zip64=True) as file,
    ):
        for _ in range(512):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="holds compressed data"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
