"""Counting right and wrong class numbers: confusion matrix, precision, recall, F1.

Shapes: N examples, K classes.
"""

import numpy as np

IGNORED = (-1, -100)  # labels that mark padding: the CS230 template's and torch's own


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each label was predicted as each class.

    Args:
        predicted: (N,) class numbers.
        labels: (N,) class numbers; -1 and -100 are left out.
        num_classes: K.

    Returns:
        (K, K) counts; the row is the label, the column the prediction.
    """
    counted = ~np.isin(labels, IGNORED)
    pairs = labels[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Return (3, K): precision, recall and F1 of each class; 0 where a quotient would be 0/0.

    Precision is the share of a class's predictions that are right, recall the share of its
    examples that are found, F1 = 2 TP / (2 TP + FP + FN) their harmonic mean (van Rijsbergen 1979,
    chapter 7).
    """
    right = np.diag(confusion).astype(np.float64)
    predicted, present = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        scores = np.stack([right / predicted, right / present, 2 * right / (predicted + present)])
    return np.nan_to_num(scores)
