"""Pictures in files: decoded strictly, and kept in caches that hold as long as the files do."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.base.errors import DataError
from core.data.images import KEPT, MANY, read_image, read_images
from tests.conftest import write_signs


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (64, 64), **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 100 if mode in ("L", "I;16") else None).save(path, **save)
    return path


def test_every_kind_of_picture_becomes_rgb_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255
    Image.fromarray(pixels).save(tmp_path / "0_turned.jpg", exif=exif)
    paths = [
        tmp_path / "0_turned.jpg",
        picture(tmp_path / "1_grey.png", "L"),
        picture(tmp_path / "2_cmyk.jpg", "CMYK"),
        picture(tmp_path / "3_transparent.png", "RGBA"),
        picture(tmp_path / "4_palette.png", "P"),
    ]
    images = read_images(paths, (64, 64))
    assert images.shape == (5, 3, 64, 64)
    assert images.dtype == torch.uint8
    assert images[0, :, :32].float().mean() < 5 < 250 < images[0, :, 32:].float().mean()
    assert (images[1] == 100).all()


def test_sixteen_bit_pictures_keep_their_brightness(tmp_path: Path) -> None:
    values = np.full((64, 64), 128 * 257, np.uint16)
    Image.fromarray(values).save(tmp_path / "0_deep.png")
    assert (read_images([tmp_path / "0_deep.png"], (64, 64)) == 128).all()


def test_files_that_cannot_be_used_are_named_the_first_ten_and_a_count(tmp_path: Path) -> None:
    good = picture(tmp_path / "0_good.jpg")
    (tmp_path / "0_cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "0_empty.jpg").write_bytes(b"")
    (tmp_path / "0_page.jpg").write_text("<html>not found</html>")
    picture(tmp_path / "0_large.jpg", size=(65, 64))
    for i in range(9):
        (tmp_path / f"1_page{i}.jpg").write_text("<html>")
    with pytest.raises(DataError) as error:
        read_images(sorted(tmp_path.iterdir()), (64, 64))
    message = str(error.value)
    assert "13 of 14" in message
    assert "0_large.jpg: 65x64 pixels, want 64x64" in message
    assert "0_empty.jpg: not an image" in message
    assert "and 3 more" in message
    assert len(message.splitlines()) == 12


def test_images_that_are_worth_worker_processes_come_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(MANY + 50):
        Image.new("RGB", (8, 8), (i % 256, i // 256, 0)).save(tmp_path / f"{i:05d}.png")
    paths, before = sorted(tmp_path.iterdir()), torch.get_rng_state()
    first = read_images(paths, (8, 8))
    images = first.long()
    first.zero_()  # while the cache is being synced, maybe
    assert (images[:, 0] + 256 * images[:, 1]).flatten(1).unique(dim=1).tolist() == [
        [i] for i in range(len(paths))
    ]
    assert torch.equal(torch.get_rng_state(), before)
    with monkeypatch.context() as patch:
        patch.setattr("core.data.images._decode_all", None)  # it must come from the cache
        assert torch.equal(read_images(paths, (8, 8)).long(), images)
    for path in (paths[0], paths[-1]):
        path.write_text("<html>")
    with pytest.raises(DataError, match=f"2 of {len(paths)}") as error:
        read_images(paths, (8, 8))
    assert paths[0].name in str(error.value)
    assert paths[-1].name in str(error.value)


def test_a_changed_file_makes_the_cache_anew(tmp_path: Path) -> None:
    data = write_signs(tmp_path, {"train": 6})
    paths = sorted((data / "train_signs").iterdir())
    first = read_images(paths, (64, 64))
    caches = list((data / ".cache").iterdir())
    assert len(caches) == 1
    caches[0].write_bytes(caches[0].read_bytes()[:-5])  # damaged: decoded again
    assert torch.equal(read_images(paths, (64, 64)), first)
    paths[0].write_bytes(paths[1].read_bytes())
    os.utime(paths[0], ns=(1, 1))
    second = read_images(paths, (64, 64))
    assert torch.equal(second[0], first[1])
    assert torch.equal(second[1:], first[1:])
    assert len(list((data / ".cache").iterdir())) == 2


def test_lists_of_files_in_one_folder_have_caches_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a[1]"
    folder.mkdir()
    for i in range(KEPT + 2):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
    paths = sorted(folder.iterdir())
    for path in paths:
        read_images([path], (8, 8))
    assert len(list((tmp_path / ".cache").iterdir())) == KEPT
    monkeypatch.setattr("core.data.images._decode_all", None)
    for i, path in list(enumerate(paths))[-KEPT:]:
        assert read_images([path], (8, 8))[0, 0, 0, 0] == i


def test_a_forked_process_reads_images_too(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    paths = [tmp_path / "0.png"]
    read_images(paths, (64, 64))
    os.utime(paths[0], ns=(1, 1))  # no cache holds for it
    number = os.fork()
    if number == 0:
        os._exit(len(read_images(paths, (64, 64))) - 1)
    assert os.waitpid(number, 0)[1] == 0


def test_the_bytes_of_a_picture_are_read_as_its_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)).save(path)
    assert torch.equal(read_image(path.read_bytes()), read_image(path))
    assert torch.equal(read_image(path.read_bytes(), (4, 4)), read_image(path, (4, 4)))
    with pytest.raises(DataError, match="a picture: not an image"):
        read_image(b"no picture")
