"""Scores of whole entities, by type, from tags such as B-person, I-person and O."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np


def entity_scores(
    predicted: np.ndarray, labels: np.ndarray, starts: np.ndarray, names: Sequence[str]
) -> dict[str, list[Any]]:
    """Return {type: [precision, recall, F1, number of entities]}; {} if names are no such tags.

    An entity is found if its type, first and last token are right. A score is 0 where its quotient
    would be 0/0.

    Args:
        predicted: (N,) numbers of tags.
        labels: (N,) numbers of tags; those below 0 do not count.
        starts: (S + 1,) where each of S sentences starts and the last one ends.
        names: of the tags.
    """
    if not any(name.startswith("B-") for name in names):
        return {}
    if not all(re.fullmatch("O|[BI]-.+", name) for name in names):
        return {}
    found, present, right = Counter[str](), Counter[str](), Counter[str]()
    for a, b in pairwise(starts):
        counted = labels[a:b] >= 0
        each = predicted[a:b][counted], labels[a:b][counted]
        both = [entities([names[tag] for tag in tags]) for tags in each]
        for counter, spans in ((found, both[0]), (present, both[1]), (right, both[0] & both[1])):
            counter.update(kind for kind, _, _ in spans)
    scores = {}
    for kind in sorted(found.keys() | present.keys()):
        p, r, both_right = found[kind], present[kind], right[kind]
        quotients = both_right / max(p, 1), both_right / max(r, 1), 2 * both_right / (p + r)
        scores[kind] = [*(float(f"{x:.4g}") for x in quotients), r]
    return scores


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return (type, first, end) of the entities of a sentence (conlleval, Tjong Kim Sang 2000).

    One begins with B, or with I after another type or O; it ends before the next that begins, or O.
    """
    spans, first, kind = set(), 0, ""
    for i, tag in enumerate([*tags, "O"]):
        letter, _, own = tag.partition("-")
        if letter != "I" or own != kind:
            if kind:
                spans.add((kind, first, i))
            first, kind = i, own
    return spans
