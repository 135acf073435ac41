"""The outputs that `save_predictions` asks for: how many, and writing them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.base.params import Params
from core.base.predictions import write_predictions
from core.reading.outputs import Reading
from core.task import Loader
from core.training.tally import Tally

AUTO_BYTES = 64 * 2**20  # up to which `save_predictions: auto` keeps outputs


def wanted_bytes(params: Params, all_of_them: bool = False) -> float:
    """Return how many bytes of outputs `save_predictions` asks for; infinity for all."""
    sizes = {"auto": AUTO_BYTES, True: math.inf, False: 0}
    return sizes[all_of_them or params.save_predictions]


def wants_predictions(params: Params, tally: Tally) -> bool:
    """Tell whether `save_predictions` asks for predictions of this size."""
    wanted = params.save_predictions
    return tally.complete and tally.nbytes <= wanted_bytes(params) and bool(wanted)


def save_predictions(
    path: Path, tally: Tally, loader: Loader, reading: Reading, made_of: Mapping[str, Any]
) -> None:
    """Write outputs and labels of a split; `made_of` names hashes of checkpoint and data."""
    rows = tally.row_counts()
    write_predictions(path, *tally.arrays(), loader.ids, rows, reading.ignored, **made_of)
