"""How far made-up numbers are from real ones."""

import numpy as np


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean distance of a row of `a` from a row of `b`."""
    return float(np.linalg.norm(a[:, None] - b, axis=2).mean())


def distance(outputs: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> float:
    """Return the energy distance of made-up and real numbers (Szekely and Rizzo 2013)."""
    made = outputs[1]
    return 2 * apart(made, labels) - apart(made, made) - apart(labels, labels)
