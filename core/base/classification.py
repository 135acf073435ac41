"""Counting right and wrong class numbers: confusion matrix, precision, recall, F1.

Shapes: N examples, K classes.
"""

import numpy as np

from core.base.errors import DataError

IGNORED = (-1, -100)  # labels that mark padding: the CS230 template's and torch's own


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each label was predicted as each class.

    Of class numbers (N,) and (N,) it returns (K, K) counts; the row is the label, the column the
    prediction. Labels of -1 and -100 are left out. DataError: another is not one of 0 to K - 1.
    """
    counted = ~np.isin(labels, IGNORED)
    labels, predicted = labels[counted], predicted[counted]
    for name, found in (("label", labels), ("prediction", predicted)):
        if len(wrong := found[~np.isin(found, np.arange(num_classes))]):
            wanted = f"want 0 to {num_classes - 1} (-1 and -100 mark labels of padding)"
            raise DataError(f"{name} {wrong[0]} is the number of no class, {wanted}")
    pairs = labels.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Return (3, K): precision, recall and F1 of each class; 0 where a quotient would be 0/0.

    Precision is the share of a class's predictions that are right, recall the share of its
    examples that are found, F1 = 2 TP / (2 TP + FP + FN) their harmonic mean (van Rijsbergen 1979,
    chapter 7). The mean over classes is `macro_average`.
    """
    right = np.diag(confusion).astype(np.float64)
    predicted, present = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        scores = np.stack([right / predicted, right / present, 2 * right / (predicted + present)])
    return np.nan_to_num(scores)


def macro_average(confusion: np.ndarray) -> np.ndarray:
    """Return (3,): precision, recall and F1, each the plain mean over the classes that occur.

    The rule is that of scikit-learn's `average="macro"`: a class in neither labels nor predictions
    does not count, one in either of them does. Perfect answers score 1.0, and NaN if none occurs.
    """
    occurs = confusion.any(axis=0) | confusion.any(axis=1)
    scores = precision_recall_f1(confusion)[:, occurs]
    return scores.mean(axis=1) if occurs.any() else np.full(3, np.nan)
