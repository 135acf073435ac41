"""Full disks and failing system calls: they are told, and nothing is lost."""

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers.runs import RECIPE, assert_same, begin
from tests.helpers.tracing import trace
from tests.helpers.warm import Warm

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")


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
    warm: Warm, run_folder: Folder, data: Path, whole: Path, tmp_path: Path
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
        assert_same(folder, whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_a_limit_on_the_size_of_files_is_told(
    warm: Warm, run_folder: Folder, data: Path, whole: Path, size: int
) -> None:
    folder = run_folder(**RECIPE)
    code = begin(warm, folder, data, limits={"RLIMIT_FSIZE": size}).wait()
    fails_well(folder, code, "File too large")
    assert begin(warm, folder, data).wait() == 0
    assert_same(folder, whole)


def test_running_out_of_file_handles_is_told(
    warm: Warm, run_folder: Folder, data: Path, whole: Path
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
    assert_same(folder, whole)


@needs_strace
@pytest.mark.parametrize(
    ("call", "error", "ordinals"),
    [
        ("fsync", "EIO", (1, 9, 41)),
        ("rename", "EIO", (1, 8)),
        ("rename", "ENOSPC", (5,)),
        ("link", "EIO", (1,)),
        pytest.param("fsync", "EIO", (4, 20), marks=pytest.mark.slow),
        pytest.param("rename", "EIO", (3, 20), marks=pytest.mark.slow),
        pytest.param("link", "EIO", (5,), marks=pytest.mark.slow),
    ],
)
def test_failing_system_calls_are_told_and_lose_nothing(
    warm: Warm,
    run_folder: Folder,
    data: Path,
    whole: Path,
    tmp_path: Path,
    call: str,
    error: str,
    ordinals: tuple[int, ...],
) -> None:
    for ordinal in ordinals:
        folder = run_folder(f"{call}{ordinal}", **RECIPE)
        child = begin(warm, folder, data, held=True)
        option = f"inject={call}:error={error}:when={ordinal}"
        # Python links the files of its semaphores, too.
        only = ["-P", str(folder / "last.pt")] if call == "link" else []
        tracer = trace(child, tmp_path / "trace", "-e", option, *only)
        code = child.wait()
        tracer.wait()
        if call == "link":
            assert code == 0  # copied instead
        else:
            fails_well(folder, code, os.strerror(getattr(errno, error)))
        assert begin(warm, folder, data).wait() == 0
        assert_same(folder, whole)


@needs_strace
def test_a_failing_write_of_a_checkpoint_is_told(
    warm: Warm, run_folder: Folder, data: Path, whole: Path, tmp_path: Path
) -> None:
    failed = 0
    for when in ("28", "60", "61", "62"):
        folder = run_folder(f"write{when}", **RECIPE)
        child = begin(warm, folder, data, held=True)
        tracer = trace(child, tmp_path / "trace", "-e", f"inject=write:error=EIO:when={when}")
        code = child.wait()
        tracer.wait()
        if code:
            failed += 1
            fails_well(folder, code, "Input/output error")
        loads_and_is_clean(folder)
        assert begin(warm, folder, data).wait() == 0
        assert_same(folder, whole)
    assert failed
