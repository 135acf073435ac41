"""The hand-signs data set: what data/signs/prepare.py writes and refuses."""

import json
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.signs.draw import draw_sign
from data.signs.prepare import main
from tests.conftest import write_signs
from tests.helpers.preparing import croissant, hashes, prepare_with

prepare = partial(prepare_with, main)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five training photographs and one test photograph of each of three labels."""
    for label in range(3):
        for number in range(6):
            path = tmp_path / "source" / ("train_signs" if number < 5 else "test_signs")
            path.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (4, 4, 3))
            image = Image.fromarray(pixels.astype(np.uint8)).resize((80, 80))
            image.save(path / f"{label}_IMG_{number}.JPG")
    return tmp_path / "source"


def labels(folder: Path) -> dict[str, int]:
    """Return how many pictures of each label a folder holds."""
    return dict(Counter(path.name.split("_")[0] for path in folder.iterdir()))


def test_a_fifth_of_every_label_of_train_becomes_val_and_test_stays(
    source: Path, tmp_path: Path
) -> None:
    (source / "train_signs/.DS_Store").write_bytes(b"not a picture")  # hidden: skipped
    assert prepare(tmp_path / "out", "--source", source) == 0
    assert labels(tmp_path / "out/train_signs") == {"0": 4, "1": 4, "2": 4}
    assert labels(tmp_path / "out/val_signs") == {"0": 1, "1": 1, "2": 1}
    test = {path.name for path in (tmp_path / "out/test_signs").iterdir()}
    assert test == {f"{label}_IMG_5.jpg" for label in range(3)}


def test_every_picture_comes_out_as_64x64_rgb_whatever_it_was(source: Path, tmp_path: Path) -> None:
    Image.new("L", (30, 200), 90).save(source / "train_signs/0_IMG_grey.png")
    Image.new("RGBA", (300, 20), (9, 80, 7, 255)).save(source / "train_signs/1_IMG_clear.PNG")
    Image.new("CMYK", (64, 64)).save(source / "train_signs/2_IMG_print.jpeg")
    assert prepare(tmp_path / "out", "--source", source) == 0
    pictures = list((tmp_path / "out").glob("*_signs/*.jpg"))
    assert len(pictures) == 21
    for path in pictures:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))


def test_a_photograph_is_turned_upright_and_what_the_camera_noted_is_not_copied(
    source: Path, tmp_path: Path
) -> None:
    sideways = Image.new("RGB", (80, 80), "white")
    sideways.paste("black", (0, 0, 40, 80))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise, so left becomes top
    exif[0x010F] = "a maker"
    sideways.save(source / "test_signs/0_IMG_turned.jpg", exif=exif, comment=b"a remark")
    assert prepare(tmp_path / "out", "--source", source) == 0
    written = tmp_path / "out/test_signs/0_IMG_turned.jpg"
    with Image.open(written) as image:
        upright = np.asarray(image.convert("L"))
    assert upright[:28].max() < 30
    assert upright[36:].min() > 225
    assert b"a maker" not in written.read_bytes()
    assert b"a remark" not in written.read_bytes()


def test_a_seed_decides_what_val_is_whatever_the_order_of_the_file_system(
    source: Path, tmp_path: Path
) -> None:
    for path in sorted(source.rglob("*.JPG"), reverse=True):
        copy = tmp_path / "copy" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    assert prepare(tmp_path / "a", "--source", source, "--seed", 1) == 0
    assert prepare(tmp_path / "b", "--source", tmp_path / "copy", "--seed", 1) == 0
    assert prepare(tmp_path / "c", "--source", source, "--seed", 2) == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    val_a, val_c = (sorted(os.listdir(tmp_path / name / "val_signs")) for name in "ac")
    assert val_a != val_c


def test_the_same_pixels_in_two_splits_are_reported_and_kept(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(source / "train_signs/0_IMG_0.JPG") as image:
        image.save(source / "test_signs/0_IMG_again.png")
    assert prepare(tmp_path / "out", "--source", source) == 0
    assert "in two splits: 1\n" in (printed := capsys.readouterr().out)
    assert "test_signs/0_IMG_again.jpg = " in printed
    assert (tmp_path / "out/test_signs/0_IMG_again.jpg").exists()


def test_copies_of_a_photograph_go_to_one_split(tmp_path: Path) -> None:
    source = write_signs(tmp_path / "source", {"train": 60, "test": 6})
    folder = source / "train_signs"
    for path in sorted(folder.iterdir()):
        (folder / f"{path.stem} (1).jpg").write_bytes(path.read_bytes())
    assert prepare(tmp_path / "out", "--source", source) == 0
    train, val = (
        {path.stem for path in (tmp_path / f"out/{split}_signs").iterdir()}
        for split in ("train", "val")
    )
    assert len(val) == 24
    for stem in val:
        assert not train & {stem.removesuffix(" (1)"), f"{stem} (1)"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt", "not a picture"),
        ("five_IMG_1.jpg", "no label"),
        ("5.jpg", "no label"),
        ("0_IMG_3.png", "the same name"),
        ("0_img_3.jpg", "the same name"),
        ("7_IMG_1.jpg", "label 7"),
        ("1_IMG_broken.jpg", "not an image"),
        ("0_IMG_0.JPG", "0_IMG_0.JPG"),  # cut off
    ],
)
def test_a_file_that_does_not_fit_is_named_and_nothing_is_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    path, good = source / "train_signs" / name, source / "train_signs/0_IMG_0.JPG"
    if path == good:
        path.write_bytes(good.read_bytes()[:-200])
    elif path.suffix == ".txt" or "broken" in name:
        path.write_text("text")
    else:
        Image.new("RGB", (80, 80)).save(path)
    assert prepare(tmp_path / "out", "--source", source) == 1
    message = capsys.readouterr().err
    assert said in message
    assert name in message or said == "label 7" or name.lower() == "0_img_3.jpg"
    assert os.listdir(tmp_path) == ["source"]


def test_of_many_faults_ten_are_listed_and_the_others_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(13):
        (source / f"train_signs/1_IMG_bad{number:02}.jpg").write_text("text")
    assert prepare(tmp_path / "out", "--source", source) == 1
    message = capsys.readouterr().err
    assert "bad09" in message
    assert "bad10" not in message
    assert "and 3 more" in message
    assert len(message.splitlines()) <= 15


def test_a_source_without_its_folders_or_pictures_is_a_fault(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(source / "test_signs")
    assert prepare(tmp_path / "out", "--source", source) == 1
    assert "no such folder" in capsys.readouterr().err
    (source / "test_signs").mkdir()
    assert prepare(tmp_path / "out", "--source", source) == 1
    assert "no pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--source", "no/such/folder"], ["--seed", "-1"], ["--seed", "x"], ["--count", "7"]],
)
def test_a_wrong_command_line_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert prepare(tmp_path / "out", *options) == 2
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_seed_decides_the_drawn_hands_and_the_manifest_says_that_they_are(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert prepare(tmp_path / name, "--count", 60, "--seed", seed) == 0
    files = hashes(tmp_path / "a")
    assert files == hashes(tmp_path / "b")
    assert not set(files.values()) & set(hashes(tmp_path / "c").values())
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    del files["manifest.json"], files["croissant.json"]
    assert manifest["files"] == files
    assert manifest["generated"] is True
    said = "hand signs drawn by data/signs/prepare.py, seed 7: not photographs"
    assert manifest["description"] == said
    for split, count in {"train": 7, "val": 2, "test": 1}.items():  # as the class splits its own
        expected = {str(label): count for label in range(6)}
        assert labels(tmp_path / f"a/{split}_signs") == expected


def test_a_drawing_does_not_depend_on_the_drawings_before_it() -> None:
    forwards = [draw_sign(3, 230, index).tobytes() for index in range(5)]
    backwards = [draw_sign(3, 230, index).tobytes() for index in reversed(range(5))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 5


def read_split(folder: Path) -> tuple[Tensor, Tensor]:
    """Return pixels (N, features), about -0.5 to 0.5, and labels (N,) of a split."""
    paths = sorted(folder.iterdir())
    pixels = np.stack([np.asarray(Image.open(path)).ravel() for path in paths])
    numbers = [int(path.name.split("_")[0]) for path in paths]
    return torch.from_numpy(pixels).float() / 255 - 0.5, torch.tensor(numbers)


def test_a_linear_classifier_of_the_pixels_finds_about_four_in_ten(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", "--count", 600) == 0
    x, y = read_split(tmp_path / "out/train_signs")
    mean, targets = x.mean(dim=0), torch.eye(6)[y] - 1 / 6
    x = x - mean
    scores = []
    for decay in (10, 100, 1000):  # ridge regression; its weights lie in the span of the pictures
        weights = x.T @ torch.linalg.solve(x @ x.T + decay * torch.eye(len(x)), targets)
        found = []
        for split in ("val", "test"):
            pixels, labels = read_split(tmp_path / f"out/{split}_signs")
            right = ((pixels - mean) @ weights).argmax(dim=1) == labels
            found.append(right.double().mean().item())
        scores.append(found)
    _, test_accuracy = max(scores)  # the decay is chosen by validation
    assert 0.25 < test_accuracy < 0.55


def test_croissant_json_tells_of_pictures_and_labels(source: Path, tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", "--source", source) == 0
    found = croissant(tmp_path / "out")
    assert found["fields"] == {key: ["image", "label"] for key in ["train", "val", "test"]}
    assert found["sets"] == ["train_signs/*", "val_signs/*", "test_signs/*"]
    assert prepare(tmp_path / "out", "--source", source) == 0  # it is no file of somebody's own
