"""File systems that lack locks, or cannot sync a folder: a note, and on."""

import errno
import os
from pathlib import Path

import pytest

from core.base.files import write_text
from core.machine import locks
from core.machine.locks import has_writer, one_writer


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_folder_is_used_with_a_note(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", no_locks)
    locks._warn_of_no_locks.cache_clear()
    with one_writer(tmp_path):
        assert not has_writer(tmp_path)
    assert caplog.text.count("has no locks") == 1


def test_other_failures_of_a_lock_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.lockf", fails)
    with pytest.raises(OSError, match="Input/output"), one_writer(tmp_path):
        pass


def test_a_folder_that_cannot_be_synced_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def only_files(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr("os.fsync", only_files)
    write_text(tmp_path / "a.txt", "content")
    assert (tmp_path / "a.txt").read_text() == "content"
