"""Training in which torch refuses to wait for the GPU, for a bench and a test."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from core.check.subject import Short
from core.task import IndexBatch


class Hurried(Short):
    """A loader between whose second batch and last one torch refuses to wait for the GPU."""

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Any]:
        """Yield the loader's batches."""
        try:
            for i, batch in enumerate(self.loader.load(epoch, part)):
                if i == 1:
                    torch.cuda.set_sync_debug_mode("error")
                yield batch
        finally:
            torch.cuda.set_sync_debug_mode("default")
