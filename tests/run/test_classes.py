"""The table of classes and its picture, also of many classes, and of names that do not fit."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.base.params import Params
from core.reading.outputs import Reading
from core.run.classes import report_classes
from core.task import Task, load_task


def report(path: Path, num_classes: int, task: Task) -> None:
    labels = np.arange(3 * num_classes) % num_classes
    outputs = np.eye(num_classes)[(labels + (labels % 7 == 0)) % num_classes]
    reading = Reading(outputs="logits", num_classes=num_classes, class_axis=-1)
    report_classes(outputs, labels, reading, task, Params.of({}, "params"), "title", path)


@pytest.fixture
def task() -> Task:
    return replace(load_task("tests.projects.weighted"), class_names=None)


def test_of_hundreds_of_classes_the_worst_are_shown(
    tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report(tmp_path / "drawn.png", 200, task)
    assert "30 of 200 classes, those with the lowest F1" in caplog.text
    assert len(caplog.text.splitlines()) < 45
    with Image.open(tmp_path / "drawn.png") as picture:
        assert max(picture.size) < 3000


def test_of_few_classes_all_are_shown(
    tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report(tmp_path / "drawn.png", 10, task)
    assert "predicted as" in caplog.text and "lowest" not in caplog.text


def fails(params: Params) -> list[str]:
    raise KeyError("names")


@pytest.mark.parametrize("names", [lambda params: ["a", "b"], fails])
def test_names_that_do_not_fit_cost_the_names_only(
    names: Any, tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report(tmp_path / "drawn.png", 4, replace(task, class_names=names))
    assert "the table has numbers instead" in caplog.text
    assert "9 of 12 right" in caplog.text
    assert (tmp_path / "drawn.png").exists()


def test_of_very_many_classes_there_is_no_table(
    tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    outputs, labels = np.zeros((2, 50_000), np.float32), np.array([0, 1])
    reading = Reading(outputs="logits", num_classes=50_000, class_axis=-1)
    of = task, Params.of({}, "params"), "title", tmp_path / "drawn.png"
    assert not report_classes(outputs, labels, reading, *of)
    assert "50000 are too many" in caplog.text
