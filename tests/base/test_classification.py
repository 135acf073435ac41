"""Scores over classes are those of scikit-learn; numbers of no class are refused."""

import logging
from pathlib import Path

import numpy as np
import pytest

from core.base.classification import confusion_matrix, macro_average
from core.base.errors import DataError
from core.base.params import Params
from core.reading.outputs import Reading
from core.run.classes import report_classes
from core.task import load_task
from tests.projects.pictures.net import macro_scores

LABELS = np.array([0, 0, 1, 3, 3, 3, 1, 0])
PREDICTED = np.array([0, 1, 1, 3, 0, 3, 4, 0])


def test_macro_scores_are_those_of_scikit_learn() -> None:
    # precision_recall_fscore_support(LABELS, PREDICTED, average="macro", zero_division=0) of
    # scikit-learn 1.9.1; class 2 of 6 is in neither, class 4 in the predictions only.
    theirs = [0.5416666666666666, 0.45833333333333326, 0.49166666666666664]
    assert macro_average(confusion_matrix(PREDICTED, LABELS, 6)) == pytest.approx(theirs)
    assert macro_scores(np.eye(6)[PREDICTED], LABELS) == pytest.approx(theirs)


def test_macro_scores_of_random_answers_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 12, 50):
        labels, predicted = rng.integers(0, 7, size), rng.integers(0, 7, size)
        score = sklearn.precision_recall_fscore_support
        theirs = score(labels, predicted, average="macro", zero_division=0)[:3]
        assert macro_average(confusion_matrix(predicted, labels, 9)) == pytest.approx(theirs)


def test_perfect_answers_score_one_whichever_classes_occur() -> None:
    labels = np.array([0, 2, 2, -1, -100])
    assert (
        macro_average(confusion_matrix(np.array([0, 2, 2, 1, 5]), labels, 6)).tolist() == [1.0] * 3
    )
    assert np.isnan(macro_average(np.zeros((6, 6), int))).all()


@pytest.mark.parametrize(
    ("predicted", "labels"), [([0, 1], [0, 255]), ([0, 1], [0, -5]), ([0, 9], [0, 1])]
)
def test_numbers_of_no_class_are_refused(predicted: list[int], labels: list[int]) -> None:
    with pytest.raises(DataError, match=r"is the number of no class, want 0 to 2"):
        confusion_matrix(np.array(predicted), np.array(labels), 3)
    with pytest.raises(DataError, match=r"label 0\.7"):
        confusion_matrix(np.array([0]), np.array([0.7]), 3)


def test_the_table_of_classes_says_which_do_not_occur_and_why_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task, params = load_task("tests.projects.weighted"), Params.of({}, "params")
    outputs, path = np.eye(3)[[0, 1, 0]], tmp_path / "drawn.png"
    reading = Reading(outputs="logits", num_classes=3, class_axis=-1)
    report_classes(outputs, np.array([0, 1, -1]), reading, task, params, "title", path)
    lines = [line.split() for line in caplog.text.splitlines()]
    assert ["high", "-", "-", "-", "0"] in lines
    report_classes(outputs, np.array([0, 1, 255]), reading, task, params, "title", path)
    assert "No table of the classes: label 255 is the number of no class" in caplog.text
