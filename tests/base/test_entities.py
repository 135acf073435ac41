"""Scores of whole entities, from tags."""

import numpy as np

from core.base.entities import entities, entity_scores


def test_entities_begin_and_end_as_conlleval_says() -> None:
    tags = ["I-a", "B-a", "I-a", "I-b", "O", "B-b"]
    assert entities(tags) == {("a", 0, 1), ("a", 1, 3), ("b", 3, 4), ("b", 5, 6)}


def test_an_entity_counts_if_type_and_both_ends_are_right() -> None:
    names = ["O", "B-a", "I-a"]
    labels, predicted = np.array([1, 2, 0, 1, -1]), np.array([1, 2, 0, 0, 1])
    starts = np.array([0, 3, 5])
    assert entity_scores(predicted, labels, starts, names) == {"a": [1.0, 0.5, 0.6667, 2]}
    assert entity_scores(predicted, labels, starts, ["x", "y", "z"]) == {}
