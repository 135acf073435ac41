"""Pictures: what is transparent counts as white everywhere, and no file is left out silently."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.base.params import Params
from core.data.images import PICTURES, read_image, read_images
from data.signs.prepare import main as prepare
from model.data_loader import list_examples, read_inputs

SIZE = (64, 64)


def rgba() -> Image.Image:
    """A picture whose left half is transparent over red, and whose right half is blue."""
    image = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (32, 0, 64, 64))
    return image


def palette_of_bytes() -> Image.Image:
    image = rgba().convert("RGB").quantize(2)
    red = image.getpixel((0, 0))
    image.info["transparency"] = bytes(0 if i == red else 255 for i in range(2))
    return image


def palette_of_one() -> Image.Image:
    image = rgba().convert("RGB").quantize(2)
    image.info["transparency"] = image.getpixel((0, 0))
    return image


def one_colour_clear() -> Image.Image:
    image = rgba().convert("RGB")
    image.info["transparency"] = (255, 0, 0)
    return image


def grey_and_alpha() -> Image.Image:
    image = Image.new("LA", SIZE, (90, 0))
    image.paste((29, 255), (32, 0, 64, 64))
    return image


def deep_grey() -> Image.Image:
    values = np.full(SIZE, 29 * 257, np.uint16)
    values[:, :32] = 700
    image = Image.fromarray(values)
    image.info["transparency"] = 700
    return image


MADE = [rgba, palette_of_bytes, palette_of_one, one_colour_clear, grey_and_alpha, deep_grey]


@pytest.mark.parametrize("make", MADE)
def test_what_is_transparent_is_white_in_loader_prepare_and_predict(
    make: Callable[[], Image.Image], tmp_path: Path
) -> None:
    image = make()
    for split in ("train", "test"):
        (tmp_path / "in" / f"{split}_signs").mkdir(parents=True)
        for i in range(5):
            options = {n: v for n, v in image.info.items() if n == "transparency"}
            image.save(tmp_path / "in" / f"{split}_signs" / f"0_{i}.png", **options)
    path = tmp_path / "in" / "train_signs" / "0_1.png"
    right = (29, 29, 29) if image.mode in ("LA", "I;16") else (0, 0, 255)
    loaded = read_images([path], SIZE)[0]
    assert loaded[:, 5, 5].tolist() == [255, 255, 255]
    assert loaded[:, 5, 60].tolist() == list(right)
    assert read_image(path, SIZE)[:, 5, 5].tolist() == [255, 255, 255]
    ((_, given),) = read_inputs([str(path)], Params.of({}, "test"))
    assert given[:, 5, 5].tolist() == [1, 1, 1]
    Image.new("RGB", SIZE).save(tmp_path / "in" / "train_signs" / "0_black.png")
    argv = ["--source", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert prepare(argv) == 0
    written = Image.open(tmp_path / "out" / "test_signs" / "0_1.jpg")
    assert min(written.getpixel((5, 5))) >= 250  # type: ignore[arg-type]


def test_half_transparent_colours_are_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "a.webp", lossless=True, exact=True)
    assert (read_image(tmp_path / "a.webp", (4, 4)) == 204).all()


def test_every_kind_of_picture_is_read_and_other_files_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i, suffix in enumerate([*PICTURES, ".WEBP"]):
        Image.new("RGB", SIZE, (200, 200, 200)).save(tmp_path / f"{i % 6}_IMG{suffix}")
    (tmp_path / "3_IMG.gif").write_bytes(b"GIF89a")
    (tmp_path / "._0_IMG.jpg").write_bytes(b"Mac OS X")
    paths, labels = list_examples(tmp_path)
    assert len(paths) == len(PICTURES) + 1
    assert labels.tolist() == sorted([0, 1, 2, 3, 4, 5])
    assert (read_images(paths, SIZE) >= 198).all()
    assert "1 file left out" in caplog.text
    assert "3_IMG.gif" in caplog.text
    assert "._0_IMG" not in caplog.text
