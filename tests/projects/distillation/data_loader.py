from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tests.projects.data import fetch_dataloader
from utils import DataError, Params

__all__ = ["fetch_dataloader", "read_inputs"]


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Tensor]]:
    for source in sources:  # four numbers, such as 0.5,1,0,2
        try:
            a, b, c, d = map(float, source.split(","))
        except ValueError:
            raise DataError(f"{source!r}: want four numbers with commas between them") from None
        yield source, torch.tensor([a, b, c, d])
