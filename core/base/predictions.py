"""The file of predictions: outputs and labels of a whole split (NumPy's .npz).

Arrays of tuples and dicts are named outputs_0, labels_name and so on. A row is an example, named by
`ids`; or a token: then `example_ids` name the examples, and each ends with an ignored label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.base.classification import IGNORED
from core.base.errors import DataError
from core.base.files import replacing


@dataclass
class Predictions:
    """Outputs and labels of a whole split; example i has the rows starts[i]:starts[i + 1]."""

    outputs: Any
    labels: Any
    ids: np.ndarray | None = None  # names of the examples
    starts: np.ndarray | None = None  # None: every row is an example
    checkpoint: str | None = None  # SHA-256 of that which made them; None: not recorded
    data: str | None = None  # SHA-256 of the data
    ignored: tuple[int, ...] = IGNORED  # labels that do not count

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(first_array(self.outputs)) if self.starts is None else len(self.starts) - 1

    def rows(self, examples: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows of some examples, one example after the other."""
        if self.starts is None:
            return examples
        lengths = np.diff(self.starts)[examples]
        shift = np.repeat(self.starts[examples] - lengths.cumsum() + lengths, lengths)
        return shift + np.arange(len(shift))


def first_array(value: Any) -> np.ndarray:
    """Return the first array of a tuple or dict, an array itself, and an empty one for None."""
    items = value.values() if isinstance(value, dict) else value
    return value if isinstance(value, np.ndarray) else next(iter(items or ()), np.empty(0))


def write_predictions(
    path: Path,
    outputs: Any,
    labels: Any,
    ids: Sequence[Any] | None,
    row_counts: np.ndarray | None = None,
    ignored: Sequence[int] = IGNORED,
    **made_of: str | None,
) -> None:
    """Write the outputs of a split.

    Args:
        path: of the file.
        outputs: arrays of N rows, or tuples or dicts of them.
        labels: likewise; None if there are none.
        ids: names of the examples; None: they have none.
        row_counts: number of rows of each example; None: one, or as the ignored labels tell.
        ignored: labels that do not count.
        made_of: the hashes `checkpoint` and `data`.
    """
    arrays: dict[str, Any] = {}
    for name, value in (("outputs", outputs), ("labels", labels)):
        parts = dict(enumerate(value)) if isinstance(value, tuple) else value
        if isinstance(parts, dict):
            arrays |= {f"{name}_{part}": item for part, item in parts.items()}
        elif value is not None:
            arrays[name] = value
    if ids is not None:
        rows = {len(array) for array in arrays.values()}
        arrays["ids" if rows == {len(ids)} else "example_ids"] = np.asarray(ids)
        if row_counts is not None and rows == {row_counts.sum()} != {len(ids)}:
            arrays["row_counts"] = row_counts
    arrays["ignored"] = np.array(ignored, np.int64)
    arrays |= {name: np.array(value) for name, value in made_of.items() if value}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path) -> Predictions:
    """Read a file of predictions; DataError if it is missing, damaged or of no known form."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file (`save_predictions` writes it)") from None
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        raise DataError(f"{path}: damaged ({error})") from None
    outputs, labels = _joined(arrays, "outputs"), _joined(arrays, "labels")
    if outputs is None:
        raise DataError(f"{path}: holds no outputs")
    made_of: Any = {n: str(arrays[n]) for n in ("checkpoint", "data") if n in arrays}
    if "ignored" in arrays:
        made_of["ignored"] = tuple(arrays["ignored"].tolist())
    found = Predictions(outputs, labels, arrays.get("ids"), **made_of)
    if "example_ids" not in arrays:
        return found
    ids, ignored = arrays["example_ids"], np.isin(first_array(labels), found.ignored)
    ends = np.flatnonzero(ignored & ~np.append(ignored[1:], False)) + 1
    if "row_counts" in arrays:
        ends = arrays["row_counts"].cumsum()
    if len(ends) != len(ids) or ends[-1] != len(ignored):
        raise DataError(f"{path}: cannot tell which rows belong to which of {len(ids)} examples")
    return replace(found, ids=ids, starts=np.append(0, ends))


def _joined(arrays: Mapping[str, np.ndarray], name: str) -> Any:
    parts = {n.removeprefix(f"{name}_"): a for n, a in arrays.items() if n.startswith(f"{name}_")}
    if not parts:
        return arrays.get(name)
    return tuple(parts[n] for n in sorted(parts, key=int)) if "0" in parts else parts
