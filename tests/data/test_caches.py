"""What is kept between starts holds only as long as the files are what they were."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.base.errors import UsageError
from core.data.images import read_images
from data.prepared import staging, write_manifest


def pictures(folder: Path) -> list[Path]:
    """Write two pictures of equal size and time, one black and one white."""
    folder.mkdir()
    paths = [folder / "black.bmp", folder / "white.bmp"]
    for path, value in zip(paths, (0, 255), strict=True):
        Image.new("RGB", (8, 8), (value,) * 3).save(path)
        os.utime(path, ns=(10**18, 10**18))
    return paths


def brightness(paths: list[Path]) -> list[int]:
    return read_images(paths, (8, 8))[:, 0, 0, 0].tolist()


def test_files_of_equal_size_and_time_that_change_places_are_read_anew(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    assert brightness(paths) == [0, 255]
    paths[0].rename(tmp_path / "other")
    paths[1].rename(paths[0])
    (tmp_path / "other").rename(paths[1])
    assert brightness(paths) == [255, 0]


def test_a_file_rewritten_in_place_with_its_old_time_is_read_anew(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    assert brightness(paths) == [0, 255]
    paths[0].write_bytes(paths[1].read_bytes())
    os.utime(paths[0], ns=(10**18, 10**18))
    assert brightness(paths) == [255, 255]


def test_a_cache_that_was_cut_to_nothing_is_made_anew(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    read_images(paths, (8, 8))
    (cache,) = (tmp_path / ".cache").iterdir()
    cache.write_bytes(b"")
    assert brightness(paths) == [0, 255]
    assert np.load(cache).shape == (2, 3, 8, 8)


def test_a_file_of_prepared_data_that_a_person_changed_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging(out) as folder:
        (folder / "labels.txt").write_text("O O")
        write_manifest(folder, "a script", "two tags", generated=True)
    (out / "labels.txt").write_text("O B")  # of the same name and size
    with pytest.raises(UsageError, match=r"labels.txt"), staging(out):
        pass
    assert (out / "labels.txt").read_text() == "O B"
