"""The hand signs: labels in names of files, augmentation, scores, the template's params file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.base.errors import DataError
from core.machine.random_states import RowDraws
from tests.helpers.examples import need_hand_signs
from tests.helpers.runs import rows, run, score
from utils import Params

need_hand_signs()

from model.data_loader import augment, fetch_dataloader, list_examples  # noqa: E402
from model.net import Net, macro_scores  # noqa: E402

STILL = {"rotate": 0, "scale": 0, "shift": 0, "brighten": 0}
ORIGINAL = {  # the params.json of the CS230 template
    "learning_rate": 1e-3,
    "batch_size": 32,
    "num_epochs": 10,
    "dropout_rate": 0.8,
    "num_channels": 32,
    "save_summary_steps": 100,
    "num_workers": 4,
}


def params(**values: Any) -> Params:
    return Params.of({"batch_size": 8, "seed": 1, **values}, "params.json")


def picture(path: Path) -> None:
    Image.new("RGB", (64, 64)).save(path)


def test_files_of_any_case_are_found_and_labelled_by_their_first_number(tmp_path: Path) -> None:
    for name in ("0_IMG_1.JPG", "5_IMG_2.png", "3_a_b.Jpeg", ".hidden.jpg.txt", "notes.txt"):
        picture(tmp_path / "x.png")
        (tmp_path / "x.png").rename(tmp_path / name)
    paths, labels = list_examples(tmp_path)
    assert [path.name for path in paths] == ["0_IMG_1.JPG", "3_a_b.Jpeg", "5_IMG_2.png"]
    assert labels.tolist() == [0, 3, 5]


def test_labels_out_of_range_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_examples(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no .jpg"):
        list_examples(tmp_path)
    for name in ("6_IMG_1.jpg", "IMG_2.jpg", "0_IMG_3.jpg"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="2 files have no valid label"):
        list_examples(tmp_path)


def test_only_training_images_are_changed_and_the_same_way_every_time(signs: Path) -> None:
    once, again = (fetch_dataloader(["train", "val"], str(signs), params()) for _ in range(2))
    for split in ("train", "val"):
        for a, b in zip(once[split].epoch(3), again[split].epoch(3), strict=True):
            assert torch.equal(a[0], b[0])
    plain = once["val"].inputs[:8].float() / 127.5 - 1
    assert torch.equal(next(once["val"].epoch(0))[0], plain)


def test_augmentation_of_no_strength_flips_at_most() -> None:
    images = torch.rand(16, 3, 64, 64) * 2 - 1
    changed = augment(images, RowDraws(0, 0, range(len(images))), params(**STILL))
    flipped = images.flip(3)
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, images, strict=True)]
    mirrored = [torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, flipped, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(same) < 16


def test_an_image_and_its_mirror_image_score_alike_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    net = Net(params(num_channels=4, dropout_rate=0.0))
    images = torch.rand(8, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        trained = net(images), net(images.flip(3))
        found = net.eval()(images), net(images.flip(3))
    assert torch.allclose(*found, atol=1e-6)
    assert not torch.allclose(*trained, atol=1e-2)


@pytest.mark.parametrize("name", ["rotate", "scale", "shift", "brighten"])
def test_each_augmentation_differs_between_the_images_of_a_batch(name: str) -> None:
    image = torch.rand(1, 3, 64, 64).expand(8, -1, -1, -1)
    strength = {"rotate": 20, "scale": 0.2, "shift": 0.2, "brighten": 0.3}[name]
    changed = augment(image, RowDraws(0, 0, range(len(image))), params(**STILL | {name: strength}))
    assert len({tuple(row.flatten()[:2000].tolist()) for row in changed}) == 8


def test_macro_scores_are_means_over_classes() -> None:
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 5])
    predicted = np.array([0, 1, 1, 2, 3, 4, 5, 0])
    outputs = np.eye(6)[predicted]
    precision = np.mean([1 / 2, 1 / 2, 1, 1, 1, 1])
    recall = np.mean([1 / 2, 1, 1, 1, 1, 1 / 2])
    f1 = np.mean([1 / 2, 2 / 3, 1, 1, 1, 2 / 3])
    assert macro_scores(outputs, labels) == pytest.approx([precision, recall, f1])


def test_the_params_file_of_the_template_runs_unchanged(tmp_path: Path, signs: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(ORIGINAL))
    assert run(tmp_path, signs) == 0
    assert len(rows(tmp_path)) == 10
    assert score(tmp_path)["accuracy"] >= 0
