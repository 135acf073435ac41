"""Reading the binary files, and changing training images at random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.base.errors import DataError
from core.data.order import epoch_order
from core.machine.random_states import RowDraws
from model.cifar10 import data_loader
from model.cifar10.data_loader import (
    NAMES_FILE,
    RECORD,
    TRAIN_FILES,
    augment,
    fetch_dataloader,
    read_names,
)
from tests.tasks.cifar10.helpers import params


def records(path: Path, labels: list[int]) -> Path:
    data = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), RECORD), np.uint8)
    data[:, 0] = labels
    data.tofile(path)
    return path


def test_the_last_fiftieth_of_the_training_files_validates(tmp_path: Path) -> None:
    for name in (*TRAIN_FILES, "test_batch.bin"):
        records(tmp_path / name, list(range(10)) * 3)
    loaders = fetch_dataloader(["train", "val", "test"], str(tmp_path), params())
    assert [loaders[split].num_examples for split in loaders] == [147, 3, 30]
    assert loaders["train"].ids[0] == "data_batch_1.bin:0"
    assert loaders["val"].ids == [f"data_batch_5.bin:{i}" for i in (27, 28, 29)]
    assert loaders["val"].labels.tolist() == [7, 8, 9]
    raw = np.frombuffer((tmp_path / "data_batch_5.bin").read_bytes(), np.uint8)
    pixels = raw.reshape(30, RECORD)[28, 1:].reshape(3, 32, 32)  # red, green, blue; row by row
    assert loaders["val"].inputs[1].tolist() == pixels.tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "no such file"),
        ("short", "6145 bytes, want a multiple of 3073"),
        ("empty", "0 b"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, name: str, said: str) -> None:
    for file in TRAIN_FILES:
        records(tmp_path / file, [0] * 20)
    broken = tmp_path / "data_batch_3.bin"
    if name == "absent":
        broken.unlink()
    else:
        broken.write_bytes(b"\0" * (2 * RECORD - 1 if name == "short" else 0))
    with pytest.raises(DataError, match=f"data_batch_3.bin: {said}"):
        fetch_dataloader(["train"], str(tmp_path), params())


def test_a_label_above_nine_is_named_with_its_record(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.bin: labels above 9:\n  record 2: label 255\n"):
        data_loader.read_records(records(tmp_path / "x.bin", [9, 0, 255, 10]))


def test_class_names_must_be_ten(tmp_path: Path) -> None:
    assert data_loader.read_names(tmp_path / "none")[3] == "cat"
    (tmp_path / "names").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="names: 2 class names, want 10"):
        data_loader.read_names(tmp_path / "names")


def test_only_training_images_are_changed_and_only_on_request(images: Path) -> None:
    still, moved = params(batch_size=490), params(batch_size=490, flip=True, shift=4)
    for split, same in (("val", True), ("train", False)):
        plain = next(fetch_dataloader([split], str(images), still)[split].epoch(3))[0]
        once = next(fetch_dataloader([split], str(images), moved)[split].epoch(3))[0]
        again = next(fetch_dataloader([split], str(images), moved)[split].epoch(3))[0]
        assert torch.equal(once, again)
        assert torch.equal(plain, once) == same
    loader = fetch_dataloader(["train"], str(images), still)["train"]
    order = epoch_order(490, seed=230, epoch=3)
    back = plain * torch.tensor(data_loader.DEVIATION).view(3, 1, 1) * 255
    back += torch.tensor(data_loader.MEAN).view(3, 1, 1) * 255
    torch.testing.assert_close(back, loader.inputs[order].float(), rtol=0, atol=1e-3)


def test_every_augmented_image_is_a_mirrored_and_shifted_crop_of_its_own(images: Path) -> None:
    source = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    changed = augment(source, RowDraws(0, 0, range(len(source))), flip=True, shift=2)
    assert changed.dtype == torch.uint8
    found = []
    for before, after in zip(source, changed, strict=True):
        for flip in (False, True):
            whole = before.flip(2) if flip else before
            wide = nn.functional.pad(whole[None].float(), (2, 2, 2, 2), mode="reflect")[0]
            for dy in range(5):
                for dx in range(5):
                    if torch.equal(wide[:, dy : dy + 32, dx : dx + 32], after.float()):
                        found.append((flip, dy, dx))
    assert len(found) == 40
    assert len(set(found)) > 20  # of 2 * 5 * 5 choices
    assert {flip for flip, _, _ in found} == {False, True}
    assert {dy for _, dy, _ in found} == {dx for _, _, dx in found} == set(range(5))


def test_a_byte_order_mark_is_no_part_of_a_class_name(tmp_path: Path) -> None:
    names = ["hot dog", *"bcdefghij"]
    (tmp_path / NAMES_FILE).write_text("\n".join(names) + "\n\n", encoding="utf-8-sig")
    assert read_names(tmp_path / NAMES_FILE) == names
