"""The hand-signs task: reading photographs and changing them at random."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.base.errors import DataError
from core.data.images import KEPT, MANY, read_images
from model.data_loader import augment, fetch_dataloader, list_examples
from model.net import macro_scores
from tests.conftest import write_signs
from utils import Params

STILL = {"rotate": 0, "scale": 0, "shift": 0, "brighten": 0}


def params(**values: Any) -> Params:
    return Params.of({"batch_size": 8, "seed": 1, **values}, "params.json")


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (64, 64), **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 100 if mode in ("L", "I;16") else None).save(path, **save)
    return path


def test_files_of_any_case_are_found_and_labelled_by_their_first_number(tmp_path: Path) -> None:
    for name in ("0_IMG_1.JPG", "5_IMG_2.png", "3_a_b.Jpeg", ".hidden.jpg.txt", "notes.txt"):
        picture(tmp_path / "x.png").rename(tmp_path / name)
    paths, labels = list_examples(tmp_path)
    assert [path.name for path in paths] == ["0_IMG_1.JPG", "3_a_b.Jpeg", "5_IMG_2.png"]
    assert labels.tolist() == [0, 3, 5]


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


def test_labels_out_of_range_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_examples(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no .jpg"):
        list_examples(tmp_path)
    for name in ("6_IMG_1.jpg", "IMG_2.jpg", "0_IMG_3.jpg"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="2 files have no valid label"):
        list_examples(tmp_path)


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


def test_only_training_images_are_changed_and_the_same_way_every_time(signs: Path) -> None:
    once, again = (fetch_dataloader(["train", "val"], str(signs), params()) for _ in range(2))
    for split in ("train", "val"):
        for a, b in zip(once[split].epoch(3), again[split].epoch(3), strict=True):
            assert torch.equal(a[0], b[0])
    plain = once["val"].inputs[:8].float() / 127.5 - 1
    assert torch.equal(next(once["val"].epoch(0))[0], plain)


def test_augmentation_of_no_strength_flips_at_most() -> None:
    images = torch.rand(16, 3, 64, 64) * 2 - 1
    changed = augment(images, torch.Generator().manual_seed(0), params(**STILL))
    flipped = images.flip(3)
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, images, strict=True)]
    mirrored = [torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, flipped, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(same) < 16


@pytest.mark.parametrize("name", ["rotate", "scale", "shift", "brighten"])
def test_each_augmentation_differs_between_the_images_of_a_batch(name: str) -> None:
    image = torch.rand(1, 3, 64, 64).expand(8, -1, -1, -1)
    strength = {"rotate": 20, "scale": 0.2, "shift": 0.2, "brighten": 0.3}[name]
    changed = augment(image, torch.Generator().manual_seed(0), params(**STILL | {name: strength}))
    assert len({tuple(row.flatten()[:2000].tolist()) for row in changed}) == 8


def test_macro_scores_are_means_over_classes() -> None:
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 5])
    predicted = np.array([0, 1, 1, 2, 3, 4, 5, 0])
    outputs = np.eye(6)[predicted]
    precision = np.mean([1 / 2, 1 / 2, 1, 1, 1, 1])
    recall = np.mean([1 / 2, 1, 1, 1, 1, 1 / 2])
    f1 = np.mean([1 / 2, 2 / 3, 1, 1, 1, 2 / 3])
    assert macro_scores(outputs, labels) == pytest.approx([precision, recall, f1])
