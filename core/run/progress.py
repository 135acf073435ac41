"""The bar of a terminal that shows how far an epoch is."""

import math
import time
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

from core.machine.outcome import in_notebook

BAR = "{desc}  {percentage:3.0f}%{told}  {remaining} left"  # Epoch 7/12   60%  loss 0.6  04:10 left


def hidden_bar() -> bool | None:
    """Return tqdm's `disable`: a bar is shown on a terminal, and in a notebook."""
    return False if in_notebook() else None


class Bar(tqdm):
    """A bar with the mean loss so far, and the time that was waited for batches."""

    loss, waited = math.nan, 0.0  # seconds

    def __iter__(self) -> Iterator[Any]:
        began = time.perf_counter()
        for batch in super().__iter__():
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return what stands in BAR."""
        told = "" if math.isnan(self.loss) else f"  loss {self.loss:.3f}"
        return {**super().format_dict, "told": told}
