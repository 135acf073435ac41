"""Damaged and malicious checkpoints, full disks, failing system calls: nothing is lost or run."""

import errno
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoint import (
    CheckpointError,
    plain,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)
from tests.conftest import Folder
from tests.test_survival import RECIPE, assert_same, begin, trace
from tests.warm import Warm

PAGE = 4096


@pytest.fixture(scope="module")
def trained(warm: Warm, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a complete run."""
    import json

    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("trained")
    (folder / "params.json").write_text(json.dumps(SMALL | RECIPE))
    assert begin(warm, folder, data).wait() == 0
    return folder


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
    trained: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    whole = (trained / "last.pt").read_bytes()
    draw, silent, harmless = random.Random(7), 0, 0
    for _ in range(1000):
        data = bytearray(whole)
        damage(data, draw)
        if bytes(data) == whole:  # a page that was zero already
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
    warm: Warm, run_folder: Folder, data: Path, trained: Path
) -> None:
    folder = run_folder(**RECIPE)
    child = begin(warm, folder, data, slow=0.005)
    while not (folder / "previous.pt").exists():
        pass
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 143
    damaged = bytearray((folder / "last.pt").read_bytes())
    damaged[1000] ^= 1
    (folder / "last.pt").write_bytes(damaged)
    assert begin(warm, folder, data).wait() == 0
    assert "going on from previous.pt" in (folder / "train.log").read_text()
    assert_same(folder, trained)


def test_damage_to_both_checkpoints_says_what_to_do(
    warm: Warm, run_folder: Folder, data: Path, trained: Path
) -> None:
    folder = run_folder(**RECIPE)
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes((trained / name).read_bytes()[:-1])
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


def loads_and_is_clean(folder: Path) -> None:
    for name in ("last.pt", "best.pt"):
        if (folder / name).exists():
            read_checkpoint(folder / name)
    assert not list(folder.glob(".*.tmp"))


def fails_well(folder: Path, code: int, *words: str) -> None:
    said = (folder / "printed.txt").read_text().splitlines()
    assert code == 1, said
    error = [line for line in said if line.startswith("error:")]
    assert len(error) == 1
    assert any(word in error[0] for word in words), error
    assert str(folder) in error[0]
    assert "Traceback" not in "\n".join(said)
    loads_and_is_clean(folder)


def test_a_full_disk_is_told_and_loses_nothing(
    warm: Warm, run_folder: Folder, data: Path, trained: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=560k", "none", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        folder = disk / "run"
        shutil.copytree(run_folder(**RECIPE), folder)
        argv: list[str | Path] = ["--model_dir", folder, "--data_dir", data]
        log = tmp_path / "printed.txt"
        filler = disk / "filler"
        filled = 0
        for kilobytes in (0, 60, 120, 180, 240, 300, 360, 420):
            with suppress(OSError):
                filler.write_bytes(bytes(kilobytes * 1024))
            code = warm.start(argv, log).wait()
            if code:
                filled += 1
                assert code == 1
                assert "No space left on device" in log.read_text()
            loads_and_is_clean(folder)
        assert filled > 0
        filler.unlink()
        assert warm.start(argv, log).wait() == 0
        assert_same(folder, trained)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_a_limit_on_the_size_of_files_is_told(
    warm: Warm, run_folder: Folder, data: Path, trained: Path, size: int
) -> None:
    folder = run_folder(**RECIPE)
    code = begin(warm, folder, data, limits={"RLIMIT_FSIZE": size}).wait()
    fails_well(folder, code, "File too large")
    assert begin(warm, folder, data).wait() == 0
    assert_same(folder, trained)


def test_running_out_of_file_handles_is_told(
    warm: Warm, run_folder: Folder, data: Path, trained: Path
) -> None:
    folder, seen = run_folder(**RECIPE), 0
    for limit in range(4, 16):
        code = begin(warm, folder, data, limits={"RLIMIT_NOFILE": limit}).wait()
        if code == 0:
            break
        assert code in (1, 2, 99), (folder / "printed.txt").read_text()
        seen += "Too many open files" in (folder / "printed.txt").read_text()
        loads_and_is_clean(folder)
    assert seen
    assert begin(warm, folder, data).wait() == 0
    assert_same(folder, trained)


@pytest.mark.parametrize(
    ("call", "error", "ordinals"),
    [
        ("fsync", "EIO", (1, 4, 9, 20, 41)),
        ("rename", "EIO", (1, 3, 8, 20)),
        ("rename", "ENOSPC", (5,)),
        ("link", "EIO", (1, 5)),
    ],
)
def test_failing_system_calls_are_told_and_lose_nothing(
    warm: Warm,
    run_folder: Folder,
    data: Path,
    trained: Path,
    tmp_path: Path,
    call: str,
    error: str,
    ordinals: tuple[int, ...],
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    for ordinal in ordinals:
        folder = run_folder(f"{call}{ordinal}", **RECIPE)
        child = begin(warm, folder, data, held=True)
        option = f"inject={call}:error={error}:when={ordinal}"
        tracer = trace(child, tmp_path / "trace", "-e", option)
        code = child.wait()
        tracer.wait()
        if call == "link":
            assert code == 0  # copied instead
        else:
            fails_well(folder, code, os.strerror(getattr(errno, error)))
        assert begin(warm, folder, data).wait() == 0
        assert_same(folder, trained)


def test_a_failing_write_of_a_checkpoint_is_told(
    warm: Warm, run_folder: Folder, data: Path, trained: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    for when in ("30", "60", "61", "62"):
        folder = run_folder(f"write{when}", **RECIPE)
        child = begin(warm, folder, data, held=True)
        tracer = trace(child, tmp_path / "trace", "-e", f"inject=write:error=EIO:when={when}")
        code = child.wait()
        tracer.wait()
        if code:
            fails_well(folder, code, "Input/output error")
        loads_and_is_clean(folder)
        assert begin(warm, folder, data).wait() == 0
        assert_same(folder, trained)


def test_read_newest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    assert read_newest(tmp_path, []) is None
    assert plain({"a": 1}) == {"a": 1}
